"""postsuper -s: silent when nothing is wrong; else it says what is, and puts it right when the server is down."""

import random
import threading
import time

import pytest

from lib.dialogue import Smtp
from lib.instance import Ringpost
from lib.rot import Hit, World, damage_index
from lib.sink import Across, Sink


@pytest.fixture
def world(request):
    one = World(request.config.getoption("--rot-seed") or random.SystemRandom().randrange(1 << 31),
                messages=50, large=4)
    try:
        yield one
    finally:
        one.close()


def check(world, *more):
    done = world.server.run("postsuper", "-s", *more)
    return done.returncode, done.stderr


def small(world):
    """A message within its record, with others on both sides."""
    return sorted(n for n, kept in world.where.items() if not kept.spilled)[20]


def silent_and_delivered(world, hit):
    assert check(world) == (0, "")
    with Sink() as sink:
        world.deliver(sink, hit)


def test_nothing_is_wrong(world):
    assert check(world) == (0, "")
    world.stop()
    assert check(world) == (0, "")
    status, text = check(world, "-v")
    assert status == 0 and " 50 messages, " in text and " 50 rows of the index" in text


def test_before_the_first_start():
    server = Ringpost()
    try:
        done = server.run("postsuper", "-s")
        assert (done.returncode, done.stderr) == (0, "")
    finally:
        server.remove()


def test_a_damaged_message_is_moved(world):
    world.stop()
    n = small(world)
    world.flip(world.log_folder / world.where[n].segment, 1, world.where[n].end - 50, world.where[n].end)
    status, text = check(world)
    assert status == 0, text
    assert "%s: the content of a message is damaged" % world.ids[n] in text
    assert "%s: moved to queue \"corrupt\"" % world.ids[n] in text and "1 damaged place\n" in text
    world.log_from = 0
    silent_and_delivered(world, Hit({n}, {n}, set()))


def test_a_record_that_is_no_more_is_named_by_the_index(world):
    world.stop()
    n = small(world)
    world.flip(world.log_folder / world.where[n].segment, 1, world.where[n].start, world.where[n].start + 40)
    status, text = check(world)
    assert status == 0 and "%s: no whole record of the message is there" % world.ids[n] in text, text
    assert "%s: moved to queue \"corrupt\"" % world.ids[n] in text
    world.log_from = 0
    silent_and_delivered(world, Hit({n}, {n}, set()))


def test_a_large_content_that_is_gone(world):
    world.stop()
    n = min(n for n, kept in world.where.items() if kept.spilled)
    world.content_file(n).unlink()
    status, text = check(world)
    assert status == 0 and "%s: the content of a message is gone" % world.ids[n] in text, text
    world.log_from = 0
    silent_and_delivered(world, Hit({n}, {n}, set()))


@pytest.mark.parametrize("how", ["garbage", "cut short", "many flips"])
def test_a_damaged_index_is_removed(world, how):
    world.stop()
    damage_index(world, how)
    status, text = check(world)
    assert status == 0 and "warning: index: " in text and "the index was removed" in text, text
    assert not (world.server.queue / "index/data.mdb").exists()
    silent_and_delivered(world, Hit(set(), set(), set()))


def test_a_busy_server_has_nothing_to_tell_of(world):
    """Mail comes and goes, some of it stays; segments are freed, compacted and used again under the check."""
    later = Across(["450 4.2.0 later", "250 2.1.5 Ok", "250 2.1.5 Ok", "250 2.1.5 Ok"] * 100000)
    with Sink({"rcpt": later}, keep_content="ids") as sink:
        world.server.params.update({"relayhost": "[127.0.0.1]:%d" % sink.port, "minimal_backoff_time": "1s",
                                    "maximal_backoff_time": "1s", "queue_run_delay": "1s"})
        world.server.write_config()
        world.server.run("postfix", "reload", check=True)
        stop = threading.Event()

        def client(n):
            body = b"X-Id: %d\r\n\r\n" % n + b"x" * 900 + b"\r\n" + b"y" * 900 + b"\r\n"
            with Smtp(world.server.port, timeout=30) as peer:
                peer.expect(220)
                peer.command("EHLO load.example", 250)
                while not stop.is_set():
                    peer.command("MAIL FROM:<>", 250)
                    peer.command("RCPT TO:<r%d@dest.example>" % n, 250)
                    peer.command("DATA", 354)
                    peer.data(body * world.chance.choice((1, 8, 15)))

        clients = [threading.Thread(target=client, args=(n,)) for n in range(4)]
        for one in clients:
            one.start()
        try:
            until = time.monotonic() + 6
            while time.monotonic() < until:
                got = check(world)
                assert got == (0, ""), got[1]
        finally:
            stop.set()
            for one in clients:
                one.join()
        assert len(sink.messages) > 100
    world.server.stop()


def test_a_running_server_is_only_looked_at(world):
    world.stop()
    n = small(world)
    world.flip(world.log_folder / world.where[n].segment, 1, world.where[n].end - 50, world.where[n].end)
    world.server.start()
    status, text = check(world)
    assert status == 1 and "%s: the content of a message is damaged" % world.ids[n] in text, text
    assert "nothing is changed" in text
    assert not (world.server.queue / "corrupt" / world.ids[n]).exists()
    assert world.ids[n] in world.server.run("mailq").stdout
