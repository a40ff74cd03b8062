"""Debian packages: installed, or unpacked into a folder of ours when they collide with others.

Mail servers conflict over /usr/sbin/sendmail, so only Postfix is installed. The others and what they
need beyond the installed are downloaded and unpacked; place.py shows them their files where they
expect them. No maintainer script runs and no service starts.

An adapter pins the version of its first package. When the archive has it no more, the archive's own is taken, and
the report says so.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

# RUNLEVEL=1 keeps invoke-rc.d from starting what is installed.
ENVIRON = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1", "LC_ALL": "C"}
_unpacked = {}      # {packages: folder}
_taken = {}         # {package: version} of what was unpacked
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


def _retried(command, cwd=None):
    done = _run(command, cwd)
    if done.returncode:
        _update()
        done = _run(command, cwd)
    return done


def _with_pin(wanted, pinned):
    """What to ask apt for: the pinned version first, then without."""
    plain = list(wanted)
    return ([["%s=%s" % (plain[0], pinned), *plain[1:]]] if pinned else []) + [plain]


def install(wanted, pinned=""):
    """None, or why not."""
    missing = [name for name in wanted if not installed(name)]
    if not missing:
        return None
    if os.geteuid() != 0:
        return "%s: not installed, and only root can" % " ".join(missing)
    for asked in _with_pin(missing, pinned if missing[0] == wanted[0] else ""):
        done = _retried(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *asked])
        if done.returncode == 0:
            return None
    return _reason(done)


def unpack(wanted, pinned=""):
    """None, or why not; root_of() is then the folder."""
    key = tuple(wanted)
    if key in _unpacked:
        return None
    for asked in _with_pin(wanted, pinned):
        done = _retried(["apt-get", "install", "-s", "--no-install-recommends", *asked])
        if done.returncode == 0:
            break
    if done.returncode:
        return _reason(done)
    # "Inst NAME (VERSION ARCHIVE ...)": what is installed already has its version in brackets before.
    new = dict(re.findall(r"(?m)^Inst (\S+) \((\S+)", done.stdout))
    closure = ["%s=%s" % i for i in new.items()]
    already = [name for name in wanted if name not in new]
    folder = Path(tempfile.mkdtemp(prefix="rp-unpacked-"))
    os.chmod(folder, 0o755)
    done = _retried(["apt-get", "download", "-qq", *closure, *already], folder)
    for path in sorted(folder.glob("*.deb")):
        if done.returncode == 0:
            done = _run(["dpkg-deb", "-x", str(path), str(folder / "root")])
        path.unlink()
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        return _reason(done)
    _unpacked[key] = folder
    _taken.update(new)
    return None


def root_of(wanted):
    return _unpacked[tuple(wanted)] / "root"


def remove():
    for folder in _unpacked.values():
        shutil.rmtree(folder, ignore_errors=True)
    _unpacked.clear()


def version(name):
    if name in _taken:
        return _taken[name]
    done = _run(["dpkg-query", "-W", "-f", "${Version}", name], timeout=30)
    if done.returncode == 0 and done.stdout:
        return done.stdout
    done = _run(["apt-cache", "policy", name], timeout=30)
    found = re.search(r"Candidate: (\S+)", done.stdout)
    return found[1] if found else "?"
