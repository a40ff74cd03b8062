"""Address syntax: what each form means as sender and as recipient, and how it travels on."""

import pytest

from lib.dialogue import Data
from world import STRANGER, World, case, hello, rows

BODY = Data(b"From: x@example.com\r\nMessage-ID: <1@example.com>\r\n"
            b"Date: Mon, 01 Jan 2024 00:00:00 +0000\r\n\r\nb\r\n")

FORMS = [
    "b@dest.example", "B@DEST.Example", "postmaster", "postmaster@dest.example", "b", "b@",
    '"b"@dest.example', '"b c"@dest.example', '"b@c"@dest.example', '"b\\"c"@dest.example',
    '"b\\\\c"@dest.example', '""@dest.example', '"b"c@dest.example', 'b\\c@dest.example',
    "b.@dest.example", ".b@dest.example", "b..c@dest.example", "b+ext@dest.example",
    "b%other.example@dest.example", "b%other.example@unix-power.net", "b%other.example",
    "other.example!b@dest.example", "other.example!b", "a!b!c", "b@dest.example@unix-power.net",
    "@relay.example:b@dest.example", "@a.example,@b.example:b@dest.example", "@a.example:b",
    "b@[127.0.0.1]", "b@[127.0.0.9]", "b@[192.0.2.99]", "b@[IPv6:::1]", "b@[IPv6:2001:db8::1]",
    "b@[ipv6:::1]", "b@[1.2.3]", "b@[]", "b@[x]", "b@127.0.0.1", "b@192.0.2.99", "b@1.2.3",
    "b@[127.0.0.1", "b@127.0.0.1]", "b@dest.example.", "b@dest..example", "b@.dest.example",
    "b@-dest.example", "b@dest-.example", "b@de_st.example", "b@dest", "b@localhost",
    "b@mail.unix-power.net", "b@unix-power.net", "b@UNIX-POWER.NET", "b@sub.unix-power.net",
    "b c@dest.example", "b,c@dest.example", "b;c@dest.example", "b:c@dest.example",
    "b(c)@dest.example", "(c)b@dest.example", "b@(c)dest.example", "b<c@dest.example",
    "b>c@dest.example", "b[c]@dest.example", "b/c@dest.example", "|b@dest.example", "/b",
    "|b", "-b@dest.example", "b'c@dest.example", "b`c@dest.example", "b$c@dest.example",
    "b*c@dest.example", "b{c}@dest.example", "b=c@dest.example", "b~c@dest.example",
    "owner-b@dest.example", "MAILER-DAEMON", "mailer-daemon@unix-power.net",
    "mailer-daemon@dest.example", "double-bounce",
    "b@" + "d" * 63 + ".example", "b@" + "d" * 64 + ".example",
    "b@" + ".".join(["d" * 60] * 4) + ".example", "b@" + ".".join(["d" * 60] * 5) + ".example",
    "b" * 64 + "@dest.example", "b" * 65 + "@dest.example", "b" * 300 + "@dest.example",
    "b" * 900 + "@dest.example", "b" * 2100 + "@dest.example", "b@xn--bcher-kva.example",
    "b@d", "b@d.", "b @dest.example", "b@ dest.example", " b@dest.example", "b@dest.example ",
    "\tb@dest.example",
]
AS_SENDER = FORMS + [""]


def short(form):
    return form if len(form) < 60 else "%s... of %d bytes" % (form[:24], len(form))


CASES = [
    *[case("recipient " + short(form), *hello("MAIL FROM:<a@example.com>",
                                              "RCPT TO:<%s>" % form), log=True)
      for form in FORMS],
    *[case("recipient from a stranger " + short(form),
           *hello("MAIL FROM:<a@example.com>", "RCPT TO:<%s>" % form), source=STRANGER)
      for form in FORMS],
    *[case("sender " + short(form), *hello("MAIL FROM:<%s>" % form, "RCPT TO:<b@dest.example>",
                                           "DATA", BODY))
      for form in AS_SENDER],
]
# Forms that are accepted and go to the next hop: how they look there.
TRAVEL = [
    "b@dest.example", "B@DEST.Example", '"b c"@dest.example', '"b"@dest.example',
    '"b@c"@dest.example', '"b\\"c"@dest.example', "b%other.example@unix-power.net",
    "b%other.example", "other.example!b", "@a.example,@b.example:b@dest.example",
    "b@dest.example.", "b+ext@dest.example", "b.@dest.example", "b..c@dest.example", "b@[192.0.2.99]",
    "b c@dest.example", "b(c)@dest.example", "b,c@dest.example", "|b@dest.example",
    "b@dest", "b@sub.unix-power.net", "b" * 300 + "@dest.example",
    '"b\\\\c"@dest.example', "-b@dest.example", "b'c@dest.example", "b@dest.example@other.example",
]
CASES += [
    case("travels as " + short(form), *hello(
        "MAIL FROM:<a@example.com>", "RCPT TO:<%s>" % form, "RCPT TO:<ok@dest.example>", "DATA",
        BODY)) for form in TRAVEL]
