"""postconf: what is set, what it means, and editing it. No server needs to run for this."""

import re

import pytest

from lib.instance import KINDS, settle
from world import SIDES, compare, on_both

MAIN = """\
# a comment
compatibility_level = 3.6
queue_directory = @DIR@/queue
data_directory = @DIR@/data
mail_owner = postfix
setgid_group = postdrop
myhostname = mail.unix-power.net
mydomain=unix-power.net
mydestination = $myhostname,
    localhost.$mydomain,
# a comment between
    $mydomain

smtpd_recipient_restrictions =
    permit_mynetworks
   \t
    reject_unauth_destination
smtpd_timeout = ${stress?10}${stress:300}s
smtpd_helo_required   =   yes
foo_typo = 1
my_own = hello
smtpd_banner = $my_own $myhostname
relayhost = [first.example]
relayhost = [second.example]
virtual_maildir_limit_message = "Sorry"
cond_new = ${relayhost?{yes}:{no}}
cond_cmp = ${{$mydomain} == {unix-power.net} ? {equal} : {different}}
cond_lt = ${{3} < {20} ? {less} : {more}}
dollar = a$$b
undefined = x${nosuch}y
paren = $(mydomain)
smtpd_client_restrictions = check_x, $my_own
uses_them = $cond_new $cond_cmp $cond_lt $dollar $undefined $paren
"""
MASTER = """\
# service type  private unpriv  chroot  wakeup  maxproc command + args
smtp      inet  n       -       y       -       -       smtpd
submission inet n       -       n       -       -       smtpd
  -o syslog_name=postfix/submission
#  -o commented_out=yes
  -o smtpd_tls_security_level=encrypt
  -o { smtpd_client_restrictions = permit_sasl_authenticated, reject }
  -o smtpd_relay_restrictions=$mua_relay_restrictions
127.0.0.1:10025 inet n - n - 2 smtpd
pickup    unix  n       -       y       60      1       pickup
cleanup   unix  n       -       y       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
relay     unix  -       -       y       -       -       smtp
        -o syslog_name=postfix/$service_name
dovecot unix - n n - - pipe
  flags=DRhu user=vmail:vmail argv=/usr/lib/dovecot/deliver -f ${sender} -d ${recipient}
"""


class Prepared:
    def __init__(self, kind):
        self.server = KINDS[kind]()
        self.reset()

    def reset(self, main=MAIN, master=MASTER):
        for name, text in (("main.cf", main), ("master.cf", master)):
            path = self.server.conf / name
            path.write_text(text.replace("@DIR@", str(self.server.dir)))
            settle(path)

    def run(self, *args):
        done = self.server.run("postconf", *args)
        clean = lambda text: [re.sub(r"^/\S*/(?=[a-z]+: )", "", line).replace(
            str(self.server.dir), "<DIR>") for line in text.splitlines()]
        # Warnings come in the order of a hash table.
        return {"exit status": [str(done.returncode)], "stdout": clean(done.stdout),
                "stderr": sorted(clean(done.stderr))}

    def file(self, name):
        return (self.server.conf / name).read_text().replace(
            str(self.server.dir), "<DIR>").splitlines()


@pytest.fixture(scope="module")
def pair():
    sides = [Prepared(kind) for kind in SIDES]
    yield sides
    for side in sides:
        side.server.remove()


# Where Ringpost differs on purpose: {row: why}.
NAMES_THE_PLACE = "a fault is told with file and line; Postfix leaves them out here"
KNOWN = {
    "-M smtp.inet": "name.type is understood too, as before Postfix 2.11",
    "an unclosed brace in main.cf": NAMES_THE_PLACE,
    "a bad conditional": NAMES_THE_PLACE,
    "a loop of names": NAMES_THE_PLACE,
    "a NUL byte": "a value with a NUL byte is refused; Postfix goes on with what stands before it",
    "an unknown type": NAMES_THE_PLACE,
    "a bad private field": NAMES_THE_PLACE,
    "a bad chroot field": NAMES_THE_PLACE,
    "a bad wakeup field": NAMES_THE_PLACE,
    "a bad process limit": NAMES_THE_PLACE,
    "an option without a value": "a broken -o gives a warning, with file and line",
    "an option without equals": "a broken -o gives a warning, with file and line",
    "an unclosed brace": "the warning has file and line, and the text is printed as it stands; Postfix "
                         "prints it as if the brace were closed",
}


def marked(rows):
    """Parameters by name; those of KNOWN must differ."""
    return [pytest.param(row, id=name, marks=pytest.mark.xfail(strict=True, reason=KNOWN[name]))
            if name in KNOWN and SIDES[1] == "ringpost" else pytest.param(row, id=name)
            for name, row in rows]


def known(why):
    return pytest.mark.xfail(SIDES[1] == "ringpost", strict=True, reason=why)


