"""What happens to the content: missing headers, line ends, long lines, strange bytes, dots.

Compared are the reply, the log and the exact bytes that arrive at the next hop.
"""

import re

import pytest

from lib.dialogue import Block, Data, Drop
from world import (STRANGER, World, case, compare, envelope, hello, log_of, message, on_both, rows,
                   wait_final)

SERVICES = {
    "smtp": {},
    "normalize": {"smtpd_forbid_bare_newline": "normalize",
                  "smtpd_forbid_bare_newline_exclusions": ""},
    "reject": {"smtpd_forbid_bare_newline": "reject", "smtpd_forbid_bare_newline_exclusions": ""},
    "no": {"smtpd_forbid_bare_newline": "no"},
    "excluded": {"smtpd_forbid_bare_newline": "reject",
                 "smtpd_forbid_bare_newline_exclusions": "$mynetworks"},
    "code": {"smtpd_forbid_bare_newline": "reject", "smtpd_forbid_bare_newline_exclusions": "",
             "smtpd_forbid_bare_newline_reject_code": "521"},
}
PARAMS = {
    "message_size_limit": "300000",
    "header_size_limit": "20480",
    # Postfix before 3.9 takes bare line ends by default and Ringpost's default is normalize; here
    # the choice is stated, so that both do the same.
    "smtpd_forbid_bare_newline": "no",
}

HEAD = b"From: a@example.com\r\nTo: b@dest.example\r\nDate: Mon, 01 Jan 2024 00:00:00 +0000\r\n" \
       b"Message-ID: <1@example.com>\r\nSubject: s\r\n"
FULL = HEAD + b"\r\n"


def bare(service, label, content, *after, replies=1):
    return case("bare newline %s: %s" % (service, label), *envelope(), "DATA",
                Block(content, replies), *after, service=service)


SMUGGLE = b"mail from:<evil@example.com>\r\nrcpt to:<evil@dest.example>\r\ndata\r\n" \
          b"Subject: smuggled\r\n\r\nevil\r\n.\r\n"

