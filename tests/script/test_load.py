"""Many: recipients, connections, clients that vanish; concurrency and reuse of connections."""

import random
import threading
import time

import pytest

from lib.dialogue import Smtp
from lib.instance import Ringpost
from lib.sink import Sink, Slow


def test_one_destination_gets_no_more_connections_than_its_limit():
    with Sink({"dot": Slow(0.1, "250 2.0.0 Ok")}) as sink, Ringpost(params={
            "relayhost": "[127.0.0.1]:%d" % sink.port,
            "default_destination_concurrency_limit": "3"}) as server:
        for number in range(30):
            server.submit("a@example.com", ["r%d@dest.example" % number])
        sink.wait(30, timeout=60)
        assert 2 <= sink.open_most <= 3


def test_a_backlog_reuses_connections():
    with Sink({"dot": Slow(0.05, "250 2.0.0 Ok")}) as sink, Ringpost(params={
            "relayhost": "[127.0.0.1]:%d" % sink.port,
            "default_destination_concurrency_limit": "2"}) as server:
        for number in range(40):
            server.submit("a@example.com", ["r%d@dest.example" % number])
        sink.wait(40, timeout=60)
        assert len(sink.sessions) <= 20, [len(s.messages) for s in sink.sessions]


def test_a_slow_destination_does_not_hold_up_another(sink):
    with Sink({"greeting": Slow(5, "220 slow ESMTP")}) as slow, Ringpost(params={
            "transport_maps": "inline:{slow.example=smtp:[127.0.0.1]:%d}" % slow.port,
            "relayhost": "[127.0.0.1]:%d" % sink.port}) as server:
        for number in range(30):
            server.submit("a@example.com", ["r%d@slow.example" % number])
        server.submit("a@example.com", ["b@dest.example"])
        sink.wait(1)
        # Five at a time the others take half a minute.
        assert len(slow.messages) < 15


def test_clients_that_vanish_leave_nothing(relay, sink):
    for number in range(200):
        peer = Smtp(relay.port)
        peer.expect(220)
        peer.send(b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@dest.example>\r\nDATA\r\n")
        if number % 2:
            for _ in range(4):
                peer.reply()
            peer.send(b"Subject: half\r\n\r\n" + b"x" * 5000)
        peer.close(reset=number % 3 == 0)
    relay.submit("a@example.com", ["whole@dest.example"])
    sink.wait(1)
    relay.wait_log("lost connection after DATA", count=100)
    time.sleep(0.3)
    assert len(sink.messages) == 1
    assert "Mail queue is empty" in relay.run("mailq").stdout


def test_a_vanishing_client_in_the_middle_does_not_delay_the_others(relay, sink):
    stop = threading.Event()

    def nuisance():
        while not stop.is_set():
            peer = Smtp(relay.port)
            peer.send(b"EHLO x\r\nMAIL FROM:<a@example.com>\r\n")
            peer.close(reset=True)

    threads = [threading.Thread(target=nuisance) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            relay.submit("a@example.com", ["b@dest.example"])
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    sink.wait(20)


def test_garbage_harms_nobody(relay, sink):
    chance = random.Random(815)
    for number in range(150):
        peer = Smtp(relay.port)
        # LF dot LF would end DATA: the client is in $mynetworks, which bare newlines are allowed to.
        junk = chance.randbytes(chance.choice((1, 10, 1000, 100000))).replace(b".", b",")
        try:
            if number % 3 == 1:
                peer.send(b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@dest.example>\r\nDATA\r\n")
            elif number % 3 == 2:
                peer.send(b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@dest.example>\r\n"
                          b"BDAT 200000\r\n")
            peer.send(junk)
            peer.send(b"\r\n" + bytes(range(256)) * 4)
        except OSError:
            pass                                # it may hang up
        peer.close(reset=number % 2 == 0)
    relay.submit("a@example.com", ["whole@dest.example"])
    assert "whole@dest.example" in sink.wait(1)[0].rcpts[0]
    assert "Mail queue is empty" in relay.run("mailq").stdout


def test_a_thousand_open_sessions_do_not_stand_in_the_way(sink, request):
    with Ringpost(params={"relayhost": "[127.0.0.1]:%d" % sink.port,
                          "default_process_limit": "2000",
                          "smtpd_client_connection_count_limit": "0"}) as server:
        peers = []
        try:
            for _ in range(request.config.getoption("--sessions")):
                peers.append(Smtp(server.port))
                peers[-1].expect(220)
            server.submit("a@example.com", ["b@dest.example"])
        finally:
            for peer in peers:
                peer.close()


@pytest.mark.slow
def test_a_message_of_very_many_recipients(request):
    total = request.config.getoption("--recipients")
    with Sink(keep_content=False) as sink, Ringpost(params={
            "relayhost": "[127.0.0.1]:%d" % sink.port, "smtpd_recipient_limit": str(total + 1),
            "default_destination_recipient_limit": "1000",
            "qmgr_message_recipient_limit": "20000"}) as server:
        with Smtp(server.port, timeout=60) as peer:
            peer.expect(220)
            peer.command("EHLO x", 250)
            peer.command("MAIL FROM:<a@example.com>", 250)
            for first in range(0, total, 500):
                count = min(500, total - first)
                peer.send(b"".join(b"RCPT TO:<r%d@dest.example>\r\n" % n
                                   for n in range(first, first + count)))
                for _ in range(count):
                    assert peer.reply().code == 250
            peer.command("DATA", 354)
            assert peer.data(b"Subject: many\r\n\r\nx\r\n").code == 250
        limit = time.monotonic() + 180
        while time.monotonic() < limit:
            arrived = [r for m in list(sink.messages) for r in m.rcpts]
            if len(arrived) >= total:
                break
            time.sleep(0.2)
        assert len(arrived) == total
        names = {r.split("<")[1].split(">")[0] for r in arrived}
        assert len(names) == total
        server.wait_log(": removed$", timeout=60)


def test_a_stop_in_the_middle_of_everything():
    """Sessions in every state, clients that wait for a process slot (of an old configuration, too), a delivery that
    does not move: it ends within the time it gives deliveries, frees everything, and the mail is still there."""
    with Sink({"dot": Slow(60, "250 2.0.0 Ok")}) as sink, Ringpost(params={
            "relayhost": "[127.0.0.1]:%d" % sink.port, "default_process_limit": "4"}) as server:
        qid = server.submit("a@example.com", ["b@dest.example"])
        server.wait_log(qid + ": from=")
        peers = []
        for text in (b"", b"EHLO x\r\n", b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@dest.example>\r\n"
                     b"DATA\r\nhalf", b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@dest.example>\r\n"
                     b"BDAT 1000\r\nhalf", b"", b"", b""):
            peers.append(Smtp(server.port))
            peers[-1].send(text)
            if len(peers) <= 4:
                peers[-1].expect(220)
        server.wait_log("reached its process limit")
        assert server.run("postfix", "reload").returncode == 0
        server.wait_log("reload -- version")
        for _ in range(6):                      # the new door counts anew, and fills up as well
            peers.append(Smtp(server.port))
        time.sleep(0.2)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 15
        for peer in peers:
            peer.close()
        assert qid in server.run("mailq").stdout


def test_a_large_message_is_streamed(relay, sink):
    body = b"Subject: large\r\n\r\n" + b"".join(
        b"%08d " % n + b"x" * 60 + b"\r\n" for n in range(100000))
    relay.submit("a@example.com", ["b@dest.example"], body, timeout=60)
    assert sink.wait(1, timeout=60)[0].content.endswith(body.split(b"\r\n\r\n", 1)[1])
