"""What perf/compare, perf/relay and perf/scaling make of figures: no server runs here."""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

import pytest

PERF = Path(__file__).resolve().parents[2] / "perf"
sys.path.insert(0, str(PERF))
from compare_lib import counters, goals, model, report, scenes, stages          # noqa: E402


def script(name):
    loader = importlib.machinery.SourceFileLoader("perf_" + name, str(PERF / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def row(number, delivered, cpu=50.0, **more):
    return {"round": number, "sessions": 20, "reuse": False, "size": "10k", "delivered": delivered,
            "accepted": delivered, "messages": delivered * 2, "cpu": cpu, "source": 10.0, "sink": 10.0,
            "p50": 300.0, "drain": 0.0, **more}


def facts(ours, stock, tuned):
    return {"machine": {"processors": 2}, "results": {
        "ringpost": {"throughput": ours}, "postfix-stock": {"throughput": stock},
        "postfix-tuned": {"throughput": tuned}}}


def verdict(key, *rows):
    return next(v for v in goals.verdicts(facts(*rows)) if v.goal.key == key)


def test_a_ratio_is_taken_within_its_round_and_against_the_better_one():
    """The machine was half as fast in round 1: the ratios know nothing of it."""
    found = verdict("each", [row(0, 22000), row(1, 11000), row(2, 21000)],
                    [row(0, 900), row(1, 500), row(2, 700)], [row(0, 1000), row(1, 400), row(2, 1000)])
    assert sorted(found.values) == pytest.approx([21, 22, 22])
    assert found.theirs == [1000, 500, 1000] and found.better == "postfix-tuned"
    assert found.reached() is True and found.missed == 0
    assert report.verdict_cells(found)[1] == "22.0 × (21.0–22.0)"


def test_what_is_missed_says_by_how_much_and_why():
    busy = {"server_cpus": 1.1, "tools_cpus": 0.8, "other_cpus": 0.05, "idle_cpus": 0.05, "disk_busy": 0.2,
            "write_ms": 0.3, "disk_mib_s": 90.0}
    found = verdict("each", [row(0, 15000, **busy)], [row(0, 900)], [row(0, 1000)])
    assert found.reached() is False and found.missed == pytest.approx(0.25)
    assert found.why.startswith("the processors (processors: server 1.10")
    cells = report.verdict_cells(found)
    assert cells[0] == "20 ×" and cells[4] == "no, 25 % short"


def test_less_is_better_for_the_cost_of_a_message():
    reused = {"sessions": 100, "reuse": True}
    found = verdict("cpu", [row(0, 1, cpu=30.0, **reused)], [row(0, 1, cpu=1500.0, **reused)],
                    [row(0, 1, cpu=1350.0, **reused)])
    assert found.values == pytest.approx([45]) and found.better == "postfix-tuned" and found.reached()
    found = verdict("peers-reused", [row(0, 1, cpu=45.0, **reused)], [], [])
    assert found.values == pytest.approx([2.25]) and found.missed == pytest.approx(1 / 3)


def test_idle_memory_counts_only_when_all_of_them_were_answered():
    some = {"round": 0, "connections": 10000, "answered": 9000, "each": 9000.0}
    rows = facts([], [], [])
    for answered, expected in ((9000, None), (10000, True)):
        rows["results"]["ringpost"]["idle"] = [{**some, "answered": answered}]
        found = next(v for v in goals.verdicts(rows) if v.goal.key == "idle")
        assert found.reached() is expected


def test_without_postfix_there_is_no_ratio():
    assert verdict("each", [row(0, 15000)], [], []).reached() is None


@pytest.mark.parametrize("change,expected", [
    ({"idle_cpus": 0.1}, "the processors"), ({"disk_busy": 0.9}, "the disk"),
    ({"other_cpus": 0.9}, "somebody else"), ({"drain": 2.0}, "the deliveries, which lag"), ({"sessions": 1}, "the time of one accept"),
    ({}, "neither")], ids=["processors", "disk", "others", "deliveries",
                        "one session", "neither"])
def test_what_bounds_a_rate(change, expected):
    found = {"server_cpus": 0.5, "tools_cpus": 0.3, "other_cpus": 0.1, "idle_cpus": 1.1, "disk_busy": 0.3,
             "write_ms": 0.3, "disk_mib_s": 90.0, "sessions": 20, "drain": 0.1, "messages": 20000,
             "accepted": 10000, "p50": 200.0, **change}
    assert counters.bound(found, 2).startswith(expected)


def test_percentiles_are_of_the_values_themselves():
    assert scenes.percentiles(range(1000)) == {"p50": 500, "p90": 900, "p99": 990, "p999": 999,
                                               "max": 999}
    assert scenes.percentiles([7])["p50"] == 7


def test_the_model_ends_at_the_first_thing_of_which_there_is_one():
    costs = {"total": 40.0, "serial": {"scheduler": 5.0, "logger": 1.0, "lock": 0.0},
             "log": model.log_limit(0.001, 1 << 20, 10752)}
    assert costs["log"] == pytest.approx(97524, rel=1e-3)
    assert [c[0] for c in model.ceilings(costs)] == ["the log's writes, one at a time", "scheduler",
                                                     "logger"]
    rates = {n: (rate, name, free, free_name) for n, rate, name, free, free_name in model.table(costs)}
    assert rates[1] == (25000, "the processors", 25000, "the processors")
    assert rates[2][0] == 50000
    assert rates[16][1] == "the log's writes, one at a time" and rates[16][0] == costs["log"]
    assert rates[64][2:] == (200000, "scheduler")


PROFILE = """\
worker-0
\tffff io_send+0x1 ([kernel])
\tffff io_submit_sqes ([kernel])
\tffff worker_loop (/x/ringpost)

worker-1
\tffff memmove (/lib/libc)
\tffff log_append_wait.part.0 (/x/ringpost)
\tffff store_commit (/x/ringpost)
\tffff smtpd_content_end (/x/ringpost)

worker-1
\tffff asm_exc_page_fault ([kernel])
\tffff smtpd_data (/x/ringpost)

sched
\tffff nothing_known (/lib/x)
"""


def test_samples_fall_into_stages_by_ring_operation_and_folder():
    cost = {(t, s): us for t, s, us in stages.costs(PROFILE, {"worker": 30.0, "sched": 4.0})}
    assert cost == pytest.approx({
        ("worker", "socket: send"): 10, ("worker", stages.LOCKED): 10,
        ("worker", "smtpd: dialogue and content"): 10, ("worker", stages.FAULTS): 10,
        ("sched", stages.REST): 4})
    assert "| **worker** | **all** | **30.00** | **88.2** |" in report.stages_table(
        [(*k, us) for k, us in cost.items()])


def test_every_function_on_the_way_of_a_message_has_its_place():
    for name, start in (("smtpd_data", "core/smtpd/"), ("log_append_wait", "queue/store/writer.c"),
                        ("sched_resolved", "queue/sched/"), ("hook_deliver", "core/server/"),
                        ("worker_loop", "io/fiber/"), ("log_at", "io/base/log")):
        found = stages.places().get(name, set())
        assert len(found) == 1 and next(iter(found)).startswith(start), name


def test_a_round_that_would_end_too_late_is_not_begun(monkeypatch):
    """Each life of a server takes 10 s of a clock of our own; the second round would end after 45 s."""
    compare = script("compare")
    now = [0.0]
    monkeypatch.setattr(compare.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(compare, "say", lambda *_: None)

    def visit(_kind, scenes_, _options, _note):
        now[0] += 10
        return {s: [] for s in scenes_}, []
    monkeypatch.setattr(compare, "visit", visit)
    monkeypatch.setattr(sys, "argv", ["compare", "--scenes", "throughput", "--minutes", "0.75"])
    _, options = compare.arguments()
    _, troubles, left_out, seconds = compare.measure({"a": None, "b": None}, options)
    assert not troubles and seconds == 40
    assert left_out == [{"round": 2, "scenes": ["throughput"]}]


@pytest.mark.parametrize("broken,complains", [(0, False), (1, False), (2, True), (17, True)])
def test_sessions_that_came_to_nothing_are_a_trouble(broken, complains):
    """Of 20, one may have had bad luck."""
    why = scenes.lost({"refused": 0, "broken": broken, "accepted": 100, "stages": {
        "banner": {"refused_4xx": 0, "refused_5xx": 0, "broken": broken}, "dot": {"broken": 0}}}, 20)
    assert bool(why) is complains
    assert not why or why.endswith("beside 100 messages: banner: %d" % broken)


def test_a_server_that_is_behind_starts_again_before_the_next_load(tmp_path, monkeypatch):
    """7 of 10 have come: the other 3 must not arrive during the next load. A server elsewhere cannot be started."""
    class Sink:
        seen = 5

        def count(self):
            return self.seen

    class Load:
        @staticmethod
        def source(*_):
            sink.seen += 7
            return {"accepted": 10}
    monkeypatch.setattr(scenes.time, "sleep", lambda _: None)
    for local, expected in ((False, False), (True, True)):
        sink, lives = Sink(), []
        world = scenes.World.__new__(scenes.World)
        world.kind = type("Kind", (), {"local": local})
        world.server, world.folder, world.load, world.sink = None, tmp_path, Load, sink
        world.given, world.before = 0, 5
        world.begin, world.end = lambda: lives.append("begin"), lambda: lives.append("end")
        assert world.renew() is False
        world.send()
        assert world.behind() == 3 and world.renew() is expected
        assert lives == (["end", "begin"] if local else [])


def test_relay_prints_its_ratios_against_the_better_one():
    relay = script("relay")
    base = {"accepted": 1000, "delivered": 1000, "cpu": 1000, "source": 10, "sink": 10, "memory": 1,
            "written": 1, "disk": 1, "flushes": 1}
    _, ratios = relay.lines_of({
        ("postfix-stock", 20, True): [base], ("postfix-tuned", 20, True): [
            {**base, "delivered": 2000, "cpu": 1500}],
        ("ringpost", 20, True): [{**base, "accepted": 5000, "delivered": 30000, "cpu": 40}]})
    assert ratios[0].split() == ["20", "yes", "5.0x", "15.0x", "25.0x", "2.00"]