CASES = [
    # headers that are missing
    case("a message without any header", *message(b"hello\r\n")),
    case("an empty message", *message(b"")),
    case("a message of one empty line", *message(b"\r\n")),
    case("a message of headers only", *message(b"Subject: x\r\n")),
    case("all headers present", *message(FULL + b"body\r\n")),
    case("no Message-Id", *message(HEAD.replace(b"Message-ID: <1@example.com>\r\n", b"") +
                                   b"\r\nbody\r\n")),
    case("no Date", *message(b"From: a@example.com\r\nMessage-ID: <1@x>\r\n\r\nbody\r\n")),
    case("no From", *message(b"Date: Mon, 01 Jan 2024 00:00:00 +0000\r\n\r\nbody\r\n")),
    case("no To: undisclosed recipients are not invented",
         *message(b"From: a@example.com\r\n\r\nbody\r\n")),
    case("a null sender without From", *hello(
        "MAIL FROM:<>", "RCPT TO:<b@dest.example>", "DATA", Data(b"Subject: x\r\n\r\nb\r\n"))),
    case("a stranger's message gets no headers", *hello(
        "MAIL FROM:<a@example.com>", "RCPT TO:<b@relay.example>", "DATA",
        Data(b"Subject: x\r\n\r\nb\r\n")), source=STRANGER),
    case("a stranger's message without any header", *hello(
        "MAIL FROM:<a@example.com>", "RCPT TO:<b@relay.example>", "DATA", Data(b"hello\r\n")),
        source=STRANGER),
    case("empty headers count as present or not", *message(
        b"From:\r\nDate:\r\nMessage-Id:\r\nSubject:\r\n\r\nbody\r\n")),
    case("Resent headers", *message(b"Resent-From: r@example.com\r\nResent-To: b@dest.example\r\n"
                                    + FULL + b"body\r\n")),
    case("Bcc is taken out", *message(HEAD + b"Bcc: secret@dest.example\r\n\r\nbody\r\n")),
    case("Return-Path is taken out", *message(b"Return-Path: <x@y>\r\n" + FULL + b"body\r\n")),
    case("Content-Length is taken out", *message(HEAD + b"Content-Length: 5\r\n\r\nbody\r\n")),
    case("Apparently-To stays", *message(HEAD + b"Apparently-To: x@y.example\r\n\r\nbody\r\n")),
    case("mbox From line is dropped", *message(b"From a@b Mon Jan 1 2024\r\n" + FULL + b"b\r\n")),
    case("quoted mbox From line", *message(b">From a@b Mon Jan 1 2024\r\n" + FULL + b"b\r\n")),
    case("Mime header lines pass", *message(
        HEAD + b"MIME-Version: 1.0\r\nContent-Type: text/plain;\r\n charset=utf-8\r\n\r\nb\r\n")),
    case("headers complete their addresses by myorigin and mydomain", *message(
        b"From: joe\r\nTo: bob@host, \"A, B\" <carl>\r\nCc: list: x, y@z.example;\r\n"
        b"Reply-To: Joe <joe>\r\nSender: joe (Joe)\r\n\r\nbody\r\n")),
    case("addresses in headers in odd forms", *message(
        b"From: <@a.example,@b.example:joe@c.example>\r\nTo: joe%c.example@unix-power.net,\r\n"
        b" a!b, \"q u\"@d.example, <>, @, <bad\r\n\r\nbody\r\n")),
    case("addresses that are no more than an @", *message(
        b"To: @\r\nCc: a@, @, b@c\r\nReply-To: x@c.example, @\r\n" + FULL + b"b\r\n")),
    case("several header blanks and tabs", *message(
        b"Subject:  two blanks\r\nX-Tab:\tx\r\nX-Empty: \r\nX-None:\r\n" + FULL + b"b\r\n")),
    case("a header with a blank before the colon", *message(
        b"Subject : x\r\nFrom : y@z.example\r\n\r\nbody\r\n")),
    case("a line without colon ends the headers", *message(
        b"Subject: x\r\nthis is no header\r\nX: y\r\n\r\nbody\r\n")),
    case("a colon alone ends the headers", *message(b"Subject: x\r\n: y\r\n\r\nbody\r\n")),
    case("8-bit bytes in a header name", *message(b"Subject: x\r\nX-\xe4: y\r\n\r\nbody\r\n")),
    case("a folded header", *message(b"Subject: a\r\n b\r\n\tc\r\n" + FULL + b"b\r\n")),
    case("a continuation line of blanks alone", *message(b"Subject: a\r\n   \r\nX: b\r\n\r\nb\r\n")),
    case("a message that begins with a continuation line", *message(b" x\r\nSubject: a\r\n\r\nb\r\n")),
    case("two mbox From lines, the second quoted and folded", *message(
        b"From a\r\n>From b\r\n c\r\n" + FULL + b"b\r\n")),
    case("a chunk that begins with a mbox From line", *envelope(),
         Block(b"BDAT 40 LAST\r\nFrom a b\r\n x: y\r\nSubject: yes\r\n\r\nbbbbb\r\n")),
    case("a chunk that begins with a continuation line", *envelope(),
         Block(b"BDAT 26 LAST\r\n x: y\r\nSubject: yes\r\n\r\nb\r\n")),
    case("a message that begins with a tab line", *message(b"\tx: y\r\nSubject: a\r\n\r\nb\r\n")),
    case("repeated headers", *message(b"Subject: a\r\nSubject: b\r\n" + FULL + b"b\r\n")),
    case("Received lines stay in order", *message(b"Received: from x by y; z\r\n" + FULL + b"b\r\n")),
    case("Delivered-To passes", *message(b"Delivered-To: b@dest.example\r\n" + FULL + b"b\r\n")),

    # Received: by protocol and recipients
    case("Received after HELO says SMTP", "HELO client.example.org", "MAIL FROM:<a@example.com>",
         "RCPT TO:<b@dest.example>", "DATA", Data(FULL + b"b\r\n")),
    case("Received without HELO", "MAIL FROM:<a@example.com>",
         "RCPT TO:<b@dest.example>", "DATA", Data(FULL + b"b\r\n")),
    case("Received with an address literal as name", "EHLO [127.0.0.1]",
         "MAIL FROM:<a@example.com>", "RCPT TO:<b@dest.example>", "DATA", Data(FULL + b"b\r\n")),
    case("Received with a strange HELO name", "EHLO a<b>c(d)\\e\"f", "MAIL FROM:<a@example.com>",
         "RCPT TO:<b@dest.example>", "DATA", Data(FULL + b"b\r\n")),
    case("Received for two recipients has no for", *envelope(
        "a@example.com", "b@dest.example", "c@dest.example"), "DATA", Data(FULL + b"b\r\n")),
    case("Received from a stranger", *hello(
        "MAIL FROM:<a@example.com>", "RCPT TO:<b@relay.example>", "DATA", Data(FULL + b"b\r\n")),
        source=STRANGER),
    case("Received with SMTPUTF8 says UTF8SMTP", *hello(
        "MAIL FROM:<a@example.com> SMTPUTF8", "RCPT TO:<b@dest.example>", "DATA",
        Data("Subject: ä\r\n\r\nb\r\n".encode()))),
    case("Received with one refused and one good recipient", *hello(
        "MAIL FROM:<a@example.com>", "RCPT TO:<x@elsewhere.example>", "RCPT TO:<b@relay.example>",
        "DATA", Data(FULL + b"b\r\n")), source=STRANGER),
    case("Received with a folded long recipient", *envelope(
        "a@example.com", "b" * 64 + "@" + "d" * 60 + ".example"), "DATA", Data(FULL + b"b\r\n")),

    # hop count
    case("fifty Received lines are a loop", *message(b"Received: x\r\n" * 50 + FULL + b"b\r\n")),
    case("forty-nine Received lines are not", *message(b"Received: x\r\n" * 49 + FULL + b"b\r\n")),
    case("fifty-one Received lines are a loop", *message(b"Received: x\r\n" * 51 + FULL + b"b\r\n")),

    # long things
    case("a body line of 990 bytes", *message(FULL + b"x" * 990 + b"\r\n")),
    case("a body line of 998 bytes", *message(FULL + b"x" * 998 + b"\r\n")),
    case("a body line of 999 bytes", *message(FULL + b"x" * 999 + b"\r\n")),
    case("a body line of 2048 bytes", *message(FULL + b"x" * 2048 + b"\r\n")),
    case("a body line of 2049 bytes", *message(FULL + b"x" * 2049 + b"\r\n")),
    case("a body line of 10000 bytes", *message(FULL + b"x" * 10000 + b"\r\nend\r\n")),
    case("a body line of 10000 bytes that begins with a dot", *message(
        FULL + b".." + b"x" * 10000 + b"\r\nend\r\n")),
    case("a header line of 1500 bytes", *message(b"X-Long: " + b"x" * 1500 + b"\r\n" + FULL +
                                                 b"b\r\n")),
    case("a header line of 10000 bytes", *message(b"X-Long: " + b"x" * 10000 + b"\r\n" + FULL +
                                                  b"b\r\n")),
    case("a header beyond header_size_limit", *message(b"X-Long: " + b"x" * 30000 + b"\r\n" + FULL +
                                                       b"b\r\n")),
    case("a folded header beyond header_size_limit", *message(
        b"X-Long: a\r\n" + b" 0123456789abcdef0123456789abcdef\r\n" * 900 + FULL + b"b\r\n")),
    case("a folded line that goes past header_size_limit", *message(
        b"X-Long: " + b"x" * 20400 + b"\r\n " + b"y" * 200 + b"\r\n z\r\n" + FULL + b"b\r\n")),
    case("a header of exactly header_size_limit", *message(
        b"X-Long: " + b"x" * 20472 + b"\r\n z\r\n" + FULL + b"b\r\n")),
    case("two thousand headers", *message(
        b"".join(b"X-%d: y\r\n" % i for i in range(2000)) + FULL + b"b\r\n")),
    case("an address header of many addresses", *message(
        b"To: " + b",\r\n ".join(b"user%d@example.com" % i for i in range(200)) + b"\r\n" + FULL +
        b"b\r\n")),
    case("a message beyond the size limit", *message(
        FULL + (b"x" * 76 + b"\r\n") * 4000), "NOOP", timeout=20),
    case("endless headers beyond the size limit", *message(
        (b"X-Endless: y" + b"z" * 60 + b"\r\n") * 5000), "NOOP", timeout=20),
    case("a message declared too large", *hello("MAIL FROM:<a@example.com> SIZE=300001")),
    case("a message declared small that is too large", *hello(
        "MAIL FROM:<a@example.com> SIZE=100", "RCPT TO:<b@dest.example>", "DATA",
        Data(FULL + (b"x" * 76 + b"\r\n") * 4000)), timeout=20),

    # strange bytes
    case("NUL in the body", *message(FULL + b"a\x00b\r\n")),
    case("NUL in a header", *message(b"X-Nul: a\x00b\r\n" + FULL + b"b\r\n")),
    case("8-bit bytes in the body without BODY=8BITMIME", *message(FULL + b"\xe4\xf6\xfc\r\n")),
    case("8-bit bytes in a header", *message(b"X-8: \xe4\r\n" + FULL + b"b\r\n")),
    case("UTF-8 in a header without SMTPUTF8", *message("X-8: ä\r\n".encode() + FULL + b"b\r\n")),
    case("all byte values but CR and LF in the body", *message(
        FULL + bytes(c for c in range(256) if c not in (10, 13)) + b"\r\n")),
    case("a body without final line end is not possible, a dot line inside is quoted",
         *message(FULL + b"..\r\n...\r\n..x\r\n")),
    case("a lone unquoted dot word at a line's start", *message(FULL + b".x\r\n.\x00\r\n")),
    case("trailing blanks stay", *message(FULL + b"x  \r\n\t\r\n \r\n")),
    case("trailing empty lines stay", *message(FULL + b"x\r\n\r\n\r\n")),

    # bare CR and LF. Where a lone LF may end the content, what follows is answered as commands:
    # hence the numbers of replies.
    *[bare("no", label, content) for label, content in (
        ("LF lines", b"Subject: x\n\na\nb\n.\r\n"), ("CR in a line", FULL + b"a\rb\r\n.\r\n"),
        ("CR CR LF, then the dot", FULL + b"a\r\r\n.\r\n"))],
    *[bare(mode, "LF dot LF", FULL + b"a\n.\nb\r\n.\r\n", replies=replies)
      for mode, replies in (("normalize", 1), ("reject", 1), ("no", 3), ("excluded", 3))],
    *[bare(mode, "LF dot CRLF", FULL + b"a\n.\r\nNOOP\r\n" + tail, replies=replies)
      for mode, replies, tail in (("normalize", 1, b".\r\n"), ("reject", 1, b".\r\n"),
                                  ("no", 2, b""), ("excluded", 2, b""))],
    *[bare(mode, "CRLF dot LF", FULL + b"a\r\n.\nNOOP\r\n.\r\n", replies=replies)
      for mode, replies in (("normalize", 1), ("reject", 1), ("no", 3))],
    *[bare(mode, "CR dot CRLF", FULL + b"a\r.\r\nb\r\n.\r\n")
      for mode in ("normalize", "no", "reject")],
    *[bare(mode, "CR dot CR", FULL + b"a\r.\rb\r\n.\r\n")
      for mode in ("normalize", "no", "reject")],
    *[bare(mode, "CRLF dot CR", FULL + b"a\r\n.\rb\r\n.\r\n")
      for mode in ("normalize", "no", "reject")],
    *[bare(mode, "CRLF dot CR CRLF", FULL + b"a\r\n.\r\r\nNOOP\r\n" + tail, replies=replies)
      for mode, replies, tail in (("normalize", 1, b".\r\n"), ("reject", 1, b".\r\n"),
                                  ("no", 2, b""))],
    *[bare(mode, "CRLF dot NUL CRLF", FULL + b"a\r\n.\x00\r\nb\r\n.\r\n")
      for mode in ("normalize", "no", "reject")],
    *[bare(mode, "LF in headers", b"Subject: x\nX-A: b\r\n\r\nbody\r\n.\r\n")
      for mode in ("normalize", "no", "reject")],
    *[bare(mode, "LF in the body", FULL + b"a\nb\r\n.\r\n")
      for mode in ("normalize", "no", "reject", "excluded", "code")],
    *[bare(mode, "smuggling behind %s" % label, FULL + b"one" + gap + SMUGGLE, replies=replies)
      for mode, label, gap, replies in (
          ("normalize", "CRLF dot LF", b"\r\n.\n", 1), ("no", "CRLF dot LF", b"\r\n.\n", 5),
          ("normalize", "LF dot CRLF", b"\n.\r\n", 1), ("no", "LF dot CRLF", b"\n.\r\n", 5),
          ("normalize", "LF dot LF", b"\n.\n", 1), ("reject", "LF dot LF", b"\n.\n", 1),
          ("normalize", "CR dot CR", b"\r.\r", 1), ("no", "CR dot CR", b"\r.\r", 1))],
    case("bare newline reject: a command with bare LF", b"EHLO a\n", b"NOOP\n", service="reject"),
    case("bare newline normalize: a command with bare LF", b"EHLO a\n", b"NOOP\n",
         service="normalize"),
    case("bare newline reject: RCPT with bare LF", *hello(
        "MAIL FROM:<a@example.com>", b"RCPT TO:<b@dest.example>\n"), service="reject"),
    case("bare newline reject: BDAT with bare LF in its content", *envelope(),
         Block(b"BDAT 14 LAST\r\nSubject: b\n\nb\n"), service="reject"),
    case("bare newline normalize: BDAT with bare LF in its content", *envelope(),
         Block(b"BDAT 14 LAST\r\nSubject: b\n\nb\n"), service="normalize"),
]


