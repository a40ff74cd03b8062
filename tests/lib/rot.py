"""A server with several hundred deferred messages, and the means to damage its queue.

The oracle reads the log by the format chapter of queue/store/segment.h, before anything is damaged, and so
knows which message each byte belongs to.
"""

import os
import random
import re
import struct
import threading
import time
from dataclasses import dataclass

from .dialogue import Smtp
from .instance import Ringpost

BLOCK = 4096
HEAD = 48               # of a record
MESSAGES = 450
LARGE = 20              # of these beyond queue_inline_limit
INLINE_LIMIT = 16384


@dataclass
class Kept:
    """Where a message lies."""
    seq: int
    segment: str
    start: int
    end: int
    spilled: bool
    content: bytes
    envelope: tuple         # its bytes: an index row has them too

    @property
    def harmless(self):
        body = self.start + HEAD
        return (body, body + 16), (body + 20, body + 24), self.envelope


@dataclass
class Hit:
    must: set               # be set aside
    may: set                # those, and more that may be
    nameless: set           # those of them whose id only an index knows

    def __ior__(self, other):
        self.must |= other.must
        self.may |= other.may
        self.nameless |= other.nameless
        return self


def content(path, start, end, seq):
    """Has it a file of its own, its bytes, and where the envelope is."""
    record = path.read_bytes()[start + HEAD:end]
    size, = struct.unpack_from("<I", record, 16)
    envelope = (start + HEAD + 40, start + HEAD + 40 + size)
    if record[0] & 1:
        return True, (path.parent.parent / "content" / ("%016x" % seq)).read_bytes(), envelope
    return False, record[40 + size:], envelope


def records(path):
    """(offset, type, seq, end) of each record of a segment's present life."""
    data = path.read_bytes()
    epoch = data[8:16]
    at = BLOCK
    while (at := data.find(b"RPr1", at)) >= 0:
        if at % 8 == 0 and data[at + 16:at + 24] == epoch:
            kind, = struct.unpack_from("<B", data, at + 4)
            length, = struct.unpack_from("<I", data, at + 8)
            seq, = struct.unpack_from("<Q", data, at + 24)
            if at + HEAD + length <= len(data):
                yield at, kind, seq, at + HEAD + length
        at += 4


