"""What we say to the next hop, and what becomes of each answer: log, mailq, bounce.

Every row has a next hop of its own. All messages are sent at once; then each row's session at
the next hop, log lines, queue listing and notices are compared.
"""

import json
import os
import re
import time

import pytest

from lib.dialogue import Smtp
from lib.sink import DROP, HANG, KEYWORDS, Slow
from world import SIDES, World, compare, delivered_lines, on_both, outcome, show

PLAIN = b"From: x@example.com\r\nMessage-ID: <1@example.com>\r\n" \
        b"Date: Mon, 01 Jan 2024 00:00:00 +0000\r\nSubject: s\r\n\r\nbody\r\n"
EIGHT = PLAIN + b"\xc3\xa4\xe4\r\n"
MIME8 = PLAIN.replace(b"Subject: s\r\n", b"Subject: s\r\nMIME-Version: 1.0\r\nContent-Type: "
                      b"text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n") \
    + "äöü = x \r\n".encode() + b"y" * 200 + b"\r\n"
MULTI8 = PLAIN.replace(b"Subject: s\r\n", b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed;"
                       b" boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n") + \
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" \
    b"\xc3\xa4\r\n--b\r\nContent-Type: text/plain\r\n\r\nplain\r\n--b--\r\n"


A8 = "Content-Transfer-Encoding: 8bit\r\n"


def mime(header, body):
    """A message with these MIME headers and this body, lines ended by a bare \\n in both."""
    return PLAIN.split(b"\r\n\r\n")[0] + b"\r\nMIME-Version: 1.0\r\n" + (header + "\n" + body).replace(
        "\r\n", "\n").replace("\n", "\r\n").encode()


SEVEN = {
    "the encoding stands first": mime(A8 + "Content-Type: text/plain\nX-Last: x\n", "ä\n"),
    "without a type": mime(A8, "ä\n"),
    "binary": mime("Content-Transfer-Encoding: Binary (comment)\n", "ä = \n"),
    "a comment in front, folded": mime("Content-Transfer-Encoding: (c (d))\n\t8bit\n", "ä\n"),
    "twice, 7bit last": mime(A8 + "Content-Transfer-Encoding: 7bit\n", "ä\n"),
    "twice, 8bit last": mime("Content-Transfer-Encoding: 7bit\n" + A8, "ä\n"),
    "an unknown encoding": mime("Content-Transfer-Encoding: x-odd\n", "ä\n"),
    "base64 stays": mime("Content-Transfer-Encoding: base64\n", "w6Q=\n"),
    "blanks and tabs at the ends of lines": mime(A8, "a \nb\t\n \n\t\n  c  \n\n"),
    "lines around the limit": mime(A8, "".join("x" * n + "\n" for n in range(70, 80)) + "".join(
        "x" * n + " \n" for n in range(70, 80)) + "".join("x" * n + "ä\n" for n in range(68, 78))),
    "a line of blanks": mime(A8, " " * 200 + "\n"),
    "long lines": mime(A8, "ab ä" * 1200 + "\n"),
    "dots": mime(A8, ".\n..\n" + "x" * 73 + ".\n"),
    "control bytes": mime(A8, "\x01\x7f\x0b\n"),
    "an empty body": mime(A8, ""),
    "a message in it": mime("Content-Type: message/rfc822\n" + A8, "Subject: ä\n" + A8 + "\nä\n"),
    "a message without its own encoding": mime("Content-Type: message/rfc822\n" + A8,
                                               "Subject: s\n\nä\n"),
    "an external body": mime("Content-Type: message/external-body; access-type=x\n" + A8, "x: ä\n\nä\n"),
    "a part of a message": mime("Content-Type: message/partial; id=1\n" + A8, "x: ä\n\nä\n"),
    "a delivery status": mime("Content-Type: message/delivery-status\n" + A8, "x: ä\n\ny: ä\n"),
    "a global message": mime("Content-Type: message/global\n" + A8, "Subject: ä\n\nä\n"),
    "a global message with its encoding": mime("Content-Type: message/global\n" + A8,
                                               "Subject: ä\n" + A8 + "\nä\n"),
    "a quoted boundary, comments": mime(
        "Content-Type: Multipart/Mixed (c); x=\"a;boundary=no\"; BOUNDARY = \"b \\\"c\"\n" + A8,
        "--b \"c\n" + A8 + "\nä\n--b \"c--\nepilogue ä\n"),
    "no boundary": mime("Content-Type: multipart/mixed\n" + A8, "ä\n--b\n" + A8 + "\nä\n"),
    "parts in parts": mime("Content-Type: multipart/mixed; boundary=a\n" + A8,
                           "preamble ä\n--a\nContent-Type: multipart/alternative; boundary=b\n\n--b\n" +
                           A8 + "\nä\n--b\n\nä undeclared\n--b--\nä between\n--a\n" + A8 +
                           "\nä\n--a--\nä after\n"),
    "an outer boundary ends inner parts": mime(
        "Content-Type: multipart/mixed; boundary=a\n" + A8, "--a\nContent-Type: multipart/mixed; "
        "boundary=b\n\n--b\n" + A8 + "\nä\n--a\n" + A8 + "\nä\n--b\nä\n--a--\n"),
    "one boundary begins another": mime(
        "Content-Type: multipart/mixed; boundary=a\n", "--a\nContent-Type: multipart/mixed; "
        "boundary=ab\n\n--ab\n" + A8 + "\nä\n--ab--\n--a--\n"),
    "a digest": mime("Content-Type: multipart/digest; boundary=a\n" + A8,
                     "--a\n\nSubject: s\n" + A8 + "\nä\n--a\nContent-Type: text/plain\n" + A8 + "\nä\n--a--\n"),
    "a part without a header": mime("Content-Type: multipart/mixed; boundary=a\n" + A8,
                                    "--a\nno header ä\n--a\n" + A8 + "no header ä\n--a--\n"),
    "a part that ends in its header": mime("Content-Type: multipart/mixed; boundary=a\n" + A8,
                                           "--a\n" + A8 + "--a--\n"),
}


