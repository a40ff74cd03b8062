"""What more processors would do, from costs measured on few. Pure: figures in, figures out.

A message costs processor time on workers, which are as many as one likes, and on threads and locks of which
there is one: each of those ends the growth at 1 / its time. Log writes are one at a time: a full batch of them
ends it, too. Costs are taken as measured under full load; what sharing caches between more processors would add
is not in it, but how much going from one worker to two added is measured and told beside it.
"""

CORES = (1, 2, 4, 8, 16, 32, 64)


def log_limit(seconds, batch_bytes, message_bytes):
    """Messages/s of one full batch after the other; seconds: what one takes."""
    return batch_bytes / message_bytes / seconds


def ceilings(costs):
    """[(name, messages/s at most)], lowest first. costs: {"serial": {name: µs a message}, "log": messages/s
    or None}"""
    found = [(name, 1e6 / us) for name, us in costs["serial"].items() if us > 0]
    if costs.get("log"):
        found.append(("the log's writes, one at a time", costs["log"]))
    return sorted(found, key=lambda c: c[1])


def at(costs, cores):
    """(messages/s, what ends it) of the server alone on so many processors."""
    found = [("the processors", cores * 1e6 / costs["total"])] + ceilings(costs)
    name, rate = min(found, key=lambda c: c[1])
    return rate, name


def table(costs, cores=CORES):
    """[(cores, messages/s, what ends it, messages/s with a disk that never ends it, what ends that)]"""
    return [(n, *at(costs, n), *at({**costs, "log": None}, n)) for n in cores]