class World:
    """A server whose next hop does not answer, and what was given to it."""

    def __init__(self, seed, messages=MESSAGES, large=LARGE, params=None):
        self.seed = seed
        self.chance = random.Random(seed)
        self.bodies, self.ids = {}, {}          # number -> content as sent, queue id
        self.server = Ringpost(params={
            "relayhost": "[127.0.0.1]:1", "queue_segment_size": "1048576",
            "queue_inline_limit": str(INLINE_LIMIT), "minimal_backoff_time": "3600s",
            "maximal_backoff_time": "3600s", "queue_run_delay": "3600s", **(params or {})})
        self.log_from = 0
        self.server.start()
        self.fill(messages, large)
        self.where = {}

    def fill(self, messages, large):
        numbers = list(range(messages))
        lock = threading.Lock()
        failed = []

        def client():
            try:
                with Smtp(self.server.port, timeout=30) as peer:
                    peer.expect(220)
                    peer.command("EHLO rot.example", 250)
                    while True:
                        with lock:
                            if not numbers:
                                return
                            n = numbers.pop()
                            size = (self.chance.randint(INLINE_LIMIT + 1, 200000) if n < large
                                    else self.chance.randint(300, 15000))
                            text = "".join(self.chance.choices("abcdefghij \n", k=size))
                        body = b"X-Id: %d\r\nSubject: rot\r\n\r\nbegin\r\n%s\r\nend\r\n" % (
                            n, text.replace("\n", "\r\n").encode())
                        peer.command("MAIL FROM:<>", 250)
                        peer.command("RCPT TO:<r%d@dest.example>" % n, 250)
                        peer.command("DATA", 354)
                        reply = peer.data(body)
                        assert reply.code == 250, reply.text
                        self.bodies[n] = body
                        self.ids[n] = re.search(r"queued as (\S+)", reply.text).group(1)
            except BaseException as why:        # told to the test, not to the thread
                failed.append(why)

        threads = [threading.Thread(target=client) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        if failed:
            raise failed[0]
        if messages:
            self.server.wait_log(r"status=deferred", count=messages, timeout=60)

    def add(self, sender, recipients, body):
        """One message more; its number."""
        n = len(self.ids)
        self.bodies[n] = body
        self.ids[n] = self.server.submit(sender, recipients, body)
        self.server.wait_log(r"%s: .*status=deferred" % self.ids[n], count=len(recipients))
        return n

    @property
    def log_folder(self):
        return self.server.queue / "log"

    def segments(self):
        """Those that have something in them, oldest first."""
        return [p for p in sorted(self.log_folder.glob("seg-*")) if any(True for _ in records(p))]

    def stop(self, kill=False):
        if kill:
            self.server.kill_all()
        else:
            self.server.stop()
        by_seq = {}
        for path in self.segments():
            for start, kind, seq, end in records(path):
                if kind == 1:
                    by_seq[seq] = Kept(seq, path.name, start, end, *content(path, start, end, seq))
        self.where = {n: by_seq[int(one[5:], 16)] for n, one in self.ids.items()}
        for n, kept in self.where.items():
            assert self.bodies[n].split(b"\r\n\r\n", 1)[1] in kept.content
        self.log_from = self.server.log_size()

    def flip(self, path, count=1, low=0, high=None):
        """Random bits; the offsets."""
        size = path.stat().st_size
        hit = []
        with open(path, "r+b") as handle:
            for _ in range(count):
                at = self.chance.randrange(low, high or size)
                handle.seek(at)
                byte = handle.read(1)[0]
                handle.seek(at)
                handle.write(bytes([byte ^ 1 << self.chance.randrange(8)]))
                hit.append(at)
        return hit

    def hit_by(self, name, low, high):
        """Messages with a byte of their record in [low, high) of a segment: those that cannot be whole,
        and those that may be: of envelope, flags and due time an index row has a copy."""
        may = {n for n, k in self.where.items() if k.segment == name and k.start < high and low < k.end}
        return Hit({n for n in may if not any(a <= low and high <= b for a, b in self.where[n].harmless)}, may,
                   {n for n in may if low < self.where[n].envelope[1]})

    def content_file(self, n):
        return self.server.queue / "content" / ("%016x" % self.where[n].seq)

    def deliver(self, sink, hit, index=True):
        """Start with a next hop that answers, and count. index: it has a row of every message."""
        server = self.server
        server.params["relayhost"] = "[127.0.0.1]:%d" % sink.port
        server.write_config()
        try:
            server.start()
            server.run("postqueue", "-f", check=True)
            limit = time.monotonic() + 60
            while time.monotonic() < limit and self.left():
                time.sleep(0.1)
            self.judge(sink, hit, index)
            server.stop()
        except BaseException:
            print("seed %d: --rot-seed %d" % (self.seed, self.seed))
            raise

    def left(self):
        """Messages the queue still tells of."""
        return "Mail queue is empty" not in self.server.run("mailq").stdout

    def set_aside(self):
        folder = self.server.queue / "corrupt"
        names = {p.name for p in folder.iterdir()}
        return {n for n, one in self.ids.items() if one in names}

    def kept_in_pieces(self, n):
        """Are bytes of it in any file of corrupt/? One hit may have taken some of them."""
        whole = self.where[n].content
        chunks = [whole[at:at + 60] for at in range(0, len(whole) - 60, max(60, len(whole) // 8))]
        return any(chunk in path.read_bytes() for path in (self.server.queue / "corrupt").iterdir()
                   for chunk in chunks)

    def judge(self, sink, hit, index=True):
        log = self.server.log(self.log_from)
        delivered = {}
        for message in list(sink.messages):
            n = int(message.header("X-Id"))
            assert message.content == self.where[n].content, "message %d came damaged" % n
            delivered[n] = delivered.get(n, 0) + 1
        twice = [n for n, times in delivered.items() if times > 1]
        assert not twice, "delivered twice: %s" % twice
        aside = self.set_aside()
        nowhere = set(self.bodies) - set(delivered) - aside
        assert not aside & set(delivered), "delivered and set aside: %s" % (aside & set(delivered))
        assert not set(delivered) & hit.must, "damaged, and yet delivered"
        lost = set(self.bodies) - hit.may - set(delivered)
        assert not lost, self.server.error("undamaged, but not delivered: %s, e.g. %s" % (
            sorted(lost), self.ids[min(lost)]))
        unnamed = nowhere - (set() if index else hit.nameless)
        assert not unnamed, self.server.error("damaged, but not named: %s" % [
            self.ids[n] for n in unnamed])
        for n in nowhere:
            assert self.kept_in_pieces(n), self.server.error("%s is not kept" % self.ids[n])
        for n in aside:
            assert re.search(r"warning: corrupt/%s: .* set aside" % self.ids[n], log), \
                self.server.error("%s is not in the log" % self.ids[n])
        print("delivered %d, set aside %d, without a name %d" % (
            len(delivered), len(aside), len(nowhere)))

    def close(self):
        self.server.kill_all()
        self.server.check_reports()
        self.server.remove()


def damage_index(world, how):
    path = world.server.queue / "index/data.mdb"
    world.server.index_damaged = True
    size = path.stat().st_size
    if how == "garbage":
        path.write_bytes(world.chance.randbytes(size))
    elif how == "cut short":
        os.truncate(path, world.chance.randrange(BLOCK, size // 2))
    elif how == "a page of zeros":
        with open(path, "r+b") as handle:
            handle.seek(BLOCK * world.chance.randrange(2, 40))
            handle.write(bytes(BLOCK))
    elif how == "gone":
        path.unlink()
    else:
        world.flip(path, 200 if how == "many flips" else 3, 0, min(size, 40 * BLOCK))
