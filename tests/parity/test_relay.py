"""Who may send where, which addresses exist, and what they expand to."""

import pytest

from lib.dialogue import Data
from world import STRANGER, World, case, hello, rows

BODY = Data(b"From: x@example.com\r\nMessage-ID: <1@example.com>\r\n"
            b"Date: Mon, 01 Jan 2024 00:00:00 +0000\r\n\r\nb\r\n")

FILES = {
    "local": "joe x\npostmaster x\nuser+box x\n",
    "relay_rcpt": "joe@relay.example x\n@open-relay.example x\n",
    "valiases": """\
joe@valias.example        bob@dest.example
two@valias.example        one@dest.example, two@dest.example
chain@valias.example      link@valias.example
link@valias.example       end@dest.example
self@valias.example       self@valias.example
loop@valias.example       back@valias.example
back@valias.example       loop@valias.example
twice@valias.example      same@dest.example, same@dest.example
local@valias.example      joe
plus@valias.example       plus@dest.example
quoted@valias.example     "a b"@dest.example
owner-l@valias.example    owner@dest.example
l@valias.example          m1@dest.example, m2@dest.example
@catch.example            all@dest.example
known@catch.example       known@dest.example
@map.example              @mapped.example
root                      admin@dest.example
bare@unix-power.net       bare@dest.example
sender@example.com        changed@dest.example
case@valias.example       Mixed.Case@Dest.Example
err@valias.example        bad..@-x.example
many@valias.example       %s
""" % ", ".join("m%d@dest.example" % i for i in range(50)),
    "vdomains": "valias.example x\ncatch.example x\nmap.example x\n",
    "vmailbox": "joe@vmail.example joe/\nall@vmail.example all/\n",
    "transport": "slow.example smtp:[127.0.0.1]:@SINK:default@\n"
                 ".sub.example smtp:[127.0.0.1]:@SINK:other@\n"
                 "user@special.example smtp:[127.0.0.1]:@SINK:other@\n"
                 "gone.example error:5.1.1 no such place\n"
                 "later.example retry:4.3.2 come again\n"
                 "black.example discard:into the void\n",
    "canonical": "old@example.com new@example.com\n@short.example @long.example\n",
    "relocated": "moved@unix-power.net new@elsewhere.example\n",
    "hashmap": "hashed@dest.example x\n",
}
PARAMS = {
    "local_recipient_maps": "texthash:@DIR@/local",
    "local_transport": "smtp:[127.0.0.1]:@SINK:default@",
    "relay_domains": "relay.example, open-relay.example, sub.relay.example",
    "relay_recipient_maps": "texthash:@DIR@/relay_rcpt",
    "relay_transport": "smtp:[127.0.0.1]:@SINK:default@",
    "virtual_alias_domains": "texthash:@DIR@/vdomains",
    "virtual_alias_maps": "texthash:@DIR@/valiases",
    "virtual_mailbox_domains": "vmail.example",
    "virtual_mailbox_maps": "texthash:@DIR@/vmailbox",
    "virtual_transport": "smtp:[127.0.0.1]:@SINK:default@",
    "transport_maps": "texthash:@DIR@/transport",
    "canonical_maps": "texthash:@DIR@/canonical",
    "relocated_maps": "texthash:@DIR@/relocated",
    "recipient_delimiter": "+",
    "proxy_interfaces": "192.0.2.99",
}
SERVICES = {
    "smtp": {},
    "hard": {"smtpd_relay_restrictions":
             "permit_mynetworks reject_unauth_destination"},
    "code": {"unknown_local_recipient_reject_code": "450", "relay_domains_reject_code": "551",
             "smtpd_relay_restrictions": "permit_mynetworks reject_unauth_destination"},
    "nolisted": {"smtpd_reject_unlisted_recipient": "no"},
    "sender": {"smtpd_reject_unlisted_sender": "yes"},
    "recipient": {"smtpd_recipient_restrictions":
                  "permit_mynetworks, reject_unauth_destination",
                  "smtpd_relay_restrictions": ""},
    "rejectall": {"smtpd_recipient_restrictions": "reject"},
    "deferall": {"smtpd_recipient_restrictions": "defer"},
    "deferif": {"smtpd_recipient_restrictions": "defer_if_permit, permit"},
    "senderreject": {"smtpd_sender_restrictions": "reject"},
    "fqdn": {"smtpd_recipient_restrictions":
             "reject_non_fqdn_sender, reject_non_fqdn_recipient, permit"},
    "data": {"smtpd_data_restrictions": "reject_unauth_pipelining, reject_multi_recipient_bounce"},
    "eod": {"smtpd_end_of_data_restrictions": "reject"},
    "etrn": {"smtpd_etrn_restrictions": "reject"},
    "badrestriction": {"smtpd_recipient_restrictions": "permit_mynetworks, no_such_thing"},
}


