"""A message whose content turns out to be damaged when its turn comes: it goes to the corrupt queue, a server
never sees the end of it, nobody is told but the log; a disk that does not answer defers."""

import os
import pwd
import random
import re

import pytest

from lib.rot import World
from lib.sink import Sink


@pytest.fixture
def make(request):
    made = []

    def world(**more):
        seed = request.config.getoption("--rot-seed") or random.SystemRandom().randrange(1 << 31)
        made.append(World(seed, **more))
        return made[-1]
    yield world
    for one in made:
        one.close()


def send_now(world, sink):
    world.server.params["relayhost"] = "[127.0.0.1]:%d" % sink.port
    world.server.write_config()
    world.server.start()
    world.server.run("postqueue", "-f", check=True)


def flip_end(world, n):
    """The last bytes of the content: what comes before them has been sent by then."""
    kept = world.where[n]
    if kept.spilled:
        path = world.content_file(n)
        world.flip(path, 1, path.stat().st_size - 10)
    else:
        world.flip(world.log_folder / kept.segment, 1, kept.end - 10, kept.end)


def is_set_aside(world, n, why):
    qid = world.ids[n]
    world.server.wait_log('qmgr.* saving corrupt file "%s" from queue "active" to queue "corrupt"' % qid)
    world.server.wait_log(qid + ": from=.*, corrupt: ")
    log = world.server.log(world.log_from)
    assert re.search(r"warning: %s: content is damaged: %s" % (qid, why), log), log
    assert re.search(r"warning: corrupt/%s: content is damaged: %s: \d+ bytes set aside" % (qid, why), log)
    assert re.search(r"%s: from=<>, corrupt: 1 recipients were not delivered to, the sender is not told" % qid, log)
    assert (world.server.queue / "corrupt" / qid).exists()
    assert "Mail queue is empty" in world.server.run("mailq").stdout
    assert qid + ": removed" not in log


@pytest.mark.parametrize("large", [1, 0], ids=["in many pieces", "in one piece"])
def test_a_server_never_sees_the_end(make, large):
    world = make(messages=1, large=large)
    world.stop()
    flip_end(world, 0)
    with Sink() as sink:
        send_now(world, sink)
        world.server.wait_log("status=bounced .unreadable mail queue entry.")
        is_set_aside(world, 0, "checksum")
        assert not sink.messages
        assert [s.ended is not None for s in sink.sessions if "DATA" in s.commands] == [True]
        line = world.server.wait_log(r"%s: to=<r0@dest.example>, .*" % world.ids[0]).group(0)
        assert "relay=127.0.0.1[127.0.0.1]:%d, " % sink.port in line and ", dsn=5.3.0, " in line
    world.server.stop()


def test_with_dots_and_long_lines_neither(make):
    """The other way content is sent: changed on its way."""
    world = make(messages=0)
    world.add("", ["r0@dest.example"], b"Subject: x\r\n\r\n" + b".dots\r\n" * 20000 + b"end\r\n")
    world.stop()
    flip_end(world, 0)
    with Sink() as sink:
        send_now(world, sink)
        world.server.wait_log("status=bounced .unreadable mail queue entry.")
        is_set_aside(world, 0, "checksum")
        assert not sink.messages
    world.server.stop()


def test_a_disk_that_does_not_answer_defers(make):
    """A folder in place of the content: it can be opened, and not read."""
    world = make(messages=1, large=1)
    world.stop()
    path = world.content_file(0)
    path.rename(path.with_suffix(".away"))
    path.mkdir()
    with Sink() as sink:
        send_now(world, sink)
        line = world.server.wait_log(r"%s: to=<r0.*status=deferred.*" % world.ids[0], since=world.log_from)
        assert ", dsn=4.3.0, " in line.group(0) and "Is a directory" in line.group(0)
        assert world.ids[0] in world.server.run("mailq").stdout and not sink.messages
        assert not list((world.server.queue / "corrupt").iterdir())
        path.rmdir()
        path.with_suffix(".away").rename(path)
        world.server.run("postqueue", "-f", check=True)
        sink.wait(1)
        assert sink.messages[0].content == world.where[0].content
    world.server.stop()