@pytest.fixture(scope="module")
def world():
    with World(params={**PARAMS, "relay_domains": "relay.example",
                       "relay_recipient_maps": "",
                       "relay_transport": "smtp:[127.0.0.1]:@SINK:default@"},
               services=SERVICES) as one:
        yield one


@pytest.mark.parametrize("one", rows(CASES))
def test_content(world, one):
    world.check(one)


SIZES = {
    "short lines": b"Subject: s\r\n\r\n" + b"0123456789\r\n" * 20,
    "lines of 127 bytes": b"Subject: s\r\n\r\n" + (b"x" * 127 + b"\r\n") * 10,
    "lines of 128 bytes": b"Subject: s\r\n\r\n" + (b"x" * 128 + b"\r\n") * 10,
    "lines of 500 bytes": b"Subject: s\r\n\r\n" + (b"x" * 500 + b"\r\n") * 10,
    "lines beginning with a dot": b"Subject: s\r\n\r\n" + b"..x\r\n" * 10,
    "a line of 5000 bytes": b"Subject: s\r\n\r\n" + b"x" * 5000 + b"\r\n",
}


@pytest.mark.parametrize("label", SIZES)
def test_size_in_the_log(world, label):
    """size= counts Postfix's queue file records; the id's length is taken off, it may differ."""
    def size(side):
        qid = side.server.submit("a@example.com", ["b@dest.example"], SIZES[label].replace(
            b"\r\n..", b"\r\n."))
        wait_final(side.server, qid)
        log = "\n".join(text for _, text in log_of(side.server, qid))
        mail = side.sinks["default"].find(qid.encode())[0]
        times = mail.raw.count(qid.encode())
        wire = int(re.search(r"SIZE=(\d+)", mail.mail)[1]) - times * len(qid)
        return {"size": ["size=%d" % (int(re.search(r"size=(\d+)", log)[1]) - times * len(qid)),
                         "SIZE=%d to the next hop" % wire]}

    compare(*on_both(size, world.sides))