def ask(label, recipient, service="smtp", source=STRANGER, sender="a@example.com"):
    return case("%s: %s" % (label, recipient), *hello(
        "MAIL FROM:<%s>" % sender, "RCPT TO:<%s>" % recipient), service=service, source=source)


def flow(label, *recipients, sender="a@example.com", source=None, service="smtp", known=None):
    return case(label, *hello("MAIL FROM:<%s>" % sender,
                              *["RCPT TO:<%s>" % r for r in recipients], "DATA", BODY),
                source=source, service=service, known=known)


EVERYONE = [
    "joe", "nosuch", "joe@unix-power.net", "nosuch@unix-power.net", "joe+ext@unix-power.net",
    "user+box@unix-power.net", "JOE@Unix-Power.NET", "joe@mail.unix-power.net",
    "joe@localhost", "joe@localhost.unix-power.net", "joe@other.unix-power.net",
    "postmaster", "postmaster@unix-power.net", "abuse@unix-power.net", "root@unix-power.net",
    "double-bounce@unix-power.net", "mailer-daemon@unix-power.net",
    "joe@[127.0.0.1]", "nosuch@[127.0.0.1]", "joe@[192.0.2.99]", "joe@[192.0.2.1]",
    "joe@relay.example", "nosuch@relay.example", "joe+x@relay.example", "any@open-relay.example",
    "any@sub.relay.example", "any@deep.relay.example", "postmaster@relay.example",
    "joe@valias.example", "nosuch@valias.example", "joe+x@valias.example",
    "postmaster@valias.example", "x@catch.example", "x@map.example", "err@valias.example",
    "joe@vmail.example", "nosuch@vmail.example", "joe+x@vmail.example", "JOE@VMAIL.example",
    "x@elsewhere.example", "x@slow.example", "x@gone.example", "moved@unix-power.net",
    "x%elsewhere.example@unix-power.net", "x%relay.example@relay.example",
    "@relay.example:x@elsewhere.example", '"x@elsewhere.example"@unix-power.net',
    "x@elsewhere.example@relay.example", "elsewhere.example!x@relay.example",
]

