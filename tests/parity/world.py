"""Two servers of one configuration, and one row played on both.

A row is `case("what it proves, as a sentence", steps...)`. A module declares the worlds (main.cf,
services, tables) and the rows; the reference's answers are recorded while the test runs, never
written down. A difference we know of is a row with known="the reason": it must still differ.
"""

import os
import re
import threading
import time
from dataclasses import dataclass, field

import pytest

from lib.dialogue import Data, run_script
from lib.golden import Normal, difference, parse_log, queue_ids
from lib.instance import KINDS
from lib.sink import Sink

SIDES = ("postfix", "postfix" if os.environ.get("RINGPOST_PARITY_SELF") == "1" else "ringpost")
STRANGER = "127.0.0.2"


@dataclass
class Case:
    name: str
    steps: tuple
    service: str = "smtp"
    source: str | None = None       # STRANGER: a client outside mynetworks
    log: bool = True                # compare the session's log lines
    delivered: bool = True          # compare what arrives for each message accepted
    known: str | None = None        # why Ringpost differs
    timeout: float = 10


def case(name, *steps, **more):
    return Case(name, steps, **more)


def hello(*steps):
    return ("EHLO client.example.org", *steps)


def envelope(sender="a@example.com", *recipients, options=""):
    recipients = recipients or ("b@dest.example",)
    return hello("MAIL FROM:<%s>%s" % (sender, options),
                 *["RCPT TO:<%s>" % r for r in recipients])


def message(content, **more):
    """A whole message with this content, given as exact bytes."""
    return envelope(**more) + ("DATA", Data(content))


def rows(cases):
    """Cases as pytest parameters with their sentence as the id."""
    names = [c.name for c in cases]
    twice = {n for n in names if names.count(n) > 1}
    assert not twice, "two rows with one name: %s" % twice
    # The id holds no brackets: pytest -k and shells dislike them.
    return [pytest.param(c, id=re.sub(r"[^\w .,=<>@/+-]", "_", c.name),
                         marks=[pytest.mark.xfail(strict=SIDES[1] != "postfix", reason=c.known,
                                                  run=True)]
                         if c.known and SIDES[1] != "postfix" else [])
            for c in cases]


def on_both(function, things):
    """function(thing) for both at once; results in order, the first exception raised."""
    results, errors = [None, None], [None, None]

    def work(index):
        try:
            results[index] = function(things[index])
        except BaseException as error:      # handed on below
            errors[index] = error

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        if error:
            raise error
    return results


@dataclass
class Side:
    server: object
    sinks: dict
    swaps: dict = field(default_factory=dict)

    def normal(self, *texts):
        return Normal(queue_ids(*texts), self.swaps)


class World:
    """params, services, files, master as for lib.instance.Server; the texts may name sinks.

    sinks   {name: Sink arguments}; "@SINK:name@" is the port
    """

    def __init__(self, params=None, services=None, files=None, master="", sinks=None,
                 base=None):
        sinks = {"default": {}} if sinks is None else sinks
        # Local mail too: a test must not write into the machine's mailboxes.
        routes = {"default_transport": "smtp:[127.0.0.1]:@SINK:default@",
                  "local_transport": "smtp:[127.0.0.1]:@SINK:default@"} if "default" in sinks \
            else {}
        self.arguments = dict(params={**routes, **(params or {})}, services=services, files=files,
                              master=master)
        if base is not None:
            self.arguments["base_master"] = base
        self.sinks = sinks
        self.sides = []

    def __enter__(self):
        # Each side is stored as soon as it runs: when the other fails, it must still be stopped.
        self.sides = [None, None]
        try:
            on_both(self._make, (0, 1))
        except BaseException:
            self.__exit__()
            raise
        return self

    def _make(self, index):
        kind = SIDES[index]
        sinks = {name: Sink(**options) for name, options in self.sinks.items()}
        swaps = {"@SINK:%s@" % name: sink.port for name, sink in sinks.items()}
        server = KINDS[kind](swaps=swaps, **self.arguments)
        names = {str(server.dir): "<DIR>"}
        names.update({str(sink.port): "<SINK:%s>" % name for name, sink in sinks.items()})
        names.update({str(port): "<PORT:%s>" % name for name, port in server.ports.items()})
        side = Side(server, sinks, names)
        try:
            server.start()
            # The log lines of the connections that asked for greetings belong to no row.
            server.wait_log("disconnect from ", count=len(server.ports), timeout=5)
        except BaseException:
            server.kill_all()
            server.remove()
            for sink in sinks.values():
                sink.close()
            raise
        self.sides[index] = side

    def __exit__(self, *exc):
        errors = []
        for side in self.sides or []:
            if side is None:
                continue
            try:
                side.server.stop()
            except Exception as error:      # the other side must be stopped too
                errors.append(error)
            side.server.remove()
            for sink in side.sinks.values():
                sink.close()
        if errors:
            raise errors[0]

    # -- one row ---------------------------------------------------------------------------------
    def play(self, one):
        """Transcripts, session log lines and deliveries of one row on each side, normalised."""
        return on_both(lambda side: play(side, one), self.sides)

    def check(self, one):
        left, right = self.play(one)
        if os.environ.get("RINGPOST_PARITY_SHOW"):
            with open(os.environ["RINGPOST_PARITY_SHOW"], "a") as handle:
                show(handle, one.name, left)
        compare(left, right)


