"""Acts on many messages, by what they have in common, while mail goes in and out."""

import json
import re
import subprocess
import threading
import time

import pytest

from lib.instance import Ringpost

SENDERS = ["ann@one.example", "bob@one.example", "cid@two.example"]
DOMAINS = ["a.example", "b.example", "c.example", "d.example"]
EACH = 5  # messages of a sender to a domain


class Backlog:
    """A server with mail for closed doors, and an open one for the rest."""

    def __init__(self, server, sink):
        self.server, self.sink = server, sink
        self.mail = {}  # id -> (sender, domain)

    def fill(self):
        for sender in SENDERS:
            for domain in DOMAINS:
                for n in range(EACH):
                    qid = self.server.submit(sender, ["u%d@%s" % (n, domain)])
                    self.mail[qid] = (sender, domain)
        self.server.wait_log(r"status=deferred", count=len(self.mail))
        return self

    def listed(self):
        out = self.server.run("postqueue", "-j", check=True).stdout
        return {row["queue_id"]: row for row in map(json.loads, out.splitlines())}

    def ids(self, wanted):
        return {qid for qid, (sender, domain) in self.mail.items() if wanted(sender, domain)}

    def act(self, *args, stdin=None):
        return self.server.run("postsuper", *args, stdin=stdin, check=True).stderr


@pytest.fixture
def backlog(sink):
    closed = ", ".join("{%s = smtp:[127.0.0.1]:%d}" % (d, i + 1) for i, d in enumerate(DOMAINS))
    with Ringpost(params={"transport_maps": "inline:{%s}" % closed,
                          "relayhost": "[127.0.0.1]:%d" % sink.port,
                          "minimal_backoff_time": "3600s", "maximal_backoff_time": "3600s"}) as server:
        yield Backlog(server, sink).fill()


class Traffic:
    """Mail that goes through, all the time; none of it may be touched, late or lost."""

    def __init__(self, backlog):
        self.backlog, self.sent, self.over = backlog, 0, False
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over:
            self.backlog.server.submit("traffic@three.example", ["x@open.example"])
            self.sent += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.over = True
        self.thread.join()
        if exc[0] is None:
            self.backlog.sink.wait(self.sent)


CHOICES = [
    ("a sender", ["--sender", "ann@one.example"], lambda s, d: s == "ann@one.example"),
    ("in capitals", ["--sender", "ANN@One.example"], lambda s, d: s == "ann@one.example"),
    ("a sender's domain", ["--sender", "@one.example"], lambda s, d: s.endswith("@one.example")),
    ("a domain", ["--domain", "b.example"], lambda s, d: d == "b.example"),
    ("a next hop", ["--destination", "[127.0.0.1]:3"], lambda s, d: d == "c.example"),
    ("with its transport", ["--destination", "smtp:[127.0.0.1]:3"], lambda s, d: d == "c.example"),
    ("another transport", ["--destination", "relay:[127.0.0.1]:3"], lambda s, d: False),
    ("both", ["--sender", "@one.example", "--domain", "a.example"],
     lambda s, d: s.endswith("@one.example") and d == "a.example"),
    ("one nobody has", ["--sender", "eve@one.example"], lambda s, d: False),
    ("all", [], lambda s, d: True),
]


def test_hold_and_release_what_fits_and_nothing_else(backlog):
    with Traffic(backlog):
        for name, options, wanted in CHOICES:
            ids = backlog.ids(wanted)
            said = backlog.act("-h", "ALL", *options)
            count = int(re.fullmatch(r"postsuper: Placed on hold: (\d+) messages?\n", said).group(1))
            assert count == len(ids) or (name == "all" and count > len(ids)), name
            held = {i for i, row in backlog.listed().items() if row["queue_name"] == "hold"}
            mine = held & set(backlog.mail)
            assert mine == ids, name
            # What was on its way at that moment was held too, when ALL was asked for.
            assert held == mine or name == "all"
            backlog.act("-H", "ALL", "hold")
            backlog.server.wait_log(r"status=deferred", count=len(backlog.mail), timeout=30)
            wait_until(lambda: not any(row["queue_name"] == "hold"
                                       for row in backlog.listed().values()))


def wait_until(what, seconds=20):
    end = time.time() + seconds
    while not what():
        assert time.time() < end
        time.sleep(0.05)


def test_delete_by_each_in_turn(backlog):
    with Traffic(backlog):
        left = set(backlog.mail)
        for name, options, wanted in CHOICES:
            if name == "all":
                continue
            gone = backlog.ids(wanted) & left
            said = backlog.act("-d", "ALL", *options)
            assert "Deleted: %d message" % len(gone) in said, name
            left -= gone
            assert set(backlog.listed()) & set(backlog.mail) == left, name
    assert "Deleted: %d message" % len(left) in backlog.act("-d", "ALL", "deferred")
    assert "Mail queue is empty" in backlog.server.run("mailq").stdout


