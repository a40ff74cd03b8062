"""Ringpost from $RINGPOST_BIN or build/release/bin, with the main.cf of postfix-stock; only where idle
connections are counted it may have more than 100 of them at a time."""
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from compare_lib.postfix import PostfixLike, instance           # noqa: E402


class Server(PostfixLike):
    title = "Ringpost"
    packages = ("postfix",)         # its user and group
    kind, settings = "Ringpost", "STOCK"
    source = str(instance.ringpost_bin())
    for_many = {"default_process_limit": "20000"}

    @classmethod
    def install(cls):
        return instance.ringpost_missing() or super().install()

    @classmethod
    def version(cls):
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run(["git", "-C", str(root), "describe", "--always", "--dirty"],
                              capture_output=True, text=True)
        # The programs may be older than the tree.
        built = time.strftime("%Y-%m-%d %H:%M", time.localtime(
            (instance.ringpost_bin() / "ringpost").stat().st_mtime))
        return "commit %s, built %s" % (done.stdout.strip() or "?", built)
