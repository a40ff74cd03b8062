"""Postfix as an admin who wants throughput sets it: perf/README.md has the reason of each value."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from compare_lib.postfix import PostfixLike                     # noqa: E402


class Server(PostfixLike):
    title = "Postfix, tuned"
    packages = ("postfix",)
    pinned = "3.7.11-0+deb12u1"
    kind, settings = "Postfix", "TUNED"
