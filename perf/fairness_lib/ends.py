"""Both ends of the road and the name server: perf/load's programs, with the time of every message."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from lib import instance                                        # noqa: E402
from lib.ports import free_port                                 # noqa: E402

# One address has 28,000 ports and each waits a minute after its connection: the load comes from several.
FROM = ",".join("127.0.0.%d" % n for n in range(2, 10))


def missing():
    for name in ("smtp_source", "smtp_sink", "dns_zone", "postfix"):
        if not os.access(instance.ringpost_bin() / name, os.X_OK):
            return "no %s at %s: build it (cmake --build --preset release), or set RINGPOST_BIN" % (
                name, instance.ringpost_bin())
    return None


class Program:
    """One of perf/load's that runs until it is told to end."""

    def __init__(self, folder, name, *words, yields=False):
        self.json = Path(folder) / ("%s-%d.json" % (name, time.monotonic_ns()))
        self.process = subprocess.Popen(
            [*(("nice", "-n", "19") if yields else ()), str(instance.ringpost_bin() / name), *map(str, words)], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=open(self.json.with_suffix(".err"), "wb"))
        time.sleep(0.15)
        if self.process.poll() is not None:
            raise SystemExit("%s: %s" % (name, self.json.with_suffix(".err").read_text()))

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def stamps(path):
    """{id: microseconds}; a line that is only half there is left out."""
    rows = {}
    try:
        for line in path.read_text().split("\n")[:-1]:
            words = line.split()
            rows.setdefault(words[0], int(words[1]))
    except OSError:
        pass
    return rows


class Sink(Program):
    """rules: lines of a rules file (perf/load/manners.h); manner: for every address beside them; most:
    it ends after so many messages. Only messages of smtp_source have an id and are counted before.
    yields: at the lowest priority."""

    def __init__(self, folder, host, rules=None, manner="", port=None, most=None, yields=False):
        self.port = port or free_port()
        self.received = Path(folder) / ("received-%d" % time.monotonic_ns())
        self.received.touch()
        self.seen, self.reader = 0, open(self.received, "rb")
        words = ["-q", "-o", self.received, "--stamps"]
        if rules:
            path = self.received.with_suffix(".rules")
            path.write_text("".join(line + "\n" for line in rules))
            words += ["-r", path]
        if manner:
            words += ["-M", manner]
        if most:
            words += ["-m", most]
        json_path = self.received.with_suffix(".json")
        super().__init__(folder, "smtp_sink", *words, "-j", json_path, "%s:%d" % (host, self.port),
                         yields=yields)
        self.json = json_path

    def count(self):
        """Messages so far; the file is up to 0.1 s late."""
        self.seen += self.reader.read().count(b"\n")
        return self.seen

    def wait(self, wanted, seconds):
        limit = time.monotonic() + seconds
        while self.count() < wanted:
            if time.monotonic() > limit:
                return False
            time.sleep(0.02)
        return True

    def connections(self):
        """Established now."""
        with open("/proc/net/tcp") as handle:
            return sum(line.split()[1].endswith(":%04X" % self.port) and line.split()[3] == "01"
                       for line in handle)

    def figures(self):
        self.end()
        self.reader.close()
        return json.loads(self.json.read_text())


def zone(folder, domains, count, first="127.1.0.1", sites=None):
    """A name server for `count` domains ('#' is 1 to count); its port."""
    port = free_port()
    words = ["-d", domains, "-n", count, "-a", first, *(["--sites", sites] if sites else [])]
    program = Program(folder, "dns_zone", *words, "127.0.0.1:%d" % port)
    program.port = port
    return program


def source(folder, server, *options, seconds=60, stamped=False):
    """One load to its end; its figures, and {id: when it had its 250} if asked for."""
    out = Path(folder) / ("source-%d.json" % time.monotonic_ns())
    acked = out.with_suffix(".acked")
    command = [str(instance.ringpost_bin() / "smtp_source"), "-q", "--bind", FROM, "-j", str(out),
               *(["-a", str(acked), "--stamps"] if stamped else []), *map(str, options),
               "127.0.0.1:%d" % server.port]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=seconds)
    try:
        figures = json.loads(out.read_text())
    except (OSError, ValueError):
        raise SystemExit("smtp_source: %s\n%s" % (done.stderr[-500:], server.log()[-1500:]))
    if done.returncode:
        raise SystemExit("smtp_source: some were not accepted: %s\n%s" % (
            done.stderr[-800:], server.log()[-1500:]))
    return (figures, stamps(acked)) if stamped else figures
