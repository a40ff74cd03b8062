"""What the machine did during a load: who used the processors, how busy the disk was. From these the
report says what bounds a figure."""

import os
import time

NOISE = 0.15        # of the processors: more of others' work than this, and rates say little
TICK = os.sysconf("SC_CLK_TCK")


def disk_of(path):
    number = os.stat(path).st_dev
    return "/sys/dev/block/%d:%d/stat" % (os.major(number), os.minor(number))


class Snapshot:
    """server, tools: seconds of CPU used so far by the server and by source and sink."""

    def __init__(self, folder, server=None, tools=0.0):
        self.at, self.server, self.tools = time.monotonic(), server, tools
        with open("/proc/stat") as handle:
            words = [int(w) for w in handle.readline().split()[1:]]
        # user nice system idle iowait irq softirq steal
        self.idle = (words[3] + words[4]) / TICK
        self.stolen = words[7] / TICK
        try:
            with open(disk_of(folder)) as handle:
                self.disk = [int(w) for w in handle.read().split()]
        except OSError:
            self.disk = None

    def until(self, end):
        """Figures of the time between two: processors are given as how many were used."""
        seconds = max(end.at - self.at, 1e-6)
        row = {"tools_cpus": (end.tools - self.tools) / seconds,
               "idle_cpus": (end.idle - self.idle) / seconds,
               "stolen_cpus": (end.stolen - self.stolen) / seconds}
        if self.server is not None:
            row["server_cpus"] = (end.server - self.server) / seconds
            row["other_cpus"] = max(0.0, os.cpu_count() - row["idle_cpus"] - row["server_cpus"] -
                                    row["tools_cpus"])
        if self.disk and end.disk:
            change = [b - a for a, b in zip(self.disk, end.disk)]
            row.update(disk_busy=change[9] / 1e3 / seconds, disk_mib_s=change[6] / 2048 / seconds,
                       write_ms=change[7] / change[4] if change[4] else 0.0,
                       writes_s=change[4] / seconds)
        return row


def bound(row, cpus):
    """One phrase: what stands in the way. row: medians of the figures above, and of the load."""
    words = []
    if row.get("server_cpus") is not None:
        words.append("processors: server %.2f, source and sink %.2f, others %.2f, idle %.2f of %d" % (
            row["server_cpus"], row["tools_cpus"], row["other_cpus"], row["idle_cpus"], cpus))
    if row.get("disk_busy") is not None:
        words.append("disk %.0f %% of the time busy, %.2f ms a write, %.0f MiB/s" % (
            row["disk_busy"] * 100, row["write_ms"], row["disk_mib_s"]))
    if row.get("other_cpus", 0) > NOISE * cpus:
        what = "somebody else's work on this machine: measure again"
    elif row.get("idle_cpus") is not None and row["idle_cpus"] < 0.1 * cpus:
        what = "the processors"
    elif row.get("disk_busy") is not None and row["disk_busy"] > 0.8:
        what = "the disk"
    elif row.get("drain", 0) > 0.25 * row.get("messages", 0) / max(row.get("accepted", 0), 1):
        what = "the deliveries, which lag: %.0f messages/s accepted, the last one delivered %.1f s " \
            "after the last was accepted" % (row["accepted"], row["drain"])
    elif row.get("sessions") == 1:
        what = "the time of one accept: %.2f ms from the final dot to its 250" % (row["p50"] / 1e3)
    else:
        what = "neither: sessions wait for each other and for the disk"
    return "%s (%s)" % (what, "; ".join(words)) if words else what