def without(*names):
    return [k for k in KEYWORDS if k.split()[0] not in names]


# Postfix 3.7 quotes each byte of a UTF-8 sender in a notice (rfc822; "\\<byte>\\<byte>"@...), which
# is no address any more; Ringpost writes the form of RFC 6533 (utf-8; and the address itself).
UTF8_SENDER = "a UTF-8 sender stands in the notice as RFC 6533 says, not quoted byte by byte"


# RFC 2046 §5.2 and RFC 3464 allow these types no encoding but 7bit.
MESSAGE_TYPES = "Postfix codes the body as quoted-printable under a header that says 7bit; " \
    "Ringpost leaves it as it is"


class Row:
    def __init__(self, name, answers=None, keywords=KEYWORDS, rcpts=("b",), content=PLAIN,
                 mail="", rcpt="", sender=None, probe=False, known=None, port=None, lines=None):
        self.name, self.answers, self.keywords = name, answers or {}, keywords
        self.rcpts, self.content, self.mail, self.rcpt = rcpts, content, mail, rcpt
        self.sender, self.probe, self.known, self.port, self.lines = \
            sender, probe, known, port, lines


ROWS = [
    # what we say
    Row("a full next hop, pipelined", probe=True),
    Row("a full next hop, three recipients, pipelined", rcpts=("b", "c", "d"), probe=True),
    Row("no PIPELINING: one command at a time", keywords=without("PIPELINING"), rcpts=("b", "c"),
        probe=True),
    Row("no SIZE", keywords=without("SIZE")),
    Row("SIZE without a number", keywords=[*without("SIZE"), "SIZE"]),
    Row("no DSN", keywords=without("DSN"), mail=" RET=HDRS ENVID=e", rcpt=" NOTIFY=FAILURE"),
    Row("no DSN and NOTIFY=SUCCESS: a relayed notice", keywords=without("DSN"),
        mail=" ENVID=e", rcpt=" NOTIFY=SUCCESS"),
    Row("DSN parameters are handed on", mail=" RET=FULL ENVID=e+2Bf",
        rcpt=" NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;o@x.example"),
    Row("no keywords at all", keywords=[], rcpts=("b", "c")),
    Row("keywords in lower case", keywords=[k.lower() for k in KEYWORDS], mail=" BODY=8BITMIME",
        content=EIGHT),
    Row("EHLO refused, HELO taken", {"ehlo": "502 5.5.1 no EHLO"}),
    Row("EHLO and HELO refused for good", {"ehlo": "550 5.5.1 no", "helo": "550 5.5.1 go away"}),
    Row("EHLO and HELO refused for now", {"ehlo": "450 4.5.1 no", "helo": "450 4.5.1 later"}),
    Row("EHLO answered with one line", {"ehlo": "250 sink.example.net"}),
    Row("a banner without ESMTP", {"greeting": "220 sink.example.net hello"}),
    Row("a banner of several lines", {"greeting": "220-sink.example.net\r\n220-hello\r\n220 ready"}),
    Row("a banner with our own name", {"greeting": "220 mail.unix-power.net ESMTP"}),
    Row("EHLO answered with our own name", {"ehlo": "250-mail.unix-power.net\r\n250 PIPELINING"}),
    Row("8BITMIME announced", content=EIGHT, mail=" BODY=8BITMIME"),
    Row("8BITMIME announced, body 7BIT declared", content=PLAIN, mail=" BODY=7BIT"),
    Row("8-bit content without BODY", content=EIGHT),
    *[Row("Content-Transfer-Encoding: %s without BODY" % e, content=PLAIN.replace(
        b"Subject: s\r\n", b"Content-Transfer-Encoding: %s\r\n" % e.encode()))
      for e in ("7bit", "8BIT", "binary", "quoted-printable", "base64", "odd")],
    Row("Content-Transfer-Encoding: 7bit with BODY=8BITMIME", content=PLAIN.replace(
        b"Subject: s\r\n", b"Content-Transfer-Encoding: 7bit\r\n"), mail=" BODY=8BITMIME"),
    Row("Content-Transfer-Encoding: 8bit with BODY=7BIT", content=PLAIN.replace(
        b"Subject: s\r\n", b"Content-Transfer-Encoding: 8bit\r\n"), mail=" BODY=7BIT"),
    Row("SMTPUTF8 without 8BITMIME implies it", keywords=without("8BITMIME"), content=MIME8,
        mail=" BODY=8BITMIME"),
    Row("no 8BITMIME: text is made quoted-printable", keywords=without("8BITMIME", "SMTPUTF8"), content=MIME8,
        mail=" BODY=8BITMIME"),
    Row("no 8BITMIME: content without MIME headers", keywords=without("8BITMIME", "SMTPUTF8"), content=EIGHT,
        mail=" BODY=8BITMIME"),
    Row("no 8BITMIME: multipart is converted part by part", keywords=without("8BITMIME", "SMTPUTF8"),
        content=MULTI8, mail=" BODY=8BITMIME"),
    Row("no 8BITMIME and 8-bit content declared 7BIT", keywords=without("8BITMIME", "SMTPUTF8"), content=EIGHT),
    *[Row("no 8BITMIME: " + name, keywords=without("8BITMIME", "SMTPUTF8"), content=content,
          known=MESSAGE_TYPES if name in ("an external body", "a part of a message",
                                          "a delivery status") else None)
      for name, content in SEVEN.items()],
    Row("no 8BITMIME and BODY=7BIT: untouched", keywords=without("8BITMIME", "SMTPUTF8"),
        content=PLAIN, mail=" BODY=7BIT"),
    Row("no SMTPUTF8 for a message that needs it", keywords=without("SMTPUTF8"),
        content="Subject: ä\r\n\r\nx\r\n".encode(), mail=" SMTPUTF8", sender="ä@sender.example",
        known=UTF8_SENDER),
    Row("no SMTPUTF8 for a subject that needs it", keywords=without("SMTPUTF8"),
        content="Subject: ä\r\n\r\nx\r\n".encode(), mail=" SMTPUTF8"),
    Row("no SMTPUTF8 for a message that does not need it", keywords=without("SMTPUTF8"),
        mail=" SMTPUTF8"),
    Row("SMTPUTF8 is handed on", content="Subject: ä\r\n\r\nx\r\n".encode(), mail=" SMTPUTF8",
        sender="ä@sender.example"),
    Row("too large for the next hop", keywords=[*without("SIZE"), "SIZE 100"]),
    Row("AUTH and STARTTLS offered and not used", keywords=[*KEYWORDS, "AUTH PLAIN", "STARTTLS"]),
    Row("a null sender", sender=""),
    Row("dots at the start of lines", content=PLAIN + b"..\r\n...x\r\n"),
    Row("lines of 998, 999 and 2500 bytes", content=PLAIN + b"x" * 998 + b"\r\n" + b"y" * 999 +
        b"\r\n" + b"z" * 2500 + b"\r\n"),
    Row("fifty-one recipients make two deliveries", rcpts=tuple("r%d" % i for i in range(51))),
    Row("one hundred and twenty recipients", rcpts=tuple("r%d" % i for i in range(120))),

    # answers
    *[Row("%s at %s" % (reply, stage), {stage: reply}) for stage in
      ("greeting", "mail", "rcpt", "data", "dot") for reply in
      ("421 4.3.2 shutting down", "450 4.2.0 busy", "554 5.7.1 no, thanks")],
    *[Row("%s at %s without pipelining" % (reply, stage), {stage: reply},
          keywords=without("PIPELINING")) for stage in
      ("mail", "rcpt", "data", "dot") for reply in
      ("421 4.3.2 shutting down", "450 4.2.0 busy", "554 5.7.1 no, thanks")],
    *[Row("the connection drops at %s" % stage, {stage: DROP}) for stage in
      ("greeting", "ehlo", "mail", "rcpt", "data", "content", "dot", "quit")],
    *[Row("no answer at %s" % stage, {stage: HANG}) for stage in
      ("greeting", "ehlo", "mail", "rcpt", "data", "dot", "quit")],
    *[Row("no answer at %s without pipelining" % stage, {stage: HANG},
          keywords=without("PIPELINING")) for stage in ("mail", "rcpt", "data")],
    Row("the connection is refused", port=1),
    Row("one recipient of three refused", {"rcpt": ["250 2.1.5 Ok", "550 5.1.1 unknown",
                                                    "250 2.1.5 Ok"]}, rcpts=("b", "c", "d")),
    Row("one refused, one put off, one taken", {"rcpt": [
        "550 5.1.1 unknown", "450 4.2.0 greylisted", "250 2.1.5 Ok"]}, rcpts=("b", "c", "d")),
    Row("one refused, one put off, one taken, without pipelining", {"rcpt": [
        "550 5.1.1 unknown", "450 4.2.0 greylisted", "250 2.1.5 Ok"]}, rcpts=("b", "c", "d"),
        keywords=without("PIPELINING")),
    Row("all refused differently", {"rcpt": ["550 5.1.1 unknown", "551 5.1.6 moved",
                                             "552 5.2.2 full"]}, rcpts=("b", "c", "d")),
    Row("too many recipients 452 at the third", {"rcpt": [
        "250 2.1.5 Ok", "250 2.1.5 Ok", "452 4.5.3 too many"]}, rcpts=("b", "c", "d", "e")),
    Row("all recipients refused and DATA answered 354", {
        "rcpt": "550 5.1.1 unknown", "data": "354 go on "}),
    Row("one recipient taken and then 554 at the dot", {
        "rcpt": ["250 Ok", "550 5.1.1 unknown"], "dot": "554 5.6.0 bad content"}, rcpts=("b", "c")),
    Row("a reply without an enhanced code", {"rcpt": "550 unknown user"}),
    Row("a 4xx reply without an enhanced code", {"rcpt": "450 try later"}),
    Row("an enhanced code of the wrong class", {"rcpt": "550 4.1.1 odd"}),
    Row("a reply of several lines", {"rcpt": "550-5.1.1 no such user\r\n550-5.1.1 here\r\n"
                                            "550 5.1.1 at all"}),
    Row("several lines with different codes", {"rcpt": "450-4.1.1 a\r\n550 5.1.1 b"}),
    Row("a very long reply", {"rcpt": "550 5.1.1 " + "long " * 400}),
    Row("a reply with 8-bit and control bytes", {"rcpt": "550 5.1.1 \u00e4\t\x07 bell"}),
    Row("a reply of the code alone", {"rcpt": "550 "}),
    Row("a reply without any text behind 250 at the dot", {"dot": "250 "}),
    Row("a 2xx at DATA instead of 354", {"data": "250 2.0.0 Ok"}),
    Row("a 354 at MAIL", {"mail": "354 what"}),
    Row("251 at RCPT", {"rcpt": "251 2.1.5 will forward"}),
    Row("252 at RCPT", {"rcpt": "252 2.1.5 cannot verify"}),
    Row("rubbish instead of a greeting", {"greeting": "250 hello"}),
    Row("552 at RCPT is for now or for good", {"rcpt": "552 5.2.2 full"}),
    Row("the sink is slow but in time", {"dot": Slow(0.7, "250 2.0.0 Ok")}),

    # notices
    Row("NOTIFY=NEVER and a refusal: no notice", {"rcpt": "550 5.1.1 unknown"},
        rcpt=" NOTIFY=NEVER"),
    Row("NOTIFY=SUCCESS and a refusal: no notice", {"rcpt": "550 5.1.1 unknown"},
        rcpt=" NOTIFY=SUCCESS"),
    Row("NOTIFY=FAILURE, RET=HDRS: headers only", {"rcpt": "550 5.1.1 unknown"},
        mail=" RET=HDRS", rcpt=" NOTIFY=FAILURE"),
    Row("RET=FULL, ENVID and ORCPT in the notice", {"rcpt": "550 5.1.1 unknown"},
        mail=" RET=FULL ENVID=my+2Bid", rcpt=" ORCPT=rfc822;orig+2B1@x.example"),
    Row("a null sender's bounce is dropped", {"rcpt": "550 5.1.1 unknown"}, sender=""),
    Row("a bounce of an 8-bit message", {"rcpt": "550 5.1.1 unknown"}, content=MIME8,
        mail=" BODY=8BITMIME"),
    Row("a bounce of an SMTPUTF8 message", {"rcpt": "550 5.1.1 unknown"},
        content="Subject: ä\r\n\r\nx\r\n".encode(), mail=" SMTPUTF8", sender="ä@sender.example",
        known=UTF8_SENDER),
    Row("a bounce of an SMTPUTF8 message to a plain sender", {"rcpt": "550 5.1.1 unknown"},
        content="Subject: ä\r\n\r\nx\r\n".encode(), mail=" SMTPUTF8"),
    Row("a bounce for a UTF-8 recipient", {"rcpt": "550 5.1.1 unknown"},
        content="Subject: ä\r\n\r\nx\r\n".encode(), mail=" SMTPUTF8", rcpts=("ö",)),
    Row("a bounce of a large message is cut", {"rcpt": "550 5.1.1 unknown"},
        content=PLAIN + b"0123456789\r\n" * 6000),
    Row("a bounce for two recipients", {"rcpt": "550 5.1.1 unknown"}, rcpts=("b", "c")),
    Row("a bounce to a bare sender", {"rcpt": "550 5.1.1 unknown"}, sender="joe"),
]

