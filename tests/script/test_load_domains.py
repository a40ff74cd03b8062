"""A thousand destinations on one machine: mail goes through MX records of perf/load's DNS server to its sink, where
each address has manners of its own. SPEC RFC 5321 §4.5.4.1, §5.1."""

import json
import re
import signal
import socket
import subprocess
import time

import pytest

from lib.instance import Ringpost, ringpost_bin
from lib.ports import free_port

BIN = ringpost_bin()
DOMAINS = 1000
# dN.example.net lives at 127.1.0.1 + N - 1.
MANNERS = """
127.1.0.101-127.1.0.150   rcpt=550_5.1.1_unknown_user
127.1.0.151-127.1.0.200   mail=451_4.3.2_not_now:first=1
127.1.0.201-127.1.0.220   dot=450_4.2.0_once_more:first=1
127.1.0.221-127.1.0.230   banner=drop:first=1
127.1.0.231-127.1.0.240   connections=1
127.1.0.241-127.1.0.245   tarpit=1ms
127.1.0.246-127.1.0.250   greylist=1s delay.dot=20ms
"""
REFUSED = range(101, 151)


class Tool:
    def __init__(self, *command):
        self.process = subprocess.Popen([BIN / command[0], *map(str, command[1:])],
                                        stdout=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def wait_for(port):
    limit = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.255.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < limit, "smtp_sink does not listen"
            time.sleep(0.05)


@pytest.mark.skipif(not (BIN / "dns_zone").exists(), reason="dns_zone is not built")
def test_a_thousand_destinations_with_manners_of_their_own(tmp_path):
    """One message each. Who refuses gets none and is bounced to its sender; everybody else gets his one,
    whatever he made of the first attempt."""
    (tmp_path / "rules").write_text(MANNERS)
    out, sent, ids = tmp_path / "sink.json", tmp_path / "source.json", tmp_path / "received"
    smtp, dns = free_port("0.0.0.0"), free_port()
    sink = Tool("smtp_sink", "-q", "-r", tmp_path / "rules", "-j", out, "-o", ids,
                "127.0.0.0/8:%d" % smtp)
    zone = Tool("dns_zone", "-d", "d#.example.net", "-n", DOMAINS, "127.0.0.1:%d" % dns)
    with zone, sink, Ringpost(params={
            "dns_forward": "127.0.0.1@%d" % dns, "smtp_dns_support_level": "enabled",
            "smtp_tcp_port": str(smtp), "minimal_backoff_time": "1s", "queue_run_delay": "1s",
            "maximal_backoff_time": "2s"}) as server:
        wait_for(smtp)
        done = subprocess.run(
            [BIN / "smtp_source", "-q", "-s", "20", "-m", str(DOMAINS), "-c", "50", "-l", "1k", "-j", sent,
             "--from", "sender@d1.example.net", "--to", "user@d%{1-1000}.example.net",
             "127.0.0.1:%d" % server.port], timeout=60, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        wanted = DOMAINS - len(REFUSED)
        limit = time.monotonic() + 90
        while ids.read_text().count("\n") < wanted and time.monotonic() < limit:
            time.sleep(0.2)
        while "queue is empty" not in server.run("mailq").stdout and time.monotonic() < limit:
            time.sleep(0.2)
        log = server.log()
    got = json.loads(out.read_text())
    assert json.loads(sent.read_text())["accepted"] == DOMAINS
    assert got["distinct_ids"] == wanted
    assert got["repeated"] == 0
    at = {int(a.split(".")[2]) * 256 + int(a.split(".")[3]): p for a, p in got["addresses"].items()
          if a.startswith("127.1.")}
    for number in range(2, DOMAINS + 1):
        assert at[number]["messages"] == (0 if number in REFUSED else 1), number
    # The bounces went to the sender's domain, which got its own message, too.
    assert at[1]["messages"] == 1 + len(REFUSED) and got["without_id"] == len(REFUSED)
    assert len(set(re.findall(r"to=<user@(d\d+)\.example\.net>.*status=bounced", log))) == len(REFUSED)
    deferred = set(map(int, re.findall(r"to=<user@d(\d+)\.example\.net>.*status=deferred", log)))
    assert deferred == {*range(151, 231), *range(246, 251)}
