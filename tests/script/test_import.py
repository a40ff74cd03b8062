"""postsuper --import: the queue of a real Postfix comes over, each message once, whatever happens meanwhile."""

import collections
import hashlib
import json
import os
import pwd
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from lib import milter
from lib.dialogue import Smtp
from lib.instance import BASE_MASTER, Postfix, Ringpost, postfix_missing
from lib.sink import Sink

pytestmark = pytest.mark.skipif(postfix_missing() is not None, reason=str(postfix_missing()))

NOWHERE = "smtp:[127.0.0.1]:1"
FUTURE_S = 3600


def by_recipient(session, argument):
    if "<ok" in argument:
        return "250 2.1.5 Ok"
    return "450 4.2.0 <%s>: try again later" % re.search("<(.*?)>", argument)[1]


def changes():
    """What leaves pointers all over a queue file."""
    return [milter.add_header("X-Added", "one"),
            milter.change_header(1, "Subject", "changed into something longer than it was before"),
            milter.change_header(1, "X-Gone", ""), milter.delete_rcpt("gone@dest.example"),
            milter.add_rcpt("added@dest.example"), milter.change_sender("other@example.com"),
            milter.replace_body(b"a new body\r\n.with dots\r\n" * 200)]


def fill(server):
    """One message of each kind. {name: queue id}"""
    def send(name, *args, **more):
        ids[name] = server.submit(*args, **more)
    ids = {}
    send("plain", "a@example.com", ["b@dest.example"])
    send("dots", "a@example.com", ["b@dest.example"], b"Subject: x\r\n\r\n.\r\n..\r\n.dot\r\n\r\n")
    send("no body", "a@example.com", ["b@dest.example"], b"Subject: x\r\n")
    send("no header", "a@example.com", ["b@dest.example"], b"\r\nhello\r\n")
    send("null sender", "", ["b@dest.example"])
    send("quoted", '"a b"@example.com', ['"b  c"@dest.example', '"@"@dest.example'])
    send("partly delivered", "a@example.com", ["b@dest.example", "ok1@dest.example", "c@dest.example", "ok2@dest.example"])
    send("dsn", "a@example.com", ["b@dest.example"], mail_options=" RET=HDRS ENVID=abc+3Ddef",
         rcpt_options=" NOTIFY=SUCCESS,DELAY ORCPT=rfc822;orig+2Binal@dest.example")
    send("never", "a@example.com", ["b@dest.example"], rcpt_options=" NOTIFY=NEVER")
    send("seven bits", "a@example.com", ["b@dest.example"], mail_options=" BODY=7BIT")
    send("smtputf8", "ä@example.com", ["ü@dest.example"],
         "Subject: ü\r\n\r\nhello ä\r\n".encode(), mail_options=" SMTPUTF8 BODY=8BITMIME")
    send("latin", "a@example.com", ["b@dest.example"], b"Subject: x\r\n\r\nhello \xe4\r\n", mail_options=" BODY=8BITMIME")
    lines = b"".join(b"%d " % n + b"y" * n + b"\r\n" for n in (997, 998, 999, 2045, 2046, 2048, 5000, 20000))
    send("long lines", "a@example.com", ["b@dest.example"], b"Subject: x\r\n\r\n" + lines)
    send("large", "a@example.com", ["b@dest.example"],
         b"Subject: x\r\n\r\n" + b"".join(b"%07d " % n + b"z" * 70 + b"\r\n" for n in range(50000)))
    send("many", "a@example.com", ["r%d@dest.example" % n for n in range(300)])
    send("held", "a@example.com", ["b@dest.example"], port=server.ports["hold"])
    send("milter", "a@example.com", ["gone@dest.example", "c@dest.example"],
         b"Subject: x\r\nX-Gone: bye\r\n\r\nhello\r\n", port=server.ports["milter"])
    send("redirected", "a@example.com", ["b@dest.example", "c@dest.example"], port=server.ports["redirect"])
    send("filtered", "a@example.com", ["b@dest.example"], port=server.ports["filter"])
    send("held later", "a@example.com", ["b@dest.example"])
    send("coming in", "a@example.com", ["b@dest.example"])
    send("active", "a@example.com", ["b@dest.example"])
    return ids


