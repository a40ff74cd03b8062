"""Real Postfix and Ringpost have one configuration and one set of commands."""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

from .adapter import Adapter
from .keeper import Trouble

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from lib import instance                                        # noqa: E402


def _relay():
    if "relay" not in sys.modules:
        loader = importlib.machinery.SourceFileLoader("relay", str(ROOT / "perf/relay"))
        module = importlib.util.module_from_spec(
            importlib.util.spec_from_loader("relay", loader))
        loader.exec_module(module)
        sys.modules["relay"] = module
    return sys.modules["relay"]


class PostfixLike(Adapter):
    kind, settings = "Postfix", "STOCK"
    for_many = {}       # added for thousands of idle connections

    def __init__(self, folder, port, sink):
        super().__init__(folder, port, sink)
        params = dict(getattr(_relay(), self.settings))
        # The report counts what the server says no to; a backlog must lie still.
        params["maximal_queue_lifetime"] = "30d"
        place = self.dir / "server"
        place.mkdir()
        self.server = getattr(instance, self.kind)(params=params, swaps={"@SINK@": sink},
                                                   folder=place)
        self.server.ports["smtp"] = self.server.port = port
        # Only what the table says: none of the test harness's own defaults.
        self.server.params = params

    def configure(self):
        if "idle" in self.scenes:
            self.server.params.update(self.for_many)
        self.server.write_config()

    def start(self):
        done = self.server.run("postfix", "start", timeout=40)
        if done.returncode:
            raise Trouble(done.stdout + done.stderr)

    def stop(self):
        self.server.run("postfix", "stop", timeout=15)

    def flush(self):
        return ["/usr/bin/env", "MAIL_CONFIG=%s" % self.server.conf,
                self.server.program("postqueue"), "-c", str(self.server.conf), "-f"]

    def log(self):
        return "\n".join(self.server.log().splitlines()[-12:])
