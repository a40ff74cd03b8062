"""MX routing against zones of our own. SPEC RFC 5321 §5.1, RFC 7505."""

import pytest

from lib.dnsserver import SERVFAIL, SILENT, TRUNCATE, DnsServer
from lib.instance import Ringpost
from lib.ports import free_port
from lib.sink import DROP, Sink

DOMAIN = "dest.example.net"


class Net:
    """A server, a DNS server, and mail hosts at 127.0.1.N that all listen on one port."""

    def __init__(self, zones, hosts, **params):
        self.port = free_port()
        self.sinks = {n: Sink(answers, host="127.0.1.%d" % n, port=self.port)
                      for n, answers in hosts.items()}
        self.dns = DnsServer(zones)
        self.server = Ringpost(params={
            "dns_forward": self.dns.forward, "smtp_dns_support_level": "enabled",
            "transport_maps": "inline:{%s=smtp:%s:%d}" % (DOMAIN, DOMAIN, self.port),
            **{name: str(value).replace("PORT", str(self.port)) for name, value in params.items()}})

    def __enter__(self):
        try:
            self.server.__enter__()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc):
        try:
            self.server.__exit__(*exc)
        finally:
            self.close()

    def close(self):
        self.dns.close()
        for sink in self.sinks.values():
            sink.close()

    def send(self, name="b", domain=DOMAIN):
        return self.server.submit("a@example.com", ["%s@%s" % (name, domain)])

    def outcome(self, qid):
        return self.server.wait_log(r"%s: to=<.*dsn=(\S+), status=(\w+) \((.*)\)$" % qid)


def hosts(*numbers):
    return {"mx%d.example.net" % n: {"A": ["127.0.1.%d" % n]} for n in numbers}


def test_the_lowest_preference_comes_first():
    zones = {DOMAIN: {"MX": ["20 mx2.example.net.", "10 mx1.example.net."]}, **hosts(1, 2)}
    with Net(zones, {1: {}, 2: {}}) as net:
        for _ in range(5):
            net.outcome(net.send())
        assert len(net.sinks[1].messages) == 5 and not net.sinks[2].sessions


def test_equal_preferences_share_the_mail():
    zones = {DOMAIN: {"MX": ["10 mx%d.example.net." % n for n in (1, 2)]}, **hosts(1, 2)}
    with Net(zones, {1: {}, 2: {}}, smtp_connection_cache_on_demand="no") as net:
        for _ in range(40):
            net.outcome(net.send())
        shares = [len(net.sinks[n].messages) for n in (1, 2)]
        assert sum(shares) == 40 and min(shares) >= 5, shares


@pytest.mark.parametrize("label, answers", {
    "refuses the connection": None, "greets with 421": {"greeting": "421 4.3.2 no"},
    "greets with 554": {"greeting": "554 5.3.2 no"}, "drops the connection": {"greeting": DROP},
    "defers the sender": {"mail": "450 4.2.0 busy"}}.items())
def test_the_next_host_is_tried_when_the_first(label, answers):
    zones = {DOMAIN: {"MX": ["10 mx1.example.net.", "20 mx2.example.net."]}, **hosts(1, 2)}
    there = {2: {}} if answers is None else {1: answers, 2: {}}
    with Net(zones, there) as net:
        found = net.outcome(net.send())
        assert found[2] == "sent", found[0]
        assert len(net.sinks[2].messages) == 1


def test_a_refusal_for_good_is_not_taken_elsewhere():
    zones = {DOMAIN: {"MX": ["10 mx1.example.net.", "20 mx2.example.net."]}, **hosts(1, 2)}
    with Net(zones, {1: {"rcpt": "550 5.1.1 unknown"}, 2: {}}) as net:
        assert net.outcome(net.send())[2] == "bounced"
        assert not net.sinks[2].sessions


def test_all_addresses_of_a_host_are_tried():
    zones = {DOMAIN: {"MX": ["10 mx.example.net."]},
             "mx.example.net": {"A": ["127.0.1.1", "127.0.1.2"]}}
    with Net(zones, {2: {}}) as net:
        assert net.outcome(net.send())[2] == "sent"


