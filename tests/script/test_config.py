"""Wrong configurations at start and at reload: file, line, reason, status 1; and a reload under
open sessions."""

import os
import re

import pytest

from lib.dialogue import Smtp
from lib.instance import Ringpost, settle
from lib.ports import free_port

WRONG = {
    "a bad time": ("main.cf", "queue_run_delay = 300x\n", "queue_run_delay"),
    "a bad number": ("main.cf", "default_process_limit = many\n", "default_process_limit"),
    "a line without an equals sign": ("main.cf", "this is no setting\n", "missing '='"),
    "a loop of names": ("main.cf", "one = $two\ntwo = $one\nsmtpd_banner = $one\n", ""),
    "a short master.cf line": ("master.cf", "bad inet n\n", "bad field count"),
    "an option without a value": ("master.cf",
                                  "127.0.0.1:1 inet n - n - - smtpd\n  -o broken\n", "broken"),
    "an unknown service type": ("master.cf", "x zzz n - n - - smtpd\n", "zzz"),
}


def spoil(server, name, text):
    """Append; the number of the first line appended."""
    path = server.conf / name
    before = path.read_text()
    path.write_text(before + text)
    settle(path)
    return before.count("\n") + 1


def names_the_place(said, path, line):
    return re.search(r"%s(?:,|:) line %d\b|%s:%d\b" % (
        re.escape(str(path)), line, re.escape(str(path)), line), said)


@pytest.mark.parametrize("label", WRONG)
def test_start_refuses(label):
    name, text, reason = WRONG[label]
    server = Ringpost()
    try:
        line = spoil(server, name, text)
        done = server.run("postfix", "start")
        said = done.stderr + server.log()
        assert done.returncode == 1, said
        assert reason in said, said
        assert any(names_the_place(said, server.conf / name, n) for n in range(line, line + 3)), said
        assert server._wait_gone(5) == []
    finally:
        server.kill_all()
        server.remove()


@pytest.mark.parametrize("label", WRONG)
def test_reload_refuses_and_keeps_the_old(relay, sink, label):
    name, text, reason = WRONG[label]
    line = spoil(relay, name, text)
    try:
        done = relay.run("postfix", "reload")
        assert done.returncode == 1, done
        said = done.stderr + relay.log()
        assert reason in said, said
        assert any(names_the_place(said, relay.conf / name, n) for n in range(line, line + 3)), said
        relay.submit("a@example.com", ["b@dest.example"])
        sink.wait(1)
    finally:
        relay.write_config()


def test_reload_under_an_open_session(relay, sink):
    with Smtp(relay.port) as old:
        old.expect(220)
        old.command("EHLO client.example.org", 250)
        old.command("MAIL FROM:<a@example.com>", 250)
        relay.params.update(smtpd_banner="$myhostname ESMTP reloaded", smtpd_recipient_limit="1")
        relay.write_config()
        since = relay.log_size()
        assert relay.run("postfix", "reload").returncode == 0
        relay.wait_log(r"reload -- version", since=since)
        with Smtp(relay.port) as new:
            assert "reloaded" in new.expect(220).text
            new.command("EHLO x", 250)
            new.command("MAIL FROM:<a@example.com>", 250)
            new.command("RCPT TO:<b@dest.example>", 250)
            new.command("RCPT TO:<c@dest.example>", 452)
        # The old session ends as it began.
        old.command("RCPT TO:<b@dest.example>", 250)
        old.command("RCPT TO:<c@dest.example>", 250)
        old.command("DATA", 354)
        assert old.data(b"Subject: x\r\n\r\nx\r\n").code == 250
    assert len(sink.wait(1)[0].rcpts) == 2


def test_many_reloads_lose_no_mail(relay, sink):
    for number in range(10):
        relay.params["smtpd_banner"] = "$myhostname ESMTP %d" % number
        relay.write_config()
        assert relay.run("postfix", "reload").returncode == 0
        relay.submit("a@example.com", ["r%d@dest.example" % number])
    sink.wait(10)


def listening(server):
    """Inodes of its listening sockets, as the supervisor holds them."""
    found = set()
    for entry in os.scandir("/proc/%d/fd" % server.master_pid()):
        target = os.readlink(entry.path)
        if target.startswith("socket:"):
            found.add(target[8:-1])
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table]
    return {row[9] for row in rows if len(row) > 9 and row[3] == "0A" and row[9] in found}


def test_sockets_are_kept_over_a_reload_and_new_ones_come(relay, sink):
    before = listening(relay)
    assert len(before) == 1
    relay.services["second"] = {"smtpd_banner": "second ESMTP"}
    relay.ports["second"] = free_port()
    relay.write_config()
    since = relay.log_size()
    assert relay.run("postfix", "reload").returncode == 0
    relay.wait_log(r"reload -- version", since=since)
    after = listening(relay)
    assert before < after and len(after) == 2
    with Smtp(relay.ports["second"]) as peer:
        assert "second ESMTP" in peer.expect(220).text
    relay.submit("a@example.com", ["b@dest.example"], port=relay.ports["second"])
    sink.wait(1)
    gone = relay.ports.pop("second")
    del relay.services["second"]
    relay.write_config()
    since = relay.log_size()
    assert relay.run("postfix", "reload").returncode == 0
    relay.wait_log(r"reload -- version", since=since)
    assert listening(relay) == before
    with pytest.raises(OSError):
        Smtp(gone).expect(220)
    relay.submit("a@example.com", ["b@dest.example"])


@pytest.mark.parametrize("label", WRONG)
def test_a_broken_configuration_does_not_keep_it_from_stopping(label):
    name, text, _ = WRONG[label]
    with Ringpost() as server:
        spoil(server, name, text)
        done = server.run("postfix", "status")
        assert done.returncode == 0, done.stderr
        server.stop()


def test_a_service_that_does_not_exist_yet_is_named_and_its_mail_waits(sink):
    with Ringpost(params={"default_transport": "later:x"},
                  master="later unix - - n - - pipe flags=R user=nobody argv=/bin/true\n") as server:
        qid = server.submit("a@example.com", ["b@dest.example"])
        server.wait_log(r"%s: to=.*status=deferred" % qid)
        assert "later" in server.log()
