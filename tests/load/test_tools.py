"""smtp_source against smtp_sink without a server between them: every id once, manners as scripted."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections import Counter

import pytest

from lib.instance import ringpost_bin
from lib.ports import free_port

BIN = ringpost_bin()
LIMIT = 120


class Sink:
    def __init__(self, folder, *options, where="127.0.0.0/8"):
        self.port = free_port("0.0.0.0")
        self.json, self.ids = folder / "sink.json", folder / "received"
        self.process = subprocess.Popen(
            [BIN / "smtp_sink", "-q", "--json", self.json, "--received", self.ids, *map(str, options),
             "%s:%d" % (where, self.port)], stdout=subprocess.DEVNULL)
        self._wait_listening()

    def _wait_listening(self):
        end = time.monotonic() + 20
        while True:
            assert self.process.poll() is None, "smtp_sink did not start"
            try:
                # An address of its own, so that looking does not change what a test counts.
                socket.create_connection(("127.255.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < end, "smtp_sink does not listen"
                time.sleep(0.02)

    def end(self):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(30) == 0
        result = json.loads(self.json.read_text())
        result["addresses"].pop("127.255.0.1", None)
        return result

    def received(self):
        return self.ids.read_text().split()


@pytest.fixture
def sink(tmp_path):
    made = []

    def make(*options):
        made.append(Sink(tmp_path, *options))
        return made[-1]

    yield make
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def source(folder, *arguments, status=0):
    out = folder / "source.json"
    done = subprocess.run([BIN / "smtp_source", "-q", "--json", out, "--acked", folder / "acked",
                           *map(str, arguments)], timeout=LIMIT, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(out.read_text())


def acked(folder):
    return (folder / "acked").read_text().split()


def rules(folder, text):
    path = folder / "rules"
    path.write_text(text)
    return "--rules", path


@pytest.mark.parametrize("options", [
    ("--reuse", 0),
    ("--reuse", 7, "--no-pipelining", "--threads", 2),
    ("--reuse", 3, "--size", "1k:5,30k:3,200k:1", "--recipients", "1-5", "--threads", 2),
    ("--size", 1),
], ids=["pipelined", "stepwise", "sizes", "small"])
def test_every_id_arrives_once(sink, tmp_path, options):
    s = sink("--threads", 2)
    sent = source(tmp_path, "-s", 20, "-m", 500, *options, "127.0.0.1:%d" % s.port)
    got = s.end()
    assert sent["accepted"] == got["messages"] == got["distinct_ids"] == 500
    assert sent["failed"] == got["repeated"] == got["without_id"] == 0
    assert sent["recipients"] == got["recipients"] == got["distinct_deliveries"]
    assert sent["latency"]["message"]["count"] == got["latency"]["sent_to_delivered"]["count"] == 500
    ids = acked(tmp_path)
    assert len(ids) == len(set(ids)) == 500
    assert sorted(ids) == sorted(s.received())


def test_stamps_tell_from_the_accept_to_the_delivery(sink, tmp_path):
    """The sink records before it answers: its stamps are the earlier ones. DATA to 250 holds both waits,
    dot to 250 one of them."""
    s = sink("--stamps", "--manner", "delay.data=20ms delay.dot=30ms")
    sent = source(tmp_path, "-s", 2, "-m", 10, "--stamps", "--no-pipelining", "127.0.0.1:%d" % s.port)
    s.end()
    taken, came = (dict(line.split() for line in path.read_text().splitlines())
                   for path in (tmp_path / "acked", s.ids))
    assert len(taken) == 10 and taken.keys() == came.keys()
    assert all(0 <= int(taken[i]) - int(came[i]) < 10e6 for i in taken)
    assert sent["latency"]["content"]["min_us"] >= 49e3 > sent["latency"]["data"]["min_us"] >= 19e3
    assert sent["latency"]["dot"]["min_us"] >= 29e3


def test_every_size_of_a_small_range_ends_properly(sink, tmp_path):
    """A slice of the body may begin anywhere in a line; the sink takes proper line ends only."""
    s = sink()
    sent = source(tmp_path, "-s", 10, "-m", 2000, "-c", 0, "-l", "300-700", "127.0.0.1:%d" % s.port)
    got = s.end()
    assert got["messages"] == 2000
    assert got["bytes"] == sent["bytes"] + 3 * 2000         # the ends


def test_open_loop_keeps_its_rate_and_counts_the_waiting(sink, tmp_path):
    """400 messages at 400/s over 4 sessions that take 40 ms each: 100/s leave, the rest waits, and
    the time of the last ones runs from when they were due."""
    s = sink("--manner", "delay.dot=40ms")
    sent = source(tmp_path, "-s", 4, "-m", 400, "-c", 0, "--rate", 400, "127.0.0.1:%d" % s.port)
    s.end()
    assert sent["accepted"] == 400
    assert sent["seconds"] > 3.5
    assert sent["latency"]["message"]["max_us"] > 2e6
    assert sent["latency"]["lag"]["max_us"] > 2e6
    assert sent["latency"]["dot"]["p50_us"] < 1e6
    assert sent["latency"]["dot"]["min_us"] > 39e3


def test_addresses_have_manners_of_their_own(sink, tmp_path):
    s = sink(*rules(tmp_path, """
        127.3.0.1              rcpt=450_4.2.1_not_now
        127.3.0.2              dot=552:every=4
        127.3.0.3-127.3.0.4    mail=451:first=2
        127.3.0.5/32           greylist=0
        127.3.0.6              no-ehlo
        127.3.0.7              data=drop
        127.3.0.8              content=drop:first=1
        127.3.0.9              size=5k
    """))

    def to(address, *options, status=1):
        return source(tmp_path, "-s", 1, "-m", 8, "-c", 0, *options,
                      "127.3.0.%d:%d" % (address, s.port), status=status)

    one = to(1)
    assert one["accepted"] == 0 and one["stages"]["rcpt"]["refused_4xx"] == 8
    two = to(2)
    assert two["accepted"] == 6 and two["stages"]["dot"]["refused_5xx"] == 2
    assert to(3, "--no-pipelining")["stages"]["mail"]["refused_4xx"] == 2
    assert to(4)["accepted"] == 6
    five = to(5, "--to", "a%{1-2}@b.test")
    assert five["accepted"] == 6 and five["stages"]["rcpt"]["refused_4xx"] == 2
    assert to(6)["stages"]["helo"]["refused_5xx"] == 1
    seven = to(7)
    assert seven["accepted"] == 0 and seven["stages"]["data"]["broken"] == 1
    eight = to(8, "--retry=1ms", status=0)
    assert eight["accepted"] == 8 and eight["stages"]["dot"]["broken"] == 1
    assert to(9)["stages"]["dot"]["refused_5xx"] == 8
    got = s.end()
    places = {int(a.split(".")[3]): p for a, p in got["addresses"].items()}
    assert sorted(places) == list(range(1, 10))
    assert [places[i]["messages"] for i in range(1, 10)] == [0, 6, 6, 6, 6, 0, 0, 8, 0]
    assert places[1]["refused_4xx"] == 8 and places[5]["greylisted"] == 2
    assert places[2]["refused_5xx"] == 2 and got["refused_5xx"] == 2 + 1 + 8
    assert places[7]["dropped"] == 1 and places[8]["dropped"] == 1
    assert got["messages"] == got["distinct_ids"] == 32
    assert Counter(acked(tmp_path)) == Counter(s.received())


def test_a_limit_of_connections_is_421_and_retry_gets_past_it(sink, tmp_path):
    s = sink("--manner", "connections=3 delay.dot=5ms")
    sent = source(tmp_path, "-s", 10, "-m", 100, "-c", 5, "--retry=2ms", "127.0.0.1:%d" % s.port)
    got = s.end()
    assert sent["accepted"] == got["distinct_ids"] == 100 and sent["failed"] == 0
    assert got["over_limit"] > 0
    assert sent["stages"]["banner"]["refused_4xx"] == got["over_limit"]


def test_a_connection_closed_while_it_idled_is_no_failure(sink, tmp_path):
    """The sink gives up on a silent client after 50 ms; arrivals are 200 ms apart."""
    s = sink("--timeout", "50ms")
    sent = source(tmp_path, "-s", 1, "-m", 5, "-c", 0, "--rate", 5, "--even", "127.0.0.1:%d" % s.port)
    got = s.end()
    assert sent["accepted"] == got["distinct_ids"] == 5
    assert sent["failed"] == 0 and sent["stages"]["mail"]["broken"] == 0
    assert sent["stale"] > 0 and sent["connections"] == sent["stale"] + 1


def test_a_tarpit_sends_its_bytes_one_by_one(sink, tmp_path):
    s = sink("--manner", "tarpit=2ms")
    sent = source(tmp_path, "-s", 5, "-m", 5, "127.0.0.1:%d" % s.port)
    s.end()
    assert sent["accepted"] == 5
    assert sent["latency"]["banner"]["min_us"] > 2000 * len("220 sink.load.example ESMTP\r\n")


def test_a_receiver_that_hangs_is_left_at_the_time_limit(sink, tmp_path):
    s = sink("--manner", "rcpt=hang")
    sent = source(tmp_path, "-s", 2, "-m", 2, "--timeout", "200ms", "127.0.0.1:%d" % s.port, status=1)
    got = s.end()
    assert sent["stages"]["rcpt"]["broken"] == 2
    assert got["hung"] == 2


def test_without_retry_nobody_there_ends_the_run(tmp_path):
    begun = time.monotonic()
    sent = source(tmp_path, "-s", 2, "-m", 100000, "127.0.0.1:%d" % free_port(), status=1)
    assert sent["accepted"] == 0 and 1 <= sent["stages"]["connect"]["broken"] <= 2
    assert time.monotonic() - begun < 20


def test_several_targets_and_own_addresses_take_turns(sink, tmp_path):
    s = sink()
    sent = source(tmp_path, "-s", 4, "-m", 40, "--bind", "127.0.0.11,127.0.0.12",
                  *("127.5.0.%d:%d" % (i, s.port) for i in (1, 2, 3, 4)))
    got = s.end()
    assert sent["accepted"] == 40
    assert {a: p["messages"] for a, p in got["addresses"].items()} == {
        "127.5.0.%d" % i: 10 for i in (1, 2, 3, 4)}


def test_the_sink_ends_after_its_count(tmp_path, sink):
    s = sink("--messages", 10)
    source(tmp_path, "-m", 10, "127.0.0.1:%d" % s.port)
    assert s.process.wait(20) == 0
    assert json.loads(s.json.read_text())["messages"] == 10


def test_the_zone_answers_over_the_wire():
    dns_message = pytest.importorskip("dns.message")
    dns_query = pytest.importorskip("dns.query")
    port = free_port()
    zone = subprocess.Popen([BIN / "dns_zone", "--domains", "d#.example.net", "-n", "300",
                             "127.0.0.1:%d" % port], stdout=subprocess.PIPE, text=True)
    try:
        def ask(name, kind):
            for _ in range(50):
                try:
                    return dns_query.udp(dns_message.make_query(name, kind), "127.0.0.1", port=port,
                                         timeout=0.2)
                except Exception:                           # not there yet
                    pass
            raise AssertionError("no answer")

        assert [r.to_text() for r in ask("d300.example.net", "MX").answer[0]] == [
            "10 mx1.d300.example.net."]
        assert ask("mx1.d300.example.net", "A").answer[0][0].to_text() == "127.1.1.44"
        assert ask("d301.example.net", "MX").rcode() == 3
    finally:
        zone.terminate()
        out = zone.communicate(timeout=20)[0]
    assert re.match(r"MX \d+, A 1,", out)


@pytest.mark.parametrize("program, arguments", [
    ("smtp_source", []), ("smtp_source", ["--size", "big", "127.0.0.1:25"]),
    ("smtp_source", ["127.0.0.1"]), ("smtp_source", ["--to", "%{2-1}", "127.0.0.1:25"]),
    ("smtp_sink", []), ("smtp_sink", ["--manner", "nonsense", "127.0.0.1:25"]),
    ("smtp_sink", ["--rules", "/nowhere", "127.0.0.1:25"]), ("dns_zone", []),
])
def test_wrong_words_are_refused_with_status_2(program, arguments):
    done = subprocess.run([BIN / program, *arguments], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("program", ["smtp_source", "smtp_sink", "dns_zone"])
def test_help(program):
    done = subprocess.run([BIN / program, "--help"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and done.stdout.startswith("usage: " + program)


def test_nothing_is_left_of_us():
    left = [p for p in os.listdir("/proc") if p.isdigit() and _is_ours(p)]
    assert not left


def _is_ours(pid):
    try:
        with open("/proc/%s/stat" % pid) as handle:
            words = handle.read().rsplit(")", 1)[1].split()
        with open("/proc/%s/cmdline" % pid) as handle:
            name = os.path.basename(handle.read().split("\0")[0])
    except OSError:
        return False
    return int(words[1]) == os.getpid() and name in ("smtp_source", "smtp_sink", "dns_zone")