TIMEOUTS = {"smtp_%s_timeout" % n: "2s" for n in
            ("connect", "helo", "mail", "rcpt", "data_init", "data_xfer", "data_done", "quit",
             "rset", "xforward")}


def domain(index):
    return "row%d.example" % index


@pytest.fixture(scope="module")
def world():
    routes = "".join("%s smtp:[127.0.0.1]:%s\n" % (
        domain(i), row.port or "@SINK:row%d@" % i) for i, row in enumerate(ROWS))
    sinks = {"default": {}}
    for i, row in enumerate(ROWS):
        sinks["row%d" % i] = dict(answers=row.answers, keywords=row.keywords,
                                  probe_pipelining=row.probe)
    with World(params={**TIMEOUTS, "transport_maps": "texthash:@DIR@/routes",
                       "local_transport": "smtp:[127.0.0.1]:@SINK:default@",
                       "smtpd_client_event_limit_exceptions": "static:all",
                       # A second attempt within the test would add lines to the log.
                       "queue_run_delay": "1000s",
                       "smtp_connection_cache_on_demand": "no",
                       "bounce_size_limit": "50000"},
               files={"routes": routes}, sinks=sinks) as one:
        one.ids = on_both(lambda side: [send(side, i, row) for i, row in enumerate(ROWS)],
                          one.sides)
        yield one


