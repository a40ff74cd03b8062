"""kill -9 of the engine under load: whatever got a 250 arrives; only what was in flight arrives
twice. `--kills 50` is the long version."""

import collections
import os
import random
import signal
import threading
import time

import pytest

from lib.dialogue import Smtp
from lib.instance import Ringpost, ServerError
from lib.sink import Sink


# The sink's 250 has to reach the engine, and the mark has to reach the disk (queue_mark_delay is 100 ms).
IN_FLIGHT_S = 0.5
READ_LATE_S = 0.25


class Load:
    """Clients that send until told to stop; ids that got their 250 are in `acked`."""

    def __init__(self, server, clients=8):
        self.server = server
        self.acked, self.tried = set(), 0
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.client, args=(n,)) for n in range(clients)]
        for thread in self.threads:
            thread.start()

    def client(self, number):
        count = 0
        while not self.stop.is_set():
            try:
                with Smtp(self.server.port, timeout=10) as peer:
                    if peer.reply().code != 220:
                        continue
                    peer.command("EHLO load.example", 250)
                    for _ in range(20):
                        if self.stop.is_set():
                            break
                        count += 1
                        self.one(peer, "id-%d-%d" % (number, count))
            except (OSError, AssertionError):
                time.sleep(0.05)                # it was killed: connect anew

    def one(self, peer, name):
        with self.lock:
            self.tried += 1
        peer.command("MAIL FROM:<>", 250)
        peer.command("RCPT TO:<%s@dest.example>" % name, 250)
        peer.command("DATA", 354)
        reply = peer.data(b"X-Test-Id: %s\r\nSubject: load\r\n\r\n" % name.encode() + b"x" * 2000)
        if reply.code == 250:
            with self.lock:
                self.acked.add(name)

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(30)


def ids_at(sink):
    return [m.raw.split(b":", 1)[1].strip().decode() for m in list(sink.messages) if b":" in m.raw]


@pytest.mark.slow
def test_nothing_acknowledged_is_lost(request):
    kills = request.config.getoption("--kills")
    chance = random.Random(4711)
    with Sink(keep_content="ids") as sink, Ringpost(params={
            "relayhost": "[127.0.0.1]:%d" % sink.port, "queue_run_delay": "1s",
            "minimal_backoff_time": "1s", "maximal_backoff_time": "2s"}) as server:
        load = Load(server)
        killed_at = []
        try:
            for _ in range(kills):
                time.sleep(0.5 + chance.random())
                engines = server.engine_pids()
                assert engines, server.error("no engine to kill")
                for pid in engines:
                    os.kill(pid, signal.SIGKILL)
                killed_at.append(time.time())
                server.wait_ready(20)
        finally:
            load.end()
        limit = time.monotonic() + 60
        while time.monotonic() < limit and load.acked - set(ids_at(sink)):
            time.sleep(0.2)
        time.sleep(1)
        arrived = collections.Counter(ids_at(sink))
        lost = load.acked - set(arrived)
        assert len(load.acked) > 20 * kills, "hardly any load: %d" % len(load.acked)
        assert not lost, "%d of %d acknowledged messages lost, first: %s" % (
            len(lost), len(load.acked), sorted(lost)[:5])
        first = {}
        for message in sink.messages:
            name = message.raw.split(b":", 1)[1].strip().decode()
            first.setdefault(name, message.at)
        # How long before the kill the first copy of each duplicate had arrived; negative: the sink
        # read it a moment later.
        ages = {n: min((kill - first[n] for kill in killed_at), key=abs)
                for n, times in arrived.items() if times > 1}
        unexcused = [n for n, age in ages.items() if not -READ_LATE_S < age < IN_FLIGHT_S]
        print("kills %d, tried %d, acknowledged %d, arrived %d, duplicated %d, of these not in flight "
              "%d, first copies between %.0f ms before a kill and %.0f ms after"
              % (kills, load.tried, len(load.acked), len(arrived), len(ages), len(unexcused),
                 1000 * max(ages.values(), default=0), -1000 * min(ages.values(), default=0)))
        assert not unexcused, "delivered twice without a kill near: %s" % unexcused[:5]


def test_the_supervisor_survives_and_restarts_the_engine(relay, sink):
    master = relay.master_pid()
    for pid in relay.engine_pids():
        os.kill(pid, signal.SIGKILL)
    relay.wait_ready(20)
    assert relay.master_pid() == master
    relay.submit("a@example.com", ["b@dest.example"])
    sink.wait(1)


def test_killing_everything_and_starting_again_loses_nothing(sink):
    with Ringpost(params={"relayhost": "[127.0.0.1]:1", "queue_run_delay": "1s",
                          "minimal_backoff_time": "1s"}) as server:
        ids = [server.submit("a@example.com", ["r%d@dest.example" % n]) for n in range(50)]
        server.kill_all()
        server.params["relayhost"] = "[127.0.0.1]:%d" % sink.port
        server.write_config()
        server.start()
        sink.wait(50, timeout=30)
        for one in ids:
            server.wait_log(one + ": removed")


def test_deleted_mail_stays_deleted_after_a_kill(sink):
    with Ringpost(params={"relayhost": "[127.0.0.1]:1"}) as server:
        ids = [server.submit("a@example.com", ["b@dest.example"]) for _ in range(4)]
        server.wait_log("status=deferred", count=4)
        server.run("postsuper", "-d", ids[0], check=True)
        server.run("postsuper", "-h", ids[1], check=True)
        server.kill_all()
        server.start()
        listing = server.run("mailq").stdout
        assert ids[0] not in listing and ids[1] + "!" in listing and ids[2] in listing


def test_an_engine_that_crashes_tells_where_and_comes_back(sink):
    """And whoever runs it here learns of it: lib/instance.py."""
    with pytest.raises(ServerError, match=r"killed by signal 11\n.*panic: SIGSEGV at address 0x"):
        with Ringpost(params={"relayhost": "[127.0.0.1]:%d" % sink.port}) as server:
            os.kill(server.engine_pids()[0], signal.SIGSEGV)
            server.wait_log("starting it again")
            server.wait_ready()
            server.submit("a@example.com", ["b@dest.example"])
            sink.wait(1)
