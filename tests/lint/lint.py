#!/usr/bin/env python3
"""House rules as a test: floors, doors, parameter tables, promises for later, places of mutations.

  lint.py [--sizes]     exit 0 = clean; each finding is one line file:line: what
"""
import os
import re
import subprocess
import sys

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))

# From the ground up. A file may include its own row and those before it.
FLOORS = ["io/base", "io", "maps", "queue", "core", "perf"]
CORE = [
    ["core/mail"],
    ["core/config"],
    ["core/rewrite", "core/cleanup", "core/deliver", "core/import"],         # shelves
    ["core/smtpd", "core/smtp", "core/virtual", "core/error", "core/bounce"],  # rooms
    ["core/server"],
    ["core/cmd"],
    ["core/main.c"],
]
# What core/config reads of the rooms is their parameter tables, and nothing else.
TABLES = re.compile(r"_params\.def$|/[a-z_]+\.def$")

# Third-party header -> the only files that may include it.
DOORS = [
    (r"liburing\.h", r"io/ring/ring_uring\.c|io/ring/private\.h"),
    (r"lmdb\.h", r"io/kv/kv\.c"),
    (r"(unbound|unbound-event|event2/.*|event)\.h", r"io/net/dns\w*\.c"),
    (r"xxhash\.h", r"io/base/hash\.c"),
    (r"idn2\.h", r"io/base/codec\w*\.c|io/base/idna\.c"),
    (r"pcre2\.h", r"maps/match/\w+\.c"),
    (r"jemalloc/.*", r"io/base/mem\.c"),
    (r"sanitizer/.*", r"io/fiber/\w+\.[ch]|io/base/arena\.c"),
    (r"valgrind/.*", r"io/fiber/\w+\.[ch]"),
    (r"(wolfssl|sasl|libpq-fe|mysql|sqlite3|ldap).*", r"(?!)"),
]

PROMISES = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def tracked(*ends):
    out = subprocess.run(["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard"],
                         capture_output=True, text=True, check=True).stdout.split("\n")
    return [f for f in out if f.endswith(ends) and os.path.exists(os.path.join(ROOT, f))]


def floor_of(path):
    for i in range(len(FLOORS) - 1, -1, -1):
        if FLOORS[i] == "io/base":
            continue
        if path.startswith(FLOORS[i] + "/"):
            return 0 if path.startswith("io/base/") else i
    return None


def core_rank(path):
    for rank, names in enumerate(CORE):
        for name in names:
            if path == name or path.startswith(name + "/"):
                return rank, name
    return None, None


def core_finding(path, inc):
    own_rank, own = core_rank(path)
    inc_rank, their = core_rank(inc)
    if own_rank is None:
        return f"{path} is in no room that tests/lint knows"
    if inc_rank is None or own == their:
        return None
    if TABLES.search(inc):
        return None
    if inc_rank > own_rank:
        return f"{own} may not include {inc}: it is higher"
    if inc_rank == own_rank == 3:
        return f"{own} may not include {inc}: rooms do not know each other"
    return None