def test_a_mailbox_gets_nothing_of_it(make):
    owner = pwd.getpwnam("postfix") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    world = make(messages=0, params={
        "virtual_mailbox_domains": "box.example", "virtual_mailbox_base": "@DIR@/mail",
        "virtual_mailbox_maps": "inline:{ a@box.example=a/, b@box.example=b }",
        "virtual_uid_maps": "static:%d" % owner.pw_uid, "virtual_gid_maps": "static:%d" % owner.pw_gid,
        "virtual_minimum_uid": "1", "defer_transports": "virtual"})
    mail = world.server.dir / "mail"
    mail.mkdir()
    os.chown(mail, owner.pw_uid, owner.pw_gid)
    for name in ("a", "b"):
        world.add("", [name + "@box.example"], b"Subject: x\r\n\r\n" + b"text\r\n" * 30000)
    world.stop()
    for n in (0, 1):
        flip_end(world, n)
    del world.server.params["defer_transports"]
    world.server.write_config()
    world.server.start()
    world.server.run("postqueue", "-f", check=True)
    for n in (0, 1):
        world.server.wait_log('saving corrupt file "%s"' % world.ids[n])
        is_set_aside(world, n, "checksum")
    assert [p for p in mail.rglob("*") if p.is_file() and p.stat().st_size > 0] == []
    world.server.wait_log("relay=virtual, .*dsn=5.3.0, status=bounced .unreadable mail queue entry.", count=2)
    world.server.stop()


def test_the_sender_of_what_was_refused_is_told(make):
    """The recipient is refused, and then the content cannot be returned: the notice says so, and goes."""
    world = make(messages=0)
    world.add("sender@example.com", ["bad@dest.example"], b"Subject: x\r\n\r\n" + b"secret text\r\n" * 30)
    world.stop()
    flip_end(world, 0)
    refuse = lambda session, argument: "550 5.1.1 no" if "bad@" in argument else "250 2.1.5 Ok"
    with Sink({"rcpt": refuse}) as sink:
        send_now(world, sink)
        sink.wait(1)
        notice = sink.messages[0].content
        assert b"550 5.1.1 no" in notice and b"was damaged while it was" in notice
        assert b"secret text" not in notice and b"text/rfc822-headers" in notice
        world.server.wait_log('saving corrupt file "%s"' % world.ids[0])
        assert (world.server.queue / "corrupt" / world.ids[0]).exists()
    world.server.stop()


def test_an_unreadable_message_is_returned_without_its_content(make):
    """At the end of its life, when the disk still does not answer."""
    world = make(messages=0)
    world.add("sender@example.com", ["gone@dest.example"], b"Subject: x\r\n\r\n" + b"secret text\r\n" * 9000)
    world.stop()
    path = world.content_file(0)
    path.unlink()
    path.mkdir()
    world.server.params["maximal_queue_lifetime"] = "0s"
    with Sink() as sink:
        send_now(world, sink)
        sink.wait(1)
        notice = sink.messages[0].content
        assert b"To: sender@example.com" in notice and b"cannot be read from our" in notice
        assert b"Is a directory" in notice and b"secret text" not in notice
        world.server.wait_log(world.ids[0] + ": removed")
    world.server.stop()


def test_postcat_shows_what_there_is(make):
    world = make(messages=2, large=1)
    world.stop()
    for n in (0, 1):
        flip_end(world, n)
    with Sink() as sink:
        send_now(world, sink)
        for n in (0, 1):
            world.server.wait_log('saving corrupt file "%s"' % world.ids[n])
        for running in (True, False):
            for n in (0, 1):
                shown = world.server.run("postcat", "-q", world.ids[n], check=True).stdout
                assert "*** ENVELOPE RECORDS corrupt/%s ***" % world.ids[n] in shown
                assert "recipient: r%d@dest.example" % n in shown and "X-Id: %d\n" % n in shown
                whole = world.where[n].content.replace(b"\r\n", b"\n").decode()
                assert whole[:-30] in shown and whole not in shown
            if running:
                world.server.stop()
    done = world.server.run("postcat", "-q", "4BCDEF12345")
    assert done.returncode == 1


def test_requeueing_all_leaves_a_damaged_one_behind(make):
    world = make(messages=5, large=0)
    world.stop()
    flip_end(world, 2)
    world.server.start()
    done = world.server.run("postsuper", "-r", "ALL", check=True)
    assert "Requeued: 4 messages" in done.stderr, done.stderr
    assert (world.server.queue / "corrupt" / world.ids[2]).exists()
    assert world.ids[2] not in world.server.run("mailq").stdout
    world.server.stop()
