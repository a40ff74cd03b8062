"""A thousand receivers that stall, and one that is well: what the well one's mail waits.

Two servers on one machine, and in the queue of the second the mail for those that stall. In turn, a few seconds each,
the load for a healthy receiver goes

    alone       to the first, while the second and those that stall are stopped (SIGSTOP)
    elsewhere   to the first, while they go on: what so many connections do to any program on these processors
    beside      to the second: what is left between this and the one before is the scheduler's

Machines have slow and quick minutes, whoever runs on them; turns of seconds meet all of them alike.
"""

import contextlib
import os
import signal
import statistics
import time

from .ends import Sink, source, stamps, zone
from .servers import Running, engine, memory_mib, say, thread_cpu

# Each stalls in its own way: before the banner, before the last 250, a byte at a time. They are other machines, of
# which none knows when the next one sends: their bytes do not come together, and their work yields to the server's.
KINDS = ("delay.banner=5s-120s", "delay.dot=5s-120s", "tarpit=1s-3s")
WAYS = ("alone", "elsewhere", "beside")
CALM = 1        # seconds for what was held up while they were stopped
PATIENCE = 30   # seconds after the load: what has not come by then counts as that late
INITIAL = 5     # initial_destination_concurrency: so many connections each


def address(number):
    """Of domain `number` (1 is the first): dns_zone counts on from 127.1.0.1."""
    return ".".join(str((0x7F010000 + number) >> shift & 255) for shift in (24, 16, 8, 0))


def rules(count):
    """Stalling receivers are 1 to count."""
    lines, at = [], 1
    for index, words in enumerate(KINDS):
        last = count * (index + 1) // len(KINDS)
        if last >= at:
            lines.append("%s-%s %s" % (address(at), address(last), words))
            at = last + 1
    return lines


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def domain(number):
    return "tar%d.load.example" % number


def turn(folder, server, sink, to, options):
    """One turn's load: the delays from the 250 to the next hop's, in microseconds."""
    done, acked = source(folder, server, "-s", 50, "-c", 0, "-l", "4k", "-m", 0, "--rate", options.rate, "--seconds",
                         options.seconds, "--to", "u%{1-50}@" + to, stamped=True, seconds=options.seconds + 60)
    sink.expected += done["accepted"]
    if not sink.wait(sink.expected, PATIENCE):
        say("only %d of %d came to %s within %d s" % (sink.count(), sink.expected, to, PATIENCE))
    time.sleep(0.15)
    came = stamps(sink.received)
    return [max(0, came[one] - at) if one in came else 1e6 * PATIENCE for one, at in acked.items()]


def stall(folder, server, tar, options):
    """Mail for those that stall, until it holds as many connections as it may; how many."""
    wanted = min(options.sites * INITIAL, options.processes or options.sites * INITIAL)
    source(folder, server, "-s", 20, "-c", 0, "-l", "2k", "-m", options.sites * options.each, "--to",
           "u@tar%%{1-%d}.load.example" % options.sites, seconds=300)
    limit = time.monotonic() + 30
    while tar.connections() < 0.95 * wanted and time.monotonic() < limit:
        time.sleep(0.2)
    held = tar.connections()
    time.sleep(options.settle)
    return held


def warm(folder, server, tar, options):
    """The first messages of a server's life load code and open files: not counted."""
    well, before = options.sites + 1, tar.count()
    source(folder, server, "-s", 2, "-m", 50, "-l", "4k", "--to", "u@" + domain(well + len(WAYS)))
    if not tar.wait(before + 50, 10):
        raise SystemExit("nothing was delivered:\n" + server.log()[-2000:])
    for number in range(well, 0 if options.unknown else well + len(WAYS)):
        source(folder, server, "-s", 1, "-m", 5, "-l", "4k", "--to", "u@" + domain(number))


@contextlib.contextmanager
def stopped(*pids):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        time.sleep(CALM)


