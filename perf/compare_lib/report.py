"""report.md: what was measured, as tables around the plots."""

import statistics

from .counters import NOISE
from .goals import spread as spread_of, tried, verdicts
from .plots import group, middle
from .stages import FAULTS


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


def stages_table(costs):
    """costs: [(thread, stage, µs a message)] of stages.py"""
    rows, total = {}, sum(us for _, stage, us in costs if stage != FAULTS)
    for thread, stage, us in costs:
        rows.setdefault(thread, []).append((us, stage))
    lines = []
    for thread, found in sorted(rows.items(), key=lambda i: -sum(u for u, _ in i[1])):
        whole = sum(us for us, stage in found if stage != FAULTS)
        lines.append(["**%s**" % thread, "**all**", "**%.2f**" % whole, "**%.1f**" % (
            whole / total * 100)])
        lines += [["", stage, "%.2f" % us, "%.1f" % (us / total * 100)]
                  for us, stage in sorted(found, reverse=True) if us >= 0.005 * total]
    return table(["thread", "stage", "µs a message", "%"], lines)


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


def verdict_cells(verdict):
    """asked, measured, Postfix's, Ringpost's, reached"""
    goal = verdict.goal
    def three(values, text):
        mid, low, high = spread_of(values)
        # The unit once.
        return text(mid) + ("" if len(values) == 1 else " (%s–%s)" % (
            text(low).split(" ")[0], text(high).split(" ")[0]))
    figure = lambda v: goal.form % v                                   # noqa: E731
    return [goal.asked_text(), three(verdict.values, goal.value_text),
            three(verdict.theirs, figure) + ", " + verdict.better[len("postfix-"):]
            if verdict.theirs else "–",
            three(verdict.ours, figure),
            "yes" if verdict.reached() else "no, %.0f %% short" % (verdict.missed * 100)]


def asked(paper):
    """The table of what was asked, and why what is missed is missed."""
    found = verdicts(paper.facts)
    if not any(v.missed is not None for v in found):
        return
    paper.add("## Asked, measured, reached\n",
              "Ringpost against the better of stock and tuned Postfix **in the same round**; the "
              "median of the rounds' ratios counts, in brackets the lowest and the highest. CPU is "
              "that of all the server's processes.\n")
    others = [r["other_cpus"] for of in paper.results.values() for scene in ("throughput", "sizes")
              for r in of[scene] if r.get("other_cpus") is not None]
    cpus = paper.facts["machine"]["processors"]
    if others and statistics.median(others) > NOISE * cpus:
        paper.add("> Others used %.1f of the %d processors during this run: measure again when the "
                  "machine is quiet.\n" % (statistics.median(others), cpus))
    paper.picture("asked")
    paper.add(table(["", "asked", "measured", "Postfix", "Ringpost", "reached"],
                    [[v.goal.title, *verdict_cells(v)] for v in found if v.missed is not None]))
    if any(v.missed is None for v in found):
        paper.add("Not measured in this run: %s.\n" % "; ".join(
            v.goal.title for v in found if v.missed is None))
    notes, known = [], tried()
    for verdict in found:
        if verdict.missed:
            notes.append("- *%s* is %.0f %% short. What bounds it: %s.%s" % (
                verdict.goal.title, verdict.missed * 100, verdict.why,
                " What was tried: " + known[verdict.goal.key] if verdict.goal.key in known else ""))
    if notes:
        paper.add("\n".join(notes) + "\n")


def verdict_lines(facts):
    """The same for a terminal."""
    for verdict in verdicts(facts):
        if verdict.missed is not None:
            cells = verdict_cells(verdict)
            yield "%-62s asked %-15s measured %-24s %s" % (verdict.goal.title, cells[0], cells[1],
                                                           cells[4] if cells[4] != "yes" else "reached")


