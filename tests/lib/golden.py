"""What may differ between two right servers, taken out: so that the rest can be compared.

parse_log() strips date, host and process id from log lines. Normal replaces queue ids, dates,
ports, folders and times by names; two sides with equal output have said the same.
"""

import difflib
import re

_LINE = re.compile(r"^(?P<when>\w{3} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\S+) (?P<host>\S+) "
                   r"(?P<tag>[^\s\[]+)\[(?P<pid>\d+)\]: (?P<text>.*)$")
_DATE = re.compile(r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), [ \d]?\d \w{3} \d{4} \d\d:\d\d:\d\d "
                   r"[+-]\d{4}(?: \([^)]*\))?")
_WHEN = re.compile(r"\b(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?"
                   r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d \d\d:\d\d:\d\d"
                   r"(?: \d{4})?")
_LINE_ID = re.compile(r"^([0-9A-F]{6,}|[0-9A-Za-z]{12,20}): ")


def parse_log(text):
    """[(service, text)]: "postfix/smtpd[12]: x" gives ("smtpd", "x"); other lines ("?", line)."""
    rows = []
    for line in text.splitlines():
        found = _LINE.match(line)
        if found:
            rows.append((found["tag"].split("/", 1)[-1], found["text"]))
        else:
            rows.append(("?", line))
    return rows


def queue_ids(*texts):
    """Every queue id that a transcript or log names."""
    ids = set()
    for text in texts:
        ids.update(re.findall(r"queued as ([0-9A-Za-z]{6,20})\b", text))
        ids.update(re.findall(r"notification: ([0-9A-Za-z]{6,20})\b", text))
        for _, line in parse_log(text):
            found = _LINE_ID.match(line)
            if found:
                ids.add(found[1])
    return ids


class Normal:
    """swaps: {text: name}, replaced before anything else, longest first."""

    def __init__(self, ids=(), swaps=None):
        self.ids = sorted(ids, key=len, reverse=True)
        self.swaps = sorted((swaps or {}).items(), key=lambda kv: -len(kv[0]))

    def text(self, text):
        for old, new in self.swaps:
            if old.isdigit():
                text = re.sub(r"(?<![0-9A-Za-z])%s(?![0-9A-Za-z])" % old, new, text)
            else:
                text = text.replace(old, new)
        for one in self.ids:
            text = re.sub(r"(?<![0-9A-Za-z])%s(?![0-9A-Za-z])" % one, "<ID>", text)
        text = re.sub(r"queued as [0-9A-Za-z]{6,20}\b", "queued as <ID>", text)
        text = re.sub(r"\bid [0-9A-F]{8,14}(?=[\s;]|$)", "id <ID>", text)
        text = _DATE.sub("<DATE>", text)
        text = _WHEN.sub("<WHEN>", text)
        text = re.sub(r"\b\d{14}\.(<ID>|[0-9A-Za-z]{6,20})@", "<STAMP>.<ID>@", text)
        text = re.sub(r"<ID>\.\d{10}/", "<ID>.<SECONDS>/", text)
        text = re.sub(r"delay=[\d.]+, delays=[\d./]+", "delay=<D>, delays=<D>", text)
        text = re.sub(r"(?<=[ (])size=\d+", "size=<N>", text)
        text = re.sub(r"message size \d+ exceeds", "message size <N> exceeds", text)
        text = re.sub(r" conn_use=\d+,", "", text)
        text = re.sub(r"\b(process id|pid) \d+", r"\1 <PID>", text)
        return text

    def lines(self, lines):
        return [self.text(line) for line in lines]

    def log(self, lines):
        """Log lines: an overlong one is cut near 2048 bytes, at a place that depends on delays."""
        return sorted(line if len(line) < 1700 else line[:1700] + "<CUT>"
                      for line in self.lines(lines))

    def content(self, data):
        """Message bytes as text lines; bytes beyond ASCII and line ends stay visible."""
        text = data.decode("latin-1")
        shown = [line.encode("unicode_escape").decode() for line in re.split(r"(?<=\n)", text)]
        return self.lines(shown)


def difference(left, right, left_name, right_name):
    """"" when equal, else a readable diff."""
    if left == right:
        return ""
    return "\n".join(difflib.unified_diff(left, right, left_name, right_name, lineterm="", n=4))
