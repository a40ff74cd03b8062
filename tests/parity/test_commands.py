"""The commands an admin types: what they print, what they log, how they end."""

import json
import re
import time

import pytest

from lib.instance import settle
from world import SIDES, World, compare, find_mails, on_both, outcome, wait_final

PARAMS = {
    # Everything to later.example waits in the queue.
    "transport_maps": "texthash:@DIR@/transport",
    "queue_run_delay": "1000s",
    "minimal_backoff_time": "1000s",
    # Else a recipient with an error: or retry: transport is refused at RCPT already.
    "smtpd_reject_unlisted_recipient": "no",
}
FILES = {
    "transport": "later.example retry:4.3.2 come again\nhold.example retry:4.3.2 come again\n",
    "aliases": "# comment\npostmaster: root\nroot: admin@dest.example\nlist: a@dest.example,\n"
               " b@dest.example\n\"quoted name\": c@dest.example\n",
    "hash": "# comment\nkey value\nKey2   value with blanks  \ncont one\n two\n\nuser@x.example OK\n",
    "message": "",
}


@pytest.fixture(scope="module")
def world():
    with World(params=PARAMS, files=FILES) as one:
        yield one


def both(world, function):
    compare(*on_both(function, world.sides))


def ran(side, done, *more_ids):
    """Output and exit status of a command, normalised."""
    normal = side.normal(side.server.log())
    normal.ids = sorted(set(normal.ids) | set(more_ids), key=len, reverse=True)
    # A folded listing pads by the width of the id; a program may name itself with its path.
    clean = lambda text: [re.sub(r"^/\S*/(?=[a-z]+: )", "", re.sub(r"\s+", " ", line))
                          for line in normal.text(text).splitlines()]
    return {"exit status": [str(done.returncode)], "stdout": clean(done.stdout),
            "stderr": clean(done.stderr)}


# -- listings ------------------------------------------------------------------------------------
def fill(side, count=1, sender="a@example.com", to="later.example"):
    ids = [side.server.submit(sender, ["r%d@%s" % (i, to) for i in range(2)],
                              b"From: x@example.com\r\nTo: y@example.com\r\nSubject: s\r\n"
                              b"Message-ID: <1@example.com>\r\n"
                              b"Date: Mon, 01 Jan 2024 00:00:00 +0000\r\n\r\nbody\r\n")
           for _ in range(count)]
    for one in ids:
        wait_final(side.server, one)
    return ids


@pytest.fixture
def empty(world):
    for side in world.sides:
        side.server.run("postsuper", "-d", "ALL", check=True)
    return world


@pytest.mark.parametrize("name, args", [
    ("postqueue", ["-p"]), ("mailq", []), ("sendmail", ["-bp"]), ("postqueue", ["-j"])])
def test_listing_of_an_empty_queue(empty, name, args):
    both(empty, lambda side: ran(side, side.server.run(name, *args)))


@pytest.mark.parametrize("name, args", [
    ("postqueue", ["-p"]), ("mailq", []), ("sendmail", ["-bp"])])
def test_listing_of_deferred_mail(empty, name, args):
    def listing(side):
        fill(side, 2)
        fill(side, 1, sender="")
        result = ran(side, side.server.run(name, *args))
        rows = [re.sub(r"<ID>(.?) \d+ ", r"<ID>\1 <SIZE> ", line) for line in result["stdout"]]
        # Messages of one queue stand in the order of their ids, which mean nothing here.
        text = "\n".join(rows)
        head, *parts = re.split(r"(?m)^(?=<ID>)", text)
        foot = parts[-1].split("--", 1)
        parts[-1] = foot[0]
        result["stdout"] = [head, *sorted(parts), re.sub(r"\d+ Kbytes", "<N> Kbytes", foot[1])]
        return result

    both(empty, listing)


def test_column_widths_of_the_listing(empty):
    """The line of one message: id and mark to column 11, size to 20, date to 40, then the sender."""
    def columns(side):
        fill(side)
        rows = side.server.run("mailq").stdout.splitlines()
        found = re.match(r"(\S+)(.*?)(\d+) (\w{3} \w{3} [ \d]\d [\d:]{8})  (\S+)$", rows[1])
        assert found, rows[1]
        width = len(found[1]) + len(found[2]) + len(found[3])
        return {"heading": [rows[0]],
                "columns": ["id, mark and size: %d" % (width - max(0, len(found[1]) - 11))],
                "recipient lines": [re.sub(r"[^ ].*", "x", r) for r in rows[2:]]}

    both(empty, columns)


