"""A scriptable next hop: an SMTP server that answers as told and remembers every byte.

    sink = Sink({"rcpt": ["250 2.1.5 Ok", "550 5.1.1 no such user"], "dot": "452 4.3.1 full"})

An answer may be
    "450 4.2.0 text"      that reply ("250-a\\r\\n250 b" for several lines)
    DROP                  close the connection instead of answering
    Slow(2, answer)       answer after 2 seconds
    Meet(5, answer)       answer when five connections have come, over all that there were
    HANG                  never answer; the connection stays open until the sink closes
    [a, b, c]             first time a, then b, then c for ever (counted within one connection)
    Across([a, b])        the same, counted over all connections
    f(session, argument)  a function that returns one of these
Stages: greeting ehlo helo mail rcpt data dot rset quit noop vrfy starttls other.
With DROP at "data" the connection closes instead of 354; "content" set to DROP closes it in the
middle of the content.
"""

import re
import socket
import threading
import time
from dataclasses import dataclass, field

from .ports import free_port

KEYWORDS = ("PIPELINING", "SIZE 10240000", "VRFY", "ETRN", "ENHANCEDSTATUSCODES", "8BITMIME",
            "DSN", "SMTPUTF8")
PLAIN = {
    "greeting": "220 sink.example.net ESMTP",
    "helo": "250 sink.example.net",
    "mail": "250 2.1.0 Ok",
    "rcpt": "250 2.1.5 Ok",
    "data": "354 End data with <CR><LF>.<CR><LF>",
    "dot": "250 2.0.0 Ok",
    "rset": "250 2.0.0 Ok",
    "noop": "250 2.0.0 Ok",
    "vrfy": "252 2.0.0 Ok",
    "quit": "221 2.0.0 Bye",
    "starttls": "502 5.5.1 no",
    "other": "500 5.5.2 command not recognized",
}


class _Token:
    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return self.name


DROP = _Token("DROP")
HANG = _Token("HANG")


@dataclass
class Slow:
    seconds: float
    answer: object


@dataclass
class Meet:
    sessions: int
    answer: object


class Across(list):
    """Counted over all connections of the sink, not within each."""


@dataclass
class Message:
    mail: str                   # the MAIL command as it was sent
    rcpts: list                 # accepted RCPT commands as they were sent
    raw: bytes                  # between 354 and the final dot line, exactly
    session: object
    at: float

    @property
    def content(self):
        """With the dots unquoted."""
        return re.sub(rb"(^|\r\n)\.\.", rb"\1.", self.raw)

    def header(self, name):
        found = re.search(rb"(?mi)^" + name.encode() + rb":[ \t]*(.*(?:\r?\n[ \t].*)*)",
                          self.content.split(b"\r\n\r\n", 1)[0])
        return found[1].decode("latin-1").replace("\r", "") if found else None


@dataclass
class Session:
    number: int
    peer: tuple
    began: float
    commands: list = field(default_factory=list)     # every line before DATA, as sent
    ahead: list = field(default_factory=list)        # was more waiting when we answered it?
    messages: list = field(default_factory=list)
    ended: float | None = None


class _Gone(Exception):
    pass


class Sink:
    def __init__(self, answers=None, keywords=KEYWORDS, host="127.0.0.1", port=None,
                 probe_pipelining=False, keep_content=True, on_message=None, lmtp=False):
        self.answers = {**PLAIN, **(answers or {})}
        self.keywords = keywords
        self.probe = probe_pipelining
        self.keep = keep_content
        self.on_message = on_message
        self.sessions = []
        self.messages = []
        self.open_now = 0
        self.open_most = 0
        self._counts = {}
        self._lock = threading.Condition()
        self._socks = set()
        self._closing = False
        self.host = host
        self.port = port or free_port()
        self.listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((host, self.port))
        self.listener.listen(512)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self._closing = True
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        with self._lock:
            open_socks = list(self._socks)
        for sock in open_socks:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def wait(self, count, timeout=20):
        """Until this many messages are here; all of them."""
        with self._lock:
            self._lock.wait_for(lambda: len(self.messages) >= count, timeout)
            if len(self.messages) < count:
                raise AssertionError("sink on port %d: %d of %d messages within %s s" % (
                    self.port, len(self.messages), count, timeout))
            return list(self.messages)

    def find(self, needle):
        """Messages whose content holds these bytes."""
        with self._lock:
            return [m for m in self.messages if needle in m.raw]

    def commands(self):
        """Every command of every session, in order."""
        return [c for s in self.sessions for c in s.commands]

    # -- one connection --------------------------------------------------------------------------
    def _accept(self):
        while not self._closing:
            try:
                sock, peer = self.listener.accept()
            except OSError:
                return
            with self._lock:
                session = Session(len(self.sessions) + 1, peer, time.time())
                self.sessions.append(session)
                self._socks.add(sock)
                self.open_now += 1
                self.open_most = max(self.open_most, self.open_now)
                self._lock.notify_all()
            threading.Thread(target=self._serve, args=(sock, session), daemon=True).start()

    def _serve(self, sock, session):
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(300)
            _Dialogue(self, sock, session).run()
        except (_Gone, OSError):
            pass
        finally:
            session.ended = time.time()
            with self._lock:
                self._socks.discard(sock)
                self.open_now -= 1
            sock.close()

    def choose(self, stage, session, argument, seen):
        answer = self.answers.get(stage, self.answers["other"])
        while True:
            if isinstance(answer, Across):
                with self._lock:
                    n = self._counts.get(stage, 0)
                    self._counts[stage] = n + 1
                answer = answer[min(n, len(answer) - 1)]
            elif isinstance(answer, (list, tuple)):
                n = seen.get(stage, 0)
                seen[stage] = n + 1
                answer = answer[min(n, len(answer) - 1)]
            elif isinstance(answer, Slow):
                time.sleep(answer.seconds)
                answer = answer.answer
            elif isinstance(answer, Meet):
                with self._lock:
                    self._lock.wait_for(lambda: len(self.sessions) >= answer.sessions, 60)
                answer = answer.answer
            elif callable(answer):
                answer = answer(session, argument)
            else:
                return answer

    def arrived(self, message):
        with self._lock:
            message.session.messages.append(message)
            self.messages.append(message)
            self._lock.notify_all()
        if self.on_message:
            self.on_message(message)


