"""The load: our smtp_source and smtp_sink, and what they say in JSON."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from .keeper import Trouble

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from lib.ports import free_port                                 # noqa: E402

patience = [5]     # seconds the source waits for one reply


def tools():
    """The folder of smtp_source and smtp_sink."""
    return Path(os.environ.get("RINGPOST_BIN", ROOT / "build/release/bin")).resolve()


def tools_missing():
    for name in ("smtp_source", "smtp_sink"):
        if not os.access(tools() / name, os.X_OK):
            return "no %s at %s: build it (cmake --build --preset release), or set RINGPOST_BIN" % (
                name, tools())
    return None


class Sink:
    def __init__(self, folder, address=None, manner=None):
        self.address = address or "127.0.0.1:%d" % free_port()
        self.port = int(self.address.rsplit(":", 1)[1])
        self.json = Path(folder) / ("sink-%d.json" % time.monotonic_ns())
        self.ids = self.json.with_suffix(".ids")
        self.ids.touch()
        self.seen, self.reader, self.rest, self.stamp = 0, open(self.ids, "rb"), b"", 0
        self.used = 0.0
        self.process = subprocess.Popen(
            [str(tools() / "smtp_sink"), "-q", "-j", str(self.json), "-o", str(self.ids),
             "--stamps", *(["-M", manner] if manner else []), self.address],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        limit = time.monotonic() + 5
        while True:
            if self.process.poll() is not None:
                raise SystemExit("smtp_sink: " + self.process.stderr.read().decode())
            try:
                host, port = self.address.rsplit(":", 1)
                socket.create_connection((host, int(port)), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > limit:
                    self.end()
                    raise SystemExit("smtp_sink does not listen on " + self.address)
                time.sleep(0.02)

    def count(self):
        data = self.rest + self.reader.read()
        end = data.rfind(b"\n") + 1
        if end:
            self.seen += data.count(b"\n")
            self.stamp = int(data[data.rfind(b" ", 0, end):end])
        self.rest = data[end:]
        return self.seen

    def last_at(self):
        """When the last one came that count() has seen, on the wall clock."""
        return self.stamp / 1e6

    def stamps(self):
        """{id: microseconds on the wall clock}"""
        return stamps(self.ids)

    def cpu(self):
        try:
            with open("/proc/%d/schedstat" % self.process.pid) as handle:
                total = int(handle.read().split()[0])
            for task in os.listdir("/proc/%d/task" % self.process.pid):
                if int(task) != self.process.pid:
                    with open("/proc/%d/task/%s/schedstat" % (self.process.pid, task)) as handle:
                        total += int(handle.read().split()[0])
            return total / 1e9
        except OSError:
            return 0.0

    def wait(self, wanted, seconds):
        """When so many messages had come, or None. Its file is up to 0.1 s behind."""
        limit = time.monotonic() + seconds
        while self.count() < wanted:
            if time.monotonic() > limit:
                return None
            time.sleep(0.01)
        return time.monotonic()

    def end(self):
        """Its figures."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stderr.close()
        self.reader.close()
        self.ids.unlink(missing_ok=True)
        try:
            return json.loads(self.json.read_text())
        except (OSError, ValueError):
            return {}


def stamps(path):
    """{id: microseconds} of a file of --stamps."""
    lines = Path(path).read_text().split("\n")[:-1]
    return {name: int(at) for name, at in (line.split() for line in lines)}


def source(server, folder, *options, seconds=60):
    """Runs one load to its end; its figures."""
    out = Path(folder) / "source.json"
    out.unlink(missing_ok=True)
    command = [str(tools() / "smtp_source"), "-q", "--retry=50ms", "--timeout", "%ds" % patience[0],
               "-j", str(out), *map(str, options), *server.addresses()]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, text=True)
    try:
        _, error = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGINT)
        try:
            _, error = child.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            raise Trouble("smtp_source had no end within %d s\n%s" % (seconds, server.log()))
    except BaseException:
        child.kill()
        child.wait()
        raise
    try:
        figures = json.loads(out.read_text())
    except (OSError, ValueError):
        raise Trouble("smtp_source: %s\n%s" % (error.strip()[-500:], server.log()))
    if not figures["accepted"]:
        raise Trouble("no message was accepted: %s\n%s" % (error.strip()[-300:], server.log()))
    return figures
