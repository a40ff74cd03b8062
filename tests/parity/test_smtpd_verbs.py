"""Every verb: its forms, its syntax errors, its order, and the parameters of MAIL and RCPT."""

import pytest

from lib.dialogue import Block, Data, Drop, Pause, Reset
from world import STRANGER, World, case, envelope, hello, message, rows

SERVICES = {
    "smtp": {},
    "helo": {"smtpd_helo_required": "yes"},
    "strict": {"strict_rfc821_envelopes": "yes"},
    "novrfy": {"disable_vrfy_command": "yes"},
    "discard": {"smtpd_discard_ehlo_keywords": "dsn, silent-discard"},
    "discardlog": {"smtpd_discard_ehlo_keywords": "chunking, smtputf8"},
    "discardall": {"smtpd_discard_ehlo_keywords":
                   "pipelining size vrfy etrn 8bitmime enhancedstatuscodes dsn smtputf8 chunking"},
    "banner": {"smtpd_banner": "$myhostname ESMTP NO UCE"},
    "noutf8": {"smtputf8_enable": "no"},
    "noop": {"smtpd_noop_commands": "xnoop", "smtpd_forbidden_commands": "GET POST BREAK"},
    "footer": {"smtpd_reject_footer": "\\c. Contact postmaster"},
    "footer2": {"smtpd_reject_footer": "For help, call 1"},
    "delay": {"smtpd_delay_open_until_valid_rcpt": "no"},
    "softbounce": {"soft_bounce": "yes"},
    "sizeless": {"message_size_limit": "0"},
    "delayreject": {"smtpd_delay_reject": "no", "smtpd_client_restrictions": "reject"},
    "helorestrict": {"smtpd_helo_restrictions":
                     "reject_invalid_helo_hostname reject_non_fqdn_helo_hostname"},
}

MAIL = "MAIL FROM:<a@example.com>"
RCPT = "RCPT TO:<b@dest.example>"


def after_mail(*steps):
    return hello(MAIL, *steps)