def bounds(paper):
    """Who used what, cell by cell, for Ringpost: what the next improvement would have to free."""
    rows = []
    for scene in ("throughput", "sizes"):
        for cell, mine in group(paper.results.get("ringpost", {}).get(scene, []), "sessions",
                                "reuse", "size").items():
            if scene == "sizes" and cell[2] == "10k" and paper.results["ringpost"]["throughput"]:
                continue
            rows.append(["%d sessions, %s, %s" % (cell[0], "reused" if cell[1] else "one each",
                                                  cell[2]),
                         *(spread(middle(mine, k), f) for k, f in (
                             ("server_cpus", 1), ("tools_cpus", 1), ("other_cpus", 1),
                             ("idle_cpus", 1), ("disk_busy", 100), ("disk_mib_s", 1),
                             ("write_ms", 1)))])
    if rows:
        paper.add("## What the machine did under Ringpost\n",
                  "Processors used by the server, by source and sink, by others, and idle; the disk "
                  "from its own counters.\n",
                  table(["load", "server", "source + sink", "others", "idle", "disk busy %",
                         "MiB/s written", "ms a write"], rows))


def head(paper):
    facts = paper.facts
    paper.add("# Mail servers under the same load\n",
              "%s on %s, %s processors (%s), %s. One server at a time, in turn, %d round%s; each "
              "figure is the median, in brackets the lowest and the highest. smtp_source and "
              "smtp_sink share the processors with the server. The run took %d minutes.\n" % (
                  facts["machine"]["date"], facts["machine"]["kernel"],
                  facts["machine"]["processors"], facts["machine"].get("processor", "?"),
                  facts["machine"].get("memory", "?"), facts["options"]["rounds"],
                  "" if facts["options"]["rounds"] == 1 else "s", round(facts["seconds"] / 60)),
              "`%s`\n" % facts["command"])
    if facts["options"]["quick"]:
        paper.add("> `--quick`: one short round shows that it works. Do not quote its figures.\n")
    rows = [[s["title"], s["version"].replace("|", " "), s.get("pinned", "–"), s["source"]]
            for s in facts["servers"].values()]
    paper.add(table(["server", "version", "the pinned one", "from"], rows))
    for server in facts["servers"].values():
        if server.get("remark"):
            paper.add("*%s*: %s\n" % (server["title"], server["remark"]))
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
    for key, title in (("dot", "Final dot to 250"), ("after", "Accepted (the 250 was read) to "
                       "delivered; 0: delivered before"), ("delivered", "Sent to delivered"),
                       ("mail", "MAIL to its 250"), ("content", "DATA to the 250 of the content"),
                       ("banner", "Connected to the banner")):
        rows = []
        for name in paper.names:
            found = [r for r in paper.results[name]["latency"] if key in r]
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
                if scene == "sizes" and row["size"] == "10k" and paper.results[name]["throughput"]:
                    continue
                if row["undelivered"] > 0 or row["refused"]:
                    notes.append("%s, %s, %d sessions, %s, %s: %d accepted messages were not delivered "
                                 "in time, %d attempts were refused or broken" % (
                                     paper.titles[name], scene, row["sessions"],
                                     "reused" if row["reuse"] else "one message a connection",
                                     row["size"], row["undelivered"], row["refused"]))
        for row in paper.results[name]["latency"]:
            if row["undelivered"] or row.get("refused"):
                notes.append("%s, latency: at %d messages/s %d accepted messages were not delivered in time, "
                             "%d attempts were refused or broken" % (
                                 paper.titles[name], row["rate"], row["undelivered"],
                                 row.get("refused", 0)))
        for row in paper.results[name]["backlog"]:
            if "drain" in row and row["drained"] < row["queued"]:
                notes.append("%s, backlog: %d of %d were not delivered in time after the flush" % (
                    paper.titles[name], row["queued"] - row["drained"], row["queued"]))
    notes += ["Round %d of %s was left out for want of time." % (out["round"] + 1,
                                                                " and ".join(out["scenes"]))
              for out in facts["rounds_left_out"]]
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
    asked(paper)
    proof(paper)
    sections(paper)
    bounds(paper)
    tail(paper)
    (folder / "report.md").write_text("\n".join(paper.out))
