"""New connections in numbers: scanners beside mail, a crowd before a small door, what a session costs that says nothing."""

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from lib.dialogue import Smtp
from lib.instance import Ringpost, processes_of, ringpost_bin
from lib.sink import Sink


def tool(name):
    path = ringpost_bin() / name
    if not path.exists():
        pytest.skip("%s is not built" % path)
    return str(path)


@pytest.mark.parametrize("manner", [["--banner"], [], ["--fin", "--rate", "3000"]],
                         ids=["read the banner", "reset at once", "end in an orderly way"])
def test_mail_gets_through_while_scanners_knock(sink, manner):
    """As fast as they can, from an address of their own. Sessions that are in the middle of DATA finish."""
    with Ringpost(params={"relayhost": "[127.0.0.1]:%d" % sink.port}) as server:
        peers = [Smtp(server.port, timeout=60) for _ in range(20)]
        for peer in peers:
            peer.expect(220)
            peer.command("EHLO client.example.org", 250)
        scan = subprocess.Popen([tool("smtp_scan"), "--bind", "127.0.0.2", *manner, "127.0.0.1:%d" % server.port],
                                stdout=subprocess.PIPE, text=True)
        try:
            for turn in range(5):
                for number, peer in enumerate(peers):
                    peer.send(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<r%d@dest.example>\r\nDATA\r\n" % number)
                for peer in peers:
                    assert [peer.reply().code for _ in range(3)] == [250, 250, 354]
                    peer.send(b"Subject: half\r\n\r\n" + b"x" * 70 + b"\r\n")
                for peer in peers:
                    peer.send((b"x" * 70 + b"\r\n") * 500 + b".\r\n")
                for peer in peers:
                    assert peer.reply().code == 250
        finally:
            scan.send_signal(signal.SIGINT)
            said = scan.communicate(timeout=30)[0]
        for peer in peers:
            peer.close()
        # A release has the mail within 20 ms.
        assert int(re.search(r"connected (\d+) times", said)[1]) > 20, said
        sink.wait(100, timeout=60)
        began = time.monotonic()
        server.submit("a@example.com", ["late@dest.example"])   # and the door is open afterwards
        assert time.monotonic() - began < 10


def test_a_crowd_before_a_door_of_two_is_served_to_the_last():
    """More than the server takes in hand (1,024): the rest waits in the kernel, and none is forgotten there."""
    with Ringpost(params={"default_process_limit": "2"}) as server:
        peers = []

        def come(count):
            for number in range(count):
                peer = socket.socket()
                peer.settimeout(60)
                peer.bind(("127.0.0.%d" % (2 + number % 5), 0))
                peers.append(peer)
                peer.connect(("127.0.0.1", server.port))

        def taken():
            names = [os.readlink(f.path) for f in os.scandir("/proc/%d/fd" % server.engine_pids()[0])]
            return sum(1 for name in names if name.startswith("socket"))

        def until(reached):
            limit = time.monotonic() + 30
            while not reached():
                assert time.monotonic() < limit, taken()
                time.sleep(0.05)

        come(1100)
        until(lambda: taken() > 1024)
        server.wait_log("reached its process limit")
        time.sleep(0.5)
        come(500)
        time.sleep(0.5)
        assert taken() < 1200
        for peer in peers:
            assert peer.recv(200).startswith(b"220 ")
            peer.close()
        until(lambda: taken() < 20)


def unfit_to_measure():
    """The checkers keep memory of their own for each fiber and trim no stack; malloc(3) keeps what was freed."""
    text = Path(os.path.realpath(ringpost_bin() / "ringpost")).read_bytes()
    return b"__asan_init" in text or b"__tsan_init" in text or b"libjemalloc" not in text


def memory_kib(server):
    """What is its own: how much of a program's file counts for a process depends on who else runs it."""
    total = 0
    for pid in processes_of(server.dir):
        try:
            text = Path("/proc/%d/smaps_rollup" % pid).read_text()
        except OSError:
            continue                    # a process that ends
        total += sum(int(kib) for kib in re.findall(r"(?m)^Pss_(?:Anon|Shmem):\s+(\d+)", text))
    return total


def falls_to(server, limit_kib, seconds=60):
    """Memory goes back to the kernel within some seconds, not at once."""
    end = time.monotonic() + seconds
    while memory_kib(server) > limit_kib and time.monotonic() < end:
        time.sleep(0.5)
    return memory_kib(server)


@pytest.mark.skipif("unfit_to_measure()", reason="a build without jemalloc, or with a sanitizer, keeps memory")
def test_a_session_that_says_nothing_costs_little_whatever_it_did(sink):
    """At most 32 KiB of the server's memory each (it is 7), also after 100 KiB for 50 recipients."""
    count, each = 300, 32
    with Ringpost(params={"relayhost": "[127.0.0.1]:%d" % sink.port, "mynetworks": "127.0.0.0/8",
                          "default_process_limit": "400"}) as server:
        for _ in range(3):              # what is made once is made
            server.submit("a@example.com", ["b@dest.example"])
        sink.wait(3)
        base = memory_kib(server)
        assert base > 0
        peers = [Smtp(server.port, timeout=60) for _ in range(count)]
        try:
            for peer in peers:
                peer.expect(220)
                peer.command("EHLO client.example.org", 250)
            assert falls_to(server, base + count * each) <= base + count * each
            envelope = b"MAIL FROM:<a@example.com>\r\n" + b"".join(
                b"RCPT TO:<r%d@dest.example>\r\n" % n for n in range(50)) + b"DATA\r\n"
            for peer in peers:
                peer.send(envelope)
                assert [peer.reply().code for _ in range(52)] == [250] * 51 + [354]
                peer.send((b"x" * 76 + b"\r\n") * 1300 + b".\r\n")
                assert peer.reply().code == 250
            server.wait_log(": removed$", timeout=120, count=3 + count)
            # The pools of queue and delivery have grown with the work: a share of their own.
            allowed = base + count * each + 8 * 1024
            assert falls_to(server, allowed) <= allowed
            for peer in peers:          # and they are as good as new
                peer.command("NOOP", 250)
        finally:
            for peer in peers:
                peer.close()
