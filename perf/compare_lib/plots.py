"""The report's plots, as SVG, drawn by matplotlib."""

import statistics

from .goals import verdicts

# Colours a colour-blind reader tells apart (Okabe and Ito), Ringpost the strongest.
COLOURS = {"ringpost": "#d55e00", "postfix-stock": "#56b4e9", "postfix-tuned": "#0072b2",
           "opensmtpd": "#009e73", "exim": "#cc79a7"}
SPARE = ["#e69f00", "#000000", "#999999", "#f0e442"]
MARKS = "osD^vP*X"


def group(rows, *keys):
    """{cell: rows}, in the order they were first measured."""
    cells = {}
    for row in rows:
        if all(k in row for k in keys):
            cells.setdefault(tuple(row[k] for k in keys), []).append(row)
    return cells


def middle(rows, key):
    """(median, lowest, highest) or None."""
    values = [r[key] for r in rows if r.get(key) is not None]
    return (statistics.median(values), min(values), max(values)) if values else None


class Page:
    """Remembers the colours and writes the files."""

    def __init__(self, facts, folder):
        import matplotlib
        matplotlib.use("svg")
        matplotlib.rcParams.update({
            "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10,
            "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
            "grid.color": "#e4e4e4", "axes.axisbelow": True, "axes.titleweight": "bold",
            "axes.titlelocation": "left", "legend.frameon": False, "lines.linewidth": 1.8})
        from matplotlib import pyplot, ticker
        self.ticker = ticker
        self.pyplot, self.folder = pyplot, folder
        self.names = list(facts["servers"])
        self.titles = {n: s["title"] for n, s in facts["servers"].items()}
        spare = iter(SPARE * 3)
        self.colours = {n: COLOURS.get(n) or next(spare) for n in self.names}
        self.pictures = {}

    def figure(self, columns=1, height=3.6):
        figure, axes = self.pyplot.subplots(1, columns, figsize=(4.9 * columns, height),
                                            squeeze=False)
        return figure, axes[0]

    def curve(self, axis, name, points):
        """points: [(x, (median, low, high))]"""
        points = [p for p in points if p[1]]
        if not points:
            return
        x = [p[0] for p in points]
        y = [p[1][0] for p in points]
        spread = [[p[1][0] - p[1][1] for p in points], [p[1][2] - p[1][0] for p in points]]
        axis.errorbar(x, y, yerr=spread, color=self.colours[name], label=self.titles[name],
                      marker=MARKS[self.names.index(name) % len(MARKS)], markersize=5, capsize=3,
                      elinewidth=1)

    def save(self, key, figure, axes, alt):
        handles = {}
        for axis in axes:
            for handle, label in zip(*axis.get_legend_handles_labels()):
                handles.setdefault(label, handle)
        if handles:
            figure.legend(handles.values(), handles.keys(), loc="lower center",
                          ncol=min(len(handles), max(2, int(figure.get_figwidth() / 1.5))), bbox_to_anchor=(0.5, -0.01))
        for axis in axes:
            if axis.get_yscale() == "log":
                # Written out, and few: 10, 50, 100 rather than powers.
                low, high = axis.get_ylim()
                marks = (1,) if high > 100 * low else (1, 2, 5)
                axis.yaxis.set_major_locator(self.ticker.LogLocator(subs=marks))
                axis.yaxis.set_major_formatter(self.ticker.FuncFormatter(lambda v, _: "%g" % v))
                axis.yaxis.set_minor_formatter(self.ticker.NullFormatter())
        rows = -(-len(handles) // max(2, int(figure.get_figwidth() / 1.5)))
        figure.tight_layout(rect=(0, 0.02 + 0.06 * rows, 1, 1))
        figure.savefig(self.folder / (key + ".svg"))
        self.pyplot.close(figure)
        self.pictures[key] = alt


def plain(axis, numbers):
    """Ticks at what was measured, written out."""
    numbers = sorted(numbers)
    axis.set_xticks(numbers)
    axis.set_xticklabels([str(n) for n in numbers])
    axis.minorticks_off()


def bytes_of(size):
    return int(size[:-1]) * {"k": 1024, "m": 1048576}[size[-1]] if size[-1] in "km" else int(size)


def bars(page, axis, cells, key, factor=1.0):
    """cells: [(label, {name: rows})]"""
    width = 0.8 / max(1, len(page.names))
    for place, name in enumerate(page.names):
        for number, (_, by_name) in enumerate(cells):
            value = middle(by_name.get(name, []), key)
            if not value:
                continue
            x = number - 0.4 + width * (place + 0.5)
            low, high = (value[0] - value[1]) * factor, (value[2] - value[0]) * factor
            axis.bar(x, value[0] * factor, width * 0.92, yerr=[[low], [high]],
                     color=page.colours[name], label=page.titles[name], capsize=2,
                     error_kw={"elinewidth": 0.8})
            text = value[0] * factor
            axis.annotate("%.3g" % text if text < 1000 else "%.0f" % text,
                          (x, (value[2]) * factor), ha="center", va="bottom", fontsize=7,
                          xytext=(0, 2), textcoords="offset points")
    axis.set_xticks(range(len(cells)))
    axis.set_xticklabels([label for label, _ in cells])
    axis.grid(axis="x", visible=False)


def throughput(page, results):
    modes = [r for r in (False, True) if any(row["reuse"] == r for n in page.names
                                             for row in results[n]["throughput"])]
    counts = {row["sessions"] for n in page.names for row in results[n]["throughput"]}
    if not counts:
        return
    figure, axes = page.figure(len(modes), 3.9)
    for axis, reuse in zip(axes, modes):
        label = "100 messages a connection" if reuse else "a connection per message"
        if len(counts) > 1:
            for name in page.names:
                cells = group([r for r in results[name]["throughput"] if r["reuse"] == reuse],
                              "sessions")
                page.curve(axis, name, [(c[0], middle(rows, "delivered"))
                                        for c, rows in cells.items()])
            axis.set_xscale("log")
            axis.set_yscale("log")
            plain(axis, counts)
            axis.set_xlabel("sessions at a time")
        else:
            bars(page, axis, [("%d sessions" % c, {
                n: [r for r in results[n]["throughput"] if r["reuse"] == reuse
                    and r["sessions"] == c] for n in page.names}) for c in counts], "delivered")
        axis.set_title(label)
        axis.set_ylabel("delivered messages/s")
    page.save("throughput", figure, axes, "Delivered messages a second against sessions")
    figure, axes = page.figure(1, 3.9)
    figure.set_figwidth(max(6, 2.3 * len(counts) * len(modes)))
    cells = [("%d %s" % (c, "reused" if reuse else "one each"), {
        n: [r for r in results[n]["throughput"] if r["reuse"] == reuse and r["sessions"] == c]
        for n in page.names}) for c in sorted(counts) for reuse in modes]
    bars(page, axes[0], cells, "cpu")
    axes[0].set_yscale("log")
    axes[0].set_ylabel("server CPU, µs a message")
    axes[0].set_xlabel("sessions, connections")
    axes[0].set_title("Processor time (less is better)")
    page.save("cpu", figure, axes, "Processor time a message")


def sizes(page, results):
    known = list(dict.fromkeys(r["size"] for n in page.names for r in results[n]["sizes"]))
    if not known:
        return
    figure, axes = page.figure(2)
    for name in page.names:
        cells = group(results[name]["sizes"], "size")
        rates = [(bytes_of(c[0]), middle(rows, "delivered")) for c, rows in cells.items()]
        page.curve(axes[0], name, rates)
        page.curve(axes[1], name, [(s, tuple(v * s / 1048576 for v in value) if value else None)
                                   for s, value in rates])
    for axis, label in zip(axes, ("delivered messages/s", "delivered MiB/s")):
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks([bytes_of(s) for s in known])
        axis.set_xticklabels(known)
        axis.set_xlabel("message size")
        axis.set_ylabel(label)
        axis.set_title(label)
    page.save("sizes", figure, axes, "Delivered messages and bytes a second against size")


def latency(page, results):
    if not any(results[n]["latency"] for n in page.names):
        return
    figure, axes = page.figure(3)
    steps = ("p50", "p90", "p99", "p999", "max")
    for axis, key, title in ((axes[0], "dot", "final dot to its 250"),
                             (axes[1], "mail", "MAIL to its 250"),
                             (axes[2], "delivered", "sent to delivered")):
        for name in page.names:
            rows = [r for r in results[name]["latency"] if key in r]
            if rows:
                page.curve(axis, name, [(i, middle([{"v": r[key][p] / 1000} for r in rows], "v"))
                                        for i, p in enumerate(steps)])
        axis.set_yscale("log")
        axis.set_xticks(range(len(steps)))
        axis.set_xticklabels(["50 %", "90 %", "99 %", "99.9 %", "max"])
        axis.set_ylabel("ms")
        axis.set_title(title)
    page.save("latency", figure, axes, "Latency percentiles at the same arrival rate")


def idle(page, results):
    if not any(results[n]["idle"] for n in page.names):
        return
    figure, axes = page.figure(1)
    figure.set_figwidth(6.5)
    most = {row["connections"] for n in page.names for row in results[n]["idle"]}
    for name in page.names:
        cells = group(results[name]["idle"], "connections")
        points = {}
        for rows in cells.values():
            value = middle([{"v": r["memory"] / 1048576} for r in rows], "v")
            points[int(middle(rows, "answered")[0])] = value
        page.curve(axes[0], name, sorted(points.items()))
    axes[0].set_xscale("log")
    axes[0].set_yscale("log")
    plain(axes[0], most)
    axes[0].set_xlabel("idle connections that were answered")
    axes[0].set_ylabel("MiB of the whole server")
    axes[0].set_title("Memory against open connections")
    page.save("memory", figure, axes, "Memory against open connections")


def backlog(page, results):
    if not any(results[n]["backlog"] for n in page.names):
        return
    figure, axes = page.figure(3)
    for name in page.names:
        cells = group([r for r in results[name]["backlog"] if r["step"] != "drain"], "queued")
        page.curve(axes[0], name, [(c[0], middle(rows, "accepted")) for c, rows in cells.items()])
        page.curve(axes[1], name, [(c[0], middle([{"v": r["memory"] / 1048576} for r in rows], "v"))
                                   for c, rows in cells.items()])
    for axis, title, label in ((axes[0], "intake beside it", "accepted messages/s"),
                               (axes[1], "memory", "MiB of the whole server")):
        axis.set_yscale("log")
        axis.set_xlabel("messages that wait in the queue")
        axis.set_ylabel(label)
        axis.set_title(title)
    drains = {n: [r for r in results[n]["backlog"] if r["step"] == "drain"] for n in page.names}
    bars(page, axes[2], [("next hop is back", drains)], "drain")
    axes[2].set_yscale("log")
    axes[2].set_ylabel("delivered messages/s")
    axes[2].set_title("emptying the queue")
    page.save("backlog", figure, axes, "Behaviour with a backlog")


def asked(page, found):
    """One bar a goal: how much of what was asked was reached, 100 % is the line."""
    found = [v for v in found if v.missed is not None]
    if not found:
        return
    figure, axes = page.figure(1, 0.9 + 0.42 * len(found))
    figure.set_figwidth(9)
    axis = axes[0]
    for place, verdict in enumerate(reversed(found)):
        goal = verdict.goal
        shares = [v / goal.asked if goal.against or goal.least else goal.asked / v
                  for v in verdict.values]
        mid = statistics.median(shares)
        axis.barh(place, mid, xerr=[[mid - min(shares)], [max(shares) - mid]], height=0.62, capsize=3,
                  color="#009e73" if verdict.reached() else "#d55e00", error_kw={"elinewidth": 1})
        axis.annotate(goal.value_text(statistics.median(verdict.values)), (max(shares), place),
                      va="center", fontsize=8, xytext=(6, 0), textcoords="offset points",
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8})
    axis.axvline(1, color="black", linewidth=1)
    axis.set_yticks(range(len(found)))
    axis.set_yticklabels(["%s: %s" % (v.goal.title, v.goal.asked_text()) for v in reversed(found)],
                         fontsize=8)
    axis.grid(axis="y", visible=False)
    axis.set_xlim(0, axis.get_xlim()[1] * 1.1)
    axis.xaxis.set_major_formatter(page.ticker.PercentFormatter(1))
    axis.set_xlabel("of what was asked")
    page.save("asked", figure, axes, "How much of what was asked was reached")


def draw(facts, folder):
    """{file stem: what it shows}"""
    page = Page(facts, folder)
    asked(page, verdicts(facts))
    for picture in (throughput, sizes, latency, idle, backlog):
        picture(page, facts["results"])
    return page.pictures
