"""The figures as Markdown."""

import os
import platform

from . import limit, tarpit


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(str(c) for c in row) + " |" for row in rows])


def micro(value):
    return "%.0f us" % value if value < 10000 else "%.1f ms" % (value / 1000)


TITLES = {"alone": "alone", "elsewhere": "beside another server whose mail stalls", "beside": "beside mail that stalls"}


def tarpit_text(result, options):
    words = ("%d receivers stall (a third each: 5 to 120 s before the banner, before the last 250, 1 to 3 s a byte), %d messages "
             "wait for each; %d messages/s go to a healthy one, in %d turns of %d s for each row. The first columns "
             "run from the content's start to its end at the next hop, so through the log's write; the next two from the "
             "250. *Alone*: those that stall, and the server that has their mail, are stopped meanwhile. The second row is "
             "what shared processors and caches do, whoever schedules. default_process_limit is %s." % (
                 options.sites, options.each, options.rate, options.rounds, options.seconds,
                 options.processes or "not asked for"))
    return "\n\n".join(["## Receivers that stall", words] +
                       [tarpit_table(answers, rows) for answers, rows in result.items()])


def tarpit_table(answers, rows):
    body = [[TITLES[way], "%.0f to %.0f" % (m["connections"], m["stalling at the end"]) if m["connections"] else "0",
             "%.0f" % m["count"], micro(m["p50"]), micro(m["p90"]),
             micro(m["p99"]), micro(m["most"]), micro(m["accepted p50"]), micro(m["accepted p99"]),
             micro(m["CPU us"]), "%.0f" % m["not delivered"], "%.0f" % m["memory MiB"]] for way, m in rows.items()]
    title = "### It answers the final dot in %d ms" % answers if answers else "### It answers at once"
    compared = [["%s / %s" % (way, base), *["%.2f" % r[k] for k in ("p50", "p90", "p99", "accepted p50", "accepted p99")],
                 "%.2f, %.2f, %.2f" % tuple(r["rounds"])] for way, base, r in tarpit.summary(rows)]
    return "\n\n".join([title, table(
        ["", "stalling", "messages", "p50", "p90", "p99", "most", "from the 250: p50", "p99",
         "engine CPU a message", "late by 30 s", "peak MiB"], body), table(
        ["", "p50", "p90", "p99", "from the 250: p50", "p99", "the same, of each turn (quartiles)"], compared)])


def limit_text(rows, options):
    body = []
    for (name, kind), m in limit.summary(rows).items():
        spread = [r["deferred %"] for r in rows[(name, kind)]]
        body.append([name, kind, "%.1f %%" % m["deferred %"], "%.1f to %.1f" % (min(spread), max(spread)),
                     "%.0f" % m["of them unseen"], "%.0f" % m["connections"],
                     "%.0f" % m["answered 421"], "%.1f" % m["seconds"]])
    words = ("%d messages to a receiver that answers 421 beyond %d connections and takes %d ms for each; limit 50, initial "
             "concurrency 5, connections %s. *Unseen*: put off without an attempt, because the site is taken "
             "for dead. Medians of %d rounds." % (options.mails, options.limit, options.stall,
                                                  "reused" if options.reuse else "not reused",
                                                  options.limit_rounds))
    return "\n\n".join(["## A receiver that limits connections", words, table(
        ["feedback (up, down)", "server", "deferred", "spread", "unseen", "connections", "421s",
         "seconds"], body)])


def cost_text(rows, options):
    counted = ["instructions"] if options.instructions else []
    body = [[r["road"], "%d" % r["messages"], "%.2f" % r["scheduler us"],
             *["%.0f" % r["scheduler instructions"] for _ in counted], "%.1f" % r["all us"],
             "%.0f" % r["messages/s"], "%.0f" % r["peak MiB"], r["by thread"]] for r in rows]
    words = ("Microseconds of processor a message, from the scheduler counters of each thread. *one site* and *sites*: "
             "deferred mail for one destination, or for one each, that `postqueue -f` brings back (the scheduler's thread "
             "finds them in the index, the thread *index* writes it); *fresh*: as it comes in, one destination each.")
    return "\n\n".join(["## What a message costs the scheduler", words, table(
        ["road", "messages", "scheduler us", *counted, "all threads us", "messages/s", "peak MiB", "by thread"],
        body)])


TEXTS = {"tarpit": tarpit_text, "limit": limit_text, "cost": cost_text}


def text(result, options, commit, seconds):
    parts = ["# Fairness", "Commit %s, %s, %d processors, %.0f s." % (
        commit, platform.release(), os.cpu_count(), seconds)]
    return "\n\n".join(parts + [TEXTS[name](rows, options) for name, rows in result.items()]) + "\n"


def plain(result):
    """What JSON can hold."""
    return {name: [{"setting": key[0], "server": key[1], "rounds": all_of}
                   for key, all_of in rows.items()] if name == "limit" else rows
            for name, rows in result.items()}
