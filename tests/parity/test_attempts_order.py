"""Who passes whom: the order in which a list, smaller lists and letters go out through one process.

Each delivery is one request (two recipients), and the next hop holds one until what is to come next is queued: the order
is the arithmetic of *_delivery_slot_* alone."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib.instance import BASE_MASTER
from world import SIDES, World, on_both

ONE_PROCESS = re.sub(r"(?m)^(smtp +unix +- +- +n +- +)-", r"\g<1>1", BASE_MASTER)
LETTERS = ["letter%d" % n for n in range(4)]


def letters(size=40, cost=5, loan=3, discount=50):
    """Behind a list of so many requests."""
    return {"sizes": {"list": size}, "gates": {("list", 1): LETTERS}, "rules": (cost, loan, discount)}


def some(size, cost=5, loan=3, discount=50):
    """A smaller list behind one of 60; when it goes out, two letters come."""
    return {"sizes": {"list": 60, "some": size}, "gates": {("list", 1): ["some"], ("some", 1): LETTERS[:2]},
            "rules": (cost, loan, discount)}


# Requests of each; what is queued when the n-th delivery of one begins; the list comes first, if nothing else is said.
SETTINGS = {
    "letters pass a list": letters(),
    "nobody passes one that has not begun": {
        "sizes": {"blocker": 1, "list": 40}, "first": "blocker", "gates": {("blocker", 1): ["list", *LETTERS]}},
    "a list that is too short is not passed": letters(14),
    "just long enough": letters(15),
    "no loan, no discount": letters(cost=3, loan=0, discount=0),
    "a discount, but there are no halves of slots": letters(loan=0),
    "all on credit": letters(loan=0, discount=100),
    "a cost of two": letters(cost=2),
    "a smaller list passes, and letters wait until it is paid for": some(2),
    "it has earned it all before it passes": some(7, loan=0, discount=0),
    "letters pass the one that passes": some(7, cost=2),
    "a loan of one": some(3, loan=1, discount=0),
    "one in one in one": {
        "sizes": {"list": 100, "some": 20, "other": 4},
        "gates": {("list", 1): ["some"], ("some", 3): ["other"], ("list", 60): LETTERS[:1]}},
    "equals keep their order": {"sizes": {"list": 20, "other": 20}, "gates": {("list", 1): ["other"]}},
}
# Letters wait for less than Postfix's here: queue/sched/slots.h, "One addition".
ON_CREDIT = {
    "half on credit": some(7),
    "a whole loan": some(7, discount=0),
    "all of it": some(5, loan=0, discount=100),
    "an equal one waits as well": {
        "sizes": {"list": 80, "some": 4, "other": 4},
        "gates": {("list", 1): ["some", "other"], ("other", 4): LETTERS[:2]}},
}


class Play:
    """One side: submits what its gates say, and keeps the order of the deliveries."""

    def __init__(self, setting):
        self.sizes, self.gates = setting["sizes"], setting["gates"]
        self.order, self.server, self.ready = [], None, threading.Event()
        names = {name for one in self.gates.values() for name in one} | set(self.sizes)
        self.all_of = sum(self.sizes.get(name, 1) for name in names)

    def mail(self, _, argument):
        name = re.search(r"<(\w+)@", argument)[1]
        self.order.append(name)
        self.ready.wait(60)
        for one in self.gates.get((name, self.order.count(name)), ()):
            self.submit(one)
        return "250 2.1.0 Ok"

    def submit(self, name):
        to = ["u%d@dest.example" % n for n in range(2 * self.sizes.get(name, 1))]
        self.server.submit(name + "@sender.example", to)
        self.server.wait_log(r"from=<%s@sender.example>.*\(queue active\)" % name)


def run(setting):
    cost, loan, discount = setting.get("rules", (5, 3, 50))
    params = {"smtp_destination_recipient_limit": "2", "smtpd_reject_unlisted_recipient": "no",
              "smtp_connection_cache_on_demand": "no", "minimal_backoff_time": "1000s",
              "default_delivery_slot_cost": str(cost), "default_delivery_slot_loan": str(loan),
              "default_delivery_slot_discount": str(discount)}
    with World(base=ONE_PROCESS, params=params) as world:
        def act(side):
            play, sink = Play(setting), side.sinks["default"]
            play.server = side.server
            sink.answers["mail"] = play.mail
            play.submit(setting.get("first", "list"))
            play.ready.set()
            sink.wait(play.all_of, 60)
            return play.order
        return on_both(act, world.sides)


@pytest.fixture(scope="module")
def played():
    with ThreadPoolExecutor(4) as pool:
        futures = {name: pool.submit(run, setting) for name, setting in {**SETTINGS, **ON_CREDIT}.items()}
    return lambda name: [short(order) for order in futures[name].result()]


def short(order):
    """["list", "list", "some"] as "list x2, some"."""
    runs = []
    for name in order:
        if runs and runs[-1][0] == name:
            runs[-1][1] += 1
        else:
            runs.append([name, 1])
    return ", ".join(name if count == 1 else "%s x%d" % (name, count) for name, count in runs)


@pytest.mark.parametrize("name", SETTINGS)
def test_order(played, name):
    left, right = played(name)
    assert left == right
    keeps_order = name in ("a list that is too short is not passed", "equals keep their order")
    assert re.match(r"list x\d+, (letter0, letter1, letter2, letter3|other x20)$", left) is not None or not keeps_order


@pytest.mark.parametrize("name", ON_CREDIT)
def test_who_passed_on_credit_shuts_nobody_out(played, name):
    if SIDES[1] == "postfix":
        pytest.skip("the reference on both sides")
    left, right = (text.split(", ") for text in played(name))
    # The same passes at the same time; then two requests of the list for one slot, not until all is paid.
    assert left[:2] == right[:2]
    waits = [int(text.split(" x")[1]) for text in (left[-5], right[-5])]
    assert left[-4] == right[-4] == "letter0"
    assert waits[1] == 10 < waits[0]