def includes(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        for n, line in enumerate(f, 1):
            m = re.match(r'\s*#\s*include\s+(["<])([^">]+)[">]', line)
            if m:
                yield n, m.group(1) == '"', m.group(2)


def check_includes(path):
    mine = floor_of(path)
    for n, local, inc in includes(path):
        if local:
            theirs = floor_of(inc)
            if theirs is None:
                yield f"{path}:{n}: include from the root, not \"{inc}\""
            elif mine is not None and theirs > mine:
                yield f"{path}:{n}: {FLOORS[mine]} may not include {inc}: it is higher"
            elif path.startswith("core/"):
                what = core_finding(path, inc)
                if what:
                    yield f"{path}:{n}: {what}"
            continue
        for header, door in DOORS:
            if re.fullmatch(header, inc) and not re.fullmatch(door, path):
                yield f"{path}:{n}: <{inc}> is included only by its door ({door})"


def check_text(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as f:
        for n, line in enumerate(f, 1):
            if PROMISES.search(line) and not path.startswith("tests/lint/"):
                yield f"{path}:{n}: a promise for later: {line.strip()[:80]}"


def check_params():
    seen = {}
    for path in tracked("_params.def"):
        with open(os.path.join(ROOT, path), encoding="utf-8") as f:
            for n, line in enumerate(f, 1):
                m = re.match(r"PARAM\((\w+),", line)
                if not m:
                    continue
                if m.group(1) in seen:
                    yield f"{path}:{n}: {m.group(1)} stands in {seen[m.group(1)]} too"
                seen[m.group(1)] = f"{path}:{n}"
    with open(os.path.join(ROOT, "core/config/all_params.def"), encoding="utf-8") as f:
        listed = set(re.findall(r'#include "([^"]+)"', f.read()))
    for path in tracked("_params.def"):
        if path.startswith("core/") and path not in listed and not path.endswith(("all_params.def", "known_params.def")):
            yield f"{path}: not in core/config/all_params.def"
    source = ""
    for path in tracked(".c", ".h", ".py"):
        if path.startswith(("core/", "queue/", "io/", "maps/")):
            with open(os.path.join(ROOT, path), encoding="utf-8") as f:
                source += f.read()
    used = set(re.findall(r"\w+", source))
    for name, where in sorted(seen.items()):
        if name not in used and not name.startswith("default_destination_"):
            yield f"{where}: nothing reads {name}"


def check_readmes():
    for top in ("io", "maps", "queue", "core", "tests", "perf"):
        for folder, dirs, files in os.walk(os.path.join(ROOT, top)):
            dirs[:] = [d for d in dirs if d not in ("__pycache__", "unit", "corpus")]
            rel = os.path.relpath(folder, ROOT)
            if any(f.endswith(".c") for f in files) and rel.count("/") <= 1 and "README.md" not in files:
                yield f"{rel}: no README.md"


# A mutation of tests/sim names its place by the text that stands there. `./check` builds them late; here a
# source that was changed under one is named at once.
MUTANT = re.compile(r'rp_sim_(store|unread|mail|sched)_mutant\((\w+) (\S+)\s+"((?:[^"\\]|\\.)*)"\s+"')
MUTANT_FOLDER = {"store": "queue/store", "unread": "queue/store", "mail": "queue", "sched": "queue/sched"}


def check_mutants():
    path = "tests/sim/CMakeLists.txt"
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        text = f.read()
    seen = 0
    for m in MUTANT.finditer(text):
        seen += 1
        kind, name, source, old = m.groups()
        n = text.count("\n", 0, m.start()) + 1
        source = os.path.normpath(os.path.join(MUTANT_FOLDER[kind], source))
        if not os.path.exists(os.path.join(ROOT, source)):
            yield f"{path}:{n}: {name}: there is no {source}"
            continue
        with open(os.path.join(ROOT, source), encoding="utf-8") as f:
            times = f.read().count(old.replace('\\"', '"'))
        if times != 1:
            yield f"{path}:{n}: {name}: its place stands {times} times in {source}, not once"
    calls = len(re.findall(r"^rp_sim_(?:store|unread|mail|sched)_mutant\(", text, re.M))
    if seen != calls:
        yield f"{path}: {calls} mutations, {seen} of them in a form lint can read"


def main():
    findings = []
    code = [f for f in tracked(".c", ".h") if not f.startswith("tests/")]
    for path in code:
        findings += check_includes(path)
    for path in tracked(".c", ".h", ".def", ".py", ".sh"):
        findings += check_text(path)
    findings += check_params()
    findings += check_readmes()
    findings += check_mutants()
    for line in findings:
        print(line)
    if "--sizes" in sys.argv:
        for path in code:
            with open(os.path.join(ROOT, path), encoding="utf-8") as f:
                lines = sum(1 for _ in f)
            if lines > 600:
                print(f"(size) {path}: {lines} lines: look for the second idea in it")
    print(f"lint: {len(code)} files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
