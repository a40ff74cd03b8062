"""Exim from Debian, unpacked: its package collides with Postfix's."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from compare_lib.adapter import Adapter                         # noqa: E402

# Departures from its defaults: more than 20 connections at a time, no name or ident look-ups, and
# delivery of every message at once (by default only of the first ten of a connection).
CONFIG = """\
primary_hostname = mail.perf.example
spool_directory = /var/spool/exim4
log_file_path = %(dir)s/%%slog
local_interfaces = 127.0.0.1
daemon_smtp_ports = %(port)d
smtp_accept_max = 3000
smtp_accept_max_per_connection = 0
smtp_accept_queue_per_connection = 0
smtp_connect_backlog = 1000
rfc1413_query_timeout = 0s
host_lookup =
tls_advertise_hosts =
message_size_limit = 100M
acl_smtp_rcpt = accept
queue_only_load_latch = false
begin routers
next:
  driver = manualroute
  route_list = * 127.0.0.1 byname
  transport = out
  self = send
begin transports
out:
  driver = smtp
  port = %(sink)d
  allow_localhost
begin retry
* * F,1d,15m
"""


class Server(Adapter):
    title = "Exim"
    packages = ("exim4-daemon-light",)
    pinned = "4.96-15+deb12u10"
    unpacked = True
    users = ("Debian-exim",)
    spool = ("/var/spool/exim4", "Debian-exim")

    def configure(self):
        # Only in its own place is a configuration read with root's rights.
        path = Path("/etc/exim4/exim4.conf")
        path.write_text(CONFIG % {"dir": self.dir, "port": self.port, "sink": self.sink})
        path.chmod(0o644)
        self.dir.chmod(0o1777)      # its logs, as another user

    def command(self):
        return ["/usr/sbin/exim4", "-bdf", "-q15m"]

    def flush(self):
        return ["/usr/sbin/exim4", "-qff"]
