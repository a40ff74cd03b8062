"""Mailboxes of virtual users, notices of notices, and what is not lost when a mailbox refuses."""

import os

from lib.instance import Ringpost
from lib.sink import Sink


def ids_of_owner(server):
    path = server.data.stat()
    return path.st_uid, path.st_gid


def mailboxes(table, **params):
    server = Ringpost(params={
        "virtual_mailbox_domains": "vmail.example", "virtual_mailbox_maps": "texthash:@DIR@/vmailbox",
        "virtual_mailbox_base": "@DIR@/vmail", "virtual_minimum_uid": "1", **params},
        files={"vmailbox": table, "vmail/.keep": ""})
    uid, gid = ids_of_owner(server)
    os.chown(server.dir / "vmail", uid, gid)
    server.params.update(virtual_uid_maps="static:%d" % uid, virtual_gid_maps="static:%d" % gid)
    server.write_config()
    return server


def test_maildir_and_mbox_hold_the_message():
    with mailboxes("m@vmail.example m/\nb@vmail.example b\n") as server:
        qid = server.submit("a@example.com", ["m@vmail.example", "b@vmail.example"],
                            b"Subject: x\r\n\r\nFrom here\r\n..dot\r\n")
        server.wait_log(qid + ": removed")
        files = list((server.dir / "vmail/m/new").iterdir())
        assert len(files) == 1 and not list((server.dir / "vmail/m/tmp").iterdir())
        text = files[0].read_bytes()
        assert text.startswith(b"Return-Path: <a@example.com>\nX-Original-To: m@vmail.example\n"
                               b"Delivered-To: m@vmail.example\n")
        assert text.endswith(b"\nFrom here\n..dot\n") and b"\r" not in text
        mbox = (server.dir / "vmail/b").read_bytes()
        assert mbox.startswith(b"From a@example.com  ") and mbox.endswith(b"\n>From here\n..dot\n\n")


def test_an_mbox_takes_many_at_once_whole():
    with mailboxes("b@vmail.example b\n") as server:
        for number in range(40):
            server.submit("a@example.com", ["b@vmail.example"],
                          b"Subject: n%d\r\n\r\n" % number + b"x\r\n" * 2000)
        server.wait_log(": removed", count=40, timeout=60)
        text = (server.dir / "vmail/b").read_bytes()
        assert text.count(b"\nSubject: n") == 40
        assert text.count(b"From a@example.com  ") == 40
        assert text.count(b"\nx") == 40 * 2000


def test_a_mailbox_that_cannot_be_written_defers():
    with mailboxes("m@vmail.example m/\n") as server:
        os.chmod(server.dir / "vmail", 0o500)
        qid = server.submit("a@example.com", ["m@vmail.example"])
        server.wait_log(r"%s: to=<m@vmail.example>.*status=deferred" % qid)
        os.chmod(server.dir / "vmail", 0o700)
        server.run("postqueue", "-f", check=True)
        server.wait_log(qid + ": removed")


def test_a_bounce_that_bounces_ends_there():
    with Sink({"rcpt": "550 5.1.1 unknown"}) as sink, Ringpost(params={
            "relayhost": "[127.0.0.1]:%d" % sink.port}) as server:
        qid = server.submit("a@sender.example", ["b@dest.example"])
        child = server.wait_log(r"%s: sender non-delivery notification: (\w+)" % qid)[1]
        server.wait_log(child + ": removed")
        assert server.log().count("non-delivery notification") == 1
        assert "Mail queue is empty" in server.run("mailq").stdout
