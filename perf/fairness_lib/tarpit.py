"""A thousand receivers that stall, and one that is well: what the well one's mail waits."""

import statistics
import time

from .ends import Sink, source, stamps, zone
from .servers import Running, engine, memory_mib, say, thread_cpu

# Each stalls in its own way: before the banner, before the last 250, a byte at a time. They are other machines, of
# which none knows when the next one sends: their bytes do not come together, and their work yields to the server's.
KINDS = ("delay.banner=5s-120s", "delay.dot=5s-120s", "tarpit=1s-3s")
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


def one_run(folder, options, answers, stalling):
    """A server of its own: {figures}."""
    well = options.sites + 1
    manner = "delay.dot=%dms" % answers if answers else ""
    with Sink(folder, address(well), manner=manner) as healthy, \
            Sink(folder, "127.0.0.0/8", rules(options.sites), yields=True) as tar, \
            zone(folder, "tar#.load.example", well + 1) as names:
        params = {
            "dns_forward": "127.0.0.1@%d" % names.port,
            "smtp_dns_support_level": "enabled",
            "smtp_tcp_port": str(tar.port),
            "transport_maps": "inline:{tar%d.load.example=smtp:tar%d.load.example:%d}" % (
                well, well, healthy.port),
        }
        if options.processes:
            params["default_process_limit"] = str(options.processes)
        with Running("ringpost", params) as server:
            # The first messages of a server's life load code and open files: not counted.
            source(folder, server, "-s", 2, "-m", 50, "-l", "4k", "--to",
                   "u@tar%d.load.example" % (well + 1))
            if not tar.wait(50, 10):
                raise SystemExit("nothing was delivered:\n" + server.log()[-2000:])
            if not options.unknown:
                source(folder, server, "-s", 1, "-m", 5, "-l", "4k", "--to", "u@tar%d.load.example" % well)
            figures = {"connections": 0}
            if stalling:
                wanted = min(options.sites * INITIAL, options.processes or options.sites * INITIAL)
                source(folder, server, "-s", 20, "-c", 0, "-l", "2k", "-m",
                       options.sites * options.each, "--to",
                       "u@tar%%{1-%d}.load.example" % options.sites, seconds=300)
                limit = time.monotonic() + 30
                while tar.connections() < 0.95 * wanted and time.monotonic() < limit:
                    time.sleep(0.2)
                figures["connections"] = tar.connections()
                time.sleep(options.settle)
            pid = engine(server)
            spent = sum(thread_cpu(pid).values())
            figures.update(well_mail(folder, server, healthy, options))
            figures["CPU us"] = 1e6 * (sum(thread_cpu(pid).values()) - spent) / max(1, figures["count"])
            figures.update({"stalling at the end": tar.connections(),
                            "memory MiB": memory_mib(pid)})
            return figures


def run(folder, options):
    """{ms in which the healthy one answers: {"alone", "beside": [a round's figures]}}"""
    return {answers: rounds(folder, options, answers) for answers in options.answers}


def rounds(folder, options, answers):
    rows = {"alone": [], "beside": []}
    for number in range(options.rounds):
        order = ["alone", "beside"]
        for name in order if number % 2 else order[::-1]:
            rows[name].append(one_run(folder, options, answers, name == "beside"))
        a, b = rows["alone"][-1], rows["beside"][-1]
        say("answers in %d ms, round %d of %d: alone p50 %d p99 %d us, beside %d connections p50 %d p99 %d us" % (
            answers, number + 1, options.rounds, a["p50"], a["p99"], b["connections"], b["p50"], b["p99"]))
    return rows


def summary(rows):
    """[(title, {figure: median})], and the ratios. Another job on the machine adds to a p99, never takes
    away: the least of all rounds is less moved by it than the median."""
    out = []
    for name, title in (("alone", "alone"), ("beside", "beside those that stall")):
        middle = {k: statistics.median(r[k] for r in rows[name]) for k in rows[name][0]}
        out.append((title, middle))
    ratios = sorted(b["p99"] / max(1, a["p99"]) for a, b in zip(rows["alone"], rows["beside"]))
    halves = sorted(b["p50"] / max(1, a["p50"]) for a, b in zip(rows["alone"], rows["beside"]))
    least = {name: min(r["p99"] for r in rows[name]) for name in rows}
    return out, {"least": least["beside"] / max(1, least["alone"]), "p99": out[1][1]["p99"] / out[0][1]["p99"], "p99 rounds": ratios,
                 "accepted p99": out[1][1]["accepted p99"] / max(1, out[0][1]["accepted p99"]),
                 "p50": out[1][1]["p50"] / out[0][1]["p50"], "p50 rounds": halves}