def test_json_listing(empty):
    def listing(side):
        ids = fill(side, 1)
        result = ran(side, side.server.run("postqueue", "-j"))
        data = json.loads(side.server.run("postqueue", "-j").stdout)
        assert data["queue_id"] == ids[0] and abs(data["arrival_time"] - 1.7e9) < 1e9
        result["stdout"] = [re.sub(r'("arrival_time"|"message_size"): \d+', r"\1: <N>", line)
                            for line in result["stdout"]]
        return result

    both(empty, listing)


def test_listing_of_held_mail(empty):
    def listing(side):
        ids = fill(side, 1)
        side.server.run("postsuper", "-h", ids[0], check=True)
        result = ran(side, side.server.run("postqueue", "-p"))
        result["stdout"] = [re.sub(r"<ID>(.?) \d+ ", r"<ID>\1 <SIZE> ", line)
                            for line in result["stdout"]]
        result["json"] = [json.loads(side.server.run("postqueue", "-j").stdout)["queue_name"]]
        return result

    both(empty, listing)


# -- postcat -------------------------------------------------------------------------------------
@pytest.mark.parametrize("args", [["-q"], ["-hq"], ["-bq"], ["-eq"], ["-bhq"], ["-ehq"]])
def test_postcat(empty, args):
    def cat(side):
        ids = fill(side, 1)
        result = ran(side, side.server.run("postcat", *args, ids[0]))
        # message_size and record times are the queue file's own business.
        drop = r"message_size:|message_arrival_time:|create_time:|rewrite_context:|log_|" \
               r"named_attribute:|regular_text: Received|pointer_record|original_recipient|" \
               r"message_file|protocol|dsn_|notify|content_filter"
        result["stdout"] = [line for line in result["stdout"] if not re.match(drop, line.lower())]
        result["stdout"] = [re.sub(r"(deferred|active|incoming)/\S+", r"\1/<PATH>", line)
                            for line in result["stdout"]]
        return result

    both(empty, cat)


def test_postcat_of_an_unknown_id(empty):
    both(empty, lambda side: ran(side, side.server.run("postcat", "-q", "ABCDEF0123")))


def test_postcat_of_a_bad_id(empty):
    both(empty, lambda side: ran(side, side.server.run("postcat", "-q", "../x")))


# -- postsuper -----------------------------------------------------------------------------------
def super_log(side, since, wanted):
    """postsuper's own log lines; the log daemon may be a moment behind the command."""
    limit = time.monotonic() + 2
    while time.monotonic() < limit and wanted > sum(
            1 for s, _ in side.server.log_lines(since) if s == "postsuper"):
        time.sleep(0.02)
    normal = side.normal(side.server.log())
    return sorted(normal.lines([t for s, t in side.server.log_lines(since) if s == "postsuper"]))


@pytest.mark.parametrize("option", ["-d", "-h", "-H", "-r", "-e", "-f"])
@pytest.mark.parametrize("target", ["one", "ALL", "stdin", "unknown", "bad", "two"])
def test_postsuper(empty, option, target):
    def act(side):
        ids = fill(side, 3)
        if option == "-H":
            since = side.server.log_size()
            side.server.run("postsuper", "-h", "ALL", check=True)
            side.server.wait_log("Placed on hold: 3 messages", since=since)
        since = side.server.log_size()
        args, stdin = {
            "one": ([option, ids[0]], None), "ALL": ([option, "ALL"], None),
            "stdin": ([option, "-"], "%s\n%s\n" % (ids[0], ids[1])),
            "unknown": ([option, "ABCDEF0123"], None), "bad": ([option, "a/../b"], None),
            "two": ([option, ids[0], option, ids[2]], None)}[target]
        result = ran(side, side.server.run("postsuper", *args, stdin=stdin))
        result["stderr"].sort()
        result["log"] = super_log(side, since, len(result["stderr"]))
        if option in ("-d", "-h"):
            result["left"] = sorted(json.loads(line)["queue_name"] for line in
                                    side.server.run("postqueue", "-j").stdout.splitlines())
        return result

    both(empty, act)


@pytest.mark.parametrize("args", [["-d"], ["-x"], ["-d", "ALL", "nosuchqueue"], ["ALL"], [],
                                  ["-d", "ALL", "hold"], ["-h", "ALL", "deferred"]])
