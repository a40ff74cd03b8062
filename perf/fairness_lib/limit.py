"""A receiver that answers 421 beyond so many connections: how much of the mail it makes wait, with
Postfix and with Ringpost under the same feedback settings."""

import re
import statistics
import time

from .ends import Sink, source
from .servers import Running, say

FEEDBACK = {
    "1, 1 (default)": ("1", "1"),
    "1/concurrency, 1/concurrency": ("1/concurrency", "1/concurrency"),
    "1/concurrency, 1": ("1/concurrency", "1"),
    "1, 1/concurrency": ("1", "1/concurrency"),
}
RESULT = re.compile(r"postfix/(\w+)\[\d+\]: (\w+): to=<.*status=(\w+) \((.*)\)$", re.M)


def outcomes(server, wanted, seconds):
    """The first result of each message: {id: (service, status, text)}."""
    limit = time.monotonic() + seconds
    while True:
        first = {}
        for service, one, status, text in RESULT.findall(server.log()):
            first.setdefault(one, (service, status, text))
        if len(first) >= wanted or time.monotonic() > limit:
            return first
        time.sleep(0.3)


def one_run(folder, options, kind, feedback):
    manner = "connections=%d delay.dot=%dms" % (options.limit, options.stall)
    with Sink(folder, "127.0.0.1", manner=manner) as sink:
        params = {
            "relayhost": "[127.0.0.1]:%d" % sink.port,
            "default_destination_concurrency_positive_feedback": feedback[0],
            "default_destination_concurrency_negative_feedback": feedback[1],
            "default_destination_concurrency_limit": "50",
            # A second attempt does not count: whoever is put off comes after the run.
            "minimal_backoff_time": "1000s",
            "queue_run_delay": "1000s",
            "smtp_connection_cache_on_demand": "yes" if options.reuse else "no",
        }
        if kind == "ringpost":
            params["queue_backoff_jitter"] = "0"
        with Running(kind, params) as server:
            began = time.monotonic()
            source(folder, server, "-s", 20, "-c", 100, "-l", "4k", "-m", options.mails, seconds=120)
            first = outcomes(server, options.mails, 120)
            took = time.monotonic() - began
        seen = sink.figures()
    waits = [text for _, status, text in first.values() if status == "deferred"]
    unseen = sum("delivery temporarily suspended" in text for text in waits)
    return {"messages": len(first), "deferred %": 100.0 * len(waits) / max(1, len(first)),
            "of them unseen": unseen, "connections": seen["connections"],
            "answered 421": seen["over_limit"], "seconds": took}


def run(folder, options):
    rows = {}
    for number in range(options.limit_rounds):
        kinds = ["postfix", "ringpost"]
        for name in list(FEEDBACK)[:options.settings]:
            for kind in kinds if number % 2 else kinds[::-1]:
                row = one_run(folder, options, kind, FEEDBACK[name])
                rows.setdefault((name, kind), []).append(row)
                say("%-34s %-8s deferred %.2f %%, %d connections, %d answered 421, %.1f s" % (
                    name, kind, row["deferred %"], row["connections"], row["answered 421"],
                    row["seconds"]))
    return rows


def summary(rows):
    """{(setting, kind): {figure: median}}"""
    return {key: {f: statistics.median(r[f] for r in all_of) for f in all_of[0]}
            for key, all_of in rows.items()}
