"""A destination with a backlog keeps nobody out of the active queue, and a limit that was asked for holds."""

import json
import threading
import time

from lib.dialogue import Smtp
from lib.instance import Ringpost
from lib.sink import Sink

TEXT = b"Subject: x\r\n\r\nx\r\n"
BACKLOG = 120


def send(server, count, rcpt):
    with Smtp(server.port, timeout=30) as peer:
        peer.expect(220)
        peer.command("EHLO x", 250)
        for _ in range(count):
            peer.command("MAIL FROM:<a@example.com>", 250)
            peer.command("RCPT TO:<%s>" % rcpt, 250)
            peer.command("DATA", 354)
            assert peer.data(TEXT).code == 250


def why(server, what):
    return json.loads(server.run("postqueue", "--why", what, "--json", check=True).stdout)


def gated(gate):
    def greeting(_session, _argument):
        gate.wait(60)
        return "220 slow.example.net ESMTP"
    return greeting


def test_a_backlog_leaves_room_for_others():
    gate = threading.Event()
    with Sink({"greeting": gated(gate)}) as slow, Sink() as well, Ringpost(params={
            "transport_maps": "inline:{slow.example=smtp:[127.0.0.1]:%d, well.example=smtp:[127.0.0.1]:%d}" % (
                slow.port, well.port),
            "qmgr_message_active_limit": "40", "queue_run_delay": "1h"}) as server:
        try:
            send(server, BACKLOG, "u@slow.example")
            send(server, 5, "u@well.example")
            well.wait(5, timeout=30)
            rows = server.run("postqueue", "-j", check=True).stdout.splitlines()
            ids = [row["queue_id"] for row in map(json.loads, rows) if row["queue_name"] == "incoming"]
            assert len(ids) > BACKLOG - 40
            assert "waits for room in the active queue" in json.dumps(why(server, ids[-1]))
        finally:
            gate.set()
        slow.wait(BACKLOG, timeout=60)      # what slept is fetched: the next queue run is far away
        assert len(slow.messages) == BACKLOG


def test_a_process_limit_that_was_asked_for_holds():
    lock, out, most = threading.Lock(), [0], [0]

    def dot(_session, _argument):
        with lock:
            out[0] += 1
            most[0] = max(most[0], out[0])
        time.sleep(0.6)                     # where nobody has asked, this one would not count any more
        with lock:
            out[0] -= 1
        return "250 2.0.0 Ok"

    # A destination for each recipient: no window is full.
    with Sink({"dot": dot}) as sink, Ringpost(params={
            "relayhost": "[127.0.0.1]:%d" % sink.port, "smtp_destination_recipient_limit": "1",
            "default_process_limit": "3"}) as server:
        for number in range(12):
            send(server, 1, "u%d@dest.example" % number)
        sink.wait(12, timeout=60)
        assert most[0] == 3
