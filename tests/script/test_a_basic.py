"""The first things that must work: start, take a message, deliver it, stop; and the commands while
nothing runs."""

import os
import pwd
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lib import nouring
from lib.dialogue import Smtp, run_script
from lib.instance import Ringpost, processes_of, ringpost_bin
from lib.sink import Sink


def test_a_message_goes_through(relay, sink):
    qid = relay.submit("a@example.com", ["b@dest.example"])
    message = sink.wait(1)[0]
    assert message.content.endswith(b"\r\n\r\nhello\r\n")
    relay.wait_log(r"%s: to=<b@dest.example>, .*status=sent" % qid)
    relay.wait_log(r"%s: removed" % qid)
    assert "Mail queue is empty" in relay.run("mailq").stdout


def test_stop_leaves_nothing_and_start_works_again(relay, sink):
    relay.submit("a@example.com", ["b@dest.example"])
    sink.wait(1)
    relay.stop()
    assert processes_of(relay.dir) == []
    relay.start()
    relay.submit("a@example.com", ["b@dest.example"])
    sink.wait(2)


def test_deferred_mail_survives_a_stop(sink):
    with Ringpost(params={"relayhost": "[127.0.0.1]:1", "queue_run_delay": "1s",
                          "minimal_backoff_time": "1s"}) as server:
        qid = server.submit("a@example.com", ["b@dest.example"])
        server.wait_log(r"%s: to=.*status=deferred" % qid)
        server.stop()
        assert qid in server.run("mailq").stdout, "the queue is read directly when it is down"
        server.params["relayhost"] = "[127.0.0.1]:%d" % sink.port
        server.write_config()
        server.start()
        sink.wait(1)
        server.wait_log(r"%s: removed" % qid)


@pytest.mark.parametrize("name, args, status", [
    ("postqueue", ["-p"], 0), ("mailq", [], 0), ("postqueue", ["-j"], 0),
    ("postqueue", ["-f"], 69), ("postconf", ["-n"], 0), ("postfix", ["status"], 1),
    ("postsuper", ["-d", "ALL"], 0), ("postcat", ["-q", "ABCDEF0123"], 1)])
def test_commands_when_the_server_is_down(relay, name, args, status):
    relay.stop()
    assert relay.run(name, *args).returncode == status


def test_queue_commands_act_on_the_queue_when_the_server_is_down(sink):
    with Ringpost(params={"relayhost": "[127.0.0.1]:1"}) as server:
        ids = [server.submit("a@example.com", ["b@dest.example"]) for _ in range(3)]
        server.wait_log(r"status=deferred", count=3)
        server.stop()
        text = server.run("postcat", "-q", ids[0]).stdout
        assert "hello" in text and "b@dest.example" in text
        done = server.run("postsuper", "-d", ids[0])
        assert "Deleted: 1 message" in done.stderr and done.returncode == 0
        left = server.run("mailq").stdout
        assert ids[0] not in left and ids[1] in left and ids[2] in left


def test_mail_from_sendmail_waits_for_the_server(relay, sink):
    relay.stop()
    done = relay.run("sendmail", "-f", "a@example.com", "b@dest.example",
                     stdin=b"Subject: early\n\nearly\n")
    assert done.returncode == 0, done.stderr
    relay.start()
    assert b"early" in sink.wait(1)[0].raw