def test_ids_on_standard_input_and_a_filter(backlog):
    every = sorted(backlog.mail)
    some = every[::2]
    wanted = [i for i in some if backlog.mail[i][1] == "d.example"]
    text = "".join(i + "\n" for i in some) + "no/id\nALL\n" + "".join(i + "\n" for i in some)
    said = backlog.act("-d", "-", "--domain", "d.example", stdin=text.encode())
    assert re.findall(r"postsuper: (\S+): removed", said) == wanted
    assert "invalid mail queue id: no/id" in said
    assert "Deleted: %d message" % len(wanted) in said
    assert set(backlog.listed()) == set(every) - set(wanted)
    rest = [i for i in some if i not in wanted]
    said = backlog.act("-h", "-", stdin=text.encode())
    assert re.findall(r"postsuper: (\S+): placed on hold", said) == rest
    held = {i for i, row in backlog.listed().items() if row["queue_name"] == "hold"}
    assert held == set(rest)
    assert "Deleted: %d message" % len(rest) in backlog.act("-d", "ALL", "hold")
    assert set(backlog.listed()) == set(every) - set(some)


def test_expire_once_and_expire_with_release(backlog):
    bobs = backlog.ids(lambda s, d: s == "bob@one.example")
    backlog.act("-h", "ALL", "--sender", "bob@one.example")
    assert "Force-expired: %d messages" % len(bobs) in backlog.act(
        "-e", "ALL", "--sender", "bob@one.example")
    assert "Force-expired: 0 messages" in backlog.act("-e", "ALL", "--sender", "bob@one.example")
    said = backlog.act("-f", "ALL", "--sender", "bob@one.example")
    assert "Force-expired: 0 messages" in said
    assert "Released from hold: %d messages" % len(bobs) in said
    backlog.sink.wait(len(bobs))  # the notices go to one.example
    for qid in bobs:
        backlog.server.wait_log(r"%s: from=<bob@one.example>, status=force-expired" % qid)
    wait_until(lambda: set(backlog.listed()) & set(backlog.mail) == set(backlog.mail) - bobs)


def test_requeue_by_domain_gives_new_ids_once(backlog):
    mine = backlog.ids(lambda s, d: d == "a.example")
    said = backlog.act("-r", "ALL", "--domain", "a.example")
    assert "Requeued: %d messages" % len(mine) in said
    listed = backlog.listed()
    assert not mine & set(listed)
    assert len(listed) == len(backlog.mail)
    fresh = [row for i, row in listed.items() if i not in backlog.mail]
    assert len(fresh) == len(mine)
    assert all(r["recipients"][0]["address"].endswith("@a.example") for r in fresh)


def test_the_same_on_a_closed_queue(backlog):
    backlog.server.stop()
    mine = backlog.ids(lambda s, d: d == "b.example")
    assert "Placed on hold: %d messages" % len(mine) in backlog.act(
        "-h", "ALL", "--destination", "smtp:[127.0.0.1]:2")
    assert "Deleted: %d messages" % len(mine) in backlog.act("-d", "ALL", "hold")
    assert set(backlog.listed()) == set(backlog.mail) - mine
    backlog.server.start()
    assert set(backlog.listed()) == set(backlog.mail) - mine


@pytest.mark.parametrize("args, words", [
    (["--sender", "a@b.example"], "which mail: what is to be done with it?"),
    (["-d", "ALL", "--sender", ""], "usage: postsuper"),
    (["-d", "ALL", "--domain", "a.example", "--domain", "b.example"], "usage: postsuper"),
    (["-d", "ALL", "--destination"], "usage: postsuper"),
    (["-d", "ALL", "--nonsense", "x"], "usage: postsuper"),
])
def test_what_cannot_be_meant_is_refused(relay, args, words):
    done = relay.run("postsuper", *args)
    assert done.returncode == 1 and words in done.stderr


def test_a_reader_that_goes_away_ends_the_listing(backlog):
    server = backlog.server
    line = "%s -p | head -1" % server.program("postqueue")
    for _ in range(3):
        done = subprocess.run(["sh", "-c", line], env=server.environ(), capture_output=True,
                              timeout=20)
        assert done.stdout.startswith(b"-Queue ID-") and done.stderr == b""
    # Nothing of it is left in the server, which goes on.
    server.run("postsuper", "-d", "ALL", check=True)
    assert "Mail queue is empty" in server.run("mailq").stdout


def test_flush_of_a_site_tries_its_mail_only(sink):
    with Ringpost(params={"relayhost": "[127.0.0.1]:1", "minimal_backoff_time": "3600s",
                          "fast_flush_domains": "a.example, b.example"}) as server:
        ids = {d: server.submit("x@y.example", ["u@" + d]) for d in ("a.example", "b.example")}
        server.wait_log(r"status=deferred", count=2)
        server.params["relayhost"] = "[127.0.0.1]:%d" % sink.port
        server.write_config()
        server.run("postfix", "reload", check=True)
        server.run("postqueue", "-s", "A.example", check=True)
        server.wait_log(r"%s: removed" % ids["a.example"])
        assert ids["b.example"] in server.run("mailq").stdout