CASES = [
    # greeting, HELO, EHLO
    case("the greeting names us and QUIT ends the session", "QUIT"),
    case("EHLO lists the keywords in order", "EHLO client.example.org"),
    case("HELO answers with our name alone", "HELO client.example.org"),
    case("HELO without a name", "HELO"),
    case("EHLO without a name", "EHLO"),
    case("HELO with two words", "HELO a b"),
    case("EHLO with two words", "EHLO a b"),
    case("HELO with a blank behind", "HELO a "),
    case("EHLO with a quoted name", 'EHLO "a b"'),
    case("EHLO in lower case", "ehlo client.example.org"),
    case("EHLO with odd characters in the name is logged clean", "EHLO <a>(b)[c]", MAIL, RCPT),
    case("EHLO with an address literal", "EHLO [127.0.0.1]"),
    case("EHLO with an IPv6 literal", "EHLO [IPv6:::1]"),
    case("EHLO with 8-bit bytes", b"EHLO \xc3\xa4.example\r\n"),
    case("EHLO with a name of 600 bytes", "EHLO " + "a" * 600),
    case("EHLO twice", "EHLO a.example", "EHLO b.example"),
    case("HELO after EHLO turns DSN parameters off or not", "EHLO a", "HELO b",
         MAIL + " RET=HDRS"),
    case("EHLO in the middle of a transaction resets it", *after_mail("EHLO x", RCPT)),
    case("HELO in the middle of a transaction resets it", *after_mail("HELO x", RCPT)),
    case("MAIL without HELO is taken", MAIL, RCPT),
    case("MAIL without HELO where HELO is required", MAIL, RCPT, "HELO a", MAIL, service="helo"),
    case("another banner", "QUIT", service="banner"),
    case("discarded keyword dsn", *hello(), service="discard"),
    case("discarded keywords are logged", *hello(), service="discardlog"),
    case("all keywords discarded", *hello(), service="discardall"),
    case("no SMTPUTF8 when it is switched off", *hello(), service="noutf8"),
    case("SIZE without a limit", *hello(), service="sizeless"),
    case("client restrictions without delay answer at the greeting", "EHLO a", MAIL, "NOOP",
         "HELP", service="delayreject"),
    case("HELO restrictions: malformed name", "EHLO a_b..c", MAIL, RCPT, service="helorestrict"),
    case("HELO restrictions: not fully qualified", "EHLO host", MAIL, RCPT,
         service="helorestrict"),

    # unknown, malformed and forbidden
    case("an unknown command", "FOO"),
    case("an unknown command with arguments", "FOO BAR baz <x>"),
    case("an empty line", b"\r\n"),
    case("three empty lines", b"\r\n\r\n\r\n"),
    case("a line of blanks", b"   \r\n"),
    case("a command behind blanks", b"  NOOP\r\n"),
    case("a command behind a tab", b"\tNOOP\r\n"),
    case("a command with a tab as separator", b"HELO\tclient\r\n"),
    case("verbs in mixed case", "eHlO a", "mAiL fRoM:<a@b.example>", "rCpT tO:<b@dest.example>",
         "rSeT", "nOoP", "qUiT"),
    case("bare LF ends a command", b"EHLO a\n", b"NOOP\n"),
    case("bare CR inside a command", b"NO\rOP\r\n"),
    case("CR CR LF ends a command", b"NOOP\r\r\n"),
    case("NUL inside a command", b"NO\x00OP\r\n"),
    case("NUL behind a command", b"NOOP\x00 x\r\n"),
    case("8-bit bytes as a command", b"\xff\xfe\xfd\r\n"),
    case("8-bit bytes in NOOP's argument", b"NOOP \xe4\r\n"),
    case("control characters in a command", b"NOOP \x01\x02\x7f\r\n"),
    case("CONNECT is forbidden", "CONNECT 10.0.0.1:25 HTTP/1.0"),
    case("GET is forbidden", "GET / HTTP/1.0"),
    case("POST is forbidden", "POST /x"),
    case("get in lower case is forbidden", "get /"),
    case("a header line as a command is forbidden", "Subject: hello"),
    case("a header line with a blank before the colon", "Subject : hello"),
    case("a line that begins with a digit", "123"),
    case("a line that begins with <", "<a@b>"),
    case("GETX is not GET", "GETX"),
    case("an own forbidden command", "BREAK", service="noop"),
    case("CONNECT where it is not on the list", "CONNECT x", service="noop"),
    case("an own no-operation command", "XNOOP a", service="noop"),
    case("STARTTLS when TLS is off", *hello("STARTTLS")),
    case("AUTH when SASL is off", *hello("AUTH PLAIN AGEAYg==")),
    case("AUTH without an argument", *hello("AUTH")),
    case("XCLIENT from a stranger to it", *hello("XCLIENT ADDR=1.2.3.4")),
    case("XFORWARD from a stranger to it", *hello("XFORWARD NAME=x")),
    case("TURN", "TURN"), case("SEND", "SEND FROM:<a@b>"), case("SAML", "SAML FROM:<a@b>"),
    case("EXPN", "EXPN root"),
    case("ETRN without HELO", "ETRN example.com"),
    case("ETRN without an argument", *hello("ETRN")),
    case("ETRN for a domain we do not relay for", *hello("ETRN unknown.example")),
    case("ETRN with a bad name", *hello("ETRN a..b")),
    case("HELP", "HELP"), case("HELP with an argument", "HELP MAIL"),
    case("NOOP with and without an argument", "NOOP", "NOOP x y z"),
    case("RSET with and without an argument", "RSET", "RSET x"),
    case("RSET drops the transaction", *after_mail("RSET", RCPT)),
    case("QUIT with an argument", "QUIT x", "QUIT"),
    case("VRFY without an argument", *hello("VRFY")),
    case("VRFY of a local name", *hello("VRFY root")),
    case("VRFY with brackets", *hello("VRFY <root@unix-power.net>")),
    case("VRFY of a remote address", *hello("VRFY x@dest.example")),
    case("VRFY with two words", *hello("VRFY a b")),
    case("VRFY of rubbish", *hello("VRFY <a@b", "VRFY <>", "VRFY a@[1.2.3.4", "VRFY @")),
    case("VRFY before HELO", "VRFY root"),
    case("VRFY before HELO where it is required", "VRFY root", service="helo"),
    case("VRFY disabled", *hello("VRFY root"), service="novrfy"),
    case("EHLO without VRFY", *hello(), service="novrfy"),
    case("VRFY of a stranger's remote address", *hello("VRFY x@dest.example"), source=STRANGER),
    case("VRFY with SMTPUTF8", *hello("VRFY root SMTPUTF8")),

    # order
    case("RCPT before MAIL", *hello(RCPT)),
    case("DATA before MAIL", *hello("DATA")),
    case("DATA before RCPT", *after_mail("DATA")),
    case("nested MAIL", *after_mail(MAIL)),
    case("DATA with an argument", *after_mail(RCPT, "DATA x")),
    case("DATA after all recipients were refused",
         *hello(MAIL, "RCPT TO:<x@elsewhere.example>", "DATA"), source=STRANGER),
    case("a second message on one connection", *message(b"Subject: 1\r\n\r\none\r\n"),
         MAIL, RCPT, "DATA", Data(b"Subject: 2\r\n\r\ntwo\r\n")),
    case("RCPT twice for one recipient", *after_mail(RCPT, RCPT, "DATA",
                                                     Data(b"Subject: 1\r\n\r\n1\r\n"))),

    # MAIL and RCPT syntax
    *[case("MAIL form: " + line, *hello(line)) for line in (
        "MAIL", "MAIL x", "MAIL FROM", "MAIL FROM:", "MAIL FROM: ", "MAIL FROM:<>",
        "MAIL FROM: <a@example.com>", "MAIL FROM:a@example.com", "MAIL FROM: a@example.com",
        "MAIL FROM :<a@example.com>", "MAIL TO:<a@example.com>", "MAIL FROM:<a@example.com",
        "MAIL FROM:a@example.com>", "MAIL FROM:<a@example.com> ", "MAIL FROM:<a@example.com>x",
        "MAIL FROM:<a@example.com>SIZE=10", "MAIL FROM:<a@example.com><b@example.com>",
        "MAIL FROM:<a@example.com> <b@example.com>", "MAIL FROM:<<a@example.com>>",
        "MAIL  FROM:<a@example.com>", "MAIL FROM=<a@example.com>", "MAILFROM:<a@example.com>",
        "MAIL FROM:(comment)<a@example.com>", "MAIL FROM:Name <a@example.com>",
        "MAIL FROM:<a b@example.com>", "MAIL FROM:<a@exam ple.com>", "MAIL FROM:< a@example.com >",
        "MAIL FROM:<a>", "MAIL FROM:<@>", "MAIL FROM:<a@>", "MAIL FROM:<@example.com>",
        "MAIL FROM:<a@b@c.example>", "MAIL FROM:<a@example..com>", "MAIL FROM:<a@.example.com>",
        "MAIL FROM:<a@example.com.>", "MAIL FROM:<a..b@example.com>", "MAIL FROM:<.a@example.com>",
        "MAIL FROM:<a.@example.com>", "MAIL FROM:<a,b@example.com>", "MAIL FROM:<a@-x.example>",
        "MAIL FROM:<a@x_y.example>")],
    *[case("strict envelopes: " + line, *hello(line), service="strict") for line in (
        "MAIL FROM: <a@example.com>", "MAIL FROM:a@example.com", "MAIL FROM:<a@example.com>",
        "MAIL FROM:(comment)<a@example.com>", "MAIL FROM:<a b@example.com>",
        "MAIL FROM:<>", "MAIL FROM:<a>")],
    *[case("RCPT form: " + line, *after_mail(line)) for line in (
        "RCPT", "RCPT x", "RCPT TO", "RCPT TO:", "RCPT TO:<>", "RCPT TO: <b@dest.example>",
        "RCPT TO:b@dest.example", "RCPT FROM:<b@dest.example>", "RCPT TO:<b@dest.example",
        "RCPT TO:<b@dest.example>x", "RCPT TO:<b@dest.example> x", "RCPT TO:<b@dest.example> FOO=1",
        "RCPT TO :<b@dest.example>", "RCPT TO:<@>", "RCPT TO:<\"\">", "RCPT TO:<@dest.example>",
        "RCPT TO:<postmaster>", "RCPT TO:<Postmaster>")],

    # MAIL options
    *[case("MAIL option:" + option, *hello(MAIL + option)) for option in (
        " SIZE=1000", " SIZE=", " SIZE=x", " SIZE=-1", " SIZE", " SIZE=99999999",
        " SIZE=10240000", " SIZE=10240001", " SIZE=99999999999999999999", " size=10",
        " BODY=7BIT", " BODY=8BITMIME", " BODY=BINARYMIME", " BODY=", " BODY=x", " body=8bitmime",
        " RET=FULL", " RET=HDRS", " RET=x", " RET=", " RET=FULL RET=HDRS", " ret=hdrs",
        " ENVID=abc", " ENVID=", " ENVID=a+20b", " ENVID=a+zz", " ENVID=a ENVID=b",
        " ENVID=" + "e" * 100, " ENVID=" + "e" * 101,
        " AUTH=<>", " AUTH=x@y.example", " SMTPUTF8", " SMTPUTF8=1", " smtputf8", " FOO",
        " FOO=1", " NOTIFY=NEVER", " SIZE=10 BODY=8BITMIME RET=HDRS ENVID=x SMTPUTF8",
        " SIZE=10 SIZE=20", " BODY=7BIT BODY=8BITMIME", " RET=FULL ENVID=", " =", " A=B=C",
        "\tSIZE=10", "  SIZE=10")],
    case("MAIL options after HELO", "HELO a", MAIL + " SIZE=10 BODY=8BITMIME", "RSET",
         MAIL + " RET=FULL", "RSET", MAIL + " SMTPUTF8"),
    case("options where their keyword is discarded", "EHLO a", MAIL + " RET=HDRS",
         MAIL + " ENVID=x", MAIL, RCPT + " NOTIFY=NEVER", RCPT + " ORCPT=rfc822;x@y",
         service="discard"),
    case("options where all keywords are discarded", "EHLO a", MAIL + " SIZE=10", "RSET",
         MAIL + " BODY=8BITMIME", "RSET", MAIL + " SMTPUTF8", "RSET", MAIL, RCPT,
         "BDAT 2 LAST", service="discardall"),
    case("SMTPUTF8 where it is switched off", "EHLO a", MAIL + " SMTPUTF8", service="noutf8"),
    case("8-bit sender where SMTPUTF8 is switched off", "EHLO a",
         b"MAIL FROM:<\xc3\xa4@example.com>\r\n", service="noutf8"),
    case("RET without EHLO", MAIL + " RET=HDRS"),

    # RCPT options
    *[case("RCPT option:" + option, *after_mail(RCPT + option)) for option in (
        " NOTIFY=NEVER", " NOTIFY=SUCCESS", " NOTIFY=SUCCESS,FAILURE,DELAY", " NOTIFY=FAILURE",
        " NOTIFY=DELAY", " NOTIFY=NEVER,SUCCESS", " NOTIFY=", " NOTIFY=x", " NOTIFY",
        " notify=never", " NOTIFY=SUCCESS,SUCCESS", " NOTIFY=SUCCESS, FAILURE",
        " NOTIFY=NEVER NOTIFY=NEVER", " ORCPT=rfc822;b@dest.example", " ORCPT=rfc822;",
        " ORCPT=;x", " ORCPT=x", " ORCPT=", " ORCPT=rfc822;a+2Bb@dest.example",
        " ORCPT=rfc822;a+zz@x", " ORCPT=utf-8;a@b", " ORCPT=rfc822;" + "x" * 490 + "@y",
        " ORCPT=rfc822;" + "x" * 600 + "@y", " ORCPT=rfc822;a ORCPT=rfc822;b", " SIZE=10",
        " RET=FULL")],

    # DSN options travel to the next hop
    case("DSN parameters reach the next hop", *hello(
        MAIL + " RET=HDRS ENVID=env+2Bid", RCPT + " NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o@x.example",
        "DATA", Data(b"Subject: d\r\n\r\nd\r\n"))),
    case("NOTIFY=NEVER reaches the next hop", *hello(
        MAIL, RCPT + " NOTIFY=NEVER", "DATA", Data(b"Subject: d\r\n\r\nd\r\n"))),
    case("8BITMIME reaches the next hop", *hello(
        MAIL + " BODY=8BITMIME", RCPT, "DATA", Data(b"Subject: d\r\n\r\n\xe4\r\n"))),
    case("the null sender reaches the next hop", *hello(
        "MAIL FROM:<>", RCPT, "DATA", Data(b"Subject: d\r\n\r\nd\r\n"))),
    case("SMTPUTF8 addresses reach the next hop", "EHLO client.example.org",
         b"MAIL FROM:<\xc3\xa4@example.com> SMTPUTF8\r\n", b"RCPT TO:<\xc3\xb6@dest.example>\r\n",
         "DATA", Data("Subject: ä\r\n\r\nd\r\n".encode())),
    case("an 8-bit address without SMTPUTF8", "EHLO client.example.org",
         b"MAIL FROM:<\xc3\xa4@example.com>\r\n", b"RCPT TO:<\xc3\xb6@dest.example>\r\n"),
    case("a malformed UTF-8 address with SMTPUTF8", "EHLO client.example.org",
         b"MAIL FROM:<\xe4@example.com> SMTPUTF8\r\n", b"RCPT TO:<\xff@dest.example>\r\n"),
    case("an IDN domain", "EHLO client.example.org",
         "MAIL FROM:<a@bücher.example> SMTPUTF8", "RCPT TO:<a@bücher.example>"),

    # BDAT
    case("BDAT in one chunk", *envelope(), Block(b"BDAT 17 LAST\r\nSubject: b\r\n\r\nb\r\n", 1)),
    case("BDAT in three chunks", *envelope(), Block(b"BDAT 12\r\nSubject: b\r\n"),
         Block(b"BDAT 2\r\n\r\n"), Block(b"BDAT 3 LAST\r\nb\r\n")),
    case("BDAT 0 LAST ends the message", *envelope(), Block(b"BDAT 17\r\nSubject: b\r\n\r\nb\r\n"),
         "BDAT 0 LAST"),
    case("BDAT 0 LAST alone", *envelope(), "BDAT 0 LAST"),
    case("BDAT 0 in the middle", *envelope(), "BDAT 0",
         Block(b"BDAT 17 LAST\r\nSubject: b\r\n\r\nb\r\n")),
    case("BDAT cuts a line and its CRLF in two", *envelope(), Block(b"BDAT 5\r\nSubje"),
         Block(b"BDAT 6\r\nct: b\r"), Block(b"BDAT 6 LAST\r\n\n\r\nb\r\n")),
    case("BDAT content without a line end", *envelope(),
         Block(b"BDAT 15 LAST\r\nSubject: b\r\n\r\nb")),
    case("BDAT content that looks like the end of DATA", *envelope(),
         Block(b"BDAT 25 LAST\r\nSubject: b\r\n\r\n.\r\n..x\r\nz\r\n")),
    case("BDAT with bare LF", *envelope(), Block(b"BDAT 14 LAST\r\nSubject: b\n\nb\n")),
    case("BDAT with lower case last", *envelope(),
         Block(b"bdat 17 last\r\nSubject: b\r\n\r\nb\r\n")),
    case("BDAT without a size", *envelope(), "BDAT"),
    case("BDAT with a bad size", *envelope(), "BDAT x", "NOOP"),
    case("BDAT with a negative size", *envelope(), "BDAT -1 LAST"),
    case("BDAT with an overlong size", *envelope(), "BDAT 99999999999999999999 LAST"),
    case("BDAT with a bad last word", *envelope(), "BDAT 5 LIST"),
    case("BDAT with three words", *envelope(), "BDAT 5 LAST x"),
    case("BDAT before MAIL swallows its bytes", *hello(Block(b"BDAT 6 LAST\r\nabcd\r\n", 1),
                                                        "NOOP")),
    case("BDAT before RCPT swallows its bytes", *hello(MAIL, Block(b"BDAT 6 LAST\r\nabcd\r\n", 1),
                                                       "NOOP")),
    case("BDAT after all recipients were refused",
         *hello(MAIL, "RCPT TO:<x@elsewhere.example>", Block(b"BDAT 6 LAST\r\nabcd\r\n", 1),
                "NOOP"), source=STRANGER),
    case("DATA after BDAT", *envelope(), Block(b"BDAT 6\r\nabcd\r\n"), "DATA", "NOOP"),
    case("MAIL after BDAT", *envelope(), Block(b"BDAT 6\r\nabcd\r\n"), MAIL),
    case("RCPT after BDAT", *envelope(), Block(b"BDAT 6\r\nabcd\r\n"), RCPT),
    case("RSET after BDAT", *envelope(), Block(b"BDAT 6\r\nabcd\r\n"), "RSET", "NOOP"),
    case("QUIT after BDAT queues nothing", *envelope(), Block(b"BDAT 6\r\nabcd\r\n"), "QUIT"),
    case("BDAT after BDAT LAST", *envelope(), Block(b"BDAT 17 LAST\r\nSubject: b\r\n\r\nb\r\n"),
         Block(b"BDAT 6 LAST\r\nabcd\r\n"), "NOOP"),
    case("BDAT pipelined behind the envelope", *hello(Block(
        b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@dest.example>\r\n"
        b"BDAT 17 LAST\r\nSubject: b\r\n\r\nb\r\nNOOP\r\n", 4))),
    case("BDAT and a client that goes away", *envelope(), b"", Block(b"BDAT 100\r\nabc", 0),
         Drop()),
    case("BDAT beyond the size limit", *envelope(), Block(
        b"BDAT 10240001\r\n" + b"x" * 10240001, 1), "NOOP", timeout=30),

    # pipelining
    case("a whole envelope in one write", *hello(Block(
        b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@dest.example>\r\nRCPT TO:<c@dest.example>\r\n"
        b"DATA\r\n", 4), Data(b"Subject: p\r\n\r\np\r\n"))),
    case("a whole session in one write", Block(
        b"EHLO a\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@dest.example>\r\nDATA\r\n"
        b"Subject: p\r\n\r\np\r\n.\r\nQUIT\r\n", 6)),
    case("two transactions in one write", *hello(Block(
        b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@dest.example>\r\nRSET\r\n"
        b"MAIL FROM:<c@example.com>\r\nRCPT TO:<d@dest.example>\r\nNOOP\r\n", 6))),
    case("a command in single bytes", *hello(Block(b"N", 0), Pause(0.05), Block(b"OO", 0),
                                             Pause(0.05), Block(b"P\r", 0), Pause(0.05),
                                             Block(b"\n", 1))),
    case("HELO pipelined before the greeting was read", Block(b"HELO a\r\nNOOP\r\n", 2)),

    # clients that go
    case("a client that goes after the greeting", "NOOP", Drop()),
    case("a client that goes after EHLO", *hello(Drop())),
    case("a client that goes after MAIL", *after_mail(Drop())),
    case("a client that goes after RCPT", *envelope(), Drop()),
    case("a client that goes after DATA", *envelope(), "DATA", Drop()),
    case("a client that goes in the middle of the content", *envelope(), "DATA",
         Block(b"Subject: x\r\n\r\nhalf a li", 0), Pause(0.1), Drop()),
    case("a client that resets the connection after MAIL", *after_mail(Pause(0.05), Reset())),

    # refusals and their dress
    case("relaying refused to a stranger", *hello(MAIL, "RCPT TO:<x@elsewhere.example>"),
         source=STRANGER),
    case("a footer on the same line", *hello("FOO", MAIL, "RCPT TO:<x@elsewhere.example>"),
         service="footer", source=STRANGER),
    case("a footer on a line of its own", *hello("FOO", MAIL, "RCPT TO:<x@elsewhere.example>"),
         service="footer2", source=STRANGER),
    case("soft_bounce turns 5xx into 4xx", *hello("FOO", "MAIL FROM:<a@example.com> SIZE=99999999",
                                                  MAIL, "RCPT TO:<>"),
         service="softbounce"),
]


@pytest.fixture(scope="module")
def world():
    with World(services=SERVICES) as one:
        yield one


@pytest.mark.parametrize("one", rows(CASES))
def test_verb(world, one):
    world.check(one)
