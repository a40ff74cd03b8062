"""Lists that are longer than what qmgr_message_recipient_limit lets into memory."""

import re
import time
from collections import Counter

import pytest

from lib.instance import Ringpost
from lib.sink import Sink, Slow

N = 600


def answer(session, argument):
    """Of the recipients every tenth is refused for good, and some are slow."""
    number = re.search(r"user-(\d+)@", argument)
    if number and int(number.group(1)) % 10 == 0:
        return "550 5.1.1 no such user"
    if number and int(number.group(1)) % 50 == 1:
        return Slow(0.1, "250 2.1.5 Ok")
    return "250 2.1.5 Ok"


def slow_answer(session, argument):
    usual = answer(session, argument)
    return usual if isinstance(usual, Slow) else Slow(0.02, usual)


@pytest.fixture
def list_sink():
    with Sink({"rcpt": answer}) as one:
        yield one


def server_of(sink, **more):
    params = {"relayhost": "[127.0.0.1]:%d" % sink.port, "qmgr_message_recipient_limit": "40",
              "smtp_recipient_refill_limit": "10", "smtp_destination_recipient_limit": "7",
              "minimal_backoff_time": "1s", "maximal_backoff_time": "2s", "queue_run_delay": "1s"}
    params.update(more)
    return Ringpost(params=params)


def recipients():
    return ["user-%d@site%d.example" % (n, n % 3) for n in range(N)]


def delivered(sink):
    return Counter(n for message in sink.messages for rcpt in message.rcpts
                   for n in re.findall(r"<user-(\d+)@", rcpt))


def bounces(sink):
    return [m for m in sink.messages if any("owner@lists.example" in rcpt for rcpt in m.rcpts)]


def gone(server, timeout=60):
    end = time.time() + timeout
    while "is empty" not in server.run("mailq").stdout:
        assert time.time() < end, server.run("mailq").stdout[:2000]
        time.sleep(0.2)


def check_bounce(sink):
    (bounce,) = bounces(sink)
    named = set(re.findall(rb"Final-Recipient: rfc822; *user-(\d+)@", bounce.content))
    assert named == {b"%d" % n for n in range(0, N, 10)}


def test_each_recipient_once_and_one_bounce(list_sink):
    with server_of(list_sink) as server:
        qid = server.submit("owner@lists.example", recipients())
        gone(server)
        assert delivered(list_sink) == Counter({str(n): 1 for n in range(N) if n % 10})
        check_bounce(list_sink)
        assert "%s: from=<owner@lists.example>" % qid in server.log()
        assert re.search(r"%s: .*nrcpt=%d " % (qid, N), server.log())


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_stopped_half_way(how):
    with Sink({"rcpt": slow_answer}) as sink, server_of(sink, smtp_destination_concurrency_limit="2") as server:
        server.submit("owner@lists.example", recipients())
        for share in (5, 2):
            end = time.time() + 30
            while len(delivered(sink)) < N // share and time.time() < end:
                time.sleep(0.01)
            if how == "stop":
                server.stop()
            else:
                server.kill_all()
            server.start()
        gone(server)
        got = delivered(sink)
        assert set(got) == {str(n) for n in range(N) if n % 10}
        # A hundred come each second. What was out, or came back in the last tenth of a second, may go out again;
        # without marks all would, some 400.
        assert sum(got.values()) - len(got) <= (0 if how == "stop" else N // 4)
        check_bounce(sink)


def test_what_is_left_is_listed(list_sink):
    with server_of(list_sink, relayhost="[127.0.0.1]:1", minimal_backoff_time="1000s",
                   maximal_backoff_time="1000s") as server:
        qid = server.submit("owner@lists.example", recipients())
        server.wait_log(r"status=deferred", count=N, timeout=60)
        end = time.time() + 20
        while "%s " % qid not in server.run("mailq").stdout and time.time() < end:
            time.sleep(0.2)
        assert len(re.findall(r"user-\d+@", server.run("mailq").stdout)) == N
        assert len(re.findall(r"user-\d+@", server.run("postcat", "-q", "-e", qid).stdout)) >= N
        server.run("postsuper", "-d", qid, check=True)
        gone(server)
