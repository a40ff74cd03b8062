#!/usr/bin/env python3
"""What the tests of a cov build reached: lines missed, lines, file, most missed first.

  cov.py BUILD [FOLDER...]      BUILD as the preset cov made it; FOLDERs as in the tree (core/mail), default all
"""
import gzip
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
FLOORS = ("io/", "maps/", "queue/", "core/")


def counts(build):
    """file -> line -> how often it ran, over all objects of the floors."""
    data = []
    for folder, _, files in os.walk(build):
        if "/tests/" not in folder + "/":
            data += [os.path.join(folder, f) for f in files if f.endswith(".gcda")]
    if not data:
        sys.exit(f"cov: no .gcda under {build}: build the preset cov and run its tests")
    out = {}
    with tempfile.TemporaryDirectory() as tmp:
        subprocess.run(["gcov", "--json-format", "--preserve-paths", *map(os.path.abspath, data)], cwd=tmp,
                       stdout=subprocess.DEVNULL, check=True)
        for name in os.listdir(tmp):
            with gzip.open(os.path.join(tmp, name)) as f:
                for one in json.load(f)["files"]:
                    path = os.path.relpath(os.path.join(build, one["file"]), ROOT)
                    lines = out.setdefault(path, {})
                    for line in one["lines"]:
                        n = line["line_number"]
                        lines[n] = lines.get(n, 0) + line["count"]
    return out


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    want = tuple(sys.argv[2:]) or FLOORS
    rows = []
    for path, lines in counts(os.path.abspath(sys.argv[1])).items():
        if path.startswith(want) and path.startswith(FLOORS):
            rows.append((sum(1 for n in lines.values() if n == 0), len(lines), path))
    for missed, total, path in sorted(rows, key=lambda r: (-r[0], r[2])):
        print(f"{missed:6} of {total:5}  {path}")
    missed, total = sum(r[0] for r in rows), sum(r[1] for r in rows)
    print(f"{100 * (total - missed) / max(total, 1):.1f} % of {total} lines reached")


if __name__ == "__main__":
    main()