CASES += [
    case("travels from sender " + short(form), *hello(
        "MAIL FROM:<%s>" % form, "RCPT TO:<b@dest.example>", "DATA", BODY))
    for form in ("joe", '"j o"', "joe@host", "joe%other.example@unix-power.net", "a!joe",
                 "@a.example:joe@b.example", "JOE@Example.COM", "joe@[127.0.0.1]",
                 "<joe@example.com>", "joe@example.com.", '"joe"@example.com')]
NAMES = {}
for one in CASES:
    NAMES[one.name] = one
CASES = list(NAMES.values())

VARIANT = [
    case("%s: recipient %s" % (service, form), *hello(
        "MAIL FROM:<a@example.com>", "RCPT TO:<%s>" % form, "RCPT TO:<ok@dest.example>", "DATA",
        BODY), service=service)
    for service, forms in {
        "nopercent": ["b%other.example@unix-power.net", "b%other.example"],
        "noswapbang": ["other.example!b", "a!b@dest.example"],
        "literal5321": ["b@192.0.2.99", "b@[192.0.2.99]"],
        "untrusted": ["b%x.example@dest.example", "x!b@dest.example", '"b@x.example"@dest.example'],
    }.items() for form in forms]
VARIANT += [
    case("untrusted routing refused to a stranger: " + form, *hello(
        "MAIL FROM:<a@example.com>", "RCPT TO:<%s>" % form), source=STRANGER)
    for form in ("b%x.example@relay.example", "x!b@relay.example", '"b@x.example"@relay.example',
                 "b%x.example@unix-power.net", "@relay.example:b@x.example", "b@relay.example",
                 "x!b@unix-power.net", '"b@x.example"@unix-power.net')]


@pytest.fixture(scope="module")
def world():
    with World(params={"relay_domains": "relay.example"}) as one:
        yield one


@pytest.fixture(scope="module")
def variant():
    with World(params={"allow_percent_hack": "no", "swap_bangpath": "no",
                       "relay_domains": "relay.example, dest.example",
                       "relay_transport": "smtp:[127.0.0.1]:@SINK:default@"},
               services={"smtp": {}, "nopercent": {}, "noswapbang": {},
                         "literal5321": {"resolve_numeric_domain": "yes"},
                         "untrusted": {"allow_untrusted_routing": "no"}}) as one:
        yield one


@pytest.mark.parametrize("one", rows(CASES))
def test_address(world, one):
    world.check(one)


@pytest.mark.parametrize("one", rows(VARIANT))
def test_variant(variant, one):
    variant.check(one)


@pytest.fixture(scope="module")
def opaque():
    with World(params={"resolve_dequoted_address": "no", "relay_domains": "relay.example",
                       "local_recipient_maps": ""}) as one:
        yield one


@pytest.mark.parametrize("one", rows([
    case("quoted operators left alone: %s asks for %s" % (who, form), *hello(
        "MAIL FROM:<a@example.com>", "RCPT TO:<%s>" % form), source=source)
    for who, source in (("a neighbour", None), ("a stranger", STRANGER))
    for form in ('"b@x.example"@unix-power.net', "b@x.example@unix-power.net",
                 '"b@x.example"@relay.example', '"b c%x.example"@unix-power.net',
                 '"b%x.example"@unix-power.net', "b%x.example@unix-power.net",
                 '"a b"@unix-power.net', '"a..b"@unix-power.net')]))
def test_opaque(opaque, one):
    opaque.check(one)
