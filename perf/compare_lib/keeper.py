"""Runs one server below a process of ours that adopts everything it starts, in a private view of the
file system. Processor time and memory are then known, and so is who is left after the stop."""

import ctypes
import os
import re
import select
import signal
import socket
import subprocess
import time

from . import packages

CLONE_NEWNS = 0x00020000
PR_SET_CHILD_SUBREAPER = 36
TICK = os.sysconf("SC_CLK_TCK")


class Trouble(Exception):
    """A server did not do what it must; the text says what, with the end of its log."""


def mount(*words):
    done = subprocess.run(["mount", *words], capture_output=True, text=True, timeout=20)
    if done.returncode:
        raise Trouble("mount %s: %s" % (" ".join(words), done.stderr.strip()))


def show_files(server):
    """The unpacked packages seem installed, for this process and what it starts. What is written to
    /etc and /var lands in the private folder; the spool is a plain folder, so that its disk is the
    same as everybody's."""
    root = packages.root_of(server.packages)
    mount("--make-rprivate", "/")
    mount("-t", "overlay", "overlay", "-o", "lowerdir=%s/usr:/usr" % root, "/usr")
    for top in ("etc", "var"):
        for kind in ("new", "work"):
            (server.dir / (top + "-" + kind)).mkdir()
        (root / top).mkdir(exist_ok=True)
        mount("-t", "overlay", "overlay", "-o", "lowerdir=%s/%s:/%s,upperdir=%s/%s-new,workdir=%s/"
              "%s-work" % (root, top, top, server.dir, top, server.dir, top), "/" + top)
    mount("-t", "tmpfs", "tmpfs", "/run")
    for number, name in enumerate(server.users, 64900):
        with open("/etc/passwd", "a") as out:
            out.write("%s:x:%d:%d::/nonexistent:/usr/sbin/nologin\n" % (name, number, number))
        with open("/etc/group", "a") as out:
            out.write("%s:x:%d:\n" % (name, number))
    if server.spool:
        path, owner = server.spool
        ours = server.dir / "spool"
        ours.mkdir(exist_ok=True)
        os.makedirs(path, exist_ok=True)
        mount("--bind", str(ours), path)
        number = 64900 + server.users.index(owner) if owner in server.users else 0
        os.chown(path, number, number)
        os.chmod(path, 0o711)


class Keeper:
    def __init__(self, server, timeout=40):
        self.server = server
        ours, theirs = os.pipe()
        down, self.release = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(ours)
            os.close(self.release)
            self._child(theirs, down)
        os.close(theirs)
        os.close(down)
        with os.fdopen(ours) as reader:
            ready, _, _ = select.select([reader], [], [], timeout)
            word = reader.readline().strip() if ready else "no start within %d s" % timeout
        try:
            if word != "ready":
                raise Trouble("%s\n%s" % (word, server.log()))
            self._wait_banner(timeout)
        except BaseException:
            self.end()
            raise

    def _child(self, theirs, down):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        signal.alarm(0)
        try:
            if self.server.unpacked:
                if libc.unshare(CLONE_NEWNS):
                    raise Trouble("no private view of the files: " +
                                  os.strerror(ctypes.get_errno()))
                show_files(self.server)
            self.server.configure()
            # What it starts must not inherit that the two signals are ignored.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: None)
            self.server.start()
            word = "ready"
        except Exception as error:
            word = " ".join(str(error).split()) or type(error).__name__
        os.write(theirs, (word + "\n").encode())
        os.close(theirs)
        told = False
        while not told:
            told = bool(select.select([down], [], [], 0.05)[0])
            self._reap()
        try:
            self.server.stop()
        except Exception:
            pass
        limit = time.monotonic() + 15
        while self._reap() and time.monotonic() < limit:
            time.sleep(0.02)
        os._exit(0)

    @staticmethod
    def _reap():
        """True while there are children."""
        try:
            while True:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    return True
        except ChildProcessError:
            return False

    def _wait_banner(self, timeout):
        host, port = self.server.addresses()[0].rsplit(":", 1)
        limit = time.monotonic() + timeout
        while True:
            try:
                with socket.create_connection((host, int(port)), timeout=5) as peer:
                    if peer.recv(200).startswith(b"220"):
                        peer.sendall(b"QUIT\r\n")
                        peer.recv(200)
                        return
            except OSError:
                pass
            if time.monotonic() > limit:
                raise Trouble("no greeting within %d s\n%s" % (timeout, self.server.log()))
            time.sleep(0.05)

    def processes(self):
        found, todo = [], [self.pid]
        while todo:
            pid = todo.pop()
            try:
                # A process whose thread forked has its child there.
                for task in os.listdir("/proc/%d/task" % pid):
                    with open("/proc/%d/task/%s/children" % (pid, task)) as handle:
                        more = [int(p) for p in handle.read().split()]
                    found += more
                    todo += more
            except OSError:
                continue
        return found

    def cpu(self):
        """Seconds used so far by all of its processes, dead ones included."""
        total = 0.0
        for pid in [self.pid, *self.processes()]:
            base = "/proc/%d/" % pid
            try:
                with open(base + "stat") as handle:
                    words = handle.read().rsplit(")", 1)[1].split()
                run = 0
                for task in os.listdir(base + "task"):
                    with open(base + "task/%s/schedstat" % task) as handle:
                        run += int(handle.read().split()[0])
            except (OSError, IndexError, ValueError):
                continue
            dead = (int(words[13]) + int(words[14])) / TICK
            if pid == self.pid:     # it is ours: only what it has reaped counts
                total += dead
            else:
                total += max(run / 1e9, (int(words[11]) + int(words[12])) / TICK) + dead
        return total

    def memory(self):
        """Sum of the proportional set sizes in bytes: shared pages are counted once."""
        total = 0
        for pid in self.processes():
            try:
                with open("/proc/%d/smaps_rollup" % pid) as handle:
                    total += int(re.search(r"(?m)^Pss:\s+(\d+)", handle.read())[1]) * 1024
            except (OSError, TypeError):
                pass
        return total

    def run(self, command):
        """Start one of the server's own commands, where it sees the server's files."""
        return subprocess.Popen(["nsenter", "-t", str(self.pid), "-m", "--", *command],
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)

    def end(self):
        """Stops it. What does not end by itself is killed, and that is an error."""
        if self.pid is None:
            return
        if self.release is not None:        # an alarm may have come in the middle of it
            os.close(self.release)
            self.release = None
        limit = time.monotonic() + 20
        while time.monotonic() < limit:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                self.pid = None
                return
            time.sleep(0.02)
        for _ in range(50):
            below = self.processes()
            for pid in below:
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
            if not below:
                break
            time.sleep(0.1)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.pid = None
