"""Limits a client can run into: lines, recipients, errors, junk, time."""

import pytest

from lib.dialogue import Block, Data, Drop, Pause, Timed
from world import STRANGER, World, case, envelope, hello, rows

SERVICES = {
    "smtp": {},
    "errors": {"smtpd_soft_error_limit": "2", "smtpd_hard_error_limit": "5",
               "smtpd_error_sleep_time": "1s"},
    "hard": {"smtpd_soft_error_limit": "20", "smtpd_hard_error_limit": "3",
             "smtpd_error_sleep_time": "0"},
    "junk": {"smtpd_junk_command_limit": "1", "smtpd_hard_error_limit": "1",
             "smtpd_error_sleep_time": "0"},
    "junkplain": {"smtpd_junk_command_limit": "3", "smtpd_hard_error_limit": "4",
                  "smtpd_error_sleep_time": "0"},
    "rcpt2": {"smtpd_recipient_limit": "2"},
    "overshoot": {"smtpd_recipient_limit": "2", "smtpd_recipient_overshoot_limit": "2",
                  "smtpd_hard_error_limit": "2", "smtpd_error_sleep_time": "0"},
    "line": {"line_length_limit": "512"},
    "timeout": {"smtpd_timeout": "1s"},
    "deadline": {"smtpd_timeout": "2s", "smtpd_per_request_deadline": "yes"},
    "nodeadline": {"smtpd_timeout": "2s", "smtpd_per_request_deadline": "no"},
    "history": {"smtpd_history_flush_threshold": "3"},
}

MAIL = "MAIL FROM:<a@example.com>"
RCPT = "RCPT TO:<b@dest.example>"
BODY = Data(b"Subject: x\r\n\r\nx\r\n")

