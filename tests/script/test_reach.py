"""Hosts that cannot be reached: what a dead one of two costs its destination."""

import time

import pytest

from lib.sink import DROP, HANG, Sink

from test_dns import DOMAIN, Net, hosts

ZONES = {DOMAIN: {"MX": ["10 mx1.example.net.", "20 mx2.example.net."]}, **hosts(1, 2)}
MANY = 200


def send_all(net, count, prefix="m"):
    for number in range(count):
        net.send("%s%d" % (prefix, number))
    deadline = time.monotonic() + 60
    while net.server.log().count("to=<%s" % prefix) < count:
        assert time.monotonic() < deadline, net.server.log()[-2000:]
        time.sleep(0.05)


def met(net):
    return net.server.log().count(": connect to mx1.example.net[127.0.1.1]:%d: " % net.port)


def test_only_the_first_messages_meet_a_dead_host():
    with Net(ZONES, {2: {}}, smtp_connection_cache_on_demand="no") as net:
        send_all(net, MANY)
        assert len(net.sinks[2].messages) == MANY
        assert 1 <= met(net) <= 20, met(net)  # those that were out when the first came back


@pytest.mark.parametrize("greeting, timeout", [(DROP, "300s"), (HANG, "1s")], ids=["hangs up", "says nothing"])
def test_only_the_first_messages_meet_a_host_that(greeting, timeout):
    with Net(ZONES, {1: {"greeting": greeting}, 2: {}}, smtp_connection_cache_on_demand="no",
             smtp_helo_timeout=timeout) as net:
        send_all(net, MANY)
        assert len(net.sinks[2].messages) == MANY
        assert len(net.sinks[1].sessions) <= 20


def test_one_probe_in_a_while_and_then_back_to_the_preferred_host():
    with Net(ZONES, {2: {}}, smtp_connection_cache_on_demand="no", minimal_backoff_time="2s") as net:
        send_all(net, 20, "first")
        before, began = met(net), time.monotonic()
        for number in range(10):  # mail all the time, for five seconds and more
            send_all(net, 5, "probe%d-" % number)
            time.sleep(0.5)
        assert 1 <= met(net) - before <= (time.monotonic() - began) / 2 + 1.5, met(net) - before
        net.sinks[1] = Sink({}, host="127.0.1.1", port=net.port)
        for number in range(100):  # until one has asked
            send_all(net, 1, "ask%d-" % number)
            if net.sinks[1].messages:
                break
            time.sleep(0.1)
        send_all(net, 20, "back")
        assert len(net.sinks[1].messages) == 21, len(net.sinks[1].messages)


def test_a_fallback_relay_does_not_wait_for_dead_hosts():
    with Net(ZONES, {3: {}}, smtp_connection_cache_on_demand="no", smtp_fallback_relay="[127.0.1.3]:PORT") as net:
        send_all(net, MANY)
        assert len(net.sinks[3].messages) == MANY
        assert 1 <= met(net) <= 20, met(net)


def test_the_sixth_address_is_found_behind_five_dead_ones():
    """smtp_mx_address_limit counts those that may be reached first."""
    zones = {DOMAIN: {"MX": ["%d0 mx%d.example.net." % (n, n) for n in range(1, 7)]}, **hosts(*range(1, 7))}
    with Net(zones, {6: {}}) as net:
        assert net.outcome(net.send("one"))[2] == "deferred"
        assert net.outcome(net.send("two"))[2] == "sent"
        net.server.run("postqueue", "-f", check=True)
        net.sinks[6].wait(2)


def test_nothing_else_left():
    with Net(ZONES, {}, minimal_backoff_time="1000s") as net:
        for number in range(3):
            dsn, status, text = net.outcome(net.send("n%d" % number)).groups()
            assert (dsn, status) == ("4.4.1", "deferred") and "Connection refused" in text
        with Sink({}, host="127.0.1.1", port=net.port) as sink:
            net.server.run("postqueue", "-f", check=True)
            deadline = time.monotonic() + 20
            while len(sink.messages) < 3 and time.monotonic() < deadline:
                time.sleep(0.1)
            assert len(sink.messages) == 3
