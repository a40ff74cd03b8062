"""in_flow_delay: mail that comes in faster than it leaves waits at the door, and what had to leave memory
meanwhile is delivered whole."""

import pytest

from lib.dialogue import Smtp
from lib.instance import Ringpost

WARNING = "mail arrives faster than it is delivered"
TEXT = b"0123456789abcdef0123456789abcdef\r\n" * 500
COUNT = 6


def send(server, number):
    with Smtp(server.port, timeout=30) as peer:
        peer.expect(220)
        peer.command("EHLO x", 250)
        peer.command("MAIL FROM:<a@example.com>", 250)
        peer.command("RCPT TO:<b@dest.example>", 250)
        peer.command("DATA", 354)
        assert peer.data(b"Subject: number %d\r\n\r\n%s" % (number, TEXT)).code == 250


@pytest.mark.parametrize("delay", ("1s", "0"))
def test_mail_waits_at_the_door_and_goes_out_whole(sink, delay):
    with Ringpost(params={"relayhost": "[127.0.0.1]:%d" % sink.port, "queue_memory_limit": "65536",
                          "default_destination_rate_delay": "1s",
                          "in_flow_delay": delay}) as server:
        for number in range(COUNT):
            send(server, number)
        sink.wait(COUNT, timeout=60)
        subjects = sorted(message.header("Subject") for message in sink.messages)
        assert subjects == ["number %d" % n for n in range(COUNT)]
        for message in sink.messages:
            assert message.content.endswith(TEXT), message.header("Subject")
        assert (WARNING in server.log()) == (delay != "0")
