"""A raw SMTP client: sends exact bytes, reads replies, and writes down what was said.

A script is a list of steps; run_script() plays it and returns the transcript, a list of
"C: ..." and "S: ..." lines that two servers can be compared by.

    "EHLO x"                 a line, CRLF added, one reply read
    b"NOOP\\r\\nNOOP\\r\\n"      exact bytes; as many replies read as there are LFs
    Block(b"...", replies=3) exact bytes, this many replies
    Data(b"...")             exact content bytes, then the final dot; one reply. Nothing is quoted
    Pause(0.2) Drop()        wait; close the connection without QUIT
    Timed(step)              note how many seconds (rounded) the replies took
    Reset()                  close the connection with RST
"""

import re
import socket
import struct
import time
from dataclasses import dataclass


@dataclass
class Block:
    data: bytes
    replies: int = 1


@dataclass
class Data:
    data: bytes


@dataclass
class Pause:
    seconds: float


@dataclass
class Timed:
    step: object


class Drop:
    def __repr__(self):
        return "Drop()"


class Reset:
    def __repr__(self):
        return "Reset()"


@dataclass
class Reply:
    code: int | None          # None: the connection ended, or the time did
    lines: list               # without CRLF; a line that ended in a bare LF keeps a mark
    end: str = ""             # "", "<EOF>" or "<TIMEOUT>"

    @property
    def text(self):
        return "\n".join(self.lines) + self.end


class Smtp:
    """One connection. Replies are read to their last line; bytes behind them stay for the next."""

    def __init__(self, port, host="127.0.0.1", source=None, timeout=10):
        self.sock = socket.create_connection(
            (host, port), timeout=timeout, source_address=(source, 0) if source else None)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout = timeout
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self, reset=False):
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def send(self, data):
        """False when the peer has closed; its last words may still be read."""
        try:
            self.sock.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def reply(self, timeout=None):
        limit = time.monotonic() + (timeout or self.timeout)
        lines = []
        while True:
            while b"\n" not in self.buffer:
                left = limit - time.monotonic()
                if left <= 0:
                    return Reply(None, lines, "<TIMEOUT>")
                self.sock.settimeout(left)
                try:
                    more = self.sock.recv(65536)
                except socket.timeout:
                    return Reply(None, lines, "<TIMEOUT>")
                except ConnectionResetError:
                    more = b""
                if not more:
                    rest = [self.buffer.decode("latin-1")] if self.buffer else []
                    return Reply(None, lines + rest, "<EOF>")
                self.buffer += more
            raw, self.buffer = self.buffer.split(b"\n", 1)
            text = raw[:-1].decode("latin-1") if raw.endswith(b"\r") else \
                raw.decode("latin-1") + "<BARE LF>"
            lines.append(text)
            if not re.match(r"\d\d\d-", text):
                code = int(text[:3]) if re.match(r"\d\d\d", text) else None
                return Reply(code, lines)

    def command(self, line, expected=None):
        self.send(line.encode("utf-8") + b"\r\n")
        return self.expect(expected)

    def expect(self, code=None):
        reply = self.reply()
        if code is not None and reply.code != code:
            raise AssertionError("wanted %s, got: %s" % (code, reply.text))
        return reply

    def data(self, content):
        """Message content as it is on the wire, quoted and closed here; the reply."""
        quoted = re.sub(rb"(^|\r\n)\.", rb"\1..", content)
        if not quoted.endswith(b"\r\n"):
            quoted += b"\r\n"
        self.send(quoted + b".\r\n")
        return self.expect()


def printable(data, limit=160):
    text = "".join(chr(c) if 32 <= c < 127 else "\\x%02x" % c if c not in (10, 13) else
                   {10: "\\n", 13: "\\r"}[c] for c in data)
    return text if len(text) <= limit else "%s...(%d bytes)" % (text[:limit], len(data))


def run_script(port, steps, source=None, timeout=10, host="127.0.0.1", greet=True):
    """Play steps on a new connection; the transcript. QUIT is added unless the script ends it."""
    transcript = []
    steps = list(steps)
    last = steps[-1] if steps else None
    closes = isinstance(last, (Drop, Reset)) or \
        (isinstance(last, str) and last.upper().startswith("QUIT"))
    if not closes:
        steps.append("QUIT")

    def read(peer, count):
        for _ in range(count):
            reply = peer.reply()
            transcript.extend("S: " + line for line in reply.lines)
            if reply.end:
                transcript.append("S: " + reply.end)
                return False
        return True

    def play(peer, step):
        if isinstance(step, Timed):
            began = time.monotonic()
            alive = play(peer, step.step)
            transcript.append("S: (after %d s)" % round(time.monotonic() - began))
            return alive
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return True
        if isinstance(step, (Drop, Reset)):
            peer.close(reset=isinstance(step, Reset))
            transcript.append("C: " + repr(step))
            return False
        if isinstance(step, str):
            data, replies = step.encode("utf-8") + b"\r\n", 1
        elif isinstance(step, Data):
            data, replies = step.data + b".\r\n", 1
        elif isinstance(step, Block):
            data, replies = step.data, step.replies
        else:
            data, replies = step, step.count(b"\n")
        transcript.append("C: " + printable(data))
        peer.send(data)
        return read(peer, replies)

    with Smtp(port, host=host, source=source, timeout=timeout) as peer:
        alive = read(peer, 1) if greet else True
        for step in steps:
            if not alive:
                break
            alive = play(peer, step)
        if alive:
            # After QUIT the server has nothing more to say: any further byte is a difference.
            read(peer, 1)
    return transcript
