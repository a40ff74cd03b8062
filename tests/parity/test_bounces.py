"""Notices beyond the plain bounce: expired mail, double bounces, copies to the postmaster."""

import re
import time

import pytest

from lib.sink import Sink
from world import World, compare, delivered_lines, on_both, wait_final

BASE = {
    "queue_run_delay": "1s",
    "minimal_backoff_time": "1s",
    "maximal_backoff_time": "1s",
    "transport_maps": "texthash:@DIR@/routes",
    "smtpd_reject_unlisted_recipient": "no",
}
ROUTES = "later.example retry:4.3.2 come again\ngone.example error:5.1.1 no such user\n"
CONTENT = b"From: x@example.com\r\nMessage-ID: <1@example.com>\r\n" \
          b"Date: Mon, 01 Jan 2024 00:00:00 +0000\r\nSubject: s\r\n\r\nbody\r\n"

# label: (further parameters, sender, recipients, what must come up in the log before comparing)
ROWS = {
    "mail that expires is returned": (
        {"maximal_queue_lifetime": "2s"}, "a@sender.example", ["b@later.example"],
        r"ID: removed"),
    "a bounce that expires is dropped": (
        {"bounce_queue_lifetime": "2s"}, "", ["b@later.example"], r"ID: removed"),
    "a delay warning goes out once": (
        {"delay_warning_time": "1s"}, "a@sender.example", ["b@later.example"],
        r"sender delay notification: (\w+)"),
    "a bounce that bounces makes no third": (
        {}, "a@gone.example", ["b@gone.example"], r"from=<>.*\n(?:.*\n)*?.*ID2: removed"),
    "a bounce that bounces goes to the postmaster when asked for": (
        {"notify_classes": "2bounce"}, "a@gone.example", ["b@gone.example"],
        r"postmaster non-delivery notification: (\w+)"),
    "the postmaster gets a copy of a bounce when asked for": (
        {"notify_classes": "bounce"}, "a@sender.example", ["b@gone.example"],
        r"postmaster non-delivery notification: (\w+)"),
    "soft_bounce turns a bounce into a delay": (
        {"soft_bounce": "yes"}, "a@sender.example", ["b@gone.example"], r"status=deferred|SOFTBOUNCE"),
    "bounces name another double-bounce sender": (
        {"notify_classes": "bounce", "double_bounce_sender": "no-reply",
         "bounce_notice_recipient": "boss@sender.example"}, "a@sender.example",
        ["b@gone.example"], r"postmaster non-delivery notification: (\w+)"),
}


@pytest.mark.parametrize("label", ROWS)
def test_notice(label):
    params, sender, recipients, wanted = ROWS[label]
    with World(params={**BASE, **params}, files={"routes": ROUTES}) as world:
        def act(side):
            server = side.server
            qid = server.submit(sender, recipients, CONTENT)
            if "ID2" in wanted:
                child = server.wait_log(r"notification: (\w+)")[1]
                server.wait_log(child + ": removed")
            else:
                found = server.wait_log(wanted.replace("ID", qid))
                if found.groups():
                    server.wait_log(found[1] + ": removed")
            # What came up must also come to its end, or chance decides what the log shows.
            for child in re.findall(r"notification: (\w+)", server.log()):
                server.wait_log(child + ": removed")
            sink = side.sinks["default"]
            limit = time.monotonic() + 5
            sent = len(re.findall(r"status=sent", server.log()))
            while len(sink.messages) < sent and time.monotonic() < limit:
                time.sleep(0.02)
            normal = side.normal(server.log())
            lines = {"%s: %s" % (s, t) for s, t in server.log_lines()
                     if re.match(r"(?!warning)[0-9A-Za-z]{6,}: ", t) and not s.endswith("smtpd")}
            mails = sorted(sink.messages, key=lambda m: sorted(m.rcpts))
            # How often it was tried before it expired is a matter of the clock.
            return {"log": sorted(set(normal.log(lines))),
                    "notices": [line for m in mails
                                for line in delivered_lines(normal, ("default", m))]}

        compare(*on_both(act, world.sides))
