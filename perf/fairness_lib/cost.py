"""What one message costs the scheduler's thread, by how many there are: it must not grow.

    fresh      N messages over SMTP, each for a destination of its own (with its own name and address)
    one site   N deferred messages for one destination come back by `postqueue -f`
    sites      N deferred messages for N destinations come back in the same way
    overdue    N deferred messages for one destination are all due when the server starts (and looks its
               index through meanwhile)
"""

import os
import signal
import subprocess
import time

from .ends import Sink, ROOT, source, zone
from .servers import Running, engine, instance, memory_mib, say, thread_cpu, thread_id

THREAD = "sched"
WAIT = 900


def build_fill(folder):
    """perf/bench/fill.c against the floors of the build that is measured; the program's path."""
    build = instance.ringpost_bin().parent
    program = os.path.join(folder, "fill")
    boost = subprocess.run(["sh", "-c", "ls /usr/lib/*/libboost_context.a | head -1"],
                           capture_output=True, text=True).stdout.strip()
    jemalloc = ["-ljemalloc"] if b"jemalloc" in (build / "bin/ringpost").read_bytes() else []
    subprocess.run(["gcc", "-std=gnu17", "-O2", "-I" + str(ROOT), "-D_GNU_SOURCE",
                    str(ROOT / "perf/bench/fill.c"), "-o", program,
                    *[str(build / ("librp_%s.a" % n)) for n in ("queue", "maps", "io", "base")],
                    "-lxxhash", "-lidn2", "-luring", "-lunbound", "-levent", "-lpcre2-8", "-llmdb",
                    boost, "-lm", "-lpthread", *jemalloc], check=True)
    return program


def fill_queue(program, server, count, sites, due):
    subprocess.run([program, str(server.queue), str(count), "1024", str(sites), str(due)], check=True,
                   stdout=subprocess.DEVNULL)
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", server.owner(), *[str(server.queue / n) for n in
                                                        ("log", "content", "index", "corrupt")]],
                       check=True)


class Meter:
    """What the engine spends from here on."""

    def __init__(self, server, options, from_start=False):
        self.server, self.began = server, time.monotonic()
        self.before = {} if from_start else thread_cpu(engine(server))
        self.counter = None
        if options.instructions:
            self.counter = subprocess.Popen(
                ["perf", "stat", "-x,", "-e", "instructions:u", "-t", thread_id(engine(server), THREAD)],
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def instructions(self):
        self.counter.send_signal(signal.SIGINT)
        words = self.counter.communicate()[1].strip().split(",")
        if not words[0].isdigit():
            raise SystemExit("perf counts no instructions here: %s" % ",".join(words))
        return int(words[0])

    def figures(self, count):
        return figures(self, count)


def figures(meter, count):
    """After the last delivery the index is written: that belongs to them."""
    server, before = meter.server, meter.before
    pid, seconds = engine(server), time.monotonic() - meter.began
    wait_quiet(server, 30)
    used = thread_cpu(pid)
    spent = {name: 1e6 * (used[name] - before.get(name, 0.0)) / count for name in used}
    row = {"messages": count, "scheduler us": spent.get(THREAD, 0.0), "all us": sum(spent.values()),
           "messages/s": count / seconds, "peak MiB": memory_mib(pid)}
    row["by thread"] = ", ".join("%s %.1f" % (n, v) for n, v in sorted(spent.items(), key=lambda i: -i[1])
                                 if v >= 0.5)
    if meter.counter:
        row["scheduler instructions"] = meter.instructions() / count
    return row


def wait_quiet(server, seconds):
    """After a start the index is looked through: not what is measured. Rows are written, and taken out, up to two
    seconds after the last delivery: three quiet ones have seen that."""
    pid, limit, quiet = engine(server), time.monotonic() + seconds, 0
    while time.monotonic() < limit and quiet < 3:
        before = sum(thread_cpu(pid).values())
        time.sleep(1)
        quiet = quiet + 1 if sum(thread_cpu(pid).values()) - before < 0.01 else 0


def wait_for(sink, count, server):
    """The sink ends by itself after the last one."""
    try:
        sink.process.wait(WAIT)
    except subprocess.TimeoutExpired:
        raise SystemExit("%d of %d came:\n%s" % (sink.figures()["messages"], count,
                                                 server.log()[-2000:]))


def fresh(folder, count, options):
    with Sink(folder, "127.0.0.0/8", most=count) as sink, zone(folder, "d#.load.example", count) as names:
        params = {"dns_forward": "127.0.0.1@%d" % names.port, "smtp_dns_support_level": "enabled",
                  "smtp_tcp_port": str(sink.port)}
        with Running("ringpost", params) as server:
            meter = Meter(server, options)
            source(folder, server, "-s", 20, "-c", 0, "-l", "1k", "-m", count, "--to",
                   "u@d%%{1-%d}.load.example" % count, seconds=WAIT)
            wait_for(sink, count, server)
            return meter.figures(count)


def backlog(folder, program, count, sites, overdue, options):
    with Sink(folder, "127.0.0.0/8", most=count) as sink, \
            zone(folder, "site#.example", max(1, sites - 1)) as names:
        params = {"dns_forward": "127.0.0.1@%d" % names.port, "smtp_dns_support_level": "enabled",
                  "smtp_tcp_port": str(sink.port),
                  # fill's first site has no number in the zone.
                  "transport_maps": "inline:{site0.example=smtp:[127.0.0.1]}",
                  "minimal_backoff_time": "1000s", "queue_run_delay": "1000s"}
        with Running("ringpost", params,
                     lambda server: fill_queue(program, server, count, sites,
                                                   -4000 if overdue else 86400)) as server:
            if not overdue:
                wait_quiet(server, 60 + count / 5000)
            meter = Meter(server, options, overdue)
            if not overdue:
                server.run("postqueue", "-f", check=True, timeout=60)
            wait_for(sink, count, server)
            return meter.figures(count)


def run(folder, options):
    program = build_fill(folder)
    rows = []
    for count in options.counts:
        for road in options.roads:
            if count > options.most.get(road, count):
                continue
            row = fresh(folder, count, options) if road == "fresh" else backlog(
                folder, program, count, count if road == "sites" else 1, road == "overdue", options)
            rows.append({"road": road, **row})
            say("%-8s %8d messages: scheduler %.2f us%s, all %.1f us, %.0f/s, peak %.0f MiB (%s)" % (
                road, count, row["scheduler us"],
                ", %.0f instructions" % row["scheduler instructions"] if options.instructions else "",
                row["all us"], row["messages/s"], row["peak MiB"], row["by thread"]))
    return rows
