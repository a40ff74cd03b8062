"""What is asked of Ringpost, what was measured, and whether it is reached. A ratio is taken within
each round, against the better of stock and tuned Postfix in that round; of the rounds' ratios the
median counts, and the spread is told."""

import re
import statistics
from pathlib import Path

from .counters import bound

POSTFIX = ("postfix-stock", "postfix-tuned")
TRIED = Path(__file__).resolve().parents[1] / "tried.md"


class Goal:
    """figure(row): what counts of a row; ours over theirs is compared with asked."""

    def __init__(self, key, title, scene, cell, figure, form, asked, *, against=True, least=True,
                 unit=1.0, rate=False):
        self.key, self.title, self.scene, self.cell = key, title, scene, cell
        self.figure, self.form, self.asked = figure, form, asked
        self.against = against      # False: the figure itself, not its ratio to Postfix's
        self.least = least          # asked is the least, or else the most
        self.unit = unit            # the figure is shown in this
        self.rate = rate            # it has a bound outside of itself

    def asked_text(self):
        if not self.against:
            return "at %s %s" % ("least" if self.least else "most", self.form % self.asked)
        return "%g ×" % self.asked if self.least else "1/%g" % self.asked

    def value_text(self, value):
        if not self.against:
            return self.form % value
        return "%.1f ×" % value if self.least else "1/%.1f" % value


def _plain(name):
    return lambda row: row.get(name)


def _each_of_all(row):
    return row["each"] if row["answered"] >= row["connections"] else None


def _peers(row):
    return row["source"] + row["sink"]


def _times_peers(row):
    return row["cpu"] / _peers(row) if row.get("cpu") is not None else None


EACH = {"sessions": 20, "reuse": False, "size": "10k"}
REUSED = {"sessions": 100, "reuse": True, "size": "10k"}
GOALS = [
    Goal("each", "delivered/s, 10 KiB, 20 sessions, a connection per message", "throughput", EACH,
         _plain("delivered"), "%.0f", 20, rate=True),
    Goal("reused", "delivered/s, 10 KiB, 100 sessions, connections reused", "throughput", REUSED,
         _plain("delivered"), "%.0f", 30, rate=True),
    # Less is better: the ratio is Postfix's over ours.
    Goal("cpu", "CPU a message, 10 KiB, reused", "throughput", REUSED, _plain("cpu"), "%.0f µs", 40,
         least=False),
    Goal("large", "delivered/s, 100 KiB", "sizes",
         {"sessions": 20, "reuse": True, "size": "100k"}, _plain("delivered"), "%.0f", 10,
         rate=True),
    Goal("single", "one session alone, messages/s", "throughput",
         {"sessions": 1, "reuse": True, "size": "10k"}, _plain("accepted"), "%.0f", 3,
         rate=True),
    Goal("idle", "memory of 10,000 idle sessions, each", "idle", {"connections": 10000},
         _each_of_all, "%.1f KiB", 16, against=False, least=False, unit=1 / 1024),
    Goal("peers-reused", "CPU over that of our source and sink, 100 sessions, reused", "throughput",
         REUSED, _times_peers, "%.2f", 1.5, against=False, least=False),
    Goal("peers-each", "the same, 20 sessions, a connection per message", "throughput", EACH,
         _times_peers, "%.2f", 1.5, against=False, least=False),
    Goal("tools", "CPU of our source and sink together, 10 KiB, reused", "throughput", REUSED,
         _peers, "%.0f µs", 100, against=False, least=False),
]


def rows_of(results, name, goal):
    return [r for r in results.get(name, {}).get(goal.scene, [])
            if all(r.get(k) == v for k, v in goal.cell.items())]


def by_round(rows, goal):
    found = {}
    for row in rows:
        value = goal.figure(row)
        if value is not None:
            found[row["round"]] = value * goal.unit
    return found


def spread(values):
    return statistics.median(values), min(values), max(values)


def why(goal, row, cpus):
    """What bounds it. row: medians of the cell's figures."""
    if goal.rate:
        return bound(row, cpus)
    if goal.scene == "idle":
        return "the sessions' own memory: perf/idle shows of what it is"
    return "the cost itself, %.0f µs of the server beside %.0f of source and sink: perf/scaling " \
        "shows which stages it is made of" % (row["cpu"], _peers(row))


class Verdict:
    """values: what is compared with what was asked, a round each; ours, theirs: the figures; better: whose
    theirs mostly are; missed: by which share, 0 when reached; None: it was not measured."""

    def __init__(self, goal, results, cpus):
        self.goal, self.values, self.theirs, self.better, self.missed = goal, [], [], None, None
        mine = rows_of(results, "ringpost", goal)
        ours = by_round(mine, goal)
        self.ours = list(ours.values())
        if goal.against:
            rivals = {n: by_round(rows_of(results, n, goal), goal) for n in POSTFIX}
            wins = []
            for number, value in ours.items():
                had = {n: r[number] for n, r in rivals.items() if number in r}
                if not had or not value:
                    continue
                name = (max if goal.least else min)(had, key=had.get)
                wins.append(name)
                self.theirs.append(had[name])
                self.values.append(value / had[name] if goal.least else had[name] / value)
            self.better = max(set(wins), key=wins.count) if wins else None
        else:
            self.values = self.ours
        if not self.values:
            return
        middle = statistics.median(self.values)
        # A ratio is always the more the better.
        share = middle / goal.asked if goal.against or goal.least else goal.asked / middle
        self.missed = max(0.0, 1 - share)
        self.why = why(goal, {k: statistics.median([r[k] for r in mine if r.get(k) is not None])
                          for k in set().union(*mine)
                          if all(isinstance(r.get(k), (int, float)) for r in mine)}, cpus)

    def reached(self):
        return None if self.missed is None else self.missed == 0


def verdicts(facts):
    if "ringpost" not in facts["results"]:
        return []
    return [Verdict(g, facts["results"], facts["machine"]["processors"]) for g in GOALS]


def tried():
    """{key: text} of perf/tried.md, whose headings are "## key: title"."""
    try:
        text = TRIED.read_text()
    except OSError:
        return {}
    parts = re.split(r"(?m)^## (\S+?):?(?: .*)?$", text)[1:]
    return {key: body.strip() for key, body in zip(parts[::2], parts[1::2])}