CANONICAL = "canonical_maps is a later issue; the parameter warns when it is set"
CASES = [
    *[ask("a stranger asks for", r) for r in EVERYONE],
    *[ask("a neighbour asks for", r, source=None) for r in EVERYONE],
    *[ask("reject_unauth_destination", r, service="hard") for r in (
        "x@elsewhere.example", "joe@unix-power.net", "nosuch@unix-power.net")],
    *[ask("other reply codes", r, service="code") for r in (
        "x@elsewhere.example", "nosuch@unix-power.net", "nosuch@relay.example")],
    *[ask("unlisted recipients allowed", r, service="nolisted") for r in (
        "nosuch@unix-power.net", "nosuch@relay.example", "nosuch@valias.example",
        "nosuch@vmail.example")],
    *[case("unlisted senders refused: " + s, *hello(
        "MAIL FROM:<%s>" % s, "RCPT TO:<joe@unix-power.net>"), service="sender", source=STRANGER)
      for s in ("nosuch@unix-power.net", "joe@unix-power.net", "x@elsewhere.example",
                "nosuch@relay.example", "nosuch@valias.example", "", "nosuch@vmail.example")],
    *[ask("relay control in smtpd_recipient_restrictions", r, service="recipient") for r in (
        "x@elsewhere.example", "joe@unix-power.net")],
    ask("reject", "joe@unix-power.net", service="rejectall"),
    ask("defer", "joe@unix-power.net", service="deferall"),
    ask("defer_if_permit", "joe@unix-power.net", service="deferif"),
    ask("sender restrictions", "joe@unix-power.net", service="senderreject"),
    *[ask("not fully qualified", r, service="fqdn", sender=s) for s, r in (
        ("a@b", "joe@unix-power.net"), ("a", "joe@localhost"), ("a@b.c", "joe"),
        ("a@b.example", "joe@x"))],
    case("data restrictions: a bounce to two", *hello(
        "MAIL FROM:<>", "RCPT TO:<joe@unix-power.net>", "RCPT TO:<postmaster@unix-power.net>",
        "DATA"), service="data"),
    case("end-of-data restrictions", *hello(
        "MAIL FROM:<a@example.com>", "RCPT TO:<joe@unix-power.net>", "DATA", BODY), service="eod"),
    case("etrn restrictions", *hello("ETRN relay.example"), service="etrn"),
    case("ETRN for a domain we relay for", *hello("ETRN relay.example")),
    case("an unknown restriction is a configuration error", *hello(
        "MAIL FROM:<a@example.com>", "RCPT TO:<joe@unix-power.net>"), service="badrestriction",
        source=STRANGER),
    *[case("VRFY of " + r, *hello("VRFY " + r), source=STRANGER) for r in (
        "joe", "nosuch", "joe@relay.example", "nosuch@relay.example", "x@elsewhere.example",
        "joe@valias.example", "joe@vmail.example", "nosuch@vmail.example", "moved")],

    # expansion, rewriting, routing: what arrives where
    flow("an alias goes to its target", "joe@valias.example"),
    flow("an alias of two targets", "two@valias.example"),
    flow("a chain of aliases", "chain@valias.example"),
    flow("an alias to itself stays", "self@valias.example"),
    flow("a loop of aliases", "loop@valias.example"),
    flow("a target named twice is delivered once", "twice@valias.example"),
    flow("two aliases of one target", "joe@valias.example", "bob@dest.example"),
    flow("an alias to a bare name gets myorigin", "local@valias.example"),
    flow("an alias with an extension", "plus+ext@valias.example"),
    flow("an alias to a quoted name", "quoted@valias.example"),
    flow("a catch-all", "anyone@catch.example"),
    flow("a known name beats the catch-all", "known@catch.example"),
    flow("a domain mapped to a domain keeps the name", "some.one@map.example"),
    flow("a bare key matches in myorigin and mydestination", "root", "root@localhost"),
    flow("a qualified key", "bare"),
    flow("an alias in mixed case", "CASE@valias.example"),
    flow("an alias of fifty", "many@valias.example"),
    flow("a virtual alias does not touch the sender", "x@slow.example", sender="sender@example.com"),
    flow("an owner alias does not change the sender of virtual aliases", "l@valias.example"),
    flow("recipients for several hosts are split", "x@slow.example", "y@a.sub.example",
         "z@dest.example"),
    flow("transport by user", "user@special.example", "nobody@special.example"),
    flow("transport of a subdomain by leading dot", "x@sub.example", "x@deep.sub.example"),
    flow("canonical mapping of the sender", "x@slow.example", sender="old@example.com",
         known=CANONICAL),
    flow("canonical mapping of the recipient", "x@short.example", known=CANONICAL),
    # With reject_unlisted_recipient, as by default, smtpd answers for error: and retry: itself.
    *[flow(label + where, *recipients, service=service)
      for where, service in (("", "smtp"), (" when unlisted recipients are taken", "nolisted"))
      for label, recipients in (
          ("an error transport bounces", ["x@gone.example"]),
          ("a retry transport defers", ["x@later.example"]),
          ("a discard transport drops", ["x@black.example"]),
          ("error, retry, discard and delivery together", [
              "x@gone.example", "x@later.example", "x@black.example", "x@slow.example"]),
          ("relocated users", ["moved@unix-power.net"]))],
    flow("unknown users of the neighbour's mail", "joe@unix-power.net", "joe@vmail.example"),
    flow("the sender gets myorigin", "x@slow.example", sender="joe"),
    flow("mixed upper and lower case domains share one delivery", "x@slow.example",
         "y@SLOW.example", "z@Slow.Example"),
]


