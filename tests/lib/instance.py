"""One private mail server: real Postfix, or Ringpost, with the same parameters.

    with Ringpost(params={"relayhost": "[127.0.0.1]:2525"}) as server:
        qid = server.submit("a@example.com", ["b@example.net"], b"Subject: x\\r\\n\\r\\nhello\\r\\n")
        server.wait_log(qid + ": removed")

A server lives in a folder of its own under $RINGPOST_TMP (default /tmp), on free loopback ports,
with its own queue, data folder and log file. Everything has a time limit; when the server dies or
a limit passes, the error carries the tail of its log. stop() ends it and fails if a process of it
is left.
"""

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from .dialogue import Smtp
from .golden import parse_log
from .ports import free_port

ROOT = Path(__file__).resolve().parents[2]

# Nothing here asks DNS or leaves the machine; a test that wants DNS says so.
BASE_PARAMS = {
    "compatibility_level": "3.6",
    "myhostname": "mail.unix-power.net",
    "mydomain": "unix-power.net",
    "myorigin": "$mydomain",
    "mydestination": "$myhostname, localhost.$mydomain, localhost, $mydomain",
    "mynetworks": "127.0.0.1/32",
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
    "smtp_dns_support_level": "disabled",
    "smtpd_peername_lookup": "no",
    "local_recipient_maps": "",
    "alias_maps": "",
    "alias_database": "",
    "biff": "no",
    "maillog_file_prefixes": "@DIR@",
    "maillog_file": "@DIR@/maillog",
    "smtp_tls_security_level": "none",
    "smtpd_tls_security_level": "none",
}

SANITIZERS = ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS")

# Debian's master.cf without its chroot jails, inet services left out: those are added by name.
BASE_MASTER = """\
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
verify    unix  -       -       n       -       1       verify
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
proxywrite unix -       -       n       -       1       proxymap
smtp      unix  -       -       n       -       -       smtp
relay     unix  -       -       n       -       -       smtp
        -o syslog_name=postfix/$service_name
showq     unix  n       -       n       -       -       showq
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
local     unix  -       n       n       -       -       local
virtual   unix  -       n       n       -       -       virtual
lmtp      unix  -       -       n       -       -       lmtp
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
"""


class ServerError(Exception):
    """The server did not do what it must; the text holds the tail of its log."""


def settle(path):
    """Make a file look old: Postfix waits up to 2 s before it reads one that has just changed."""
    then = time.time() - 60
    os.utime(path, (then, then))


def processes_of(folder):
    """Process ids that belong to a private folder: by working folder, arguments or environment."""
    needle = str(folder).encode()
    own = {os.getpid(), os.getppid()}
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) in own:
            continue
        base = "/proc/" + entry.name
        try:
            if os.readlink(base + "/cwd").encode().startswith(needle):
                found.append(int(entry.name))
                continue
        except OSError:
            pass
        for name in ("cmdline", "environ"):
            try:
                with open(base + "/" + name, "rb") as handle:
                    if needle in handle.read():
                        found.append(int(entry.name))
                        break
            except OSError:
                pass
    return found


def is_dead(pid):
    try:
        with open("/proc/%d/stat" % pid) as handle:
            return handle.read().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def ringpost_bin():
    return Path(os.environ.get("RINGPOST_BIN", ROOT / "build/release/bin")).resolve()


def ringpost_missing():
    """None when the binary is there, else the reason in one line."""
    path = ringpost_bin() / "postfix"
    if os.access(path, os.X_OK):
        return None
    return "no Ringpost binary at %s: build it, or set RINGPOST_BIN" % path


def postfix_missing():
    if os.geteuid() != 0:
        return "real Postfix starts only as root"
    if not os.access("/usr/lib/postfix/sbin/master", os.X_OK):
        return "real Postfix is not installed (apt-get install postfix)"
    return None


