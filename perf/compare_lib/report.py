"""report.md: what was measured, as tables around the plots."""

from .plots import group, middle


def number(value, digits=3):
    if value is None:
        return "–"
    if abs(value) >= 100:
        return "{:,.0f}".format(value)
    return "%.*g" % (digits, value)


def spread(value, factor=1.0):
    """median (low–high)"""
    if not value:
        return "–"
    mid, low, high = (v * factor for v in value)
    if low == high:
        return number(mid)
    return "%s (%s–%s)" % (number(mid), number(low), number(high))


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(
        "---" if i == 0 else "--:" for i in range(len(head))) + "|"]
    return "\n".join(lines + ["| " + " | ".join(r) + " |" for r in rows]) + "\n"


class Paper:
    def __init__(self, facts, pictures):
        self.facts, self.pictures, self.out = facts, pictures, []
        self.names = list(facts["servers"])
        self.titles = {n: s["title"] for n, s in facts["servers"].items()}
        self.results = facts["results"]

    def add(self, *texts):
        self.out += texts

    def picture(self, key):
        if key in self.pictures:
            self.add("![%s](%s.svg)\n" % (self.pictures[key], key))

    def matrix(self, scene, keys, figure, label, factor=1.0):
        """One row a cell, one column a server."""
        cells = {}
        for name in self.names:
            for cell, rows in group(self.results[name][scene], *keys).items():
                cells.setdefault(cell, {})[name] = middle(rows, figure)
        self.add(table(["", *(self.titles[n] for n in self.names)], [
            [label(*cell), *(spread(by.get(n), factor) for n in self.names)]
            for cell, by in cells.items()]))


def median(rows, key):
    value = middle(rows, key)
    return value[0] if value else None


def against(paper):
    """Ringpost over the better of the others of its kind, cell by cell."""
    ours = paper.results.get("ringpost")
    others = [n for n in paper.names if n.startswith("postfix-") and paper.results[n]]
    if not ours or not others:
        return
    rows = []
    for scene in ("throughput", "sizes"):
        for cell, mine in group(ours[scene], "sessions", "reuse", "size").items():
            theirs = [group(paper.results[n][scene], "sessions", "reuse", "size").get(cell, [])
                      for n in others]
            best = max((median(t, "delivered") or 0 for t in theirs), default=0)
            thrift = min((median(t, "cpu") or 1e12 for t in theirs), default=1e12)
            if not best or thrift == 1e12:
                continue
            peers = median(mine, "source") + median(mine, "sink")
            rows.append(["%d sessions, %s, %s" % (cell[0], "reused" if cell[1] else "one each",
                                                  cell[2]),
                         "%.1f ×" % (median(mine, "delivered") / best),
                         "1/%.1f" % (thrift / median(mine, "cpu")),
                         "%.2f" % (median(mine, "cpu") / peers)])
    if rows:
        paper.add("## Ringpost beside the better Postfix of each cell\n",
                  "Medians of the same run. The last column is the server's processor time over that "
                  "of our own source and sink: 1 would be a server as cheap as its two peers.\n",
                  table(["load", "delivered/s", "CPU a message", "CPU / (source + sink)"], rows))


def head(paper):
    facts = paper.facts
    paper.add("# Mail servers under the same load\n",
              "%s on %s, %s processors (%s), %s. One server at a time, in turn, %d round%s; each "
              "figure is the median, in brackets the lowest and the highest. smtp_source and "
              "smtp_sink share the processors with the server.\n" % (
                  facts["machine"]["date"], facts["machine"]["kernel"],
                  facts["machine"]["processors"], facts["machine"].get("processor", "?"),
                  facts["machine"].get("memory", "?"), facts["options"]["rounds"],
                  "" if facts["options"]["rounds"] == 1 else "s"),
              "`%s`\n" % facts["command"])
    if facts["options"]["quick"]:
        paper.add("> `--quick`: one short round shows that it works. Do not quote its figures.\n")
    rows = [[s["title"], s["version"].replace("|", " "), s["source"]]
            for s in facts["servers"].values()]
    paper.add(table(["server", "version", "from"], rows))
    for title, reason in facts["left_out"].items():
        paper.add("**Left out: %s.** %s\n" % (title, reason))


def proof(paper):
    rows, orders, weak = [], [], []
    for name in paper.names:
        for row in paper.results[name]["proof"][:1]:
            rows.append([paper.titles[name], "%d of %d" % (row["synced"], row["messages"]),
                         "%d of %d" % (row["forced"], row["messages"]), row["witness"],
                         "; ".join("%s × %.3g" % i for i in list(row["who"].items())[:5]) or "none"])
            if row["synced"] < row["messages"]:
                weak.append("**%s** answered 250 without a sync of its own: what it has accepted "
                            "can be lost with the power, and its rates and latencies are not "
                            "those of a server that syncs.\n" % paper.titles[name])
            if row["order"]:
                orders.append("%s:\n\n" % paper.titles[name] + "\n".join(
                    "    %8d µs  %s: %s" % tuple(o) for o in row["order"]) + "\n")
    if not rows:
        return
    paper.add("## Who syncs before the 250\n",
              "One message at a time; counted is what **ended** between the final dot and its 250: "
              "syncs by the server's own processes, by system call or ring. Beside it, flushes and "
              "forced writes sent to the disk in that time (another program's may be among "
              "them).\n",
              table(["server", "messages with a sync of its own", "with a flush sent", "witness",
                     "syncs a message"], rows),
              *weak, "The first message of each, from the final dot on:\n", *orders)


