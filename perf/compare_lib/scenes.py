"""What is measured. A scene gets a running server and yields rows: dictionaries of figures, of which
the keys in a cell (sessions, size, ...) say where they belong.

    throughput   closed loop, 10 KiB, sessions x connections reused or not
    sizes        closed loop, 20 sessions, reused, message sizes other than 10 KiB
    latency      open loop: the same Poisson arrivals for all
    idle         memory against open connections that say nothing
    backlog      intake while the next hop puts everything off, then how fast the queue empties
    proof        which sync ends between the final dot and its 250
"""

import itertools
import socket
import time

from . import trace
from .counters import Snapshot
from .keeper import Keeper, Trouble

LOST = 0.05         # for each session: when so many attempts come to nothing, it was not the same load


class World:
    """One server's life: the server, its keeper, its sink, a folder for files."""

    def __init__(self, kind, scenes, folder, options, load):
        self.kind, self.scenes, self.folder = kind, scenes, folder
        self.options, self.load = options, load
        self.server = self.keeper = None
        self.given = self.before = 0    # messages it has accepted, and what the sink had seen before
        self.complaints = []    # what went wrong without ending a scene
        self.lives = itertools.count()
        self.sink = load.Sink(folder, None if kind.local else options.sink_address,
                              "rcpt=450_4.2.0_later" if "backlog" in scenes else None)

    def begin(self):
        life = self.folder / ("life-%d" % next(self.lives))
        life.mkdir()
        self.server = self.kind(life, self.load.free_port(), self.sink.port)
        self.server.scenes = self.scenes
        if self.kind.local:
            self.keeper = Keeper(self.server)
        self.given, self.before = 0, self.sink.count()

    def end(self):
        if self.keeper is not None:
            self.keeper.end()
        self.keeper = None

    def send(self, *options, **more):
        """One load to its end; its figures."""
        done = self.load.source(self.server, self.folder, *options, **more)
        self.given += done["accepted"]
        return done

    def behind(self):
        """Accepted messages that the sink has not seen."""
        return max(0, self.given - (self.sink.count() - self.before))

    def renew(self):
        """True if it had to: what an earlier load has left in the queue would be delivered during the next one,
        at its cost and to its credit. Such a server starts again, with an empty queue."""
        if self.behind() == 0 or not self.kind.local:
            return False
        self.end()
        time.sleep(0.3)         # the sink's file is up to 0.1 s behind
        self.begin()
        return True

    def cpu(self):
        return self.keeper.cpu() if self.keeper else None

    def snapshot(self, source_s=0.0):
        return Snapshot(self.folder, self.cpu(), self.sink.cpu() + source_s)


def lost(done, sessions):
    """Why a closed loop was not the load that was meant, or None: of its sessions each has waited in vain for most of
    the time when an attempt came to nothing."""
    failed = done["refused"] + done["broken"]
    if failed <= LOST * sessions:
        return None
    stages = {stage: sum(how.values()) for stage, how in done["stages"].items()}
    return "%d sessions, %d attempts came to nothing beside %d messages: %s" % (
        sessions, failed, done["accepted"], ", ".join("%s: %d" % i for i in stages.items() if i[1]))


def closed(world, sessions, reuse, size, seconds):
    """One closed-loop load until all of it is delivered."""
    if world.renew():
        warm(world)
    sent, before, began = world.sink.count(), world.snapshot(), time.time()
    done = world.send("-s", sessions, "-c", 100 if reuse else 1, "-l", size, "-m", 0, "--seconds",
                      seconds, seconds=seconds + 60)
    accepted_at = time.time()
    why = lost(done, sessions)
    if why:
        world.complaints.append("%s, %s: %s" % (
            size, "reused" if reuse else "one message a connection", why))
    whole = world.sink.wait(sent + done["accepted"], world.options.drain) is not None
    came = world.sink.count() - sent
    if came == 0:
        raise Trouble("nothing was delivered\n" + world.server.log())
    # By the sink's own clock when all is there: its file is behind.
    delivered_at = world.sink.last_at() if whole else time.time()
    after = world.snapshot(done["cpu_user_s"] + done["cpu_system_s"])
    row = {"sessions": sessions, "reuse": reuse, "size": size, "messages": done["accepted"],
           "accepted": done["messages_per_s"], "refused": done["refused"] + done["broken"],
           "delivered": came / (delivered_at - began), "undelivered":
           max(0, done["accepted"] - came),
           "drain": max(0.0, delivered_at - accepted_at),
           "p50": done["latency"]["dot"]["p50_us"], "p99": done["latency"]["dot"]["p99_us"],
           "source": (done["cpu_user_s"] + done["cpu_system_s"]) / done["accepted"] * 1e6,
           "sink": (after.tools - done["cpu_user_s"] - done["cpu_system_s"] - before.tools) /
           came * 1e6, **before.until(after)}
    if world.keeper:
        row["cpu"] = (after.server - before.server) / came * 1e6
        row["memory"] = world.keeper.memory()
    return row


def warm(world):
    """Processes and log segments that the first mail makes are there afterwards."""
    sent = world.sink.count()
    done = world.send("-s", 20, "-c", 25, "-m", 400)
    world.sink.wait(sent + done["accepted"], max(3, world.options.drain))


def throughput(world):
    warm(world)
    for sessions, reuse in world.options.cells:
        yield closed(world, sessions, reuse, "10k", world.options.seconds)