def test_postsuper_arguments(empty, args):
    def act(side):
        fill(side, 1)
        result = ran(side, side.server.run("postsuper", *args))
        # The usage text names the program's own path.
        result["stderr"] = [re.sub(r"usage: \S*postsuper", "usage: postsuper", line)
                            for line in result["stderr"]]
        return result

    both(empty, act)


def test_requeued_mail_gets_a_new_id_and_is_tried_again(empty):
    def act(side):
        ids = fill(side, 1)
        since = side.server.log_size()
        side.server.run("postsuper", "-r", ids[0], check=True)
        side.server.run("postqueue", "-f", check=True)
        found = side.server.wait_log(r": (\w+): to=<r1@later.example>.*status=deferred",
                                     since=since)
        wait_final(side.server, found[1])
        normal = side.normal(side.server.log())
        lines = [t for s, t in side.server.log_lines(since) if t.startswith(found[1] + ":")]
        # Ringpost takes it up at once, so that the flush may be a second attempt; Postfix's pickup
        # daemon takes it up with the flush.
        return {"same id": [str(found[1] == ids[0])], "log": sorted(set(normal.log(lines)))}

    both(empty, act)


# -- postqueue -----------------------------------------------------------------------------------
@pytest.mark.parametrize("args", [["-f"], ["-i", "ONE"], ["-i", "ABCDEF0123"], ["-i", "bad/id"],
                                  ["-s", "later.example"], ["-s", "bad..name"], ["-x"], [],
                                  ["-p", "-f"]])
def test_postqueue(empty, args):
    def act(side):
        ids = fill(side, 1)
        since = side.server.log_size()
        words = [ids[0] if a == "ONE" else a for a in args]
        result = ran(side, side.server.run("postqueue", *words))
        if args in (["-f"], ["-i", "ONE"]):
            side.server.wait_log(r"%s: to=<r1@" % ids[0], since=since)
            side.server.wait_log(r"%s: to=<r0@" % ids[0], since=since)
        return result

    both(empty, act)


# -- sendmail ------------------------------------------------------------------------------------
HEAD = "From: x@example.com\nTo: t1@dest.example, Name <t2@dest.example>\nCc: c@dest.example\n" \
       "Bcc: b@dest.example\nSubject: s\n"

SENDMAIL = {
    "plain": (["a@dest.example"], "Subject: x\n\nbody\n"),
    "two recipients": (["a@dest.example", "b@dest.example"], "Subject: x\n\nbody\n"),
    "a comma list": (["a@dest.example,b@dest.example"], "Subject: x\n\nbody\n"),
    "a dot ends it": (["a@dest.example"], "Subject: x\n\nbody\n.\nmore\n"),
    "-i keeps the dot": (["-i", "a@dest.example"], "Subject: x\n\nbody\n.\nmore\n"),
    "-oi keeps the dot": (["-oi", "a@dest.example"], "Subject: x\n\nbody\n.\nmore\n"),
    "-t": (["-t"], HEAD + "\nbody\n"),
    "-t with a recipient more": (["-t", "x@dest.example"], HEAD + "\nbody\n"),
    "-t with Resent headers": (["-t"], "Resent-To: r@dest.example\n" + HEAD + "\nbody\n"),
    "-t without recipients": (["-t"], "Subject: x\n\nbody\n"),
    "-f": (["-f", "from@example.com", "a@dest.example"], "Subject: x\n\nbody\n"),
    "-f null": (["-f", "", "a@dest.example"], "Subject: x\n\nbody\n"),
    "-f with brackets": (["-f", "<>", "a@dest.example"], "Subject: x\n\nbody\n"),
    "-f bare": (["-f", "joe", "a@dest.example"], "Subject: x\n\nbody\n"),
    "-F": (["-F", "Full Name", "-f", "f@example.com", "a@dest.example"], "Subject: x\n\nbody\n"),
    "-F with specials": (["-F", "A, \"B\" (C)", "a@dest.example"], "Subject: x\n\nbody\n"),
    "-r": (["-r", "from@example.com", "a@dest.example"], "Subject: x\n\nbody\n"),
    "no recipients": ([], "Subject: x\n\nbody\n"),
    "no headers": (["a@dest.example"], "hello\n"),
    "empty": (["a@dest.example"], ""),
    "no final newline": (["a@dest.example"], "Subject: x\n\nbody"),
    "CRLF lines": (["a@dest.example"], "Subject: x\r\n\r\nbody\r\n.\r\nmore\r\n"),
    "From line": (["a@dest.example"], "From x Mon Jan 1\nSubject: x\n\nbody\n"),
    "a bare recipient": (["joe"], "Subject: x\n\nbody\n"),
    "a bad recipient": (["joe@"], "Subject: x\n\nbody\n"),
    "8-bit": (["a@dest.example"], "Subject: x\n\nä\n"),
    "-B8BITMIME": (["-B8BITMIME", "a@dest.example"], "Subject: x\n\nä\n"),
    "-N and -R and -V": (["-N", "success,failure", "-R", "hdrs", "-V", "env", "-f",
                          "f@example.com", "a@dest.example"], "Subject: x\n\nbody\n"),
    "-om -oem ignored": (["-om", "-oem", "-odb", "a@dest.example"], "Subject: x\n\nbody\n"),
    "-v": (["-q"], ""),
    "an option-like recipient behind --": (["--", "-x@dest.example"], "Subject: x\n\nbody\n"),
    "-Z": (["-Z", "a@dest.example"], "Subject: x\n\nbody\n"),
    "-bx": (["-bx"], ""),
    "-bs": (["-bs"], "EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@dest.example>\r\n"
                     "DATA\r\nSubject: s\r\n\r\nbs\r\n.\r\nQUIT\r\n"),
    "-bs with errors": (["-bs"], "FOO\r\nRCPT TO:<x@y>\r\nQUIT\r\n"),
    "-bs cut short": (["-bs"], "EHLO x\r\n"),
    "a long line": (["a@dest.example"], "Subject: x\n\n" + "y" * 3000 + "\n"),
    "NUL bytes": (["a@dest.example"], "Subject: x\n\na\x00b\n"),
}