class _Dialogue:
    def __init__(self, sink, sock, session):
        self.sink, self.sock, self.session = sink, sock, session
        self.buffer = b""
        self.seen = {}
        self.forget()

    def forget(self):
        self.mail, self.rcpts = None, []

    def more(self):
        data = self.sock.recv(262144)
        if not data:
            raise _Gone()
        self.buffer += data

    def line(self):
        while b"\n" not in self.buffer:
            self.more()
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.rstrip(b"\r").decode("latin-1")

    def answer(self, stage, argument="", before=None):
        """Answer as told; the code sent. before(code) runs just ahead of sending it."""
        if self.sink.probe and stage not in ("greeting", "dot", "quit"):
            time.sleep(0.15)
            self.sock.settimeout(0.0)
            try:
                data = self.sock.recv(262144)
                self.buffer += data
            except (BlockingIOError, InterruptedError):
                pass
            self.sock.settimeout(300)
            self.session.ahead[-1] = bool(self.buffer)
        chosen = self.sink.choose(stage, self.session, argument, self.seen)
        if chosen is DROP:
            raise _Gone()
        if chosen is HANG:
            while not self.sink._closing:
                time.sleep(0.05)
            raise _Gone()
        if before:
            before(int(chosen[:3]))
        self.sock.sendall(chosen.encode("utf-8") + b"\r\n")
        return int(chosen[:3])

    def run(self):
        if self.answer("greeting") >= 500:
            self.drain()
            return
        while True:
            line = self.line()
            self.session.commands.append(line)
            self.session.ahead.append(bool(self.buffer))
            word = line.split(" ", 1)[0].upper()
            if word == "EHLO" and "ehlo" not in self.sink.answers:
                rows = ["sink.example.net", *self.sink.keywords]
                self.sock.sendall(b"".join(
                    b"250%s%s\r\n" % (b"-" if i < len(rows) - 1 else b" ", row.encode())
                    for i, row in enumerate(rows)))
            elif word == "MAIL":
                if self.answer("mail", line) == 250:
                    self.forget()
                    self.mail = line
            elif word == "RCPT":
                if self.answer("rcpt", line) // 100 == 2:
                    self.rcpts.append(line)
            elif word == "DATA":
                self.data()
            elif word == "RSET":
                self.forget()
                self.answer("rset")
            elif word == "QUIT":
                self.answer("quit")
                return
            else:
                stage = word.lower()
                self.answer(stage if stage in self.sink.answers else "other", line)

    def data(self):
        if not self.rcpts and self.sink.answers["data"] == PLAIN["data"]:
            self.sock.sendall(b"554 5.5.1 Error: no valid recipients\r\n")
            return
        if self.answer("data") != 354:
            return
        if self.sink.answers.get("content") is DROP:
            self.more()
            raise _Gone()
        parts, tail = [], b""
        # The end is searched in the last piece plus four bytes before it, so that a long message
        # costs no more than one pass.
        if self.buffer.startswith(b".\r\n"):
            raw, self.buffer = b"", self.buffer[3:]
        else:
            while True:
                window = tail + self.buffer
                at = window.find(b"\r\n.\r\n")
                if at >= 0:
                    parts.append(window[len(tail):at + 2] if at + 2 >= len(tail) else b"")
                    whole = b"".join(parts)
                    cut = len(tail) - (at + 2)
                    raw = whole[:-cut] if cut > 0 else whole
                    self.buffer = window[at + 5:]
                    break
                parts.append(self.buffer)
                tail = window[-4:]
                self.buffer = b""
                self.more()
                if len(parts) == 1 and parts[0] == b"" and self.buffer.startswith(b".\r\n"):
                    raw, self.buffer = b"", self.buffer[3:]
                    break
        message = Message(self.mail, self.rcpts, raw if self.sink.keep else b"", self.session,
                          time.time())
        if self.sink.keep == "ids":
            found = re.search(rb"(?m)^X-Test-Id: *(\S+)", raw)
            message.raw = found[0] if found else b""
        # Recorded before the 250 leaves: whoever saw the 250 in a log may look for it here.
        self.answer("dot", self.mail,
                    lambda code: self.sink.arrived(message) if code == 250 else None)
        self.forget()

    def drain(self):
        """A refused client may still say QUIT: take it, so that it sees no reset."""
        try:
            self.sock.settimeout(2)
            while b"\n" not in self.buffer:
                self.more()
            self.session.commands.append(self.line())
            self.sock.sendall(b"221 2.0.0 Bye\r\n")
        except (OSError, _Gone):
            pass