def test_without_mx_the_address_is_used():
    with Net({DOMAIN: {"A": ["127.0.1.1"]}}, {1: {}}) as net:
        assert net.outcome(net.send())[2] == "sent"


def test_an_alias_is_followed():
    zones = {DOMAIN: {"CNAME": ["real.example.net."]},
             "real.example.net": {"MX": ["10 mx1.example.net."]}, **hosts(1)}
    with Net(zones, {1: {}}) as net:
        assert net.outcome(net.send())[2] == "sent"


def test_an_mx_host_without_address_is_passed_over():
    zones = {DOMAIN: {"MX": ["10 nowhere.example.net.", "20 mx1.example.net."]}, **hosts(1)}
    with Net(zones, {1: {}}) as net:
        assert net.outcome(net.send())[2] == "sent"


def test_null_mx_bounces():
    with Net({DOMAIN: {"MX": ["0 ."]}}, {}) as net:
        dsn, status, text = net.outcome(net.send()).groups()
        assert (dsn, status) == ("5.1.0", "bounced") and "nullMX" in text


def test_no_such_domain_bounces():
    with Net({"other.example.net": {}}, {}) as net:
        dsn, status, text = net.outcome(net.send()).groups()
        assert (dsn, status) == ("5.4.4", "bounced")
        assert "Host or domain name not found" in text and DOMAIN in text


@pytest.mark.parametrize("trouble", [SERVFAIL, SILENT])
def test_trouble_with_dns_defers(trouble):
    with Net({DOMAIN: {"ANY": trouble}}, {}) as net:
        qid = net.send()
        found = net.server.wait_log(r"%s: to=<.*dsn=(\S+), status=(\w+) \((.*)\)$" % qid,
                                    timeout=60)
        assert found[2] == "deferred" and found[1] == "4.4.3", found[0]


def test_an_mx_that_is_ourselves_is_a_loop():
    """Only on port 25, as in Postfix: on another port another server may answer."""
    zones = {"self.example.net": {"MX": ["10 us.example.net."]},
             "us.example.net": {"A": ["127.0.0.1"]}}
    with Net(zones, {}) as net:
        dsn, status, text = net.outcome(net.send(domain="self.example.net")).groups()
        assert (dsn, status) == ("5.4.6", "bounced")
        assert "mail for self.example.net loops back to myself" in text


def test_hosts_behind_ourselves_are_cut_off():
    """We are the second MX: the third must not get the mail when the first is down."""
    zones = {"self.example.net": {"MX": ["10 mx9.example.net.", "20 us.example.net.",
                                         "30 mx8.example.net."]},
             "us.example.net": {"A": ["127.0.0.1"]}, **hosts(8, 9)}
    with Net(zones, {}) as net:
        found = net.outcome(net.send(domain="self.example.net"))
        assert found[2] == "deferred" and "127.0.1.8" not in found[0], found[0]


def test_a_truncated_answer_is_fetched_over_tcp():
    many = ["%d mx1.example.net." % n for n in range(10, 60)]
    with Net({DOMAIN: {"MX": (TRUNCATE, many)}, **hosts(1)}, {1: {}}) as net:
        assert net.outcome(net.send())[2] == "sent"
        assert any(over == "tcp" for _, _, over in net.dns.queries)


def test_answers_are_cached_for_their_lifetime():
    zones = {DOMAIN: {"MX": ["10 mx1.example.net."]}, **hosts(1)}
    with Net(zones, {1: {}}) as net:
        for _ in range(10):
            net.outcome(net.send())
        assert net.dns.count(DOMAIN, "MX") == 1


def test_brackets_switch_mx_off():
    zones = {DOMAIN: {"MX": ["10 mx1.example.net."], "A": ["127.0.1.2"]}, **hosts(1)}
    with Net(zones, {1: {}, 2: {}}) as net:
        net.server.params["transport_maps"] = "inline:{%s=smtp:[%s]:%d}" % (
            DOMAIN, DOMAIN, net.port)
        net.server.write_config()
        assert net.server.run("postfix", "reload").returncode == 0
        net.server.wait_log("reload -- version")
        net.outcome(net.send())
        assert len(net.sinks[2].messages) == 1 and not net.sinks[1].sessions
