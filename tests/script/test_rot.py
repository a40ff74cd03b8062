"""Bit rot: bytes of a stopped queue change. What is undamaged is delivered whole, what is damaged is set
aside in corrupt/ and named, nothing is delivered damaged, and together they are all there was.
A failure prints the seed: --rot-seed repeats it.
"""

import os
import random
import shutil

import pytest

from lib.rot import BLOCK, LARGE, Hit, World, damage_index, records
from lib.sink import Sink


@pytest.fixture
def seed(request):
    return request.config.getoption("--rot-seed") or random.SystemRandom().randrange(1 << 31)


@pytest.fixture
def world(seed):
    one = World(seed)
    try:
        yield one
    finally:
        one.close()


@pytest.fixture
def sink():
    with Sink() as one:
        yield one


def rot_segments(world, flips):
    """Random flips all over the records; the messages that are hit."""
    hit = Hit(set(), set(), set())
    for path in world.segments():
        end = max(end for _, _, _, end in records(path))
        for at in world.flip(path, flips, BLOCK, end):
            hit |= world.hit_by(path.name, at, at + 1)
    return hit


@pytest.mark.parametrize("kill", [False, True], ids=["clean stop", "kill -9"])
def test_flips_in_segments(world, sink, kill):
    world.stop(kill)
    assert len(world.segments()) > 2
    world.deliver(sink, rot_segments(world, 12), index=not kill)


def test_flips_in_segments_without_an_index(world, sink):
    world.stop()
    shutil.rmtree(world.server.queue / "index")
    world.deliver(sink, rot_segments(world, 12), index=False)


def test_flips_in_large_contents(world, sink):
    """A flip, a file cut short, one that grew, one that is gone, one that is empty."""
    world.stop()
    large = [n for n, kept in world.where.items() if kept.spilled]
    assert len(large) >= LARGE
    hit = set(large[:LARGE // 2])
    for i, n in enumerate(sorted(hit)):
        path = world.content_file(n)
        size = path.stat().st_size
        if i % 5 == 0:
            world.flip(path)
        elif i % 5 == 1:
            os.truncate(path, world.chance.randrange(1, size))
        elif i % 5 == 2:
            path.unlink()
        elif i % 5 == 3:
            os.truncate(path, 0)
        else:
            world.flip(path, 3, size - 100)
    world.deliver(sink, Hit(hit, hit, set()))


@pytest.mark.parametrize("index", [True, False], ids=["index", "no index"])
def test_pages_of_zeros(world, sink, index):
    world.stop()
    hit = Hit(set(), set(), set())
    for path in world.segments():
        last = max(end for _, _, _, end in records(path))
        for _ in range(3):
            at = BLOCK * world.chance.randrange(1, last // BLOCK)
            with open(path, "r+b") as handle:
                handle.seek(at)
                handle.write(bytes(BLOCK))
            hit |= world.hit_by(path.name, at, at + BLOCK)
    if not index:
        shutil.rmtree(world.server.queue / "index")
    world.deliver(sink, hit, index=index)


@pytest.mark.parametrize("index", [True, False], ids=["index", "no index"])
def test_header_blocks(world, sink, index):
    """All but one; without an index the secret must come from somewhere."""
    world.stop()
    for path in world.segments()[not index:]:
        world.flip(path, 1, 0, 64)
    if not index:
        shutil.rmtree(world.server.queue / "index")
    world.deliver(sink, Hit(set(), set(), set()), index=index)


def test_a_segment_cut_short(world, sink):
    world.stop()
    path = world.segments()[1]
    keep = world.chance.randrange(BLOCK, max(end for _, _, _, end in records(path)))
    os.truncate(path, keep)
    hit = world.hit_by(path.name, keep, 1 << 40)
    world.deliver(sink, hit)


def test_a_segment_that_is_gone(world, sink):
    """What was in it is lost, and named: the index knows the messages."""
    world.stop()
    path = world.segments()[1]
    hit = world.hit_by(path.name, 0, 1 << 40)
    path.unlink()
    world.deliver(sink, hit)


@pytest.mark.parametrize("how", ["garbage", "cut short", "a page of zeros", "gone", "few flips",
                                 "many flips"])
def test_the_index(world, sink, how):
    """It is derived: whatever happens to it, all is delivered."""
    world.stop()
    damage_index(world, how)
    world.deliver(sink, Hit(set(), set(), set()))


@pytest.mark.parametrize("kill", [False, True], ids=["clean stop", "kill -9"])
def test_everything_at_once(world, sink, kill):
    world.stop(kill)
    hit = rot_segments(world, 8)
    large = world.chance.sample([n for n, kept in world.where.items() if kept.spilled], 3)
    for n in large:
        world.flip(world.content_file(n))
    hit |= Hit(set(large), set(large), set())
    damage_index(world, "few flips")
    world.deliver(sink, hit, index=False)