def show(handle, name, result):
    """Write down what the reference said, for whoever implements it."""
    handle.write("== %s\n" % name)
    for part, lines in result.items():
        handle.write("-- %s\n%s\n" % (part, "\n".join(lines)))


def compare(left, right):
    """left, right: {part: [lines]}; fails with one diff for all parts that differ."""
    texts = []
    for part in left:
        diff = difference(left[part], right.get(part, []), "%s %s" % (SIDES[0], part),
                          "%s %s" % (SIDES[1], part))
        if diff:
            texts.append(diff)
    if texts:
        pytest.fail("\n".join(texts), pytrace=False)


def play(side, one):
    server = side.server
    since = server.log_size()
    transcript = run_script(server.ports[one.service], one.steps, source=one.source,
                            timeout=one.timeout)
    session = session_log(server, since) if one.log else []
    ids = re.findall(r"queued as ([0-9A-Za-z]+)", "\n".join(transcript))
    result, parts = {}, []
    if one.delivered and ids:
        parts = [outcome(side, qid) for qid in ids]
    normal = side.normal("\n".join(transcript), server.log(since))
    result["replies"] = normal.lines(transcript)
    if one.log:
        result["session log"] = normal.lines(session)
    for number, (log, mails) in enumerate(parts, 1):
        result["log of message %d" % number] = normal.log(log)
        result["delivery of message %d" % number] = [
            line for mail in mails for line in delivered_lines(normal, mail)]
    return result


def session_log(server, since, timeout=6):
    """smtpd's lines of the session that began at this place in the log, to its disconnect line."""
    limit = time.monotonic() + timeout
    while True:
        lines = [text for service, text in server.log_lines(since) if service.endswith("smtpd")]
        if any(re.match(r"disconnect from ", t) for t in lines):
            return lines
        if time.monotonic() > limit:
            return lines + ["(no disconnect line within %d s)" % timeout]
        time.sleep(0.01)


def log_of(server, qid):
    return [(service, text) for service, text in server.log_lines()
            if text.startswith(qid + ": ")]


def wait_final(server, qid, timeout=20):
    """Until the queue is done with a message for now: removed, or each recipient has an outcome."""
    limit = time.monotonic() + timeout
    while True:
        lines = [text for _, text in log_of(server, qid)]
        if any(t == qid + ": removed" for t in lines):
            return
        active = [re.search(r"nrcpt=(\d+) \(queue active\)", t) for t in lines]
        wanted = [int(f[1]) for f in active if f]
        done = [t for t in lines if re.search(r": to=<.*status=", t)]
        if wanted and len(done) >= wanted[0] and any("status=deferred" in t for t in done):
            return
        if time.monotonic() > limit:
            raise server.error("message %s: no final state within %d s" % (qid, timeout))
        time.sleep(0.01)


def outcome(side, qid):
    """Log lines "service: text" and deliveries of a message and of the notices it caused."""
    server = side.server
    wait_final(server, qid)
    rows_of = log_of(server, qid)
    lines = ["%s: %s" % (s, t) for s, t in rows_of if not s.endswith("smtpd")]
    mails = find_mails(side, qid)
    for _, text in rows_of:
        child = re.search(r"notification: (\S+)$", text)
        if child:
            more_lines, more_mails = outcome(side, child[1])
            lines += more_lines
            mails += more_mails
    return lines, mails


def find_mails(side, qid):
    found = []
    for name, sink in side.sinks.items():
        for mail in sink.find(qid.encode()):
            # The id must stand in the mail's first Received: header. A notice names its message too,
            # in boundary="...".
            head = mail.raw.split(b"\r\n\r\n", 1)[0]
            if re.search(rb"\bid " + qid.encode(), head.split(b"\r\nReceived:")[0]):
                found.append((name, mail))
    return sorted(found, key=lambda pair: (pair[0], sorted(pair[1].rcpts)))


def delivered_lines(normal, pair):
    name, mail = pair
    # SIZE= counts the queue id, whose length may differ: the sizes have rows of their own.
    sizes = lambda text: re.sub(r"SIZE=\d+", "SIZE=<N>", text)
    return ["to sink %s" % name, normal.text(sizes(mail.mail)),
            *sorted(normal.lines(mail.rcpts)), *normal.content(mail.raw)]