@pytest.fixture(scope="module")
def world():
    with World(params=PARAMS, services=SERVICES, files=FILES,
               sinks={"default": {}, "other": {}}) as one:
        yield one


@pytest.mark.parametrize("one", rows(CASES))
def test_relay(world, one):
    world.check(one)


NETWORKS = {
    "host": "127.0.0.3",
    "block": "127.0.0.0/30",
    "list": "10.0.0.0/8, 127.0.0.3, [::1]/128",
    "negated": "!127.0.0.2, 127.0.0.0/8",
    "file": "@DIR@/networks",
    "table": "texthash:@DIR@/nettable",
    "cidr": "cidr:@DIR@/netcidr",
    "empty": "",
    "wrong": "127.0.0.1/8",
}


@pytest.fixture(scope="module")
def networks():
    files = {"networks": "# a file of networks\n127.0.0.3\n10.0.0.0/8\n",
             "nettable": "127.0.0.3 x\n127.0.1 x\n",
             "netcidr": "127.0.0.3/32 OK\n127.0.1.0/24 OK\n"}
    with World(services={n: {"mynetworks": v} for n, v in NETWORKS.items()}, files=files) as one:
        yield one


@pytest.mark.parametrize("one", rows([
    case("mynetworks as %s and a client at %s" % (name, source), *hello(
        "MAIL FROM:<a@example.com>", "RCPT TO:<x@elsewhere.example>"), service=name, source=source,
         # A list with an error in it is warned of at each look. Which lists are looked at differs: of
         # those with the default $mynetworks Ringpost asks smtpd_forbid_bare_newline_exclusions, because
         # it normalizes by default, and Postfix smtpd_client_event_limit_exceptions.
         log=name != "wrong")
    for name in NETWORKS for source in ("127.0.0.2", "127.0.0.3", "127.0.1.9")]))
def test_networks(networks, one):
    networks.check(one)


@pytest.fixture(scope="module")
def users():
    """local_recipient_maps as by default: the users of the machine, and aliases; nis: is in the default."""
    with World(services={"smtp": {"alias_maps": "texthash:@DIR@/aliases, nis:mail.aliases"},
                         "unsupported": {"alias_maps": "texthash:@DIR@/aliases, mysql:/nowhere"}},
               params={"local_recipient_maps": "proxy:unix:passwd.byname $alias_maps"},
               files={"aliases": "aliased root\n"}) as one:
        yield one


@pytest.mark.parametrize("one", rows([
    case("users of the machine, %s: %s" % (service, recipient), *hello(
        "MAIL FROM:<a@example.com>", "RCPT TO:<%s>" % recipient), service=service,
        # Postfix tells of a table without a client in two lines, we in one.
        log=service == "smtp")
    for service in ("smtp", "unsupported")
    for recipient in ("root@unix-power.net", "ROOT", "root+x@unix-power.net",
                      "aliased@unix-power.net", "nosuch@unix-power.net")]))
def test_users(users, one):
    users.check(one)
