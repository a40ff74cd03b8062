"""Why mail waits, and what an operator has told to wait; qshape."""

import json
import re
import time

import pytest

from lib.instance import Ringpost

CLOSED = "[127.0.0.1]:1"
SLOW = {"minimal_backoff_time": "3600s", "maximal_backoff_time": "3600s"}


def wait_until(what, seconds=20):
    end = time.time() + seconds
    while not what():
        assert time.time() < end
        time.sleep(0.05)


def why(server, what):
    return json.loads(server.run("postqueue", "--json", "--why", what, check=True).stdout)


def listed(server):
    out = server.run("postqueue", "-j", check=True).stdout
    return {row["queue_id"]: row for row in map(json.loads, out.splitlines())}


def reason(server, qid):
    return listed(server)[qid]["recipients"][0].get("delay_reason", "")


def suspend(server, what):
    return server.run("postqueue", "--suspend", what, check=True).stderr


def resume(server, what):
    return server.run("postqueue", "--resume", what, check=True).stderr


# -- why -------------------------------------------------------------------------------------------
def test_why_of_a_domain_a_destination_and_a_message():
    with Ringpost(params={"relayhost": CLOSED, "initial_destination_concurrency": "1",
                          **SLOW}) as server:
        qid = server.submit("a@b.example", ["x@dead.example"])
        held = server.submit("a@b.example", ["y@dead.example"])
        server.wait_log(r"status=deferred", count=2)
        server.run("postsuper", "-h", held, check=True)
        for what in ("dead.example", "DEAD.example", "smtp:" + CLOSED, CLOSED):
            found = why(server, what)
            assert (found["messages"], found["deferred"], found["hold"]) == (2, 1, 1), what
            assert found["oldest"] <= time.time() < found["next_attempt"] <= time.time() + 7200
            assert "Connection refused" in found["last_reply"] and found["latest_message"] == qid
        dest, = why(server, "dead.example")["destinations"]
        assert (dest["transport"], dest["nexthop"]) == ("smtp", CLOSED)
        assert "Connection refused" in dest["last_reply"]
        assert dest["state"] == "dead" and dest["dead_until"] > time.time()

        found = why(server, qid)
        assert found["state"] == "deferred" and found["sender"] == "a@b.example"
        assert abs(found["last_attempt"] - time.time()) < 60 < found["next_attempt"]
        rcpt, = found["recipients"]
        assert rcpt["address"] == "x@dead.example" and "Connection refused" in rcpt["last_reply"]
        assert rcpt["destination"] == "smtp:" + CLOSED
        assert "hold" in why(server, held)["state"]

        text = server.run("postqueue", "--why", "dead.example", check=True).stdout
        assert re.search(r"^    deferred +1$", text, re.M) and "dead until" in text

        assert why(server, "nobody.example")["messages"] == 0

        server.stop()
        down = server.run("postqueue", "--json", "--why", qid)
        assert down.returncode == 0 and "mail system is down" in down.stderr
        assert json.loads(down.stdout)["state"] == "deferred"
        server.start()


def test_why_shows_windows_and_rates(sink):
    with Ringpost(params={"relayhost": "[127.0.0.1]:%d" % sink.port,
                          "smtp_destination_rate_delay": "100s"}) as server:
        for _ in range(3):
            server.submit("a@b.example", ["x@y.example"])
        sink.wait(1)
        wait_until(lambda: why(server, "y.example")["destinations"][0]["state"] == "paused")
        dest, = why(server, "y.example")["destinations"]
        assert dest["rate_delay_ms"] == 100000 and dest["waiting"] == 2 and dest["window"] > 0
        assert dest["last_reply"].startswith("sent") and dest["paused_until"] > time.time()
        assert why(server, "y.example")["active"] == 2