CASES = [
    case("a command line of 2000 bytes", "NOOP " + "x" * 1995),
    case("a command line of 2046 bytes", "NOOP " + "x" * 2041),
    case("a command line of 2048 bytes", "NOOP " + "x" * 2043),
    case("a command line of 2049 bytes", "NOOP " + "x" * 2044),
    case("a command line of 5000 bytes", "NOOP " + "x" * 4995, "NOOP"),
    case("an unknown command line of 5000 bytes", "X" * 5000, "NOOP"),
    case("a command line of 100000 bytes", Block(b"NOOP " + b"x" * 99995 + b"\r\n"), "NOOP"),
    case("an overlong MAIL line", "MAIL FROM:<%s@example.com>" % ("a" * 3000), "NOOP"),
    case("an overlong EHLO line", "EHLO " + "a" * 3000, "NOOP"),
    case("another line_length_limit", "NOOP " + "x" * 700, "NOOP", service="line"),
    case("another line_length_limit cuts body lines", *envelope(), "DATA",
         Data(b"Subject: x\r\n\r\n" + b"y" * 1250 + b"\r\n"), service="line"),

    case("the third recipient is refused for now", *hello(
        MAIL, RCPT, "RCPT TO:<c@dest.example>", "RCPT TO:<d@dest.example>", "DATA", BODY),
        service="rcpt2"),
    case("the recipient count starts anew with the next message", *hello(
        MAIL, RCPT, "RCPT TO:<c@dest.example>", "RSET", MAIL, RCPT, "RCPT TO:<c@dest.example>",
        "RCPT TO:<d@dest.example>"), service="rcpt2"),
    case("recipients beyond the overshoot limit are errors", *hello(
        MAIL, *["RCPT TO:<r%d@dest.example>" % i for i in range(8)], "NOOP"),
        service="overshoot"),
    case("1000 recipients are the default limit", *hello(
        MAIL, Block(b"".join(b"RCPT TO:<r%d@dest.example>\r\n" % i for i in range(1002)), 1002)),
        timeout=20),

    case("errors beyond the soft limit are slow, beyond the hard limit final",
         *[Timed("FOO") for _ in range(6)], service="errors", timeout=20),
    case("the hard error limit closes the session", "FOO", "FOO", "FOO", "FOO", service="hard"),
    case("refused recipients count as errors", *hello(
        MAIL, *["RCPT TO:<x%d@elsewhere.example>" % i for i in range(5)]), service="hard",
        source=STRANGER),
    case("refused MAIL options count as errors", *hello(
        *[MAIL + " FOO=%d" % i for i in range(5)]), service="hard"),
    case("an accepted message resets the error count", "EHLO a", "FOO", "FOO", MAIL, RCPT, "DATA",
         BODY, "FOO", "FOO", "NOOP", service="hard"),
    case("RSET does not reset the error count", "FOO", "FOO", "RSET", "FOO", "FOO", service="hard"),
    case("too many errors in DATA state", *hello("DATA", "DATA", "DATA", "DATA"), service="hard"),
    case("the hard limit in a pipelined burst", Block(b"FOO\r\n" * 8, 4), service="hard"),
    case("QUIT right behind the last error", "FOO", "FOO", "FOO", "QUIT", service="hard"),

    case("junk commands count as errors", "NOOP", "NOOP", "NOOP", "NOOP", service="junk"),
    case("RSET is junk when nothing was reset", *hello("RSET", "RSET", "RSET", "RSET", "RSET",
                                                      "RSET", "RSET", "RSET", "RSET"),
         service="junkplain"),
    case("VRFY and NOOP are junk together", *hello("VRFY root", "NOOP", "VRFY root", "NOOP",
                                                  "NOOP", "NOOP", "NOOP", "NOOP", "NOOP"),
         service="junkplain"),
    case("a message resets the junk count", *hello(
        "NOOP", "NOOP", "NOOP", MAIL, RCPT, "DATA", BODY, "NOOP", "NOOP", "NOOP", "NOOP"),
        service="junkplain"),
    case("HELP is not junk", *["HELP"] * 6, service="junkplain"),
    case("EHLO is not junk", *["EHLO a"] * 6, service="junkplain"),

    case("an idle client is told and cut off", "HELO a", Timed(Block(b"", 2)), service="timeout",
         timeout=6),
    case("an idle client before HELO", Timed(Block(b"", 2)), service="timeout", timeout=6),
    case("an idle client in DATA", *envelope(), "DATA",
         Timed(Block(b"Subject: x\r\n", 2)), service="timeout", timeout=6),
    case("an idle client in BDAT", *envelope(), Timed(Block(b"BDAT 50\r\nabc", 2)),
         service="timeout", timeout=6,
         known="Postfix counts the 421 it just sent among the bytes it received"),
    case("half a command and then nothing", Timed(Block(b"NOO", 2)), service="timeout", timeout=6),
    case("a byte now and then is no request within the deadline", Block(b"N", 0), Pause(0.8),
         Block(b"O", 0), Pause(0.8), Block(b"O", 0), Pause(0.8), Block(b"P", 0),
         Block(b"", 2), service="deadline", timeout=6),
    case("a byte now and then lives without the deadline", Block(b"N", 0), Pause(0.8),
         Block(b"O", 0), Pause(0.8), Block(b"O", 0), Pause(0.8), Block(b"P\r\n", 1),
         service="nodeadline", timeout=6),
]


@pytest.fixture(scope="module")
def world():
    with World(services=SERVICES) as one:
        yield one


@pytest.mark.parametrize("one", rows(CASES))
def test_limit(world, one):
    world.check(one)


LATER = "rates and counts of clients (anvil) are a later issue; the parameters warn when they are set"
ANVIL = [
    case("connections above the count limit", "NOOP", service="one", known=LATER),
    case("messages above the rate limit", *hello(MAIL, "RSET", MAIL, "RSET", MAIL), service="mails", known=LATER),
    case("recipients above the rate limit", *hello(MAIL, RCPT, RCPT, RCPT), service="rcpts", known=LATER),
]


@pytest.fixture(scope="module")
def limited():
    common = {"smtpd_client_event_limit_exceptions": ""}
    with World(services={"smtp": {},
                         "one": {**common, "smtpd_client_connection_rate_limit": "1"},
                         "mails": {**common, "smtpd_client_message_rate_limit": "2"},
                         "rcpts": {**common, "smtpd_client_recipient_rate_limit": "2"}}) as one:
        yield one


@pytest.mark.parametrize("one", rows(ANVIL))
def test_rate(limited, one):
    """The start-up greeting already used the one connection that is allowed."""
    limited.check(one)
