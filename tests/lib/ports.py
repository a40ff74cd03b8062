"""Free loopback ports for private servers.

Ports come from below the kernel's ephemeral range, so that no outgoing connection of a busy test
takes the port between our choice and the server's bind. Each pytest-xdist worker has a range of
its own, and a port is handed out once per process.
"""

import os
import random
import socket
import threading

_FIRST, _LAST, _WORKERS = 20000, 32000, 8
_taken = set()
_lock = threading.Lock()


def _range():
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    number = int(worker[2:] or 0) % _WORKERS
    width = (_LAST - _FIRST) // _WORKERS
    return _FIRST + number * width, _FIRST + (number + 1) * width


def free_port(host="127.0.0.1"):
    """A port nobody listens on now; never the same one twice in this process."""
    low, high = _range()
    # Two servers are set up at once, each in a thread.
    with _lock:
        for _ in range(2000):
            port = random.randrange(low, high)
            if port in _taken:
                continue
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((host, port))
                except OSError:
                    continue
            _taken.add(port)
            return port
    raise RuntimeError("no free port between %d and %d" % (low, high))