READ = [
    ["myhostname"], ["mydestination"], ["smtpd_recipient_restrictions"], ["relayhost"],
    ["-h", "myhostname"], ["-h", "myhostname", "mydomain"], ["-H", "myhostname"],
    ["nosuchparam"], ["nosuchparam", "myhostname"], ["foo_typo"], ["my_own"],
    ["-n"], ["-n", "relayhost"], ["-n", "inet_interfaces"], ["-n", "nosuch"], ["-nh"], ["-nH"],
    ["-nf"], ["-nx"], ["-f", "mydestination"],
    ["-x", "smtpd_timeout"], ["-o", "stress=yes", "-x", "smtpd_timeout"],
    ["-x", "smtpd_banner"], ["-x", "cond_new"], ["-x", "cond_cmp"], ["-x", "cond_lt"],
    ["-x", "dollar"], ["-x", "undefined"], ["-x", "paren"], ["-x", "mydestination"],
    ["-o", "relayhost=", "-x", "cond_new"], ["-o", "relayhost"], ["-o", "myhostname=x.example",
                                                                 "-x", "mydestination"],
    ["-d", "myhostname"], ["-d", "relayhost"], ["-d", "smtpd_timeout"], ["-d", "nosuch"],
    ["-dh", "smtpd_timeout"], ["-d", "maximal_queue_lifetime", "queue_run_delay",
                              "minimal_backoff_time", "message_size_limit"],
    ["relay_destination_concurrency_limit"], ["-d", "dovecot_destination_recipient_limit"],
    ["dovecot_destination_recipient_limit"], ["nosuch_destination_recipient_limit"],
    ["-M"], ["-M", "smtp"], ["-M", "smtp/inet"], ["-M", "smtp.inet"], ["-M", "*/inet"],
    ["-M", "submission"], ["-M", "nosuch"], ["-M", "nosuch/unix"], ["-Mf"], ["-Mf", "submission"],
    ["-M", "127.0.0.1:10025"], ["-M", "dovecot"], ["-Mf", "dovecot"], ["-Mx", "relay"],
    ["-P"], ["-P", "submission/inet/syslog_name"], ["-P", "submission"], ["-P", "relay/unix/x"],
    ["-F", "smtp/inet/chroot"], ["-F", "submission/inet"], ["-F", "smtp/inet/nosuch"],
    ["-q"], ["-e"], ["-z"],
]
# Names whose default Postfix computes from the machine are left out by the tests below.
MACHINE = re.compile(r"^(myhostname|mydomain|process_name|process_id|service_name|stress|"
                     r"config_directory|mail_version|milter_macro_v|lmtp_tls_fingerprint|"
                     r"default_database_type|alias_database|alias_maps|mynetworks|"
                     r"html_directory|readme_directory|manpage_directory|"
                     r"shlib_directory|meta_directory|daemon_directory|command_directory|"
                     r"mailq_path|newaliases_path|sendmail_path|sample_directory|"
                     r"openssl_path|mail_release_date)\b")


# Defaults of a later Postfix: the safe answer to SMTP smuggling is 3.9's.
NEWER = {"smtpd_forbid_bare_newline": ("no", "normalize")}


@pytest.mark.parametrize("args", marked((" ".join(args), args) for args in READ))
def test_read(pair, args):
    def act(side):
        side.reset()
        result = side.run(*args)
        # A usage text may name the options each has; that it is one, and the status, must agree.
        result["stderr"] = [line if "usage:" not in line else "usage: postconf"
                            for line in result["stderr"]]
        return result

    compare(*on_both(act, pair))


EDIT = [
    ["-e", "myhostname=new.example"], ["-e", "myhostname = new.example"],
    ["-e", "newname=1"], ["-e", "other = two words"], ["-e", "mydestination = $myhostname"],
    ["-e", "relayhost=[third.example]"], ["-e", "broken"], ["-e", "=x"], ["-e", "empty="],
    ["-e", "two=lines\nthree=x"], ["-e", "foo_typo=2", "-e", "my_own=3"], ["myhostname=implied"],
    ["-#", "foo_typo"], ["-#", "mydestination"], ["-#", "nosuch"], ["-X", "foo_typo"],
    ["-X", "mydestination"], ["-X", "nosuch"], ["-#", "relayhost"], ["-X", "relayhost"],
    ["-e", "smtpd_recipient_restrictions=permit_mynetworks, reject"],
    ["-Me", "new/unix=new unix - - n - - smtp -o x=y"],
    ["-Me", "submission/inet=submission inet n - n - - smtpd"],
    ["-MX", "submission/inet"], ["-M#", "submission/inet"], ["-MX", "nosuch/unix"],
    ["-Pe", "submission/inet/syslog_name=x"], ["-Pe", "smtp/inet/new=y"],
    ["-PX", "submission/inet/syslog_name"], ["-Fe", "smtp/inet/chroot=n"],
    ["-Fe", "smtp/inet/nosuch=n"],
]


@pytest.mark.parametrize("args", EDIT, ids=lambda a: " ".join(a).replace("\n", " "))
def test_edit(pair, args):
    def act(side):
        side.reset()
        result = side.run(*args)
        result["main.cf"] = side.file("main.cf")
        result["master.cf"] = side.file("master.cf")
        return result

    compare(*on_both(act, pair))


