"""Mail that waits: qshape's table, and who may try what defer_transports keeps back."""

import re
import time

import pytest

from world import World, compare, on_both, wait_final

PARAMS = {
    "transport_maps": "inline:{{later.example = retry:4.3.2 come again}, "
                      "{kept.example = relay:[127.0.0.1]:1}, {other.example = relay:[127.0.0.1]:1}}",
    "defer_transports": "uucp, relay",
    "fast_flush_domains": "kept.example",
    "queue_run_delay": "1000s",
    "minimal_backoff_time": "1000s",
    "smtpd_reject_unlisted_recipient": "no",
}


@pytest.fixture(scope="module")
def world():
    with World(params=PARAMS) as one:
        yield one


@pytest.fixture
def empty(world):
    for side in world.sides:
        side.server.run("postsuper", "-d", "ALL", check=True)
    return world


def both(world, function):
    compare(*on_both(function, world.sides))


# Ties are in no order with Postfix: each domain has a number of its own.
MAIL = [("a@one.example", ["r%d@later.example" % i for i in range(7)]),
        ("b@One.Example", ["x@a.later.example", "y@B.later.example", "z@b.later.example"]),
        ("", ["x@later.example"]),
        ("c@a-name-so-long.that-it-cannot-be-shown-as-a-whole.in-a-row-of-the-table.example",
         ["x@c.later.example", "y@c.later.example", "z@c.later.example", "w@c.later.example"])]


@pytest.mark.parametrize("args", [
    ["deferred"], ["-s", "deferred"], ["-p", "-m", "2", "deferred"], ["-p", "deferred"],
    ["-l", "deferred"], ["-b", "3", "deferred"], ["-b", "1", "deferred"], ["-t", "1", "deferred"],
    ["-t", "0.5", "deferred"], ["-w", "132", "deferred"], ["-w", "20", "deferred"], ["-n", "1", "deferred"],
    ["-l", "-b", "5", "-t", "60", "deferred"], ["-b", "20", "-s", "deferred"], [], ["hold", "deferred"], ["hold"],
    ["maildrop"], ["nosuchqueue"], ["-N", "10", "incoming", "active", "deferred"]], ids=" ".join)
def test_qshape(world, args):
    def shape(side):
        if not side.server.run("qshape", "deferred", check=True).stdout.count("later.example"):
            for sender, rcpts in MAIL:
                wait_final(side.server, side.server.submit(sender, rcpts))
        done = side.server.run("qshape", *args)
        return {"exit status": [str(done.returncode)], "table": done.stdout.splitlines(),
                "stderr": done.stderr.splitlines()[:1]}

    both(world, shape)


def test_a_transport_that_is_missing_is_tried_once_in_a_while():
    """transport_retry_time: one warning for each time it is tried; the words differ, the times do not."""
    def send(side):
        server, seen = side.server, []
        for step in range(6):
            wait_final(server, server.submit("a@example.com", ["r%d@missing.example" % step]))
            time.sleep(1)
        for service, line in server.log_lines():
            if re.search(r"transport \S*nosuch", line):
                seen.append("%s: warning" % service)
            elif "status=" in line:
                seen.append(re.sub(r".*(to=<[^>]*>).*(dsn=\S+ status=\w+ \(mail transport unavailable).*",
                                   r"\1 \2", line))
        warned = [n for n, line in enumerate(seen) if "warning" in line]
        outcomes = [line for line in seen if "status=" in line]
        return {"outcomes": outcomes, "warnings": [str(len(warned))],
                "between": [str(sum("status=" in line for line in seen[warned[0]:warned[-1]]) >= 3)]}

    with World(params={"transport_maps": "inline:{missing.example=nosuch:}",
                       "transport_retry_time": "4s", "smtpd_reject_unlisted_recipient": "no"}) as world:
        both(world, send)


@pytest.mark.parametrize("how", [["-f"], ["-i", "ID"], ["-s", "kept.example"], ["-s", "other.example"]],
                         ids=" ".join)
def test_what_lifts_defer_transports(empty, how):
    """A flush of all does; what a flush of one message or site does is compared."""
    def flush(side):
        ids = [side.server.submit("a@example.com", ["r@%s.example" % d]) for d in ("kept", "other")]
        for one in ids:
            wait_final(side.server, one)
        since = side.server.log_size()
        done = side.server.run("postqueue", *[ids[0] if word == "ID" else word for word in how])
        tried = []
        if done.returncode == 0:
            side.server.wait_log(r"to=<r@kept.example>.*status=", since=since)
            if how == ["-f"]:
                side.server.wait_log(r"to=<r@other.example>.*status=", since=since)
            tried = sorted(re.sub(r".*(to=<[^>]*>).*(dsn=\S+ status=.*)", r"\1 \2", line)
                           for service, line in side.server.log_lines(since) if "status=" in line)
        return {"exit status": [str(done.returncode)], "attempts": tried}

    both(empty, flush)