def test_start_in_the_foreground_ends_with_the_signal(sink):
    server = Ringpost(params={"relayhost": "[127.0.0.1]:%d" % sink.port})
    try:
        process = subprocess.Popen([server.program("postfix"), "-c", str(server.conf), "start-fg"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True,
                                   env=server.environ())
        try:
            server.wait_ready()
            server.submit("a@example.com", ["b@dest.example"])
            sink.wait(1)
        finally:
            process.terminate()
            process.wait(20)
        assert server._wait_gone(10) == []
    finally:
        server.kill_all()
        server.remove()


def test_a_second_start_is_refused(relay):
    done = relay.run("postfix", "start")
    assert done.returncode == 1 and "already running" in done.stderr + relay.log()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop privileges")
def test_the_engine_does_not_run_as_root(relay):
    owner = pwd.getpwnam("postfix").pw_uid
    engines = relay.engine_pids()
    assert engines
    for pid in engines:
        status = Path("/proc/%d/status" % pid).read_text()
        uids = [line.split()[1:] for line in status.splitlines() if line.startswith("Uid:")][0]
        assert set(uids) == {str(owner)}, status
        for name in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
            assert re.search(r"^%s:\s*0+$" % name, status, re.M), status


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_an_ordinary_user_runs_it_alone():
    """Everything as one user in that user's own folders: how `./run` shows it off."""
    who = pwd.getpwnam("nobody")
    script = "import os, sys; os.setgid(%d); os.setuid(%d); sys.path.insert(0, %r)\n" % (
        who.pw_gid, who.pw_uid, str(Path(__file__).resolve().parents[1])) + """
from lib.instance import Ringpost
from lib.sink import Sink
with Sink() as sink:
    with Ringpost(params={"relayhost": "[127.0.0.1]:%d" % sink.port}) as server:
        server.submit("a@example.com", ["b@dest.example"])
        sink.wait(1)
print("delivered")
"""
    done = subprocess.run([sys.executable, "-B", "-c", script], capture_output=True, text=True,
                          timeout=60, cwd="/", env={**os.environ, "HOME": "/tmp"})
    assert done.stdout == "delivered\n", done.stderr


def test_io_uring_refused_is_one_clear_line_and_status_1():
    server = Ringpost()
    try:
        done = subprocess.run(
            [sys.executable, nouring.__file__, server.program("postfix"), "-c", str(server.conf),
             "start"], capture_output=True, text=True, timeout=30, cwd="/",
            env=server.environ(), start_new_session=True)
        said = done.stderr + server.log()
        assert done.returncode == 1, said
        lines = [line for line in said.splitlines() if "io_uring" in line]
        assert lines and all("fatal" in line for line in lines), said
        assert len([line for line in done.stderr.splitlines() if "io_uring" in line]) <= 1, said
        assert server._wait_gone(5) == []
    finally:
        server.kill_all()
        server.remove()


def test_descriptors_of_the_caller_do_not_reach_the_engine(tmp_path):
    server = Ringpost()
    secret = tmp_path / "secret"
    secret.write_text("x")
    try:
        with open(secret) as handle:
            os.set_inheritable(handle.fileno(), True)
            subprocess.run([server.program("postfix"), "-c", str(server.conf), "start"],
                           pass_fds=[handle.fileno()], stderr=subprocess.DEVNULL, timeout=30,
                           env=server.environ(), start_new_session=True, cwd="/", check=True)
        server.running = True
        for pid in server.engine_pids():
            targets = [os.readlink(f.path) for f in os.scandir("/proc/%d/fd" % pid)]
            assert str(secret) not in targets, targets
            assert not [t for t in targets if t.endswith("master.pid")], targets
        server.stop()
    finally:
        server.kill_all()
        server.remove()


def test_words_and_status_of_stop_abort_and_status(relay):
    """As in Postfix, what is no error is said to a terminal and to the log."""
    def said(command, status):
        since = relay.log_size()
        done = relay.run("postfix", command)
        assert done.returncode == status, done
        return [text for service, text in relay.log_lines(since) if service == "postfix-script"], done

    words, _ = said("status", 0)
    assert words == ["the Postfix mail system is running: PID: %d" % relay.master_pid()]
    assert said("abort", 0)[0] == ["aborting the Postfix mail system"]
    assert relay._wait_gone(5) == []
    for command in ("stop", "abort", "reload"):
        words, done = said(command, 1)
        assert words == ["fatal: the Postfix mail system is not running"]
        assert "postfix/postfix-script: " + words[0] in done.stderr
    assert "mail system is down" in said("flush", 69)[1].stderr
    assert said("status", 1)[0] == ["the Postfix mail system is not running"]
    relay.start()
    assert said("stop", 0)[0] == ["stopping the Postfix mail system"]
    relay.running = False
    assert relay._wait_gone(5) == []


def test_a_port_that_is_taken_is_named(sink):
    server = Ringpost()
    server.ports["smtp"] = sink.port
    server.write_config()
    try:
        done = server.run("postfix", "start")
        assert done.returncode == 1
        assert "%s: line 1: bind 127.0.0.1 port %d: Address already in use" % (
            server.conf / "master.cf", sink.port) in done.stderr, done.stderr
        assert server._wait_gone(5) == []
        server.check_reports()
    finally:
        server.kill_all()
        server.remove()


def test_the_engine_ends_when_the_supervisor_is_killed(sink):
    with Ringpost(params={"relayhost": "[127.0.0.1]:1"}) as server:
        qid = server.submit("a@example.com", ["b@dest.example"])
        os.kill(server.master_pid(), signal.SIGKILL)
        server.params["relayhost"] = "[127.0.0.1]:%d" % sink.port
        server.write_config()
        server.start()                          # at once: it waits for the queue and the ports
        server.run("postqueue", "-f", check=True)
        sink.wait(1)
        server.wait_log(r"%s: removed" % qid)


def test_logrotate(relay, sink):
    qid = relay.submit("a@example.com", ["b@dest.example"])
    relay.wait_log(r"%s: removed" % qid)
    done = relay.run("postfix", "logrotate")
    assert done.returncode == 0, done.stderr
    packed = list(relay.dir.glob("maillog.*.gz"))
    assert len(packed) == 1
    old = subprocess.run(["gzip", "-dc", packed[0]], capture_output=True, text=True).stdout
    assert "to=<b@dest.example>" in old
    relay.wait_log("reload -- version")
    qid = relay.submit("a@example.com", ["c@dest.example"])
    relay.wait_log(r"%s: removed" % qid)         # the engine, which has no rights there, writes to it
    assert "b@dest.example" not in relay.log()


def test_all_names_are_there():
    for name in ("postfix", "sendmail", "mailq", "newaliases", "postqueue", "postsuper", "postcat",
                 "postconf", "postmap", "postalias", "qshape"):
        assert os.access(ringpost_bin() / name, os.X_OK), name