def edited(side):
    """What an edit makes of a file of mode 0640."""
    side.reset()
    path = side.server.conf / "main.cf"
    path.chmod(0o640)
    before = path.stat()
    side.run("-e", "x=1")
    after = path.stat()
    path.chmod(0o644)
    return {"mode": [oct(after.st_mode & 0o777)], "replaced": [str(before.st_ino != after.st_ino)],
            "left": sorted(p.name for p in side.server.conf.iterdir())}


def test_an_edited_file_is_replaced_atomically(pair):
    left, right = on_both(edited, pair)
    compare({**left, "mode": []}, {**right, "mode": []})


@known("an edited file keeps its mode; Postfix makes it 0644, so that all may read what was 0640")
def test_an_edited_file_has_the_mode_postfix_gives_it(pair):
    compare(*on_both(edited, pair))


@pytest.mark.skipif(SIDES[1] == "postfix", reason="the reference does not")
def test_an_edited_file_keeps_its_mode(pair):
    assert edited(pair[1])["mode"] == ["0o640"]


BROKEN_MAIN = {
    "a line that begins with blanks": "  leading = x\n" + MAIN,
    "a line without an equals sign": MAIN + "no equals sign\n",
    "a name with a blank": MAIN + "two words = x\n",
    "an empty name": MAIN + "= x\n",
    "an unclosed brace in main.cf": MAIN + "smtpd_banner = ${myhostname\n",
    "a bad conditional": MAIN + "smtpd_banner = ${{a} ~ {b} ? {c} : {d}}\n",
    "a loop of names": MAIN + "one = $two\ntwo = $one\nsmtpd_banner = $one\n",
    "no newline at the end": MAIN + "last = x",
    "a NUL byte": MAIN + "nul = a\x00b\n",
    "CRLF line ends": MAIN.replace("\n", "\r\n"),
    "an empty file": "",
    "a comment only": "# nothing\n",
    "a very long line": MAIN + "long = " + "x" * 100000 + "\n",
}


@pytest.mark.parametrize("label", marked((label, label) for label in BROKEN_MAIN))
def test_broken_main_cf(pair, label):
    def act(side):
        side.reset(main=BROKEN_MAIN[label])
        result = side.run("-x", "smtpd_banner", "relayhost")
        side.reset()
        if any("fatal:" in line for line in result["stderr"]):
            # Which warnings come before the end is chance.
            result["stderr"] = [line for line in result["stderr"] if "undefined" not in line]
        return result

    compare(*on_both(act, pair))


BROKEN_MASTER = {
    "too few fields": "smtp inet n - y\n",
    "a line of options in column one": "smtp inet n - y - - smtpd\n-o x=y\n",
    "an unknown type": "smtp inetx n - y - - smtpd\n",
    "a bad private field": "smtp inet x - y - - smtpd\n",
    "a bad chroot field": "smtp inet n - z - - smtpd\n",
    "a bad wakeup field": "smtp inet n - y abc - smtpd\n",
    "a bad process limit": "smtp inet n - y - abc smtpd\n",
    "an option without a value": "smtp inet n - y - - smtpd\n  -o\n",
    "an option without equals": "smtp inet n - y - - smtpd\n  -o foo\n",
    "an unclosed brace": "smtp inet n - y - - smtpd\n  -o { foo = bar\n",
    "a service twice": "smtp inet n - y - - smtpd\nsmtp inet n - n - - smtpd\n",
    "a continuation line first": "  -o x=y\nsmtp inet n - y - - smtpd\n",
    "an empty file": "",
}


@pytest.mark.parametrize("label", marked((label, label) for label in BROKEN_MASTER))
def test_broken_master_cf(pair, label):
    def act(side):
        side.reset(master=BROKEN_MASTER[label])
        result = side.run("-M")
        side.reset()
        return result

    compare(*on_both(act, pair))


def table(result):
    """{name: line}, continuation lines joined."""
    rows = {}
    for line in result["stdout"]:
        name = line.split(" ", 1)[0]
        rows[name] = line
    return rows


def test_defaults_agree_for_every_parameter_postfix_has(pair):
    """Ringpost may know more names; those of the reference must exist, with its defaults."""
    left, right = on_both(lambda side: side.run("-d"), pair)
    ours, theirs = table(right), table(left)
    names = sorted(n for n in theirs if not MACHINE.match(n) and n not in NEWER)
    assert len(names) > 800
    compare({"defaults": [theirs[n] for n in names]},
            {"defaults": [ours.get(n, "(no %s)" % n) for n in names]})


@pytest.mark.skipif(SIDES[1] == "postfix", reason="the reference is older")
def test_newer_defaults_are_these(pair):
    for name, (theirs, ours) in NEWER.items():
        left, right = on_both(lambda side: side.run("-d", name)["stdout"], pair)
        assert (left, right) == (["%s = %s" % (name, theirs)], ["%s = %s" % (name, ours)])


def test_the_listing_of_defaults_is_sorted(pair):
    def act(side):
        names = [line.split(" ", 1)[0] for line in side.run("-d")["stdout"]]
        return {"sorted": [str(names == sorted(names))], "twice": [
            n for n in names if names.count(n) > 1]}

    compare(*on_both(act, pair))