class Server:
    """Common part of both kinds.

    params    main.cf settings on top of BASE_PARAMS; None removes one
    services  {name: {parameter: value}}: one smtpd each on a port of its own with -o overrides;
              the first is server.port. Default: one service "smtp" without overrides
    files     {name: text}: files written into the folder before the start
    master    further master.cf lines
    swaps     {"@NAME@": text} put into every value, besides @DIR@ and @PORT:service@
    """

    kind = None

    def __init__(self, params=None, services=None, files=None, master="", swaps=None,
                 folder=None, base_master=BASE_MASTER, queue=None):
        self.params = dict(BASE_PARAMS)
        self.params.update(params or {})
        self.params = {k: v for k, v in self.params.items() if v is not None}
        self.services = services or {"smtp": {}}
        self.files = files or {}
        self.master = master
        self.base_master = base_master
        self.swaps = dict(swaps or {})
        parent = os.environ.get("RINGPOST_TMP", "/tmp")
        self.dir = Path(folder or tempfile.mkdtemp(prefix="rp-%s-" % self.kind, dir=parent))
        os.chmod(self.dir, 0o755)
        self.conf = self.dir / "etc"
        self.queue = Path(queue) if queue else self.dir / "queue"
        self.data = self.dir / "data"
        self.log_path = self.dir / "maillog"
        self.reports = self.dir / "sanitizer"
        self.ports = {name: free_port() for name in self.services}
        self.port = self.ports[next(iter(self.services))]
        self.running = False
        self._write()

    # -- configuration ---------------------------------------------------------------------------
    def expand(self, text):
        text = str(text).replace("@DIR@", str(self.dir))
        for name, value in self.swaps.items():
            text = text.replace(name, str(value))
        for name, port in self.ports.items():
            text = text.replace("@PORT:%s@" % name, str(port))
        return text

    def main_cf(self):
        fixed = {
            "queue_directory": self.queue,
            "data_directory": self.data,
            "mail_owner": self.owner(),
        }
        fixed.update(self.own_params())
        rows = {**fixed, **self.params}
        return "".join("%s = %s\n" % (k, self.expand(v)) for k, v in rows.items())

    def master_cf(self):
        text = ""
        for name, overrides in self.services.items():
            text += "127.0.0.1:%d inet n - n - - smtpd\n" % self.ports[name]
            for key, value in overrides.items():
                value = self.expand(value)
                if re.search(r"\s", value) or value == "":
                    text += "  -o { %s = %s }\n" % (key, value)
                else:
                    text += "  -o %s=%s\n" % (key, value)
        return text + self.base_master + self.expand(self.master)

    def _write(self):
        for folder in (self.conf, self.queue, self.data):
            folder.mkdir(exist_ok=True)
            os.chmod(folder, 0o755)
        self.reports.mkdir(exist_ok=True)
        os.chmod(self.reports, 0o1777)      # the engine is another user
        if os.geteuid() == 0:
            who = pwd.getpwnam(self.owner())
            os.chown(self.data, who.pw_uid, who.pw_gid)
        for name, text in self.files.items():
            path = self.dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else self.expand(text).encode())
            settle(path)
        self.write_config()

    def write_config(self):
        for name, text in (("main.cf", self.main_cf()), ("master.cf", self.master_cf())):
            (self.conf / name).write_text(text)
            settle(self.conf / name)

    def owner(self):
        return "postfix" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name

    def own_params(self):
        return {}

    # -- commands --------------------------------------------------------------------------------
    def environ(self, more=None):
        """For its processes. A daemon has no stderr: what the sanitizers say goes to files."""
        env = {**os.environ, "MAIL_CONFIG": str(self.conf), "LC_ALL": "C", "TZ": "UTC"}
        for name in SANITIZERS:
            env[name] = "%s:log_path=%s/report" % (os.environ.get(name, ""), self.reports)
        return {**env, **(more or {})}

    def check_reports(self):
        """An error if a sanitizer found something in any process of this instance."""
        for path in sorted(self.reports.glob("report.*")):
            text = path.read_text("utf-8", "replace")
            if text.strip():
                raise self.error("%s:\n%s" % (path.name, text[:6000]))

    def program(self, name):
        raise NotImplementedError

    def run(self, name, *args, stdin=None, timeout=30, check=False, env=None):
        """Run one of the server's commands on this instance; a CompletedProcess with text."""
        where = ["-C" if name in ("sendmail", "mailq", "newaliases") else "-c", str(self.conf)]
        command = [self.program(name), *where, *map(str, args)]
        if isinstance(stdin, str):
            stdin = stdin.encode()
        try:
            # A session of its own: master's start-up signals must not reach the test run. The
            # output goes to files, not pipes, because a daemon that inherits a pipe holds it open.
            with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
                done = subprocess.run(command, input=stdin if stdin is not None else b"",
                                      stdout=out, stderr=err, timeout=timeout,
                                      env=self.environ(env), start_new_session=True, cwd="/")
                out.seek(0)
                err.seek(0)
                done.stdout = out.read().decode("utf-8", "replace")
                done.stderr = err.read().decode("utf-8", "replace")
        except subprocess.TimeoutExpired:
            raise self.error("%s did not end within %d s" % (" ".join(command), timeout))
        if check and done.returncode:
            raise self.error("%s: exit status %d\n%s%s" % (
                " ".join(command), done.returncode, done.stdout, done.stderr))
        return done

    # -- life ------------------------------------------------------------------------------------
    def start(self, timeout=30):
        self.run("postfix", "start", timeout=timeout, check=True)
        self.running = True
        self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout=30):
        """Until every port gives its greeting."""
        limit = time.monotonic() + timeout
        seen_dead = 0           # a process has no arguments for a moment while it starts
        for name, port in self.ports.items():
            while True:
                try:
                    with Smtp(port, timeout=max(0.2, limit - time.monotonic())) as peer:
                        if peer.reply().code is not None:
                            peer.send(b"QUIT\r\n")
                            peer.reply()
                            break
                except OSError:
                    pass
                if time.monotonic() > limit:
                    raise self.error("service %s: no greeting on port %d within %d s"
                                     % (name, port, timeout))
                seen_dead = 0 if processes_of(self.dir) else seen_dead + 1
                if seen_dead > 2:
                    raise self.error("the server has died")
                if "bad command startup -- throttling" in self.log():
                    raise self.error("service %s: its program does not start" % name)
                time.sleep(0.05)

    def stop(self, timeout=30):
        """Stop, then make sure that no process is left; a leftover is killed and reported."""
        if not self.running:
            return
        self.running = False
        done = self.run("postfix", "stop", timeout=timeout)
        left = self._wait_gone(timeout)
        if left:
            names = []
            for pid in left:
                try:
                    names.append("%d %s" % (pid, Path("/proc/%d/comm" % pid).read_text().strip()))
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
            raise self.error("processes left after stop (exit %d, %s): %s"
                             % (done.returncode, done.stderr.strip(), ", ".join(names)))
        self.check_reports()

    def _wait_gone(self, timeout):
        limit = time.monotonic() + timeout
        while True:
            left = processes_of(self.dir)
            if not left or time.monotonic() > limit:
                return left
            time.sleep(0.05)

    def kill_all(self):
        """For tests that make it die: SIGKILL to every process of this instance, and nothing else."""
        pids = processes_of(self.dir)
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        self._wait_gone(10)
        # Whoever gives back much memory has no name in /proc any more, and its locks still.
        limit = time.monotonic() + 10
        while any(not is_dead(pid) for pid in pids) and time.monotonic() < limit:
            time.sleep(0.01)
        self.running = False

    def remove(self):
        if not os.environ.get("RINGPOST_KEEP"):
            shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.kill_all()
            self.remove()
            raise

    def __exit__(self, *exc):
        try:
            self.stop()
            self.check_reports()
        finally:
            self.kill_all()     # a stop that hangs, or is interrupted, leaves nothing either
            self.remove()

    def error(self, text):
        return ServerError("%s: %s\n--- last log lines (%s)\n%s" % (
            self.kind, text, self.log_path, "\n".join(self.log().splitlines()[-25:])))

    # -- log -------------------------------------------------------------------------------------
    def log(self, since=0):
        try:
            with open(self.log_path, "rb") as handle:
                handle.seek(since)
                return handle.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def log_size(self):
        try:
            return self.log_path.stat().st_size
        except OSError:
            return 0

    def log_lines(self, since=0):
        """[(service, text)] without date, host and process id."""
        return parse_log(self.log(since))

    def wait_log(self, pattern, timeout=20, since=0, count=1):
        """Wait until a pattern stands in the log `count` times; the last match."""
        limit = time.monotonic() + timeout
        wanted = re.compile(pattern, re.M)
        while True:
            found = list(wanted.finditer(self.log(since)))
            if len(found) >= count:
                return found[-1]
            if time.monotonic() > limit:
                raise self.error("no log line %r (%d of %d) within %d s"
                                 % (pattern, len(found), count, timeout))
            time.sleep(0.02)

    # -- mail ------------------------------------------------------------------------------------
    def submit(self, sender, recipients, content=b"Subject: test\r\n\r\nhello\r\n", *, port=None,
               mail_options="", rcpt_options="", source=None, timeout=20):
        """One message over SMTP; its queue id. Any refusal is an error."""
        with Smtp(port or self.port, source=source, timeout=timeout) as peer:
            peer.expect(220)
            peer.command("EHLO client.example.org", 250)
            peer.command("MAIL FROM:<%s>%s" % (sender, mail_options), 250)
            for recipient in recipients:
                peer.command("RCPT TO:<%s>%s" % (recipient, rcpt_options), 250)
            peer.command("DATA", 354)
            reply = peer.data(content)
            if reply.code != 250:
                raise self.error("message refused: %s" % reply.text)
            qid = re.search(r"queued as (\S+)", reply.text).group(1)
            peer.command("QUIT", 221)
        return qid