def send(side, index, row):
    sender = "from%d@sender.example" % index if row.sender is None else row.sender
    with Smtp(side.server.port) as peer:
        peer.expect(220)
        peer.command("EHLO client.example.org", 250)
        peer.command("MAIL FROM:<%s>%s" % (sender, row.mail), 250)
        for name in row.rcpts:
            peer.command("RCPT TO:<%s@%s>%s" % (name, domain(index), row.rcpt), 250)
        peer.command("DATA", 354)
        reply = peer.data(row.content)
        peer.command("QUIT")
    assert reply.code == 250, reply.text
    return re.search(r"queued as (\S+)", reply.text)[1]


def no_sizes(text):
    return re.sub(r"SIZE=\d+", "SIZE=<N>", text)


def gather(world, number, index, row):
    """Everything one side made of a row, normalised."""
    side, qid = world.sides[number], world.ids[number][index]
    log, mails = outcome(side, qid)
    sink = side.sinks["row%d" % index]
    normal = side.normal(side.server.log())
    limit = time.monotonic() + 4
    while any(s.ended is None for s in sink.sessions) and time.monotonic() < limit and \
            HANG not in row.answers.values():
        time.sleep(0.02)
    result = {"log": normal.log(log)}
    for n, session in enumerate(sorted(sink.sessions, key=lambda s: s.commands), 1):
        commands = [normal.text(no_sizes(c)) for c in session.commands]
        if row.probe:
            commands = ["%s%s" % (c, "   (more was waiting)" if a else "")
                        for c, a in zip(commands, session.ahead)]
        result["commands of session %d" % n] = commands
    result["deliveries"] = [line for mail in mails for line in delivered_lines(normal, mail)]
    if any("status=deferred" in line for line in log):
        result["mailq"] = normal.lines(mailq_entry(side.server, qid))
        result["postqueue -j"] = normal.lines(json_entry(side.server, qid))
    return result


