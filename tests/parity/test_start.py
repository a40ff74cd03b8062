"""Configurations that must not start, and what is said. Postfix spreads these over its programs:
postfix(1) refuses some, master(8) some, and some only the daemon concerned; Ringpost is one
program and refuses them all at start, with status 1. Compared is what Postfix refuses at once; for
the rest Ringpost alone must name the parameter, and a file and line where there is one."""

import re

import pytest

from lib.instance import KINDS, BASE_MASTER
from world import SIDES, compare, on_both

# label: (params, master lines, words that must be in the output or log, does postfix(1) refuse?)
WRONG = {
    "a bad time": ({"queue_run_delay": "300x"}, "", ["queue_run_delay"], False),
    "a bad number": ({"default_process_limit": "many"}, "", ["default_process_limit"], False),
    "a number out of range": ({"default_process_limit": "0"}, "", ["default_process_limit"], False),
    "a bad yes or no": ({"smtpd_helo_required": "maybe"}, "", ["smtpd_helo_required"], False),
    "a bad address family": ({"inet_protocols": "ipx"}, "", ["inet_protocols"], True),
    "a bad interface": ({"inet_interfaces": "no.such.host.invalid"}, "", ["inet_interfaces"], True),
    "a bad name of ours": ({"myhostname": "bad_name.."}, "", ["myhostname"], True),
    "an unknown user": ({"mail_owner": "nosuchuser"}, "", ["mail_owner", "nosuchuser"], True),
    "a queue folder that is not there": ({"queue_directory": "/dev/null/queue"}, "",
                                         ["/dev/null/queue"], True),
    "a loop of names": ({"one": "$two", "two": "$one", "smtpd_banner": "$one"}, "", [], False),
    "a master.cf line of few fields": ({}, "bad inet n\n", ["master.cf", "bad field count"], True),
    "a master.cf line of unknown type": ({}, "x zzz n - n - - smtpd\n", ["master.cf"], True),
    "a port that is a bad name": ({}, "no-such-port inet n - n - - smtpd\n", ["no-such-port"],
                                  False),
    "no relay control": ({"smtpd_relay_restrictions": "", "smtpd_recipient_restrictions": ""}, "",
                         ["smtpd_relay_restrictions", "reject_unauth_destination"], False),
    "a parameter out of its range": ({"line_length_limit": "100"}, "",
                                     ["line_length_limit"], False),
    "a mailbox limit below the message limit": (
        {"virtual_mailbox_limit": "1000", "message_size_limit": "2000",
         "virtual_mailbox_domains": "x.example"}, "", [], False),
}


def attempt(kind, label):
    params, master, _, _ = WRONG[label]
    params = dict(params)
    queue = params.pop("queue_directory", None)
    server = KINDS[kind](params=params, master=master)
    if queue:
        text = (server.conf / "main.cf").read_text().replace(
            "queue_directory = %s" % server.queue, "queue_directory = %s" % queue)
        (server.conf / "main.cf").write_text(text)
    if "mail_owner" in params:
        text = (server.conf / "main.cf").read_text().replace("mail_owner = postfix\n", "", 1)
        (server.conf / "main.cf").write_text(text)
    try:
        done = server.run("postfix", "start")
        return done.returncode, done.stdout + done.stderr + server.log()
    finally:
        server.kill_all()
        server.remove()


@pytest.mark.parametrize("label", [k for k, v in WRONG.items() if v[3]])
def test_the_reference_refuses_this_at_once(label):
    status, said = attempt("postfix", label)
    assert status != 0, said


@pytest.mark.skipif(SIDES[1] == "postfix", reason="the reference leaves these to its daemons")
@pytest.mark.parametrize("label", [k for k in WRONG if k not in (
    "a loop of names", "a mailbox limit below the message limit")])
def test_ringpost_refuses_it_at_start(label):
    status, said = attempt("ringpost", label)
    assert status == 1, said
    for word in WRONG[label][2]:
        assert word in said, said


@pytest.mark.parametrize("kind", sorted(set(SIDES)))
@pytest.mark.parametrize("command", ["start", "stop", "status", "reload", "flush", "abort"])
def test_what_the_control_command_says_when_nothing_runs(kind, command):
    server = KINDS[kind](master="" if command != "start" else "bad line\n")
    try:
        done = server.run("postfix", command)
        status, words = {"start": (1, "master.cf"), "flush": (69, "mail system is down")}.get(
            command, (1, "not running"))
        assert done.returncode == status, (done.stdout, done.stderr)
        assert words in done.stdout + done.stderr + server.log()
    finally:
        server.kill_all()
        server.remove()


@pytest.mark.parametrize("kind", sorted(set(SIDES)))
def test_check_is_silent_when_all_is_well(kind):
    server = KINDS[kind]()
    try:
        server.run("postfix", "check")        # the first one may create folders
        done = server.run("postfix", "check")
        assert (done.returncode, done.stdout) == (0, ""), done
    finally:
        server.kill_all()
        server.remove()


ABSENT = [["mailq"], ["postqueue", "-p"], ["postqueue", "-j"], ["postqueue", "-f"],
          ["postsuper", "-d", "ALL"], ["postcat", "-q", "ABCDEF0123"], ["sendmail", "a@example.com"],
          ["sendmail", "-bs"]]


@pytest.mark.parametrize("command", ABSENT, ids=" ".join)
def test_commands_without_a_queue_folder(command):
    """A slip in queue_directory is told: the queue is not empty, and no folder is made."""
    def act(kind):
        server = KINDS[kind]()
        main = server.conf / "main.cf"
        main.write_text(main.read_text().replace("queue_directory = %s\n" % server.queue,
                                                 "queue_directory = %s/absent\n" % server.dir))
        try:
            done = server.run(*command, stdin="QUIT\r\n")
            return {"exit status": [str(done.returncode)], "stdout": done.stdout.splitlines(),
                    "stderr": [re.sub(r"^\S*/(?=[a-z]+: )", "", line.replace(str(server.dir), "<DIR>"))
                               for line in done.stderr.splitlines()],
                    "made": [str((server.dir / "absent").exists())]}
        finally:
            server.kill_all()
            server.remove()

    compare(*on_both(act, SIDES))
