"""What is measured. A scene gets a running server and yields rows: dictionaries of figures, of which
the keys in a cell (sessions, size, ...) say where they belong.

    throughput   closed loop, 10 KiB, sessions x connections reused or not
    sizes        closed loop, 20 sessions, reused, message sizes
    latency      open loop: the same Poisson arrivals for all
    idle         memory against open connections that say nothing
    backlog      intake while the next hop puts everything off, then how fast the queue empties
    proof        which sync ends between the final dot and its 250
"""

import socket
import time

from . import trace
from .keeper import Trouble


class World:
    """One server's life: the server, its keeper, its sink, a folder for files."""

    def __init__(self, server, keeper, sink, folder, options, load):
        self.server, self.keeper, self.sink = server, keeper, sink
        self.folder, self.options, self.load = folder, options, load

    def cpu(self):
        return self.keeper.cpu() if self.keeper else None


def closed(world, sessions, reuse, size, seconds):
    """One closed-loop load until all of it is delivered."""
    sent, cpu, sink_cpu = world.sink.count(), world.cpu(), world.sink.cpu()
    began = time.monotonic()
    done = world.load.source(world.server, world.folder, "-s", sessions, "-c",
                             100 if reuse else 1, "-l", size, "-m", 0, "--seconds", seconds,
                             seconds=seconds + 60)
    accepted_at = time.monotonic()
    arrived = world.sink.wait(sent + done["accepted"], world.options.drain)
    came = world.sink.count() - sent
    if arrived is None and came == 0:
        raise Trouble("nothing was delivered\n" + world.server.log())
    time.sleep(0.1)
    row = {"sessions": sessions, "reuse": reuse, "size": size, "messages": done["accepted"],
           "accepted": done["messages_per_s"], "refused": done["refused"] + done["broken"],
           "delivered": came / ((arrived or time.monotonic()) - began), "undelivered":
           done["accepted"] - came, "drain": max(0.0, (arrived or time.monotonic()) - accepted_at),
           "p50": done["latency"]["dot"]["p50_us"], "p99": done["latency"]["dot"]["p99_us"],
           "source": (done["cpu_user_s"] + done["cpu_system_s"]) / done["accepted"] * 1e6,
           "sink": (world.sink.cpu() - sink_cpu) / max(1, came) * 1e6}
    if world.keeper:
        row["cpu"] = (world.cpu() - cpu) / max(1, came) * 1e6
        row["memory"] = world.keeper.memory()
    return row


def throughput(world):
    world.load.source(world.server, world.folder, "-s", 4, "-c", 25, "-m", 100)     # warm
    for sessions in world.options.sessions:
        for reuse in world.options.reuse:
            yield closed(world, sessions, reuse, "10k", world.options.seconds)


def sizes(world):
    for size in world.options.sizes:
        yield closed(world, 20, True, size, world.options.seconds)


def latency(world):
    """Its own sink each time: the histogram of accepted-to-delivered is the sink's."""
    rate = world.options.rate
    done = world.load.source(world.server, world.folder, "-s", 500, "-c", 100, "-l", "10k", "-m", 0,
                             "-R", rate, "--seconds", world.options.seconds,
                             seconds=world.options.seconds + 60)
    world.sink.wait(done["accepted"], world.options.drain)
    world.sink_json = world.sink.end()
    row = {"rate": rate, "messages": done["accepted"], "reached": done["messages_per_s"]}
    for name, figures in (("accept", done["latency"]["message"]), ("dot", done["latency"]["dot"]),
                          ("delivered", world.sink_json["latency"]["sent_to_delivered"])):
        row[name] = {p: figures[p + "_us"] for p in ("p50", "p90", "p99", "p999", "max")}
    yield row


def greeting(address):
    """An open connection that has been answered, None if it is not within 2 s."""
    host, port = address.rsplit(":", 1)
    peer = socket.socket()
    try:
        peer.settimeout(2)
        peer.connect((host, int(port)))
        if peer.recv(500).startswith(b"220"):
            peer.sendall(b"EHLO idle.example\r\n")
            if peer.recv(2000).startswith(b"250"):
                return peer
    except OSError:
        pass
    peer.close()
    return None


def idle(world):
    peers, silent = [], 0
    limit = time.monotonic() + 40
    try:
        base = world.keeper.memory()
        for wanted in world.options.connections:
            while len(peers) < wanted and silent < 2 and time.monotonic() < limit:
                peer = greeting(world.server.addresses()[0])
                if peer is None:
                    silent += 1         # every process it may have is taken
                else:
                    peers.append(peer)
            time.sleep(0.3)
            used = world.keeper.memory()
            yield {"connections": wanted, "answered": len(peers), "memory": used,
                   "each": (used - base) / max(1, len(peers))}
    finally:
        for peer in peers:
            peer.close()


def backlog(world):
    """The sink of this life puts everything off (see compare); it is replaced by a healthy one."""
    for number in range(world.options.chunks):
        cpu = world.cpu()
        done = world.load.source(world.server, world.folder, "-s", 20, "-c", 100, "-l", "10k", "-m",
                                 world.options.chunk)
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
        while time.monotonic() - began < world.options.drain and arrived is None:
            arrived = world.sink.wait(wanted, 5)
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
