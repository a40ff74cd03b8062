"""What several scenarios share."""

import pytest

from lib.instance import Ringpost
from lib.sink import Sink


@pytest.fixture
def sink():
    with Sink() as one:
        yield one


@pytest.fixture
def relay(sink):
    """A server that sends everything to the sink."""
    with Ringpost(params={"relayhost": "[127.0.0.1]:%d" % sink.port}) as server:
        yield server
