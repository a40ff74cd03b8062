"""What the comparison must know of a server. An adapter is one file in perf/adapters (README there).

    class Server(Adapter):
        title = "OpenSMTPD"
        packages = ("opensmtpd",)

        def configure(self): ...            files into self.dir
        def command(self): return [...]     a program that stays in the foreground

It accepts everything on 127.0.0.1:self.port and relays it to 127.0.0.1:self.sink.
"""

import importlib.util
import os
import signal
import subprocess
from pathlib import Path

from . import packages

FOLDER = Path(__file__).resolve().parents[1] / "adapters"


class Adapter:
    title = ""
    packages = ()       # Debian's
    pinned = ""         # the version of the first package that the figures are about
    unpacked = False    # True: they collide with Postfix's, so they are unpacked, not installed
    users = ()          # users (and groups) that its packages would make
    spool = None        # (path it insists on, owner): unpacked servers get a folder of ours there
    lacks = {}          # {scene: why it must not be compared there}
    remark = ""         # in the report: in what the load differs for it, or it from its packaged self
    local = True        # False: it runs elsewhere and only the outside can be measured
    source = "Debian"

    def __init__(self, folder, port, sink):
        self.dir, self.port, self.sink = Path(folder), port, sink
        self.process = None
        self.scenes = []    # those of this life

    @classmethod
    def install(cls):
        """None, or in one line why it cannot be had."""
        get = packages.unpack if cls.unpacked else packages.install
        return get(cls.packages, cls.pinned)

    @classmethod
    def version(cls):
        return packages.version(cls.packages[0]) if cls.packages else "?"

    @classmethod
    def pin(cls):
        """For the report: is it the version we have pinned?"""
        if not cls.pinned:
            return "–"
        return "yes" if cls.version() == cls.pinned else "no, that is " + cls.pinned

    def addresses(self):
        return ["127.0.0.1:%d" % self.port]

    def configure(self):
        """Runs before every start, as root, inside the private view of the file system."""

    def command(self):
        raise NotImplementedError

    def start(self):
        with open(self.dir / "output", "ab") as out:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=out, cwd="/", start_new_session=True)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def flush(self):
        """A command that makes it try its backlog now, None if it has none."""
        return None

    def log(self):
        """The end of what it has to say, for errors."""
        text = ""
        for name in ("output", "maillog", "mainlog", "paniclog"):
            try:
                text += (self.dir / name).read_text("utf-8", "replace")[-1500:]
            except OSError:
                pass
        return text


class Shell(Adapter):
    """NAME.sh: called with install, version, configure, run, flush; DIR, PORT and SINK are set."""

    path = None

    @classmethod
    def ask(cls, verb, env=None, timeout=600):
        return subprocess.run(["/bin/sh", str(cls.path), verb], env={**os.environ, **(env or {})},
                              capture_output=True, text=True, timeout=timeout)

    @classmethod
    def install(cls):
        done = cls.ask("install")
        return None if done.returncode == 0 else (done.stderr.strip() or "install failed")[-200:]

    @classmethod
    def version(cls):
        return cls.ask("version", timeout=20).stdout.strip() or "?"

    def environ(self):
        return {"DIR": str(self.dir), "PORT": str(self.port), "SINK": str(self.sink)}

    def configure(self):
        done = self.ask("configure", self.environ(), 60)
        if done.returncode:
            raise RuntimeError("configure: " + done.stderr[-300:])

    def command(self):
        return ["/usr/bin/env", *("%s=%s" % i for i in self.environ().items()),
                "/bin/sh", str(self.path), "run"]


class Remote(Adapter):
    """A server that runs already, here or elsewhere, and relays to --sink-address."""

    local = False
    source = "elsewhere"
    lacks = {name: "its processes are out of reach" for name in ("idle", "backlog", "proof")}
    at = ()

    @classmethod
    def install(cls):
        return None

    def addresses(self):
        return list(self.at)


def remote(name, addresses):
    return type(name, (Remote,), {"title": name, "at": tuple(addresses)})


def names():
    return sorted(p.stem for p in FOLDER.iterdir() if p.suffix in (".py", ".sh"))


def load(name):
    """The class of perf/adapters/NAME.py or NAME.sh."""
    path = FOLDER / (name + ".py")
    if path.exists():
        spec = importlib.util.spec_from_file_location("adapter_" + name.replace("-", "_"), path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.Server
    path = FOLDER / (name + ".sh")
    if path.exists():
        return type(name, (Shell,), {"title": name, "path": path, "source": str(path)})
    raise SystemExit("no adapter %s; there are: %s" % (name, ", ".join(names())))
