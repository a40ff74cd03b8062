"""Debian packages: installed, or unpacked into a folder of ours when they collide with others.

Mail servers conflict over /usr/sbin/sendmail, so only Postfix is installed. The others and what they
need beyond the installed are downloaded and unpacked; place.py shows them their files where they
expect them. No maintainer script runs and no service starts.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

# RUNLEVEL=1 keeps invoke-rc.d from starting what is installed.
ENVIRON = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1", "LC_ALL": "C"}
_unpacked = {}
_updated = []


def _run(command, cwd=None, timeout=600):
    try:
        return subprocess.run(command, env=ENVIRON, cwd=cwd, capture_output=True, text=True,
                              timeout=timeout)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", "no end within %d s" % timeout)
    except OSError as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def _reason(done):
    lines = [w for w in done.stderr.splitlines() if w.startswith("E:")] or \
        done.stderr.splitlines() or ["it failed"]
    return "%s: %s" % (" ".join(done.args[:2]), lines[-1][:200])


def _update():
    if not _updated:
        _updated.append(_run(["apt-get", "update", "-qq"]))


def installed(name):
    done = _run(["dpkg-query", "-W", "-f", "${Status}", name], timeout=30)
    return done.stdout.endswith(" installed")


def install(wanted):
    """None, or why not."""
    missing = [name for name in wanted if not installed(name)]
    if not missing:
        return None
    if os.geteuid() != 0:
        return "%s: not installed, and only root can" % " ".join(missing)
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    done = _run(command)
    if done.returncode:
        _update()
        done = _run(command)
    return _reason(done) if done.returncode else None


def unpack(wanted):
    """None, or why not; root_of() is then the folder."""
    key = tuple(wanted)
    if key in _unpacked:
        return None
    plan = ["apt-get", "install", "-s", "--no-install-recommends", *wanted]
    done = _run(plan)
    if done.returncode:
        _update()
        done = _run(plan)
    if done.returncode:
        return _reason(done)
    closure = re.findall(r"(?m)^Inst (\S+) (?!\[)", done.stdout)
    already = [name for name in wanted if name not in closure]
    folder = Path(tempfile.mkdtemp(prefix="rp-unpacked-"))
    os.chmod(folder, 0o755)
    done = _run(["apt-get", "download", "-qq", *closure, *already], cwd=folder)
    if done.returncode:
        _update()
        done = _run(["apt-get", "download", "-qq", *closure, *already], cwd=folder)
    for path in sorted(folder.glob("*.deb")):
        if done.returncode == 0:
            done = _run(["dpkg-deb", "-x", str(path), str(folder / "root")])
        path.unlink()
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        return _reason(done)
    _unpacked[key] = folder
    return None


def root_of(wanted):
    return _unpacked[tuple(wanted)] / "root"


def remove():
    for folder in _unpacked.values():
        shutil.rmtree(folder, ignore_errors=True)
    _unpacked.clear()


def version(name):
    done = _run(["dpkg-query", "-W", "-f", "${Version}", name], timeout=30)
    if done.returncode == 0 and done.stdout:
        return done.stdout
    done = _run(["apt-cache", "policy", name], timeout=30)
    found = re.search(r"Candidate: (\S+)", done.stdout)
    return found[1] if found else "?"