def marked(rows, known):
    """Parameters; known: {row: why Ringpost differs}."""
    assert all(k in [str(r) for r in rows] for k in known), known
    return [pytest.param(r, marks=pytest.mark.xfail(strict=True, reason=known[str(r)]))
            if str(r) in known and SIDES[1] == "ringpost" else r for r in rows]


@pytest.mark.parametrize("label", marked(list(SENDMAIL), {
    "-bs": "the dialogue is with the running server, whose smtpd queues the mail; Postfix runs an smtpd "
           "of its own, which hands the mail to pickup"}))
def test_sendmail(world, label):
    args, stdin = SENDMAIL[label]

    def act(side):
        since = side.server.log_size()
        done = side.server.run("sendmail", *args, stdin=stdin)
        result = ran(side, done)
        if done.returncode == 0 and stdin and args != ["-q"] and "without" not in label and \
                "errors" not in label and "cut" not in label:
            arrived = r"(?:pickup|smtpd)\[\d+\]: (\w+): (?:uid|client)="
            side.server.wait_log(arrived, since=since)
            qid = re.search(arrived, side.server.log(since))[1]
            log, mails = outcome(side, qid)
            normal = side.normal(side.server.log())
            head = [t for s, t in side.server.log_lines(since)
                    if t.startswith(qid + ": ") and s == "pickup"]
            result["log"] = normal.log(log + head)
            result["delivery"] = [
                line for name, mail in mails for line in
                [re.sub(r"SIZE=\d+", "SIZE=<N>", mail.mail), *sorted(mail.rcpts),
                 *normal.content(mail.raw)]]
        return result

    both(world, act)


# -- postmap, postalias --------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["hash", "btree", "lmdb", "texthash"])
@pytest.mark.parametrize("key", ["key", "Key2", "key2", "cont", "user@x.example", "none", ""])
def test_postmap_query(world, kind, key, request):
    if (kind, key) == ("lmdb", "") and SIDES[1] == "ringpost":
        request.applymarker(pytest.mark.xfail(strict=True, reason="an empty key is one that is not "
                            "there; Postfix's lmdb: ends with an error of the library"))

    def act(side):
        path = side.server.dir / ("map-" + kind)
        path.write_text(FILES["hash"])
        settle(path)
        if kind != "texthash":
            side.server.run("postmap", "%s:%s" % (kind, path), check=True)
        return ran(side, side.server.run("postmap", "-q", key, "%s:%s" % (kind, path)))

    both(world, act)


