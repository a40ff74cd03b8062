"""OpenSMTPD from Debian, unpacked: its package collides with Postfix's."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from compare_lib.adapter import Adapter                         # noqa: E402

# Departures from its defaults, because one destination gets everything:
# - It waits 5 s between two connections over one route, 2 s over one relay, and 3 s after one has ended.
# - It has 5 connections over one route, 10 to one host, 20 from one address; 100 messages a connection.
# - With 50 messages at hand it takes no more, and asks for ten when 20 are gone: connections for half of them.
#   What it then holds beyond 1,000 messages is put off. The scheduler never hands out 10,000.
# - All connections end when for a moment there is nothing to send; the next one is opened when it looks for
#   another own address: after 1 s when the last one it found was new, else after 10.
CONFIG = """\
mta limit conn-delay-route 0
mta limit conn-delay-relay 0
mta limit reconn-delay-route 0
mta limit max-conn-per-route 100
mta limit max-conn-per-host 100
mta limit max-conn-per-connector 100
mta limit session-mail-max 1000
mta limit task-hiwat 10000
%(listen)s
table sources { %(sources)s }
action "out" relay host "smtp://127.0.0.1:%(sink)d" src <sources>
match from any for any action "out"
"""
SOURCES = ["127.0.1.%d" % n for n in range(1, 251)]
ADDRESSES = ["127.0.0.%d" % n for n in range(1, 33)]


class Server(Adapter):
    title = "OpenSMTPD"
    packages = ("opensmtpd",)
    pinned = "6.8.0p2-4+b4"
    unpacked = True
    users = ("opensmtpd", "opensmtpq")
    spool = ("/var/spool/smtpd", "root")
    # Of more clients that connect at a time Linux answers some with a cookie and forgets them: they see no banner.
    remark = "It calls listen(2) with 5, and no setting changes that: the load goes to %d of its addresses in turn, " \
        "so that no client is lost. It delivers from %d. It has half as many connections as descriptors." % (
            len(ADDRESSES), len(SOURCES))

    def addresses(self):
        return ["%s:%d" % (address, self.port) for address in ADDRESSES]

    def configure(self):
        Path("/var/lib/opensmtpd/empty").mkdir(parents=True, exist_ok=True)
        # Its resolver asks name servers first, /etc/hosts afterwards: each connection would wait for what this
        # machine's name server makes of 1.0.0.127.in-addr.arpa, and for 5 s when the answer is lost.
        names = Path("/etc/resolv.conf")
        names.unlink(missing_ok=True)
        names.write_text("lookup file\n")
        (self.dir / "smtpd.conf").write_text(CONFIG % {
            "listen": "\n".join("listen on %s port %d" % (a, self.port) for a in ADDRESSES),
            "sources": ", ".join(SOURCES), "sink": self.sink})

    def command(self):
        return ["/usr/sbin/smtpd", "-d", "-f", str(self.dir / "smtpd.conf")]

    def flush(self):
        # The package's own script would make it setgid.
        return ["/usr/bin/setpriv", "--regid", "opensmtpq", "--clear-groups", "/usr/sbin/smtpctl",
                "schedule", "all"]