def file_of(queue, qid):
    return next(p for p in queue.rglob(qid) if p.parts[len(queue.parts)] in
                ("incoming", "active", "deferred", "hold"))


def look(server):
    """{queue id: what postqueue -j says}"""
    rows = [json.loads(line) for line in server.run("postqueue", "-j", check=True).stdout.splitlines()]
    return {row["queue_id"]: row for row in rows}


def envelope(server, qid):
    """Records that must come over, in order of recipients. Ours are quoted."""
    text = server.run("postcat", "-e", "-q", qid, check=True).stdout.replace('"', "")
    rows = [line for line in text.splitlines() if re.match(
        r"named_attribute: (?!log_ident|import_origin|content_filter)|sender: |message_arrival|original_rec|(done_|canceled_)?recipient: ", line)]
    begin = next((i for i, r in enumerate(rows) if re.search("notify_flags|dsn_orig_rcpt|original_recipient", r)), 0)
    return sorted(rows[:begin]), rows[begin:]


def content(server, qid):
    return server.run("postcat", "-bh", "-q", qid, check=True).stdout


def checksum(folder):
    """Of every name, byte, mode, owner and time; reading may change no time either."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        st = path.lstat()
        total.update(repr((str(path), st.st_mode, st.st_uid, st.st_mtime_ns, st.st_ctime_ns, st.st_size,
                           st.st_atime_ns if path.is_file() else 0)).encode())
        if path.is_file():
            at = os.open(path, os.O_RDONLY | os.O_NOATIME)
            with open(at, "rb") as handle:
                total.update(handle.read())
    return total.hexdigest()


class Source:
    """A Postfix that has mail waiting, and was stopped."""

    def __init__(self, long_ids=False, depth=1):
        with Sink({"rcpt": by_recipient}) as sink, milter.Milter(changes()) as filter_:
            self.server = Postfix(
                params={"default_transport": "smtp:[127.0.0.1]:%d" % sink.port, "delay_warning_time": "1h",
                        "local_transport": NOWHERE, "hash_queue_depth": depth, "message_size_limit": "0",
                        "enable_long_queue_ids": "yes" if long_ids else "no", "minimal_backoff_time": "1h",
                        "smtp_destination_concurrency_limit": "2"},
                services={"smtp": {}, "milter": {"smtpd_milters": "inet:127.0.0.1:%d" % filter_.port},
                          "hold": {"smtpd_recipient_restrictions": "check_recipient_access static:HOLD, permit"},
                          "redirect": {"smtpd_recipient_restrictions":
                                       "check_recipient_access static:{REDIRECT r@dest.example}, permit"},
                          "filter": {"content_filter": NOWHERE}})
            try:
                self._make()
            except BaseException:
                self.server.kill_all()
                raise

    def _make(self):
        self.server.start()
        self.ids = fill(self.server)
        limit = time.monotonic() + 60
        while any(row["queue_name"] not in ("deferred", "hold") for row in look(self.server).values()):
            assert time.monotonic() < limit, self.server.error("mail is still active")
            time.sleep(0.1)
        self.server.run("postsuper", "-h", self.ids["held later"], check=True)
        for name, queue in (("coming in", "incoming"), ("active", "active")):
            path = file_of(self.server.queue, self.ids[name])
            os.rename(path, self.server.queue / queue / path.name)
        self.rows = look(self.server)
        self.server.stop()
        self.queue = self.server.queue
        self.envelopes = {qid: envelope(self.server, qid) for qid in self.ids.values()}
        self.contents = {qid: content(self.server, qid) for qid in self.ids.values()}


@pytest.fixture(scope="module")
def source():
    one = Source()
    yield one
    one.server.remove()


@pytest.fixture
def target():
    server = Ringpost(params={"default_transport": NOWHERE, "local_transport": NOWHERE, "message_size_limit": "0"})
    yield server
    server.stop()
    server.check_reports()
    server.remove()


def bring(server, folder, status=0):
    done = server.run("postsuper", "--import", folder, timeout=120)
    assert done.returncode == status, done.stderr
    return done.stderr


def count(text):
    found = re.search(r"Imported: (\d+) message.*?(\d+) of these on hold; imported before: (\d+); "
                      r"nothing to import: (\d+); not imported: (\d+)", text)
    assert found, text
    return tuple(map(int, found.groups()))


def ledger(server):
    """{their id: our id}; a line a message, never two."""
    lines = [line.split(" ") for line in (server.queue / "log/imported").read_text().splitlines()]
    pairs = [(line[0].split("/")[0], line[1]) for line in lines if len(line) == 2]
    assert len(dict(pairs)) == len(pairs), "two lines for one message"
    return dict(pairs)


def check_all(source, target, tried=()):
    """tried: those of whom the target has reasons of its own."""
    ours, names = look(target), ledger(target)
    assert len(ours) == len(source.ids) and len(names) == len(source.ids)
    for name, qid in source.ids.items():
        theirs, here = source.rows[qid], ours[names[qid]]
        if name == "filtered":                      # the filter is not here: nothing may go past it
            assert here["queue_name"] == "hold"
        elif name in ("coming in", "active"):       # with the reasons of an attempt: deferred
            assert here["queue_name"] in ("incoming", "active", "deferred")
        else:
            assert here["queue_name"] == theirs["queue_name"], name
        for key in ("arrival_time", "message_size", "sender"):
            assert here[key] == theirs[key], (name, key)
        if name == "redirected" or name in tried:
            assert [r["address"] for r in here["recipients"]] == \
                ["r@dest.example" if name == "redirected" else "b@dest.example"]
        else:
            assert by_address(here["recipients"]) == by_address(theirs["recipients"]), name
            fixed, rcpts = source.envelopes[qid]
            wanted = without_done(rcpts)
            got_fixed, got = envelope(target, names[qid])
            assert got == wanted, name
            assert set(fixed) - set(got_fixed) == set(), (name, "lost")
        assert content(target, names[qid]) == source.contents[qid], name


def by_address(rows):
    return sorted(rows, key=lambda row: row["address"])


def without_done(rows):
    """Records of recipients who are left, each with its options before it."""
    kept, block = [], []
    for row in rows:
        block.append(row)
        if re.match("(done_|canceled_)?recipient: ", row):
            if row.startswith("recipient: "):
                kept += block
            block = []
    return kept


@pytest.mark.parametrize("running", [False, True], ids=["server down", "server running"])
def test_everything_comes_over_as_it_was(source, target, running):
    before = checksum(source.queue)
    if running:
        target.start()
    said = bring(target, source.queue)
    assert count(said) == (len(source.ids), 3, 0, 0, 0)
    if not running:
        check_all(source, target)
    # Nothing a second time, nor from a copy of the folder somewhere else.
    assert count(bring(target, source.queue)) == (0, 0, len(source.ids), 0, 0)
    if running:
        target.wait_log("status=deferred", count=2)     # the two that were not waiting
        check_all(source, target, ("coming in", "active"))
    assert checksum(source.queue) == before
    if not running:
        target.start()
    for theirs, ours in ledger(target).items():
        target.wait_log("%s: imported, was %s$" % (ours, theirs), timeout=5)


def test_long_queue_ids_and_deep_folders(target):
    source = Source(long_ids=True, depth=3)
    try:
        assert count(bring(target, source.queue)) == (len(source.ids), 3, 0, 0, 0)
        check_all(source, target)
    finally:
        source.server.remove()


def copy_of(source, names):
    """A queue directory of its own with these messages; {name: path}."""
    folder = Path(tempfile.mkdtemp(prefix="rp-import-", dir=os.environ.get("RINGPOST_TMP", "/tmp")))
    os.chmod(folder, 0o755)
    who = pwd.getpwnam("postfix")
    paths = {}
    for kind in ("incoming", "active", "deferred", "hold", "defer"):
        (folder / kind).mkdir()
    for name in names:
        path = file_of(source.queue, source.ids[name])
        paths[name] = folder / path.relative_to(source.queue)
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, paths[name])
        log = Path(str(path).replace("/deferred/", "/defer/"))
        if log != path and log.exists():
            (folder / log.relative_to(source.queue)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(log, folder / log.relative_to(source.queue))
    for path in folder.rglob("*"):
        os.chown(path, who.pw_uid, who.pw_gid)
    return folder, paths


def test_damaged_and_strange_files_are_named_and_the_others_go_on(source, target):
    names = ["plain", "dots", "dsn", "many", "milter", "large", "latin", "held", "quoted"]
    folder, paths = copy_of(source, names)
    try:
        os.truncate(paths["large"], 2000000)
        raw = paths["dots"].read_bytes()
        paths["dots"].write_bytes(raw.replace(b"M\0N", b"M\0Q"))
        raw = paths["milter"].read_bytes()
        at = raw.index(b"p\x0f") + 2
        paths["milter"].write_bytes(raw[:at] + b"%15d" % (at - 2) + raw[at + 15:])     # a pointer to itself
        paths["dsn"].write_bytes(b"")
        os.chmod(paths["plain"], 0o600)
        (folder / "incoming/README").write_text("what is this?")
        os.rename(paths["held"], folder / "hold/NOT-AN-ID")
        os.symlink("/etc/passwd", folder / "active/012345678A")
        said = bring(target, folder, status=1)
        assert count(said) == (3, 0, 0, 1, 7)
        for part, why in ((paths["large"], "ends"), (paths["dots"], "unknown type"), (paths["milter"], "read twice"),
                          (paths["dsn"], "ends"), (paths["plain"], "not complete"), (folder / "incoming/README", "not a queue file"),
                          (folder / "hold/NOT-AN-ID", "not a queue file"), (folder / "active/012345678A", "not a queue file")):
            assert re.search(re.escape(str(part.relative_to(folder))) + ".*" + why, said), (part, said)
        # What was repaired comes with the next run.
        shutil.copy2(file_of(source.queue, source.ids["large"]), paths["large"])
        os.chown(paths["large"], pwd.getpwnam("postfix").pw_uid, -1)
        assert count(bring(target, folder, status=1)) == (1, 0, 3, 1, 6)
        assert content(target, ledger(target)[source.ids["large"]]) == source.contents[source.ids["large"]]
    finally:
        shutil.rmtree(folder)


def test_a_running_postfix_keeps_its_mail(target):
    with Postfix(params={"default_transport": NOWHERE}) as server:
        server.submit("a@example.com", ["b@dest.example"])
        server.wait_log("status=deferred")
        said = bring(target, server.queue, status=1)
        assert re.search("Postfix is running on %s: stop it first" % server.queue, said)
        assert look(target) == {} and len(look(server)) == 1
        server.stop()
        assert count(bring(target, server.queue))[0] == 1


@pytest.mark.parametrize("running", [False, True], ids=["server down", "server running"])
def test_the_queue_directory_both_have(source, running):
    """The usual way: Postfix is stopped, Ringpost takes its place, with the same main.cf."""
    folder, _ = copy_of(source, ["plain", "held", "many"])
    for name in ("pid", "public", "private", "maildrop"):
        (folder / name).mkdir()
    (folder / "pid/master.pid").write_text("%32d\n" % 1)
    with Sink() as sink:
        target = Ringpost(params={"default_transport": "smtp:[127.0.0.1]:%d" % sink.port, "minimal_backoff_time": "1h"},
                          queue=folder)
        try:
            if running:
                target.start()
            assert count(bring(target, folder)) == (3, 1, 0, 0, 0)
            if not running:
                target.start()
            target.run("postqueue", "-f", check=True)
            sink.wait(2)
            assert count(bring(target, folder)) == (0, 0, 3, 0, 0)
            target.stop()
            assert count(bring(target, folder)) == (0, 0, 3, 0, 0)
            assert [row["queue_name"] for row in look(target).values()] == ["hold"]
        finally:
            target.stop()
            target.remove()
            shutil.rmtree(folder)


def test_a_sender_who_was_not_told_yet_is_told(target):
    """A notice that Postfix could not post: the failed recipient stands in bounce/, the message waits."""
    answers = lambda session, argument: "550 5.1.1 no such user" if "<no" in argument else "450 4.2.0 later"
    with Sink({"rcpt": answers}) as sink:
        server = Postfix(params={"default_transport": "smtp:[127.0.0.1]:%d" % sink.port},
                         base_master=BASE_MASTER.replace("0       bounce\n", "0       bounce\n  -o cleanup_service_name=gone\n"))
        try:
            server.start()
            both = server.submit("a@example.com", ["no1@dest.example", "b@dest.example"])
            only = server.submit("c@example.com", ["no2@dest.example"])
            limit = time.monotonic() + 20
            while len(list(server.queue.glob("deferred/*/*"))) < 2:
                assert time.monotonic() < limit, server.error("not deferred")
                time.sleep(0.05)
            server.stop()
            assert len(list(server.queue.glob("bounce/*"))) == 2
            assert count(bring(target, server.queue)) == (2, 0, 0, 0, 0)
        finally:
            server.kill_all()
            server.remove()
    with Sink() as sink:
        target.params["default_transport"] = "smtp:[127.0.0.1]:%d" % sink.port
        target.write_config()
        target.start()
        target.run("postqueue", "-f", check=True)
        sink.wait(3)
        for qid in (both, only):
            target.wait_log(ledger(target)[qid] + ": removed$")
        arrived = {re.search("<(.*)>", m.rcpts[0])[1]: m for m in sink.messages}
        assert sorted(arrived) == ["a@example.com", "b@dest.example", "c@example.com"]
        for sender, rcpt in (("a@example.com", b"no1"), ("c@example.com", b"no2")):
            notice = arrived[sender]
            assert notice.mail.startswith("MAIL FROM:<>")
            assert re.search(b"(?m)^Final-Recipient: rfc822; ?" + rcpt + b"@dest.example\r$", notice.content)
            assert b"Diagnostic-Code: smtp; 550 5.1.1 no such user" in notice.content


def test_mail_that_nobody_has_picked_up_goes_through_cleanup(target):
    server = Postfix(params={"default_transport": NOWHERE})
    try:
        server.start()      # makes its folders
        server.stop()
        server.run("sendmail", "-f", "me@example.com", "-F", "Full Name", "-N", "never", "ok1@dest.example",
                   stdin="Subject: one\n\n.dot\nhello\n", check=True)
        server.run("sendmail", "-t", "-i", stdin="To: ok2@dest.example\nSubject: two\n\n.\nhello\n", check=True)
        server.run("sendmail", "-bv", "ok3@dest.example", check=True)
        server.run("sendmail", "ok4@dest.example", stdin="Subject: four\n\n" + "x" * 70000 + "\n", check=True)
        assert len(list((server.queue / "maildrop").iterdir())) == 4
        with Sink() as sink:
            target.params["default_transport"] = "smtp:[127.0.0.1]:%d" % sink.port
            target.params["message_size_limit"] = "50000"
            target.write_config()
            said = bring(target, server.queue, status=1)
            assert count(said) == (2, 0, 0, 1, 1)
            assert "message file too big" in said and "verifies an address" in said
            assert count(bring(target, server.queue, status=1)) == (0, 0, 2, 1, 1)
            target.start()
            sink.wait(2)
            one, two = sorted(sink.messages, key=lambda m: m.header("Subject"))
            assert one.mail.startswith("MAIL FROM:<me@example.com>") and "NOTIFY=NEVER" in one.rcpts[0]
            assert one.header("From") == "Full Name <me@example.com>"
            assert "from userid 0" in one.header("Received") and one.header("Message-Id")
            assert one.content.endswith(b"\r\n\r\n.dot\r\nhello\r\n") and two.content.endswith(b"\r\n\r\n.\r\nhello\r\n")
            target.wait_log(": removed$", count=2)
            assert count(bring(target, server.queue, status=1)) == (0, 0, 2, 1, 1)
            assert len(sink.messages) == 2
    finally:
        server.kill_all()
        server.remove()


def test_it_says_what_is_wrong(target, tmp_path):
    assert "not a Postfix queue directory" in bring(target, tmp_path, status=1)
    assert "No such file" in bring(target, tmp_path / "nowhere", status=1)
    for queue in ("deferred", "hold"):
        (tmp_path / queue).mkdir()
    assert "belong to root" in bring(target, tmp_path, status=1)
    done = target.run("postsuper", "--import", tmp_path, "-d", "ALL")
    assert done.returncode == 1 and "goes with no other act" in done.stderr


def test_waiting_mail_waits_for_its_time_and_is_delivered_whole(source, target):
    names = ["plain", "dots", "long lines", "smtputf8", "latin", "partly delivered", "no header", "held", "dsn", "milter"]
    folder, paths = copy_of(source, names)
    now = time.time()
    late = ("plain", "dots")
    for name, path in paths.items():
        os.utime(path, (now, now + FUTURE_S if name in late else now - 10))
    try:
        with Sink() as sink:
            target.params["default_transport"] = "smtp:[127.0.0.1]:%d" % sink.port
            target.params["smtp_line_length_limit"] = "0"
            target.write_config()
            target.start()
            assert count(bring(target, folder)) == (len(names), 1, 0, 0, 0)
            sink.wait(7)
            ours = ledger(target)
            time.sleep(0.5)
            assert sorted(look(target)) == sorted(ours[source.ids[name]] for name in late + ("held",))
            target.run("postqueue", "-f", check=True)
            sink.wait(9)
            target.run("postsuper", "-H", "ALL", check=True)
            sink.wait(10)
            for name in names:
                target.wait_log(ours[source.ids[name]] + ": removed")
            # Delivered, gone, and still known.
            assert count(bring(target, folder)) == (0, 0, len(names), 0, 0)
            arrived = {}
            for message in sink.messages:
                arrived.setdefault(message.header("Message-Id"), []).append(message)
            for name in names:
                check_delivered(source, name, arrived)
    finally:
        shutil.rmtree(folder)


def check_delivered(source, name, arrived):
    wanted = source.contents[source.ids[name]]
    found = re.search("(?mi)^Message-Id: (.*)$", wanted)
    mails = arrived[found[1] if found else None]
    got = mails[0].content.decode("utf-8", "replace").replace("\r\n", "\n")
    assert got == wanted, name
    _, rows = source.envelopes[source.ids[name]]
    rcpts = [row.split(": ")[1] for row in rows if row.startswith("recipient: ")]
    given = [re.search("<(.*)>", r)[1].encode("latin-1").decode() for m in mails for r in m.rcpts]
    assert sorted(given) == sorted(rcpts), name


# --- killed at any moment

def many(source, folder, numbers):
    """Messages like "plain", each with an id of its own; Postfix names a file after its time and inode."""
    raw = file_of(source.queue, source.ids["plain"]).read_bytes()
    assert raw.count(b"hello") == 1
    who = pwd.getpwnam("postfix")
    for n in numbers:
        path = folder / "deferred" / ("%X" % (n % 16)) / ("%05X%06X" % (n, 0xABC000 + n))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(raw.replace(b"hello", b"%05d" % n))
        os.utime(path, (1000000000, 1000000000))
        os.chmod(path, 0o700)
        os.chown(path, who.pw_uid, who.pw_gid)
        os.chown(path.parent, who.pw_uid, who.pw_gid)


def start_import(server, folder):
    return subprocess.Popen([server.program("postsuper"), "-c", str(server.conf), "--import", str(folder)],
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(server.dir / "stderr", "ab"),
                            env=server.environ(), cwd="/", start_new_session=True)


def kill_again_and_again(server, folder, chance, kill):
    """Each after a few more messages than the one before it, until one ends by itself; how many were killed."""
    path, killed = server.queue / "log/imported", 0
    while True:
        goal = (path.stat().st_size if path.exists() else 0) + chance.randrange(15000)
        one = start_import(server, folder)
        while one.poll() is None and not (path.exists() and path.stat().st_size >= goal):
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, 0.02))
        if one.poll() is not None:
            assert one.returncode == 0, (server.dir / "stderr").read_text()[-2000:]
            return killed
        killed += 1
        kill(one)
        one.wait(30)


@pytest.fixture
def crowd(source):
    folder, _ = copy_of(source, [])
    many(source, folder, range(2000))
    yield folder
    shutil.rmtree(folder)


def bodies_at(sink):
    return collections.Counter(m.content.split(b"\r\n\r\n", 1)[1].strip() for m in list(sink.messages))


def wanted_bodies():
    return collections.Counter(b"%05d" % n for n in range(2000))


def test_killed_while_the_server_delivers_each_arrives_once(source, target, crowd):
    chance = random.Random(42)
    with Sink() as sink:
        target.params["default_transport"] = "smtp:[127.0.0.1]:%d" % sink.port
        target.write_config()
        target.start()
        killed = kill_again_and_again(target, crowd, chance, lambda one: one.kill())
        assert count(bring(target, crowd))[4] == 0
        sink.wait(2000, timeout=60)
        time.sleep(0.5)
        assert bodies_at(sink) == wanted_bodies()
        assert killed > 3 and len(ledger(target)) == 2000


def test_killed_while_the_server_is_down_each_is_there_once(source, target, crowd):
    chance = random.Random(43)
    killed = kill_again_and_again(target, crowd, chance, lambda one: one.kill())
    assert count(bring(target, crowd))[4] == 0
    assert killed > 3 and len(look(target)) == len(ledger(target)) == 2000
    with Sink() as sink:
        target.params["default_transport"] = "smtp:[127.0.0.1]:%d" % sink.port
        target.write_config()
        target.start()
        sink.wait(2000, timeout=60)
        time.sleep(0.5)
        assert bodies_at(sink) == wanted_bodies()


def test_the_server_killed_in_the_middle_each_is_there_once(source, target, crowd):
    """Nothing can be delivered here: a kill of the server may repeat what was in flight (queue/README.md)."""
    chance = random.Random(44)
    target.start()

    def kill_server(one):
        for pid in target.engine_pids():
            os.kill(pid, signal.SIGKILL)
        one.wait(30)
        target.wait_ready(20)

    killed = kill_again_and_again(target, crowd, chance, kill_server)
    assert count(bring(target, crowd))[4] == 0
    assert killed > 3 and len(look(target)) == len(ledger(target)) == 2000
    assert look(target).keys() == set(ledger(target).values())
    held = [row for row in look(target).values() if row["queue_name"] == "hold"]
    assert held == []


def traced(server, folder, *options):
    """An import under strace -f; the exit status of postsuper, negative when a signal ended it."""
    command = ["strace", "-f", "-qq", *options, server.program("postsuper"), "-c", str(server.conf),
               "--import", str(folder)]
    env = server.environ()
    env["ASAN_OPTIONS"] += ":detect_leaks=0"        # it traces, too
    done = subprocess.run(command, capture_output=True, env=env, cwd="/", timeout=60)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def empty(server):
    for path in server.queue.iterdir():
        shutil.rmtree(path)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_killed_at_every_step_each_is_there_once(source, target):
    """All that lasts goes through the ring: killed before each of its system calls, from before the first message on, until
    a run is not killed any more."""
    target.params["queue_segment_size"] = "1048576"
    target.write_config()
    folder, _ = copy_of(source, [])
    calls = target.dir / "calls"
    try:
        many(source, folder, range(3))
        traced(target, folder, "-e", "trace=io_uring_enter", "-o", str(calls))
        last = calls.read_text().count("io_uring_enter(")
        reached, step, status = set(), max(1, last - 90), -signal.SIGKILL
        while status != 0:
            assert step < last + 60, "it never came to its end"
            empty(target)
            status = traced(target, folder, "-o", "/dev/null", "-e", "trace=io_uring_enter",
                            "-e", "inject=io_uring_enter:signal=SIGKILL:when=%d" % step)
            said = bring(target, folder)
            _, _, before, _, failed = count(said)
            reached.add((before, "cut short" in said))
            assert failed == 0 and (status != 0 or before == 3)
            rows = look(target)
            assert len(ledger(target)) == 3 and rows.keys() == set(ledger(target).values())
            assert {row["queue_name"] for row in rows.values()} == {"deferred"}
            step += 1
    finally:
        shutil.rmtree(folder)
    # It was killed before the ledger, between the ledger and the release, and after both.
    assert reached >= {(0, False), (1, True), (3, True), (3, False)}
