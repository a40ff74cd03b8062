"""The suite must be able to fail: each kind of difference is planted and must be seen."""

import pytest

from lib.dialogue import Data
from lib.golden import Normal, difference, parse_log
from lib.sink import Sink
from world import World, case, compare, envelope, play, rows


@pytest.fixture(scope="module")
def world():
    with World() as one:
        yield one


ROW = case("a message", *envelope(), "DATA", Data(b"Subject: s\r\n\r\nbody\r\n"))


def spoil(result, part, old, new):
    text = "\n".join(result[part])
    assert old in text, "%r is not in %s" % (old, text)
    return {**result, part: text.replace(old, new, 1).split("\n")}


@pytest.mark.parametrize("part, old, new", [
    ("replies", "250 2.1.0 Ok", "250 2.1.0 OK"),
    ("replies", "250-PIPELINING", "250-SIZE"),
    ("replies", "S: <EOF>", "S: 221 again"),
    ("session log", "mail=1", "mail=2"),
    ("log of message 1", "status=sent", "status=deferred"),
    ("log of message 1", "nrcpt=1", "nrcpt=2"),
    ("log of message 1", "dsn=2.0.0", "dsn=2.1.5"),
    ("delivery of message 1", "with ESMTP", "with SMTP"),
    ("delivery of message 1", "body\\r\\n", "body\\n"),
    ("delivery of message 1", "MAIL FROM:<a@example.com> SIZE", "MAIL FROM:<a@example.com>  SIZE"),
])
def test_a_planted_difference_is_seen(world, part, old, new):
    left, right = world.play(ROW)
    compare(left, right)
    with pytest.raises(pytest.fail.Exception) as seen:
        compare(left, spoil(right, part, old, new))
    assert part in str(seen.value)


def test_a_missing_part_is_seen(world):
    left, right = world.play(ROW)
    del right["delivery of message 1"]
    with pytest.raises(pytest.fail.Exception):
        compare(left, right)


def test_a_wrong_answer_of_a_live_server_is_seen(world):
    """One side talks to a scripted server instead: the row must fail."""
    left = play(world.sides[0], ROW)
    with Sink({"mail": "250 2.1.0 Sender ok"}) as fake:
        server = world.sides[1].server
        port, server.ports["smtp"] = server.ports["smtp"], fake.port
        try:
            with pytest.raises(pytest.fail.Exception):
                compare(left, play(world.sides[1], case(ROW.name, *ROW.steps, log=False)))
        finally:
            server.ports["smtp"] = port


@pytest.mark.parametrize("text, wanted", [
    ("250 2.0.0 Ok: queued as 3EDA640AEC", "250 2.0.0 Ok: queued as <ID>"),
    ("250 2.0.0 Ok: queued as 3Ps0FS1Zhtz1PFjb", "250 2.0.0 Ok: queued as <ID>"),
    ("x delay=0.03, delays=0.01/0/0.01/0, dsn=2.0.0", "x delay=<D>, delays=<D>, dsn=2.0.0"),
    ("Sat, 21 Nov 2026 23:36:14 +0000 (UTC)", "<DATE>"),
    ("Sat Nov 21 23:36:14", "<WHEN>"),
    ("550 5.1.1 port 12345 stays", "550 5.1.1 port 12345 stays"),
    ("port 2525 goes", "port <PORT> goes"),
])
def test_normalising(text, wanted):
    assert Normal(swaps={"2525": "<PORT>"}).text(text) == wanted


def test_log_lines_are_taken_apart():
    assert parse_log("Nov 22 01:33:46 mail postfix/smtpd[4714]: connect from x[1]\nrubbish\n") == [
        ("smtpd", "connect from x[1]"), ("?", "rubbish")]


def test_a_difference_reads_as_a_diff():
    assert "-b" in difference(["a", "b"], ["a", "c"], "left", "right")
    assert difference(["a"], ["a"], "left", "right") == ""


def test_row_names_are_unique():
    with pytest.raises(AssertionError):
        rows([case("same", "NOOP"), case("same", "QUIT")])
