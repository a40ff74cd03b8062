"""A mail filter for real Postfix: at the end of each message it asks for the changes it was given.

    with Milter([add_header("X-Seen", "yes"), delete_rcpt("b@dest.example")]) as milter:
        params = {"smtpd_milters": "inet:127.0.0.1:%d" % milter.port}
"""

import socket
import struct
import threading


def add_header(name, value):
    return b"h" + name.encode() + b"\0" + value.encode() + b"\0"


def change_header(index, name, value):
    return b"m" + struct.pack(">I", index) + name.encode() + b"\0" + value.encode() + b"\0"


def add_rcpt(address):
    return b"+<" + address.encode() + b">\0"


def delete_rcpt(address):
    return b"-<" + address.encode() + b">\0"


def change_sender(address):
    return b"e<" + address.encode() + b">\0"


def replace_body(text):
    return b"b" + text


def quarantine(why):
    return b"q" + why.encode() + b"\0"


class Milter:
    # Version 6; may change everything; wants to hear of nothing but the end of the message.
    ANSWER = b"O" + struct.pack(">III", 6, 0x1FF, 0x37F)

    def __init__(self, changes):
        self.changes = changes
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        with sock, sock.makefile("rb") as stream:
            while True:
                head = stream.read(4)
                if len(head) < 4:
                    return
                packet = stream.read(struct.unpack(">I", head)[0])
                verb = packet[:1]
                if verb == b"O":
                    self._send(sock, self.ANSWER)
                elif verb == b"E":
                    for change in self.changes:
                        self._send(sock, change)
                    self._send(sock, b"c")
                elif verb == b"Q":
                    return

    @staticmethod
    def _send(sock, packet):
        sock.sendall(struct.pack(">I", len(packet)) + packet)
