"""Postfix as an admin who wants throughput sets it: perf/README.md has the reason of each value."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from compare_lib.postfix import PostfixLike                     # noqa: E402


class Server(PostfixLike):
    title = "Postfix, tuned"
    packages = ("postfix",)
    kind, settings = "Postfix", "TUNED"