def sizes(world):
    if "throughput" not in world.options.scenes:
        warm(world)
    for size in world.options.sizes:
        yield closed(world, 20, True, size, world.options.seconds)


def percentiles(values):
    """Of microseconds, as smtp_source gives them."""
    values = sorted(values)

    def at(share):
        return values[min(len(values) - 1, int(share * len(values)))]
    return {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": values[-1]}


def latency(world):
    """Its own sink each time: the histogram of sent-to-delivered is the sink's."""
    rate, seconds = world.options.rate, world.options.open_seconds
    acked = world.folder / "acked"
    done = world.send("-s", 500, "-c", 100, "-l", "10k", "-m", 0, "-R", rate, "--seconds", seconds,
                      "--stamps", "-a", acked, seconds=seconds + 60)
    world.sink.wait(done["accepted"], world.options.drain)
    time.sleep(0.2)
    taken, came = world.load.stamps(acked), world.sink.stamps()
    world.sink_json = world.sink.end()
    # A server that cannot keep up with the rate refuses, or answers too late: that is a figure of its own.
    row = {"rate": rate, "messages": done["accepted"], "reached": done["messages_per_s"],
           "refused": done["refused"] + done["broken"],
           "undelivered": len(taken.keys() - came.keys())}
    for name, figures in (("connect", done["latency"]["connect"]),
                          ("banner", done["latency"]["banner"]),
                          ("mail", done["latency"]["mail"]),
                          ("content", done["latency"]["content"]),
                          ("accept", done["latency"]["message"]), ("dot", done["latency"]["dot"]),
                          ("delivered", world.sink_json["latency"]["sent_to_delivered"])):
        row[name] = {p: figures[p + "_us"] for p in ("p50", "p90", "p99", "p999", "max")}
    # A server may deliver before the client has read its 250: that is no time at all.
    both = [max(0, came[i] - taken[i]) for i in taken if i in came]
    if both:
        row["after"] = percentiles(both)
    yield row


def greetings(addresses, number, seconds=3):
    """Open connections whose EHLO was answered, of so many tried at a time."""
    peers, limit = [], time.monotonic() + seconds
    for place in itertools.islice(itertools.cycle(addresses), number):
        host, port = place.rsplit(":", 1)
        peer = socket.socket()
        peer.settimeout(2)
        try:
            peer.connect((host, int(port)))
            peers.append(peer)
        except OSError:
            peer.close()
    for wanted, answer in ((b"220", b"EHLO idle.example\r\n"), (b"250", b"")):
        left = []
        for peer in peers:
            try:
                peer.settimeout(max(0.01, limit - time.monotonic()))
                if not peer.recv(2000).startswith(wanted):
                    raise OSError("another word")
                peer.sendall(answer)
                left.append(peer)
            except OSError:
                peer.close()
        peers = left
    return peers


def settled(keeper, limit_s):
    """Its memory when it has stopped falling: what a session used may be given back after a while."""
    used, limit = keeper.memory(), time.monotonic() + limit_s
    while time.monotonic() < limit:
        time.sleep(0.5)
        now = keeper.memory()
        if now > 0.995 * used:
            return now
        used = now
    return used


def idle(world):
    peers, full = [], False
    limit = time.monotonic() + 60
    try:
        base = world.keeper.memory()
        for wanted in world.options.connections:
            while len(peers) < wanted and not full and time.monotonic() < limit:
                more = greetings(world.server.addresses(), min(50, wanted - len(peers)))
                peers += more
                full = not more         # every process it may have is taken
            time.sleep(2 if wanted > 1000 else 0.3)
            used = settled(world.keeper, 4)
            yield {"connections": wanted, "answered": len(peers), "memory": used,
                   "each": (used - base) / max(1, len(peers))}
            if full:
                break
    finally:
        for peer in peers:
            peer.close()


def backlog(world):
    """The sink of this life puts everything off (see compare); it is replaced by a healthy one."""
    for number in range(world.options.chunks):
        cpu = world.cpu()
        done = world.send("-s", 20, "-c", 100, "-l", "10k", "-m", world.options.chunk)
        why = lost(done, 20)
        if why:
            world.complaints.append(why)
        yield {"step": number + 1, "queued": (number + 1) * world.options.chunk,
               "accepted": done["messages_per_s"], "p99": done["latency"]["dot"]["p99_us"],
               "cpu": (world.cpu() - cpu) / done["accepted"] * 1e6,
               "memory": world.keeper.memory()}
    time.sleep(2)
    came = world.sink.count()
    address = world.sink.address
    world.sink.end()
    world.sink = world.load.Sink(world.folder, address)
    wanted = world.options.chunk * world.options.chunks - came
    command = world.server.flush()
    if command is None:
        return
    began = time.monotonic()
    child = world.keeper.run(command)
    arrived = None
    try:
        while time.monotonic() - began < world.options.drain_backlog and arrived is None:
            arrived = world.sink.wait(wanted, 5)
            if arrived is None and child.poll():
                raise Trouble("%s: exit status %d" % (" ".join(command), child.returncode))
            if arrived is None and child.poll() is not None:
                child = world.keeper.run(command)
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
    yield {"step": "drain", "queued": wanted, "drained": world.sink.count(),
           "drain": world.sink.count() / ((arrived or time.monotonic()) - began)}


def proof(world):
    yield trace.proof(world.server, world.keeper, world.options.proofs, world.folder)


SCENES = {"throughput": throughput, "sizes": sizes, "latency": latency, "idle": idle,
          "backlog": backlog, "proof": proof}