def sections(paper):
    used = {s for n in paper.names for s, rows in paper.results[n].items() if rows}
    if "throughput" in used:
        paper.add("## Throughput against sessions\n", "10 KiB messages, closed loop, delivered/s.\n")
        paper.picture("throughput")
        load = lambda s, r: "%d, %s" % (s, "reused" if r else "one message a connection")  # noqa: E731
        paper.matrix("throughput", ("sessions", "reuse"), "delivered", load)
        paper.add("Accepted/s (each got its 250; what is not delivered yet waits in the queue):\n")
        paper.matrix("throughput", ("sessions", "reuse"), "accepted", load)
        paper.add("## Processor time\n", "µs a delivered message, all processes of the server.\n")
        paper.picture("cpu")
        paper.matrix("throughput", ("sessions", "reuse"), "cpu", load)
    if "sizes" in used:
        paper.add("## Throughput against size\n", "20 sessions, connections reused, delivered/s.\n")
        paper.picture("sizes")
        paper.matrix("sizes", ("size",), "delivered", str)
    if "latency" in used:
        latency(paper)
    if "idle" in used:
        paper.add("## Memory against open connections\n", "KiB for each answered connection that has "
                  "said EHLO and nothing since; proportional set size over all processes, less that "
                  "before the first. Postfix answers as many as it may have processes.\n")
        paper.picture("memory")
        paper.matrix("idle", ("connections",), "each", lambda n: "%d asked for" % n, 1 / 1024)
        paper.add("Answered:\n")
        paper.matrix("idle", ("connections",), "answered", lambda n: "%d asked for" % n)
    if "backlog" in used:
        paper.add("## With a backlog\n", "The next hop answers every recipient 450 while mail comes "
                  "in; then it is well again and the queue is flushed. Accepted/s:\n")
        paper.picture("backlog")
        paper.matrix("backlog", ("queued",), "accepted",
                     lambda n: "up to %s queued" % number(n))
        paper.add("Delivered/s after the flush:\n")
        paper.matrix("backlog", ("drained",), "drain", lambda n: "%s delivered" % number(n))


def latency(paper):
    paper.add("## Latency\n", "Open loop: %d messages/s at random (Poisson) moments, the same for "
              "all; time runs from the intended moment. Milliseconds.\n" %
              paper.facts["options"]["rate"])
    paper.picture("latency")
    for key, title in (("dot", "Final dot to 250"), ("delivered", "Sent to delivered")):
        rows = []
        for name in paper.names:
            found = paper.results[name]["latency"]
            if found:
                rows.append([paper.titles[name], *(
                    spread(middle([{"v": r[key][p] / 1000} for r in found], "v"))
                    for p in ("p50", "p90", "p99", "p999", "max"))])
        paper.add(title + ":\n", table(["", "50 %", "90 %", "99 %", "99.9 %", "max"], rows))


def tail(paper):
    facts = paper.facts
    notes = ["%s, %s: not compared: %s" % (s["title"], scene, why)
             for s in facts["servers"].values() for scene, why in s["lacks"].items()]
    for name in paper.names:
        for scene in ("throughput", "sizes"):
            for row in paper.results[name][scene]:
                if row["undelivered"] > 0 or row["refused"]:
                    notes.append("%s, %s, %d sessions, %s: %d accepted messages were not delivered "
                                 "in time, %d attempts were refused or broken" % (
                                     paper.titles[name], scene, row["sessions"], row["size"],
                                     row["undelivered"], row["refused"]))
    for trouble in facts["troubles"]:
        notes.append("%s, %s, round %d failed:\n\n      %s\n" % (
            paper.titles[trouble["server"]], " and ".join(trouble["scenes"]), trouble["round"] + 1,
            trouble["text"].replace("\n", "\n      ")))
    if notes:
        paper.add("## Notes\n", "\n".join("- " + n for n in dict.fromkeys(notes)) + "\n")
    paper.add("Every single figure is in [figures.json](figures.json).\n")


def write(facts, pictures, no_plots, folder):
    paper = Paper(facts, pictures)
    head(paper)
    if no_plots:
        paper.add("**No plots.** %s\n" % no_plots)
    against(paper)
    proof(paper)
    sections(paper)
    tail(paper)
    (folder / "report.md").write_text("\n".join(paper.out))
