"""Private servers with one configuration, and what their threads cost."""

import os
import sys
from pathlib import Path

from .ends import ROOT, instance

# On top of tests/lib's: everything is relayed, nothing is asked that the road does not need.
BASE = {
    "mydestination": "",
    "mynetworks": "127.0.0.0/8",
    "maximal_queue_lifetime": "30d",
    "smtpd_client_connection_count_limit": "0",
    "smtpd_client_connection_rate_limit": "0",
    "in_flow_delay": "0",
}


class Running:
    """A server for the length of a with block. What is still in its queue is of no interest: it is
    killed, because an orderly stop waits for deliveries that stall on purpose."""

    def __init__(self, kind, params, prepare=None):
        known = {**BASE, **params}
        self.server = instance.KINDS[kind](params=known)
        self.prepare = prepare

    def __enter__(self):
        try:
            if self.prepare:
                self.prepare(self.server)
            self.server.run("postfix", "start", timeout=120, check=True)
            self.server.running = True
            self.server.wait_ready(60)
        except BaseException:
            self.__exit__()
            raise
        return self.server

    def __exit__(self, *_):
        self.server.kill_all()
        self.server.remove()


def engine(server):
    """The process that holds the threads."""
    return max(server.engine_pids(), key=lambda pid: len(os.listdir("/proc/%d/task" % pid)))


def thread_cpu(pid):
    """{name: seconds on a processor}, threads of one name together."""
    used = {}
    for task in os.listdir("/proc/%d/task" % pid):
        base = Path("/proc/%d/task/%s" % (pid, task))
        try:
            name = (base / "comm").read_text().strip()
            spent = int((base / "schedstat").read_text().split()[0]) / 1e9
        except OSError:
            continue
        used[name] = used.get(name, 0.0) + spent
    return used


def thread_id(pid, name):
    for task in os.listdir("/proc/%d/task" % pid):
        if Path("/proc/%d/task/%s/comm" % (pid, task)).read_text().strip() == name:
            return task
    raise SystemExit("process %d has no thread %s" % (pid, name))


def memory_mib(pid):
    for line in Path("/proc/%d/status" % pid).read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def say(text):
    print(text, file=sys.stderr, flush=True)


__all__ = ["ROOT", "Running", "engine", "instance", "memory_mib", "say", "thread_cpu"]
