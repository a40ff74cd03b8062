"""Options, and the two conditions that stop a run at once with one clear line."""

import os

import pytest

from lib.instance import postfix_missing, ringpost_missing

SELF = os.environ.get("RINGPOST_PARITY_SELF") == "1"


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=5,
                     help="how often the engine is killed under load (default 5; long version 50)")
    parser.addoption("--recipients", type=int, default=100000,
                     help="recipients of the large message (default 100000)")
    parser.addoption("--sessions", type=int, default=1000,
                     help="sessions open at once (default 1000; TSan has room for 300 fibers)")
    parser.addoption("--rot-seed", type=int, default=0,
                     help="which bytes test_rot damages (default: others each time; a failure prints it)")


def pytest_collection_modifyitems(config, items):
    """Folder gives the marker. Without root there is no reference: parity is skipped, and says so."""
    for item in items:
        parts = item.path.parts
        if "parity" in parts:
            item.add_marker("parity")
        elif "script" in parts:
            item.add_marker("script")
    reason = postfix_missing()
    if reason:
        for item in items:
            if item.get_closest_marker("parity"):
                item.add_marker(pytest.mark.skip(reason=reason))


def stop_without_binary():
    pytest.exit("%s; or run the reference against itself: RINGPOST_PARITY_SELF=1 tests/parity"
                % ringpost_missing(), returncode=4)


def pytest_configure(config):
    """On several processes (-n) only the first can end the run, and it collects nothing."""
    if getattr(config.option, "numprocesses", None) and not SELF and ringpost_missing():
        stop_without_binary()


def pytest_collection_finish(session):
    if session.config.option.collectonly or hasattr(session.config, "workerinput"):
        return
    need = [i for i in session.items
            if i.get_closest_marker("script") or (i.get_closest_marker("parity") and not SELF)]
    if need and ringpost_missing():
        stop_without_binary()
