"""OpenSMTPD from Debian, unpacked: its package collides with Postfix's."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from compare_lib.adapter import Adapter                         # noqa: E402

# By default it waits 5 s between two connections over one route and 2 s over one relay: those pauses would
# be all one sees. One destination gets everything, so it may have more than 5 connections.
CONFIG = """\
mta limit conn-delay-route 0
mta limit conn-delay-relay 0
mta limit max-conn-per-route 50
mta limit max-conn-per-host 50
mta limit session-mail-max 1000
listen on 127.0.0.1 port %d
action "out" relay host "smtp://127.0.0.1:%d"
match from any for any action "out"
"""


class Server(Adapter):
    title = "OpenSMTPD"
    packages = ("opensmtpd",)
    pinned = "6.8.0p2-4+b4"
    unpacked = True
    users = ("opensmtpd", "opensmtpq")
    spool = ("/var/spool/smtpd", "root")

    def configure(self):
        Path("/var/lib/opensmtpd/empty").mkdir(parents=True, exist_ok=True)
        (self.dir / "smtpd.conf").write_text(CONFIG % (self.port, self.sink))

    def command(self):
        return ["/usr/sbin/smtpd", "-d", "-f", str(self.dir / "smtpd.conf")]

    def flush(self):
        return ["/usr/sbin/smtpctl", "schedule", "all"]