class Postfix(Server):
    """The reference. Needs root; touches nothing of the machine's own Postfix."""

    kind = "postfix"
    _folders = {"mailq": "/usr/bin", "newaliases": "/usr/bin"}

    def program(self, name):
        return os.path.join(self._folders.get(name, "/usr/sbin"), name)

    def own_params(self):
        return {"setgid_group": "postdrop"}


class Ringpost(Server):
    """The server under test."""

    kind = "ringpost"
    index_damaged = False       # LMDB ends the process on some damaged pages: queue/README.md

    def program(self, name):
        return str(ringpost_bin() / name)

    def check_reports(self):
        """And an error if an engine of it has crashed: the supervisor starts another, and all goes on."""
        super().check_reports()
        crash = re.search(r"^.*killed by signal (?!9$|15$).*$", self.log(), re.M)
        if crash and not self.index_damaged:
            panics = re.findall(r"^.*panic: .*$", self.log(), re.M)
            raise self.error("\n".join([crash[0], *panics]))

    def engine_pids(self):
        """The processes that must not be the supervisor: children of the pid-file's process."""
        master = self.master_pid()
        pids = []
        for pid in processes_of(self.dir):
            try:
                with open("/proc/%d/stat" % pid) as handle:
                    parent = int(handle.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            if parent == master:
                pids.append(pid)
        return pids

    def master_pid(self):
        path = self.queue / "pid/master.pid"
        try:
            return int(path.read_text().split()[0])
        except (OSError, IndexError, ValueError):
            raise self.error("no process id in %s" % path)


KINDS = {"postfix": Postfix, "ringpost": Ringpost}