# -- suspend ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("what", ["a.example", "@A.example", "smtp", "smtp:", "smtp:HOP", "HOP"])
def test_what_is_suspended_waits_and_comes_when_resumed(sink, what):
    hop = "[127.0.0.1]:%d" % sink.port
    what = what.replace("HOP", hop)
    with Ringpost(params={"relayhost": hop, **SLOW}) as server:
        assert "suspended" in suspend(server, what)
        assert "already" in suspend(server, what)
        qid = server.submit("a@b.example", ["x@a.example"])
        wait_until(lambda: "suspended by the operator" in reason(server, qid))
        # Flushing does not help, and neither do reload and restart.
        server.run("postqueue", "-f", check=True)
        server.run("postqueue", "-i", qid, check=True)
        server.run("postfix", "reload", check=True)
        server.stop()
        assert what.lower().strip("@:") in server.run("postqueue", "--suspended").stdout
        server.start()
        server.run("postqueue", "-f", check=True)
        later = server.submit("a@b.example", ["y@a.example"])
        wait_until(lambda: "suspended by the operator" in reason(server, later))
        assert "suspended by the operator" in reason(server, qid)
        assert listed(server)[qid]["queue_name"] == "deferred"
        assert "suspended" in why(server, qid)["state"]
        assert why(server, "a.example")["suspended"] == 2
        assert not server.log().count("status=")
        resume(server, what)
        server.wait_log(r"%s: removed" % qid)
        server.wait_log(r"%s: removed" % later)
        assert server.run("postqueue", "--suspended", check=True).stdout == ""
        assert "is not suspended" in server.run("postqueue", "--resume", what).stderr


def test_what_others_get_goes_on(sink):
    hop = "[127.0.0.1]:%d" % sink.port
    with Ringpost(params={"relayhost": hop, **SLOW}) as server:
        suspend(server, "a.example")
        qid = server.submit("a@b.example", ["x@a.example", "y@c.example"])
        server.wait_log(r"%s: to=<y@c.example>.*status=sent" % qid)
        wait_until(lambda: "suspended" in reason(server, qid))
        assert [r["address"] for r in listed(server)[qid]["recipients"]] == ["x@a.example"]
        resume(server, "ALL")
        server.wait_log(r"%s: to=<x@a.example>.*status=sent" % qid)
        server.wait_log(r"%s: removed" % qid)


def test_the_last_reply_is_kept_and_an_expiry_waits():
    with Ringpost(params={"relayhost": CLOSED, **SLOW}) as server:
        qid = server.submit("a@b.example", ["x@a.example"])
        server.wait_log(r"status=deferred")
        suspend(server, "smtp:" + CLOSED)
        said = reason(server, qid)
        assert "suspended by the operator" in said and "Connection refused" in said
        # Its time is up, but nobody has tried it: it stays.
        server.params["maximal_queue_lifetime"] = "0"
        server.write_config()
        server.run("postfix", "reload", check=True)
        server.run("postqueue", "-i", qid, check=True)
        wait_until(lambda: why(server, qid)["state"] == "deferred, suspended by the operator")
        assert qid in listed(server) and "returned to sender" not in server.log()
        resume(server, "smtp:" + CLOSED)
        server.wait_log(r"%s: .*expired, returned to sender" % qid)


def test_what_waits_for_its_turn_is_taken_back(sink):
    with Ringpost(params={"relayhost": "[127.0.0.1]:%d" % sink.port, **SLOW,
                          "smtp_destination_rate_delay": "600s"}) as server:
        ids = [server.submit("a@b.example", ["x@a.example"]) for _ in range(4)]
        sink.wait(1)
        wait_until(lambda: why(server, "a.example")["active"] == 3)
        suspend(server, "a.example")
        wait_until(lambda: why(server, "a.example")["suspended"] == 3)
        left = listed(server)
        assert len(left) == 3 and set(left) < set(ids)
        assert all(row["queue_name"] == "deferred" for row in left.values())


def test_the_list_is_changed_while_the_server_is_down(sink):
    hop = "[127.0.0.1]:%d" % sink.port
    with Ringpost(params={"relayhost": hop, **SLOW}) as server:
        suspend(server, "smtp:")
        ids = [server.submit("a@b.example", ["x@a.example"]) for _ in range(3)]
        wait_until(lambda: all("suspended" in reason(server, qid) for qid in ids))
        server.stop()
        assert "resumed" in resume(server, "smtp:") and "suspended" in suspend(server, "c.example")
        server.start()
        for qid in ids:
            server.wait_log(r"%s: removed" % qid)
        late = server.submit("a@b.example", ["x@c.example"])
        wait_until(lambda: "suspended" in reason(server, late))