class World:
    """Both servers, a healthy receiver for each way, and those that stall."""

    def __init__(self, folder, options, answers, stack):
        well = options.sites + 1
        manner = "delay.dot=%dms" % answers if answers else ""
        self.folder, self.options = folder, options
        self.sinks, self.to = {}, {}
        for number, way in enumerate(WAYS, well):
            self.sinks[way] = stack.enter_context(Sink(folder, address(number), manner=manner))
            self.sinks[way].expected, self.to[way] = 0, domain(number)
        self.tar = stack.enter_context(Sink(folder, "127.0.0.0/8", rules(options.sites), yields=True))
        names = stack.enter_context(zone(folder, "tar#.load.example", well + len(WAYS)))
        params = {
            "dns_forward": "127.0.0.1@%d" % names.port,
            "smtp_dns_support_level": "enabled",
            "smtp_tcp_port": str(self.tar.port),
            "transport_maps": "inline:{%s}" % ", ".join(
                "{%s = smtp:%s:%d}" % (self.to[way], self.to[way], self.sinks[way].port) for way in WAYS),
        }
        if options.processes:
            params["default_process_limit"] = str(options.processes)
        first, self.holder = (stack.enter_context(Running("ringpost", params)) for _ in range(2))
        self.server = {"alone": first, "elsewhere": first, "beside": self.holder}
        for server in (first, self.holder):
            warm(folder, server, self.tar, options)
        for sink in self.sinks.values():
            sink.wait(0 if options.unknown else 10, 10)
            sink.expected = sink.count()

    def turn(self, way):
        pid = engine(self.server[way])
        away = [engine(self.holder), self.tar.process.pid] if way == "alone" else []
        with stopped(*away):
            spent = sum(thread_cpu(pid).values())
            late = turn(self.folder, self.server[way], self.sinks[way], self.to[way], self.options)
            return late, sum(thread_cpu(pid).values()) - spent


def rounds(folder, options, answers):
    """{way: {figure}} over all turns."""
    with contextlib.ExitStack() as stack:
        world = World(folder, options, answers, stack)
        held = stall(folder, world.holder, world.tar, options)
        late, spent = {way: [] for way in WAYS}, dict.fromkeys(WAYS, 0)
        for number in range(options.rounds):
            turned = number % len(WAYS)
            for way in WAYS[turned:] + WAYS[:turned]:
                delays, cpu = world.turn(way)
                late[way].append(delays)
                spent[way] += cpu
            say("answers in %d ms, round %d of %d: p99 from the 250 in us: %s" % (
                answers, number + 1, options.rounds, ", ".join(
                    "%s %d" % (way, percentile(late[way][-1], 0.99)) for way in WAYS)))
        memory = {way: memory_mib(engine(world.server[way])) for way in WAYS}
        stalling = {"alone": 0, "elsewhere": held, "beside": held}
        return {way: figures(world.sinks[way], late[way], spent[way],
                             {"connections": stalling[way], "stalling at the end": world.tar.connections(),
                              "memory MiB": memory[way]}) for way in WAYS}


def figures(sink, late, spent, more):
    """late: of each turn. The other delays are from the content's start, by the receiver's histogram of all turns;
    what has not come within PATIENCE is as late as that."""
    every = [one for turns in late for one in turns]
    lost = sum(one >= 1e6 * PATIENCE for one in every)
    whole = sink.figures()["latency"]["sent_to_delivered"]
    row = {"count": len(every), "not delivered": lost, "CPU us": 1e6 * spent / max(1, len(every)), **more,
           "accepted p50": percentile(every, 0.5), "accepted p99": percentile(every, 0.99),
           "accepted p99 rounds": [percentile(turns, 0.99) for turns in late]}
    for name, key, share in (("p50", "p50_us", 0.5), ("p90", "p90_us", 0.9), ("p99", "p99_us", 0.99),
                             ("most", "max_us", 1)):
        row[name] = whole[key] if lost <= (1 - share) * len(every) else 1e6 * PATIENCE
    return row


def run(folder, options):
    """{ms in which the healthy one answers: {way: {figure}}}"""
    return {answers: rounds(folder, options, answers) for answers in options.answers}


def summary(rows):
    """[(way, base, {ratio})]"""
    found = []
    for way, base in (("beside", "alone"), ("elsewhere", "alone"), ("beside", "elsewhere")):
        one, other = rows[way], rows[base]
        pairs = zip(one["accepted p99 rounds"], other["accepted p99 rounds"])
        found.append((way, base, {
            **{k: one[k] / max(1, other[k]) for k in ("p50", "p90", "p99", "accepted p50", "accepted p99")},
            "rounds": statistics.quantiles([a / max(1, b) for a, b in pairs], n=4)}))
    return found
