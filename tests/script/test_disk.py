"""A full disk: 452 and nothing queued; and it goes on when there is room again."""

import os
import subprocess
import tempfile
import time

import pytest

from lib.dialogue import Smtp
from lib.instance import Ringpost

MIB = 2**20


@pytest.fixture
def small_disk():
    if os.geteuid() != 0:
        pytest.skip("a small file system can be mounted only by root")
    folder = tempfile.mkdtemp(prefix="rp-disk-")
    os.chmod(folder, 0o755)
    image = folder + ".img"
    with open(image, "wb") as handle:
        handle.truncate(400 * MIB)
    mounted = False
    try:
        for command in (["mkfs.ext4", "-q", "-m", "0", image],
                        ["mount", "-o", "loop", image, folder]):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                pytest.skip("no small file system here: %s" % done.stderr.strip())
        mounted = True
        queue = os.path.join(folder, "queue")
        os.mkdir(queue)
        yield folder, queue
    finally:
        if mounted:
            subprocess.run(["umount", "-l", folder])
        os.rmdir(folder)
        os.unlink(image)


def fill(folder):
    """Use every byte that is left; the filler's path."""
    path = os.path.join(folder, "filler")
    with open(path, "wb", buffering=0) as handle:
        piece = bytes(MIB)
        while piece:
            try:
                if handle.write(piece) < len(piece):
                    piece = piece[:len(piece) // 2]
            except OSError:
                piece = piece[:len(piece) // 2]
        os.fsync(handle.fileno())
    return path


def offer(server, size):
    """The reply that ends an attempt to send this many bytes."""
    with Smtp(server.port, timeout=30) as peer:
        peer.expect(220)
        peer.command("EHLO x", 250)
        for line in ("MAIL FROM:<a@example.com> SIZE=%d" % size, "RCPT TO:<b@dest.example>"):
            reply = peer.command(line)
            if reply.code != 250:
                return reply
        reply = peer.command("DATA")
        if reply.code != 354:
            return reply
        return peer.data(b"Subject: x\r\n\r\n" + b"0123456789abcdef0123456789abcdef\r\n" *
                         (size // 34))


def test_a_full_disk_is_452_and_is_got_over(small_disk, sink):
    folder, queue = small_disk
    with Ringpost(params={"relayhost": "[127.0.0.1]:%d" % sink.port}, queue=queue) as server:
        assert offer(server, 1000).code == 250
        filler = fill(folder)
        time.sleep(1.5)
        taken = 0
        for _ in range(300):
            reply = offer(server, 2 * MIB)
            if reply.code != 250:
                break
            taken += 1
        assert reply.code == 452 and "4.3.1" in reply.text, reply.text
        for _ in range(20):
            assert offer(server, 2 * MIB).code in (250, 452)
        os.unlink(filler)
        limit = time.monotonic() + 20
        while offer(server, 1000).code != 250:
            assert time.monotonic() < limit, "no mail is taken though there is room again"
            time.sleep(0.2)
        # What got a 250 while the disk was full is there too.
        sink.wait(taken + 2, timeout=60)


def test_a_stop_and_start_on_a_full_disk(small_disk, sink):
    folder, queue = small_disk
    server = Ringpost(params={"relayhost": "[127.0.0.1]:1"}, queue=queue)
    with server:
        ids = [server.submit("a@example.com", ["b@dest.example"]) for _ in range(5)]
        filler = fill(folder)
        server.kill_all()
        server.start()
        listing = server.run("mailq").stdout
        assert all(one in listing for one in ids), listing
        assert offer(server, 1000).code == 452
        os.unlink(filler)
        limit = time.monotonic() + 20
        while offer(server, 1000).code != 250:
            assert time.monotonic() < limit, "no mail is taken though there is room again"
            time.sleep(0.2)
        server.stop()
        server.start()
        listing = server.run("mailq").stdout
        assert all(one in listing for one in ids) and "in 6 Requests" in listing, listing


def test_a_file_system_that_turns_read_only(small_disk, sink):
    """Errors make ext4 remount itself read-only under the open files: mail is refused for a while, not
    lost, what is there goes out, and nothing crashes."""
    folder, queue = small_disk
    device = next(line.split()[0] for line in open("/proc/mounts") if line.split()[1] == folder)
    trigger = "/sys/fs/ext4/%s/trigger_fs_error" % os.path.basename(device)
    if not os.access(trigger, os.W_OK):
        pytest.skip("no way to make this file system fail")
    subprocess.run(["mount", "-o", "remount,errors=remount-ro", folder], check=True)
    with Ringpost(params={"relayhost": "[127.0.0.1]:1", "queue_run_delay": "2s",
                          "minimal_backoff_time": "2s", "maximal_backoff_time": "2s"},
                  queue=queue) as server:
        ids = [server.submit("a@example.com", ["b@dest.example"]) for _ in range(5)]
        server.wait_log("status=deferred", count=5)
        engines = server.engine_pids()
        with open(trigger, "w") as handle:
            handle.write("from tests/script/test_disk.py")
        refused = [offer(server, 1000) for _ in range(5)]
        assert all(400 <= reply.code < 500 for reply in refused), [r.text for r in refused]
        large = offer(server, 3 * MIB)
        assert 400 <= large.code < 500, large.text
        listing = server.run("mailq").stdout
        assert all(one in listing for one in ids) and "in 5 Requests" in listing, listing
        # What is there is read and delivered, though no mark can be written.
        server.params["relayhost"] = "[127.0.0.1]:%d" % sink.port
        server.write_config()
        server.run("postfix", "reload", check=True)
        server.run("postqueue", "-f", check=True)
        sink.wait(5, timeout=30)
        assert server.engine_pids() == engines, "the engine was restarted"
        server.kill_all()
        limit = time.monotonic() + 20
        while subprocess.run(["umount", folder], capture_output=True).returncode:
            assert time.monotonic() < limit, "somebody still uses the file system"
            time.sleep(0.1)
        subprocess.run(["e2fsck", "-fy", folder + ".img"], capture_output=True, timeout=60)
        subprocess.run(["mount", "-o", "loop", folder + ".img", folder], check=True, timeout=60)
        server.start()
        assert offer(server, 1000).code == 250
        sink.wait(6, timeout=30)


def test_less_than_queue_minfree_is_told_at_mail(sink):
    """As Postfix does; and a reload with less takes mail again."""
    with Ringpost(params={"relayhost": "[127.0.0.1]:%d" % sink.port,
                          "queue_minfree": "900000000000000"}) as server:
        with Smtp(server.port, timeout=10) as peer:
            peer.expect(220)
            peer.command("EHLO x", 250)
            reply = peer.command("MAIL FROM:<a@example.com>", 452)
            assert "4.3.1 Insufficient system storage" in reply.text, reply.text
            peer.command("RCPT TO:<b@dest.example>", 503)
        server.wait_log("NOQUEUE: reject: MAIL from .*: 452 4.3.1 Insufficient system storage; proto=ESMTP")
        server.wait_log("warning: not enough free space in mail queue")
        server.params["queue_minfree"] = "0"
        server.write_config()
        server.run("postfix", "reload", check=True)
        limit = time.monotonic() + 10
        while offer(server, 1000).code != 250:
            assert time.monotonic() < limit, "no mail is taken after the reload"
            time.sleep(0.2)
        sink.wait(1)
