"""virtual(8): Maildir and mbox for virtual mailbox users. Files are owned by the mail system's
own user, because that is the user Ringpost delivers as."""

import os
import pwd
import re

import pytest

from lib.dialogue import Data
from world import World, case, compare, hello, on_both, outcome, play, rows

BODY = Data(b"From: x@example.com\r\nMessage-ID: <1@example.com>\r\n"
            b"Date: Mon, 01 Jan 2024 00:00:00 +0000\r\n\r\nb\r\nFrom the start\r\n>From two\r\n"
            b"..dot\r\n\xe4\r\n")

PARAMS = {
    "virtual_mailbox_domains": "vmail.example",
    "virtual_mailbox_maps": "texthash:@DIR@/vmailbox",
    "virtual_mailbox_base": "@DIR@/vmail",
    "virtual_minimum_uid": "1",
    "virtual_uid_maps": "static:@UID@",
    "virtual_gid_maps": "static:@GID@",
    "virtual_mailbox_limit": "5000",
    "message_size_limit": "4000",
    "recipient_delimiter": "+",
    # Deliveries of one message to several mailboxes would log in an arbitrary order.
    "virtual_destination_concurrency_limit": "1",
}
FILES = {
    "vmailbox": "joe@vmail.example joe/\nbox@vmail.example spool/box\nsub@vmail.example a/b/c/\n"
                "full@vmail.example full\ndots@vmail.example ../outside/\n"
                "dir@vmail.example isdir\nabs@vmail.example /abs/\n@catch.vmail.example all/\n",
    "vmail/full": "x" * 4990 + "\n",
    "vmail/isdir/.keep": "",
    "vmail/spool/.keep": "",
}


@pytest.fixture(scope="module")
def world():
    who = pwd.getpwnam("postfix")
    expand = {k: v.replace("@UID@", str(who.pw_uid)).replace("@GID@", str(who.pw_gid))
              for k, v in PARAMS.items()}
    with World(params=expand, files=FILES) as one:
        for side in one.sides:
            for folder, _, names in os.walk(side.server.dir / "vmail"):
                for path in [folder] + [os.path.join(folder, n) for n in names]:
                    os.chown(path, who.pw_uid, who.pw_gid)
        yield one


def to(label, *recipients, sender="a@example.com"):
    return case(label, *hello("MAIL FROM:<%s>" % sender,
                              *["RCPT TO:<%s@vmail.example>" % r for r in recipients],
                              "DATA", BODY))


CASES = [
    to("a maildir is made and filled", "joe"),
    to("a second message to the maildir", "joe"),
    to("an extension is kept in Delivered-To", "joe+ext"),
    to("a nested maildir", "sub"),
    to("an mbox", "box"),
    to("a second message to the mbox", "box"),
    to("a null sender in the mbox", "box", sender=""),
    to("the mbox over its limit", "full"),
    to("a folder where a file should be", "dir"),
    to("an absolute name stays below the base", "abs"),
    to("two users of one message", "joe", "box"),
    to("an upper case name", "JOE"),
]


def tree(side, normal):
    """Every mailbox file with mode and content; maildir names by their folder only."""
    base = side.server.dir / "vmail"
    found = []
    for path in sorted(p for p in base.rglob("*") if p.name != ".keep"):
        name = str(path.relative_to(base))
        if "/new/" in name:
            name = name.rsplit("/", 1)[0] + "/*"
        mode = oct(path.stat().st_mode & 0o7777)
        if path.is_dir():
            found.append(["%s/ %s" % (name, mode)])
        else:
            content = normal.content(path.read_bytes())
            content = [re.sub(r"^(From \S+) .*", r"\1 <WHEN>", line) for line in content]
            found.append(["%s %s" % (name, mode), *content])
    return [line for entry in sorted(found) for line in entry]


@pytest.mark.parametrize("one", rows(CASES))
def test_virtual(world, one):
    results = world.play(one)
    for side, result in zip(world.sides, results):
        result["files"] = tree(side, side.normal(side.server.log()))
    compare(*results)


def test_maildir_names_are_unique_and_of_one_shape(world):
    for side in world.sides:
        names = [p.name for p in (side.server.dir / "vmail").rglob("new/*")]
        assert len(set(names)) == len(names) > 0
        assert all(re.fullmatch(r"\d+\.V[0-9a-f]+I[0-9a-f]+M\d+\.[^/:]+", n) for n in names), names
