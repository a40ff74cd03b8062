"""A thousand receivers that stall, and one that is well: what the well one's mail waits.

Three ways: *alone*; *beside* mail for those that stall, in the same queue; and with those that stall in a queue of
another server on the same machine (*elsewhere*). The last one is what sharing processors and caches with so many
connections does to any program: what is left between it and *beside* is the scheduler's.
"""

import contextlib
import statistics
import time

from .ends import Sink, source, stamps, zone
from .servers import Running, engine, memory_mib, say, thread_cpu

# Each stalls in its own way: before the banner, before the last 250, a byte at a time. They are other machines, of
# which none knows when the next one sends: their bytes do not come together, and their work yields to the server's.
KINDS = ("delay.banner=5s-120s", "delay.dot=5s-120s", "tarpit=1s-3s")
WAYS = ("alone", "beside", "elsewhere")   # where those that stall have their mail
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


def well_mail(folder, server, sink, options):
    """The delays in microseconds: from its 250 to the next hop's, and from the content's start."""
    done, acked = source(folder, server, "-s", 50, "-c", 0, "-l", "4k", "-m", 0, "--rate", options.rate,
                         "--seconds", options.seconds, "--to",
                         "u%%{1-50}@tar%d.load.example" % (options.sites + 1), stamped=True,
                         seconds=options.seconds + 60)
    if not sink.wait(done["accepted"], PATIENCE):
        say("only %d of %d came to the healthy receiver within %d s" % (sink.count(), done["accepted"], PATIENCE))
    time.sleep(0.2)
    came = stamps(sink.received)
    late = [max(0, came[one] - at) for one, at in acked.items() if one in came]
    lost = done["accepted"] - len(late)
    late += [1e6 * PATIENCE] * lost
    whole = sink.figures()["latency"]["sent_to_delivered"]
    row = {"count": done["accepted"], "not delivered": lost,
           "accepted p50": percentile(late, 0.5), "accepted p99": percentile(late, 0.99)}
    for name, key, share in (("p50", "p50_us", 0.5), ("p90", "p90_us", 0.9), ("p99", "p99_us", 0.99),
                             ("most", "max_us", 1)):
        row[name] = whole[key] if lost <= (1 - share) * done["accepted"] else 1e6 * PATIENCE
    return row


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
    source(folder, server, "-s", 2, "-m", 50, "-l", "4k", "--to", "u@tar%d.load.example" % (well + 1))
    if not tar.wait(before + 50, 10):
        raise SystemExit("nothing was delivered:\n" + server.log()[-2000:])
    if not options.unknown:
        source(folder, server, "-s", 1, "-m", 5, "-l", "4k", "--to", "u@tar%d.load.example" % well)


def one_run(folder, options, answers, where):
    """A server of its own: {figures}. where: of WAYS."""
    well = options.sites + 1
    manner = "delay.dot=%dms" % answers if answers else ""
    with contextlib.ExitStack() as all_of:
        healthy = all_of.enter_context(Sink(folder, address(well), manner=manner))
        tar = all_of.enter_context(Sink(folder, "127.0.0.0/8", rules(options.sites), yields=True))
        names = all_of.enter_context(zone(folder, "tar#.load.example", well + 1))
        params = {
            "dns_forward": "127.0.0.1@%d" % names.port,
            "smtp_dns_support_level": "enabled",
            "smtp_tcp_port": str(tar.port),
            "transport_maps": "inline:{tar%d.load.example=smtp:tar%d.load.example:%d}" % (
                well, well, healthy.port),
        }
        if options.processes:
            params["default_process_limit"] = str(options.processes)
        server = all_of.enter_context(Running("ringpost", params))
        warm(folder, server, tar, options)
        figures = {"connections": 0}
        if where != "alone":
            holder = server if where == "beside" else all_of.enter_context(Running("ringpost", params))
            figures["connections"] = stall(folder, holder, tar, options)
        pid = engine(server)
        spent = sum(thread_cpu(pid).values())
        figures.update(well_mail(folder, server, healthy, options))
        figures["CPU us"] = 1e6 * (sum(thread_cpu(pid).values()) - spent) / max(1, figures["count"])
        figures.update({"stalling at the end": tar.connections(), "memory MiB": memory_mib(pid)})
        return figures


def run(folder, options):
    """{ms in which the healthy one answers: {way: [a round's figures]}}"""
    return {answers: rounds(folder, options, answers) for answers in options.answers}


def rounds(folder, options, answers):
    rows = {way: [] for way in WAYS}
    for number in range(options.rounds):
        turned = number % len(WAYS)
        for way in WAYS[turned:] + WAYS[:turned]:
            rows[way].append(one_run(folder, options, answers, way))
        say("answers in %d ms, round %d of %d: p50 and p99 in us %s" % (answers, number + 1, options.rounds, ", ".join(
            "%s %d %d" % (way, rows[way][-1]["p50"], rows[way][-1]["p99"]) for way in WAYS)))
    return rows


def ratios(rows, way, base, figure):
    return sorted(one[figure] / max(1, other[figure]) for one, other in zip(rows[way], rows[base]))


def summary(rows):
    """({way: {figure: median}}, [(way, base, {ratio})]). A single p99 of 2,000 messages is the twentieth from the
    end: another job on the machine moves it, so the medians of all rounds are compared."""
    middle = {way: {k: statistics.median(r[k] for r in rows[way]) for k in rows[way][0]} for way in WAYS}
    found = []
    for way, base in (("beside", "alone"), ("elsewhere", "alone"), ("beside", "elsewhere")):
        found.append((way, base, {
            **{k: middle[way][k] / max(1, middle[base][k]) for k in ("p50", "p90", "p99", "accepted p99")},
            "p99 rounds": ratios(rows, way, base, "p99")}))
    return middle, found
