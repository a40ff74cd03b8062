"""A small authoritative DNS server for test zones, UDP and TCP on one loopback port.

    dns = DnsServer({"dest.example.net": {"MX": ["10 mx1.example.net."]},
                     "mx1.example.net":  {"A": ["127.0.0.1"]}})
    server = Ringpost(params={"dns_forward": dns.forward, "smtp_dns_support_level": "enabled"})

A name that is not in the table is NXDOMAIN; one that is but lacks the type is NOERROR without
data. A value may also be SERVFAIL, REFUSED, SILENT (no answer at all) or TRUNCATE (UDP says "use
TCP", TCP answers with the records that follow: (TRUNCATE, [...])). Names under .test, .invalid and
.localhost never get here: libunbound answers those itself. Real Postfix cannot be pointed to a
port, so this serves Ringpost only.
"""

import socket
import struct
import threading

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from .ports import free_port

SERVFAIL, REFUSED, SILENT, TRUNCATE = "SERVFAIL", "REFUSED", "SILENT", "TRUNCATE"


class DnsServer:
    def __init__(self, zones, ttl=60, host="127.0.0.1"):
        self.ttl = ttl
        self.host = host
        self.queries = []                       # (name, type, "udp" or "tcp")
        self._lock = threading.Lock()
        self.set(zones)
        self.port = free_port()
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((host, self.port))
        self._tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._tcp.bind((host, self.port))
        self._tcp.listen(32)
        self._closing = False
        threading.Thread(target=self._serve_udp, daemon=True).start()
        threading.Thread(target=self._serve_tcp, daemon=True).start()

    @property
    def forward(self):
        return "%s@%d" % (self.host, self.port)

    def set(self, zones):
        """Replace all zones."""
        self.zones = {dns.name.from_text(k).to_text().lower(): v for k, v in zones.items()}

    def count(self, name, kind):
        wanted = dns.name.from_text(name).to_text().lower()
        with self._lock:
            return sum(1 for n, t, _ in self.queries if n == wanted and t == kind)

    def close(self):
        self._closing = True
        for sock in (self._udp, self._tcp):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def answer(self, wire, over):
        """The reply's bytes, or None for silence."""
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text().lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        with self._lock:
            self.queries.append((name, kind, over))
        reply = dns.message.make_response(query, recursion_available=True)
        reply.flags |= dns.flags.AA
        for _ in range(9):                      # a chain of aliases has an end
            types = self.zones.get(name)
            if types is None:
                # An empty non-terminal exists: NXDOMAIN for it would deny all names below it.
                if not reply.answer and not any(z.endswith("." + name) for z in self.zones):
                    reply.set_rcode(dns.rcode.NXDOMAIN)
                break
            value = types.get(kind, types.get("ANY"))
            if value is None and "CNAME" in types and kind != "CNAME":
                target = types["CNAME"][0]
                reply.answer.append(dns.rrset.from_text(name, self.ttl, "IN", "CNAME", target))
                name = dns.name.from_text(target).to_text().lower()
                continue
            if value == SILENT:
                return None
            if value in (SERVFAIL, REFUSED):
                reply.set_rcode(getattr(dns.rcode, value))
                break
            if isinstance(value, tuple):
                if over == "udp":
                    reply.flags |= dns.flags.TC
                    break
                value = value[1]
            if value:
                reply.answer.append(dns.rrset.from_text(name, self.ttl, "IN", kind, *value))
            break
        if not reply.answer and reply.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN) \
                and not reply.flags & dns.flags.TC:
            reply.authority.append(dns.rrset.from_text(
                ".", self.ttl, "IN", "SOA", "ns.example.net. root.example.net. 1 60 60 60 60"))
        return reply.to_wire()

    def _serve_udp(self):
        while not self._closing:
            try:
                wire, peer = self._udp.recvfrom(65535)
                reply = self.answer(wire, "udp")
                if reply:
                    self._udp.sendto(reply, peer)
            except OSError:
                return
            except dns.exception.DNSException:
                continue

    def _serve_tcp(self):
        while not self._closing:
            try:
                sock, _ = self._tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._one_tcp, args=(sock,), daemon=True).start()

    def _one_tcp(self, sock):
        with sock:
            sock.settimeout(10)
            try:
                stream = sock.makefile("rb")
                while True:
                    head = stream.read(2)
                    if len(head) < 2:
                        return
                    wire = stream.read(struct.unpack("!H", head)[0])
                    reply = self.answer(wire, "tcp")
                    if reply:
                        sock.sendall(struct.pack("!H", len(reply)) + reply)
            except (OSError, dns.exception.DNSException):
                return