@pytest.mark.parametrize("label, text", {
    "a key without a value": "key\nother value\n",
    "a key twice": "key a\nkey b\n",
    "a leading blank line": " key a\nother b\n",
    "an upper case key": "KEY a\n",
    "a quoted key": '"a b" c\n',
    "a colon behind the key": "key: value\n",
    "8-bit": "k\u00e4y v\u00e4lue\n",
    "an empty file": "",
}.items())
def test_postmap_source(world, label, text):
    def act(side):
        path = side.server.dir / "source"
        path.write_text(text)
        settle(path)
        result = ran(side, side.server.run("postmap", "lmdb:%s" % path))
        for key in ("key", "KEY", "a b", '"a b"', "key:", "other"):
            done = side.server.run("postmap", "-q", key, "lmdb:%s" % path)
            result["query " + key] = [str(done.returncode), done.stdout, done.stderr]
        return result

    both(world, act)


@pytest.mark.parametrize("args, stdin", [
    (["-q", "-", "lmdb:MAP"], "key\nnone\nKey2\n"), (["-s", "lmdb:MAP"], ""),
    (["-d", "key", "lmdb:MAP"], ""), (["-i", "lmdb:MAP"], "new entry\n"),
    (["-r", "-i", "lmdb:MAP"], "key changed\n"), (["-q", "x", "nosuch:MAP"], ""),
    (["-q", "key", "lmdb:/nonexistent/map"], ""), (["lmdb:/nonexistent/map"], ""), ([], ""),
    (["-q", "key"], ""), (["-q", "x", "static:yes"], ""), (["-q", "x", "inline:{x=y}"], ""),
    (["-q", "X", "inline:{x=y}"], "")])
def test_postmap_options(world, args, stdin):
    def act(side):
        path = side.server.dir / "options-map"
        path.write_text(FILES["hash"])
        settle(path)
        side.server.run("postmap", "lmdb:%s" % path, check=True)
        result = ran(side, side.server.run(
            "postmap", *[a.replace("MAP", str(path)) for a in args], stdin=stdin))
        # The letters differ: no -b -F -h -m, which look into messages and files.
        result["stderr"] = [re.sub(r"usage: postmap \[-\w+\]", "usage: postmap [-OPTIONS]", line)
                            for line in result["stderr"]]
        after = side.server.run("postmap", "-s", "lmdb:%s" % path).stdout
        result["the map afterwards"] = sorted(after.splitlines())
        result["stdout"] = sorted(result["stdout"])
        return result

    both(world, act)


@pytest.mark.parametrize("key", ["postmaster", "ROOT", "list", "quoted name", "none"])
def test_postalias(world, key):
    def act(side):
        path = side.server.dir / "aliases"
        done = side.server.run("postalias", "lmdb:%s" % path)
        result = ran(side, done)
        found = side.server.run("postalias", "-q", key, "lmdb:%s" % path)
        return {**result, "query": [str(found.returncode), found.stdout, found.stderr]}

    both(world, act)


@pytest.mark.parametrize("text", ["no colon here\n", ": x\n", "name:\n", "a: :include:/x\n",
                                  "a: |\"cmd x\"\n", "a: b, c\n d\n", "owner-a: b\n"])
def test_postalias_source(world, text):
    def act(side):
        path = side.server.dir / "alias-source"
        path.write_text(text)
        settle(path)
        return ran(side, side.server.run("postalias", "lmdb:%s" % path))

    both(world, act)


# -- postfix -------------------------------------------------------------------------------------
@pytest.mark.parametrize("args", marked(
    [["status"], ["flush"], ["foo"], [], ["start"], ["reload"]], {
        "['foo']": "errors are told without a terminal too; the list of commands is its own",
        "[]": "prints its usage on stderr and does not log it",
        "['start']": "errors are told without a terminal too, and what this version does not act on",
        "['reload']": "tells and logs which services and parameters this version does not act on"}),
    ids=lambda a: " ".join(a) or "nothing")
def test_postfix(world, args):
    def act(side):
        since = side.server.log_size()
        done = side.server.run("postfix", *args)
        result = ran(side, done)
        if args == ["reload"]:
            side.server.wait_log(r"reload -- version", since=since)
        lines = [t for s, t in side.server.log_lines(since) if s in ("postfix-script", "master")]
        normal = side.normal()
        clean = lambda text: re.sub(r"PID: \d+", "PID: <PID>", re.sub(
            r"version \S+,", "version <VERSION>,", normal.text(text)))
        result = {k: [clean(line) for line in v] for k, v in result.items()}
        result["log"] = [clean(line) for line in lines]
        return result

    both(world, act)
