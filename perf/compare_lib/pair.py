"""Source and sink of a measurement, as one: our own tools, or Postfix's. Both count what they used.

    with Own(folder) as pair:               or Postfixs(folder)
        pair.begin(sessions=20, reuse=True, messages=3000, seconds=0, port=2525)
        while not pair.over():              accepted, and everything that was accepted is delivered
            time.sleep(0.005)
        pair.figures()                      {"messages", "accepted", "delivered", "source", "sink"}

accepted and delivered are messages/s, source and sink µs of CPU a message.
"""

import json
import os
import re
import socket
import subprocess
import time
from pathlib import Path

from . import load
from .keeper import Trouble

SIZE = 10240


class Pair:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.child = self.accepted_s = self.delivered_s = None
        self.messages = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child is not None and self.child.returncode is None:
            self.child.kill()
            self.child.wait()
        self.end_sink()

    def begin(self, sessions, reuse, messages, seconds, port):
        self.came_before = self.count()
        self.messages = messages
        self.began, self.began_wall = time.monotonic(), time.time()
        self.child = subprocess.Popen(self.command(sessions, reuse, messages, seconds, port),
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.PIPE, text=True)

    def over(self):
        if self.accepted_s is None:
            pid, status, usage = os.wait4(self.child.pid, os.WNOHANG)
            if pid == 0:
                return False
            self.accepted_s = time.monotonic() - self.began
            self.child.returncode = os.waitstatus_to_exitcode(status)
            self.source_cpu = usage.ru_utime + usage.ru_stime
            self.ended()
        if self.delivered_s is None and self.count() - self.came_before >= self.messages:
            self.delivered_s = self.delivery_time()
        return self.delivered_s is not None

    def figures(self):
        """Ends the sink, whose CPU is known only then."""
        extra = self.count() - self.came_before - self.messages
        return {"messages": self.messages, "accepted": self.messages / self.accepted_s,
                "delivered": self.messages / self.delivered_s, "extra": extra,
                "source": self.source_cpu / self.messages * 1e6,
                "sink": self.end_sink() / self.messages * 1e6}


class Postfixs(Pair):
    """smtp-source and smtp-sink. The sink writes its running count to a file, which is read."""

    title = "Postfix's smtp-source and smtp-sink"

    def __init__(self, folder):
        super().__init__(folder)
        self.port = load.free_port()
        self.path = self.folder / "sink-count"
        self.out = open(self.path, "wb")
        self.process = subprocess.Popen(
            # Started by root it wants to be told which user to be.
            ["/usr/sbin/smtp-sink", *(["-u", "root"] if os.geteuid() == 0 else []), "-c",
             "127.0.0.1:%d" % self.port, "1000"], stdout=self.out, stderr=subprocess.STDOUT)
        for _ in range(200):
            if self.process.poll() is not None:
                raise SystemExit("smtp-sink ended: %s" % self.path.read_text())
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        self.process.kill()
        raise SystemExit("smtp-sink does not listen")

    def command(self, sessions, reuse, messages, _seconds, port):
        return ["/usr/sbin/smtp-source", "-s", str(sessions), "-m", str(messages), "-l", str(SIZE),
                "-f", "sender@source.example", "-t", "rcpt@dest.example", *(["-d"] if reuse else []),
                "127.0.0.1:%d" % port]

    def count(self):
        try:
            with open(self.path, "rb") as handle:
                handle.seek(0, 2)
                handle.seek(max(0, handle.tell() - 200))
                found = re.findall(rb"mesg=(\d+)", handle.read())
            return int(found[-1]) if found else 0
        except OSError:
            return 0

    def ended(self):
        if self.child.returncode:
            raise Trouble("smtp-source failed: " + self.child.stderr.read().strip()[-500:])

    def delivery_time(self):
        return time.monotonic() - self.began

    def end_sink(self):
        if self.process.returncode is None:
            self.process.terminate()
            _, status, usage = os.wait4(self.process.pid, 0)
            self.process.returncode = os.waitstatus_to_exitcode(status)
            self.out.close()
            self.sink_cpu = usage.ru_utime + usage.ru_stime
        return self.sink_cpu

    # perf/syncs and perf/backlog use the sink alone.
    def end(self):
        return self.end_sink()


class Own(Pair):
    """smtp_source and smtp_sink of perf/load. The time of the last delivery is the sink's own."""

    title = "our smtp_source and smtp_sink"

    def __init__(self, folder):
        super().__init__(folder)
        self.sink = load.Sink(self.folder)
        self.port = self.sink.port
        self.json = self.folder / "source.json"

    def command(self, sessions, reuse, messages, seconds, port):
        self.json.unlink(missing_ok=True)
        return [str(load.tools() / "smtp_source"), "-q", "-j", str(self.json),
                "--timeout", "60s", "-s", str(sessions), "-c", "0" if reuse else "1", "-l", str(SIZE),
                *(["-m", "0", "--seconds", str(seconds)] if seconds else ["-m", str(messages)]),
                "127.0.0.1:%d" % port]

    def count(self):
        return self.sink.count()

    def ended(self):
        try:
            figures = json.loads(self.json.read_text())
        except (OSError, ValueError):
            raise Trouble("smtp_source: " + self.child.stderr.read().strip()[-500:])
        self.messages = figures["accepted"]
        if figures["failed"] or not self.messages:
            raise Trouble("smtp_source: %d messages were accepted, %d were not" % (
                self.messages, figures["failed"]))
        self.accepted_s = figures["seconds"]

    def delivery_time(self):
        return max(self.sink.last_at() - self.began_wall, 1e-3)

    def end_sink(self):
        if self.sink.process.returncode is None:
            figures = self.sink.end()
            self.sink_cpu = figures.get("cpu_user_s", 0) + figures.get("cpu_system_s", 0)
        return self.sink_cpu


PAIRS = {"own": Own, "postfix": Postfixs}
