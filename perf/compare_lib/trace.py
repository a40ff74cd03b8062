"""Who syncs before the 250: one message at a time, with every sync of the server's processes on the
same clock as the client.

perf(1) sees them in the kernel, whether asked for by a system call or by a ring: the file system's
entry for syncs (which O_DSYNC writes pass too) and flushes or forced writes at the block layer.
Without perf, strace sees the system calls only.
"""

import contextlib
import functools
import re
import signal
import shutil
import socket
import subprocess
import time
from pathlib import Path

from .keeper import Trouble

# What ends when data is on the disk; of the disk itself, what it is told.
EVENTS = ("syscalls:sys_exit_fsync", "syscalls:sys_exit_fdatasync", "syscalls:sys_exit_syncfs",
          "syscalls:sys_exit_msync", "syscalls:sys_exit_sync_file_range",
          "ext4:ext4_sync_file_exit", "xfs:xfs_file_fsync", "btrfs:btrfs_sync_file",
          "iomap:iomap_dio_rw_begin", "iomap:iomap_dio_complete",
          "block:block_rq_issue")
CALLS = ("fsync", "fdatasync", "syncfs", "sync", "msync", "sync_file_range")
BODY = b"Subject: proof\r\n\r\n" + b"One line of text that has its place in a line.\r\n" * 200


def tracer_missing():
    if shutil.which("perf") or shutil.which("strace"):
        return None
    return "neither perf (linux-perf) nor strace is installed"


@functools.lru_cache(None)
def known_events():
    done = subprocess.run(["perf", "list", "--no-desc", "tracepoint"], capture_output=True,
                          text=True, timeout=60)
    have = set(done.stdout.split())
    return [e for e in EVENTS if e in have]


def send_one(address, number):
    """(dot sent, 250 received) on the monotonic clock."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as peer:
        reader = peer.makefile("rb")

        def say(text, code):
            if text:
                peer.sendall(text)
            while True:
                line = reader.readline()
                if not line.startswith(code):
                    raise Trouble("%r was answered %r" % (text[:40], line[:200]))
                if line[3:4] != b"-":
                    return
        say(b"", b"220")
        say(b"EHLO proof.example\r\n", b"250")
        say(b"MAIL FROM:<proof@load.example>\r\n", b"250")
        say(b"RCPT TO:<user%d@load.example>\r\n" % number, b"250")
        say(b"DATA\r\n", b"354")
        peer.sendall(BODY)
        time.sleep(0.03)        # what it syncs while content comes is not before the 250 by order
        began = time.monotonic()
        say(b".\r\n", b"250")
        ended = time.monotonic()
        peer.sendall(b"QUIT\r\n")
        return began, ended


@contextlib.contextmanager
def tracing(command):
    """While the body runs. The tracer is asked to end, as it would be from a terminal: it writes what it has."""
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    try:
        time.sleep(1)
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        try:
            tracer.wait(10)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.wait()


def by_perf(keeper, address, count, folder, events):
    data = Path(folder) / "proof.data"
    pids, windows = set(), []
    with tracing(["perf", "record", "-q", "-a", "-k", "CLOCK_MONOTONIC", "-o", str(data),
                  *[w for e in events for w in ("-e", e)], "--", "sleep", "60"]):
        for number in range(count):
            pids.update(keeper.processes())
            windows.append(send_one(address, number))
            pids.update(keeper.processes())
            time.sleep(0.05)
    text = subprocess.run(["perf", "script", "-i", str(data), "-F", "comm,pid,tid,time,event,trace"],
                          capture_output=True, text=True, timeout=60).stdout
    data.unlink(missing_ok=True)
    found, writers = [], {}
    for line in text.splitlines():
        match = re.match(r"\s*(.{1,16}?)\s+(-?\d+)/(-?\d+)\s+(\d+\.\d+):\s+(\S+):\s+(.*)", line)
        if not match:
            continue
        name, pid, moment, event = match[1], int(match[2]), float(match[4]), match[5]
        if event.startswith("block:"):
            # rwbs: F flushes before or forces this write past the disk's cache.
            words = re.match(r"\S+ (\w+)", match[6])
            if words and "F" in words[1]:
                found.append((moment, "the disk", "flush or forced write sent", None))
            continue
        if event.startswith("iomap:"):
            # A direct write to a file opened O_DSYNC is done only when its data are safe. It ends
            # in a kernel thread: the file tells whose it is.
            file = re.search(r"dev \S+ ino \S+", match[6])
            if event.endswith("begin") and "DSYNC" in match[6]:
                writers[file[0]] = (name, pid)
            elif event.endswith("complete") and file and file[0] in writers:
                found.append((moment, writers[file[0]][0], "O_DSYNC write done",
                              writers[file[0]][1]))
            continue
        found.append((moment, name, event.split(":")[1].replace("sys_exit_", ""), pid))
    return windows, [f for f in found if f[3] is None or f[3] in pids]


def by_strace(keeper, address, count, folder):
    out = Path(folder) / "proof.trace"
    windows = []
    with tracing(["strace", "-f", "-qq", "-ttt", "-T", "-e", "trace=" + ",".join(CALLS), "-o", str(out),
                  *[w for p in keeper.processes() for w in ("-p", str(p))]]):
        shift = time.time() - time.monotonic()
        for number in range(count):
            windows.append(send_one(address, number))
            time.sleep(0.05)
    found = []
    for line in out.read_text(errors="replace").splitlines():
        match = re.match(r"(\d+)\s+(\d+\.\d+) (?:<\.\.\. )?(\w+).*<(\d+\.\d+)>$", line)
        if match:
            found.append((float(match[2]) + float(match[4]) - shift, "process " + match[1], match[3],
                          int(match[1])))
    return windows, found


def proof(server, keeper, count, folder):
    address = server.addresses()[0]
    send_one(address, 0)
    events = known_events() if shutil.which("perf") else []
    if events:
        witness = "perf"
        windows, found = by_perf(keeper, address, count, folder, events)
    elif shutil.which("strace"):
        witness = "strace (sees no ring)"
        windows, found = by_strace(keeper, address, count, folder)
    else:
        raise Trouble(tracer_missing())
    synced, forced, who, first = 0, 0, {}, []
    for began, ended in windows:
        inside = [f for f in found if began <= f[0] <= ended]
        own = [f for f in inside if f[3] is not None]
        synced += bool(own)
        forced += any(f[3] is None for f in inside)
        for _, name, what, _ in inside:
            who["%s: %s" % (name, what)] = who.get("%s: %s" % (name, what), 0) + 1
        if not first and inside:
            first = [(round((f[0] - began) * 1e6), f[1], f[2]) 
                     for f in (own or inside)[:12]]
            first.append((round((ended - began) * 1e6), "the client", "reads 250"))
    return {"messages": count, "synced": synced, "forced": forced, "witness": witness,
            "who": {k: v / count for k, v in sorted(who.items(), key=lambda i: -i[1])},
            "order": first}
