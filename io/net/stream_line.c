/* stream_line: what ends a line and what ends a message, decided here and nowhere else.
 *
 *     line    = *( any byte but <LF> ) ( <CR><LF> / <LF> )      one <CR> before the <LF> is not text
 *     content = *line "." <CR><LF>                              as dot_begin's policy has it
 *
 * The answer depends on the bytes alone, never on how reads happened to cut them: a piece is given
 * out only when no further byte could change it. */
#include "io/base/check.h"
#include "io/net/stream_in.h"

bool line_scan(struct str have, size_t max, size_t *scanned, struct line *out, size_t *took_out)
{
    /* max bytes of text and the longest end behind it. */
    size_t window = have.len < max + 2 ? have.len : max + 2;
    const char *lf = NULL;
    if (window > *scanned)
        lf = memchr(have.ptr + *scanned, '\n', window - *scanned);
    if (lf) {
        size_t n = (size_t)(lf - have.ptr);
        bool crlf = n > 0 && have.ptr[n - 1] == '\r';
        if (n - crlf <= max) {
            *out = (struct line){str_make(have.ptr, n - crlf), crlf ? LINE_CRLF : LINE_LF};
            *took_out = n + 1;
            return true;
        }
    } else if (window < max + 2 && (window <= max || have.ptr[max] == '\r')) {
        *scanned = window;
        return false;
    }
    *out = (struct line){str_make(have.ptr, max), LINE_LONG};
    *took_out = max;
    return true;
}

static struct err *read_line(struct stream *s, size_t max, size_t cap, int64_t *deadline_ns,
                             struct line *out)
{
    CHECK(max > 0 && max <= STREAM_IN_MAX);
    struct stream_in *in = stream_in(s);
    size_t scanned = 0, took;
    while (!line_scan(stream_peek(s), max, &scanned, out, &took)) {
        size_t wanted = cap;
        /* Content that fills every read comes in larger reads. */
        if (cap > STREAM_IN_IDLE && in->filled && in->cap < STREAM_IN_MAX && in->cap >= cap)
            wanted = in->cap * 2;
        struct err *e = stream_fill(s, wanted < max + 2 ? max + 2 : wanted, deadline_ns);
        if (e)
            return e;
    }
    in->at += took;
    return NULL;
}

struct err *stream_line(struct stream *s, size_t max, int64_t deadline_ns, struct line *out)
{
    return read_line(s, max, STREAM_IN_IDLE, &deadline_ns, out);
}

void dot_begin(struct dot *d, struct stream *s, enum bare_newline policy)
{
    *d = (struct dot){.stream = s, .policy = policy, .after_line = true, .prev = LINE_CRLF};
}

/* Was this lone dot the end of the content? */
static bool ends_content(const struct dot *d, enum line_end before, enum line_end after)
{
    return d->policy == BARE_NEWLINE_NO || (before == LINE_CRLF && after == LINE_CRLF);
}

struct err *stream_dot(struct dot *d, size_t max, int64_t deadline_ns, struct line *out,
                       bool *ended_out)
{
    CHECK(!d->ended);
    for (;;) {
        struct line line;
        struct err *e = read_line(d->stream, max, STREAM_IN_DATA, &deadline_ns, &line);
        if (e)
            return e;
        bool starts = d->after_line;
        enum line_end before = d->prev;
        bool finished = line.end != LINE_LONG;
        d->after_line = finished;
        d->prev = line.end;
        d->bare_lf |= line.end == LINE_LF;
        while (d->policy == BARE_NEWLINE_NO && finished && line.text.len > 0 &&
               line.text.ptr[line.text.len - 1] == '\r')
            line.text.len--;
        if (starts && line.text.len > 0 && line.text.ptr[0] == '.') {
            line.text = str_from(line.text, 1);
            if (line.text.len == 0 && finished && ends_content(d, before, line.end)) {
                d->ended = true;
                *ended_out = true;
                return NULL;
            }
            if (line.text.len == 0)
                continue; /* a dot that ended nothing, or a piece that was only the dot */
        }
        *ended_out = false;
        *out = line;
        return NULL;
    }
}

bool stream_plain(struct dot *d, size_t longest, struct plain *out)
{
    CHECK(!d->ended);
    if (!d->after_line || !plain_lines(stream_peek(d->stream), longest, out))
        return false;
    stream_in(d->stream)->at += out->text.len;
    d->prev = LINE_CRLF;
    return true;
}
