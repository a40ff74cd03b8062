"""Which stage of a message's way a sample of the profiler belongs to: by thread, by what the ring does
in the kernel, and by the folder that defines the functions on the stack."""

import functools
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FLOORS = ("io", "maps", "tls", "queue", "core")

# In the kernel below io_uring_enter, and in its helper threads.
RING = [(re.compile(r"^io_(recv|recvmsg|poll_wake|read)$"), "socket: receive"),
        (re.compile(r"^io_(send|sendmsg|sendv|send_zc)$"), "socket: send"),
        (re.compile(r"^io_(write|fsync)$"), "log: write and sync"),
        (re.compile(r"^io_(accept|connect|socket|close|shutdown)$"), "connections"),
        (re.compile(r"^io_msg_ring$"), "hand-offs between threads")]
# The first whose folder or file is on the stack.
PLACES = [("io/base/log", "log lines"), ("queue/store/writer.c", "log: append, under its lock"),
          ("queue/store/", "queue: records, index"), ("core/cleanup/", "cleanup and rewriting"),
          ("core/rewrite/", "cleanup and rewriting"), ("core/smtp/", "delivery"),
          ("core/deliver/", "delivery"), ("core/smtpd/", "smtpd: dialogue and content"),
          ("queue/", "scheduling"), ("core/", "server"), ("maps/", "maps"),
          ("io/fiber/", "fibers and mailboxes"), ("io/", "streams and the ring")]
REST_KERNEL, REST = "kernel, the rest", "libraries, caller unknown"
LOCKED = "log: append, under its lock"
FAULTS = "(page faults among these)"

_DEFINITION = re.compile(r"(?m)^(?:[A-Za-z_][\w ()\*,]*?[ \*])?([a-z_]\w*)\([^;{}]*\)?[^;{}\n]*\n(?:[^;{}]*\n)?\{")


@functools.lru_cache(None)
def places():
    """{function: files of ours that define it}"""
    found = {}
    for floor in FLOORS:
        for path in sorted((ROOT / floor).rglob("*.c")):
            name = str(path.relative_to(ROOT))
            for function in _DEFINITION.findall(path.read_text("utf-8", "replace")):
                found.setdefault(function, set()).add(name)
    return found


def thread_of(comm):
    """worker-0, worker-1: worker; the ring's helpers work for whoever asked them."""
    if comm.startswith("iou-"):
        return "ring helper"
    return re.sub(r"-\d+$", "", comm)


def stage_of(names):
    """names: from the root of the stack to its leaf."""
    for name in names:
        for pattern, stage in RING:
            if pattern.match(name):
                return stage
    where = set()
    for name in names:
        files = places().get(re.sub(r"\.(part|isra|constprop|cold).*$", "", name), ())
        # Static functions of one name in several files tell nothing.
        if len(files) == 1:
            where |= files
    for start, stage in PLACES:
        if any(file.startswith(start) for file in where):
            return stage
    return REST_KERNEL if any(n.startswith("entry_SYSCALL") or n.startswith("asm_") or
                              n.startswith("ret_from_fork") for n in names) else REST


def stacks(text):
    """[(thread, function names from the root)] of perf script's output."""
    for block in text.split("\n\n"):
        lines = block.strip("\n").splitlines()
        if len(lines) < 2:
            continue
        names = [re.sub(r"\+0x[0-9a-f]+$", "", line.split(None, 1)[1].rsplit(" (", 1)[0])
                 for line in lines[1:] if len(line.split(None, 1)) == 2]
        yield lines[0].strip(), names[::-1]


def shares(text):
    """{thread: {stage: share of its samples}}, {thread: share of all samples}, the number of samples."""
    found, of = {}, {}
    for comm, names in stacks(text):
        thread, stage = thread_of(comm), stage_of(names)
        of[thread] = of.get(thread, 0) + 1
        here = found.setdefault(thread, {})
        here[stage] = here.get(stage, 0) + 1
        if any(n.startswith("asm_exc_page_fault") for n in names):
            here[FAULTS] = here.get(FAULTS, 0) + 1
    total = sum(of.values())
    return ({t: {s: n / of[t] for s, n in here.items()} for t, here in found.items()},
            {t: n / total for t, n in of.items()}, total)


def costs(text, cpu):
    """[(thread, stage, µs a message)] of a profile; cpu: µs a message of each thread, as the scheduler counted them. A
    thread that had ended when it was asked is known by its samples alone."""
    found, of, _ = shares(text)
    total = sum(cpu.values())
    return [(thread, stage, share * (cpu.get(thread) or of[thread] * total))
            for thread, here in found.items() for stage, share in here.items()]


def callers(text, depth=2):
    """[(count, thread, "our innermost functions, outermost first")], most first: who makes the recorded events."""
    found = {}
    for comm, names in stacks(text):
        ours = [n for n in (re.sub(r"\.(part|isra|constprop|cold).*$", "", n) for n in names)
                if n in places()]
        key = thread_of(comm), " > ".join(ours[-depth:]) or (names[-1] if names else "?")
        found[key] = found.get(key, 0) + 1
    return sorted(((n, *k) for k, n in found.items()), reverse=True)