def mailq_entry(server, qid):
    """The lines of one message, columns squeezed: the id's width may differ."""
    text = cached(server, "-p")
    found = re.search(r"(?ms)^%s\b.*?(?=^\S|^$)" % qid, text)
    if not found:
        return ["(not listed)"]
    rows = found[0].rstrip().splitlines()
    head = re.sub(r"\s+", " ", rows[0])
    head = re.sub(r"^(\S+) \d+ ", r"\1 <SIZE> ", head)
    return [head, *sorted(rows[1:])]


def json_entry(server, qid):
    for line in cached(server, "-j").splitlines():
        data = json.loads(line)
        if data["queue_id"] == qid:
            data["message_size"] = data["arrival_time"] = 0
            data["recipients"].sort(key=lambda r: r["address"])
            return [json.dumps(data)]
    return ["(not listed)"]


def cached(server, option):
    """One listing a server: taken when every row has its outcome."""
    store = server.__dict__.setdefault("listings", {})
    if option not in store:
        store[option] = server.run("postqueue", option, check=True).stdout
    return store[option]


@pytest.fixture(scope="module")
def settled(world):
    on_both(lambda n: [outcome(world.sides[n], q) for q in world.ids[n]], (0, 1))
    return world


def parameters():
    names = [r.name for r in ROWS]
    assert len(set(names)) == len(names)
    for index, row in enumerate(ROWS):
        marks = [pytest.mark.xfail(strict=True, reason=row.known)] \
            if row.known and SIDES[1] == "ringpost" else []
        yield pytest.param(index, id=re.sub(r"[^\w .,=<>@/+-]", "_", row.name), marks=marks)


@pytest.mark.parametrize("index", parameters())
def test_next_hop(settled, index):
    row = ROWS[index]
    left, right = on_both(lambda n: gather(settled, n, index, row), (0, 1))
    if os.environ.get("RINGPOST_PARITY_SHOW"):
        with open(os.environ["RINGPOST_PARITY_SHOW"], "a") as handle:
            show(handle, row.name, left)
    compare(left, right)
