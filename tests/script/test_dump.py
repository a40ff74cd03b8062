"""queue-dump (tests/tools): a line for each segment, batch, record, row and file that was set aside."""

import json
import os
import random
import subprocess

import pytest

from lib.instance import ringpost_bin
from lib.rot import World

TOOL = ringpost_bin() / "queue-dump"
pytestmark = pytest.mark.skipif(not os.access(TOOL, os.X_OK), reason="built only with RP_TESTS")


@pytest.fixture
def world():
    one = World(random.SystemRandom().randrange(1 << 31), messages=6, large=1)
    try:
        yield one
    finally:
        one.close()


def dump(world, *options):
    done = subprocess.run([TOOL, *options, world.server.queue], capture_output=True, timeout=30)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout.decode("ascii").splitlines()


def rows(world, *options):
    status, lines = dump(world, "--json", *options)
    return status, [json.loads(one) for one in lines]


def test_what_it_tells(world):
    dump(world)                                                     # beside a running server
    world.stop()
    status, all_rows = rows(world)
    assert status == 0
    kinds = {row["kind"] for row in all_rows}
    assert kinds == {"segment", "batch", "record", "checked", "index", "live", "row"}
    messages = [row for row in all_rows if row["kind"] == "record" and row["type"] == "MESSAGE"]
    assert {row["id"] for row in messages} == set(world.ids.values())
    assert {row["to"] for row in messages} == {"r%d@dest.example" % n for n in world.ids}
    assert all(row["sums"] == "ok" for row in all_rows if row["kind"] == "record")
    indexed = [row for row in all_rows if row["kind"] == "row"]
    assert {row["id"]: row["at"] for row in indexed} == {row["id"]: row["at"] for row in messages}
    status, lines = dump(world)
    assert status == 0 and len(lines) == len(all_rows)


def test_one_message(world):
    world.stop()
    n = min(n for n, kept in world.where.items() if not kept.spilled)
    for name in (world.ids[n], "%x" % world.where[n].seq):
        status, found = rows(world, "--seq", name, "--bodies", "--log", "--index")
        assert status == 0
        assert [row["kind"] for row in found if row.get("type") != "MARK"] == ["record", "row"]
        assert found[0]["body"].encode("latin-1") == world.where[n].content


def test_damage(world):
    world.stop()
    n = min(n for n, kept in world.where.items() if not kept.spilled)
    path = world.log_folder / world.where[n].segment
    world.flip(path, 1, world.where[n].end - 10, world.where[n].end)
    status, found = rows(world, "--check")
    assert status == 1
    assert [(row["of"], row["id"]) for row in found if row["kind"] == "finding"] == [("record", world.ids[n])]
    world.server.run("postsuper", "-s", check=True)
    status, found = rows(world, "--corrupt", "--check")
    assert status == 0
    assert [row["id"] for row in found if row["kind"] == "corrupt"] == [world.ids[n]]
    assert [row["of"] for row in found if row["kind"] == "finding"] == ["scar"]
    assert subprocess.run([TOOL, "--help"], capture_output=True).returncode == 0
    assert subprocess.run([TOOL], capture_output=True).returncode == 2