def test_a_resume_that_nobody_finished_is_one_of_time(sink):
    hop = "[127.0.0.1]:%d" % sink.port
    with Ringpost(params={"relayhost": hop, "queue_run_delay": "1s", "minimal_backoff_time": "1s",
                          "maximal_backoff_time": "2s"}) as server:
        suspend(server, "a.example")
        qid = server.submit("a@b.example", ["x@a.example"])
        wait_until(lambda: "suspended" in reason(server, qid))
        server.stop()
        (server.data / "suspended").unlink()
        server.start()
        server.wait_log(r"%s: removed" % qid)


def test_a_long_list_and_many_messages(sink):
    hop = "[127.0.0.1]:%d" % sink.port
    with Ringpost(params={"relayhost": hop, **SLOW, "qmgr_message_active_limit": "50",
                          "smtpd_recipient_limit": "3000", "smtp_destination_rate_delay": "500s"}) as server:
        first = server.submit("a@b.example", ["x@open.example"])
        server.wait_log(r"%s: removed" % first)
        many = server.submit("a@b.example", ["u%d@%s.example" % (n, "ab"[n % 2]) for n in range(2500)])
        ids = [server.submit("a@b.example", ["x@a.example"]) for _ in range(200)]
        suspend(server, "a.example")
        wait_until(lambda: why(server, "a.example")["suspended"] >= 40)
        server.params["smtp_destination_rate_delay"] = "0s"
        server.write_config()
        server.run("postfix", "reload", check=True)
        wait_until(lambda: why(server, "a.example")["suspended"] == 201 and
                   why(server, "b.example")["messages"] == 0)
        assert len(listed(server)[many]["recipients"]) == 1250
        assert not [m for m in sink.messages for r in m.rcpts if "@a.example" in r]
        resume(server, "a.example")
        for qid in (many, ids[0], ids[-1]):
            server.wait_log(r"%s: removed" % qid)
        wait_until(lambda: not listed(server))
        told = [r for m in sink.messages for r in m.rcpts]
        assert len(told) == 1 + 2500 + 200 and len(set(told)) == 1 + 2500 + 1


def test_who_may_and_what_makes_no_sense(relay):
    for what, said in (("", "needs"), ("nosuch:host", "no transport"), ("a b", "not a domain"),
                       ("x@y.example", "not a domain")):
        done = relay.run("postqueue", "--suspend", what)
        assert done.returncode == 69 and said in done.stderr, what
    assert relay.run("postqueue", "--json", "-p").returncode == 69
    assert relay.run("postqueue", "--suspended", check=True).stdout == ""
    line = relay.run("postqueue", "--suspend", "z.example", check=True)
    assert line.stderr == "postqueue: z.example: suspended\n"
    assert "z.example" in relay.run("postqueue", "--suspended", check=True).stdout
    assert json.loads(relay.run("postqueue", "--json", "--suspended").stdout)["suspended"] == "z.example"


# -- qshape ----------------------------------------------------------------------------------------
def test_qshape_counts_by_domain():
    with Ringpost(params={"relayhost": CLOSED, **SLOW}) as server:
        for n in range(3):
            server.submit("s%d@sender.example" % n, ["x@one.example", "y@one.example", "z@Two.Example"])
        server.submit("", ["x@one.example"])
        server.wait_log(r"status=deferred", count=10)
        wait_until(lambda: len(listed(server)) == 4)
        rows = server.run("qshape", "deferred", check=True).stdout.splitlines()
        assert [row.split()[:3] for row in rows] == [
            ["T", "5", "10"], ["TOTAL", "10", "10"], ["one.example", "7", "7"], ["two.example", "3", "3"]]
        assert rows[1][:39].strip() == "TOTAL"
        rows = server.run("qshape", "-s", "deferred", check=True).stdout.splitlines()
        assert [row.split()[:2] for row in rows[1:]] == [
            ["TOTAL", "4"], ["sender.example", "3"], ["MAILER-DAEMON", "1"]]
        assert server.run("qshape", "hold", check=True).stdout.splitlines()[1].split()[:2] == ["TOTAL", "0"]
        server.stop()
        assert "one.example" in server.run("qshape", "deferred", check=True).stdout, "also when it is down"
        server.start()
