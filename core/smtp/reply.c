#include "core/smtp/reply.h"

#include "io/base/codec.h"

void smtp_reply_begin(struct smtp_reply *r)
{
    r->code = 0;
    r->dsn[0] = '\0';
    r->garbage = false;
    r->lines = 0;
    buf_reset(&r->text);
}

void smtp_reply_fini(struct smtp_reply *r)
{
    buf_fini(&r->text);
}

static size_t digits(struct str s)
{
    size_t n = 0;
    while (n < s.len && str_is_digit(s.ptr[n]))
        n++;
    return n;
}

size_t smtp_reply_dsn_length(struct str text)
{
    if (text.len < 2 || !memchr("245", text.ptr[0], 3) || text.ptr[1] != '.')
        return 0;
    size_t at = 2, n = digits(str_from(text, at));
    if (n < 1 || n > 3 || at + n >= text.len || text.ptr[at + n] != '.')
        return 0;
    at += n + 1;
    n = digits(str_from(text, at));
    if (n < 1 || n > 3 || (at + n < text.len && !str_is_space(text.ptr[at + n])))
        return 0;
    return at + n;
}

/* What a stranger says goes into logs and notices: no control bytes, no broken UTF-8. */
static void add_printable(struct buf *b, struct str s)
{
    if (str_is_printable(s)) {
        buf_add_str(b, s);
        return;
    }
    while (s.len > 0) {
        unsigned char c = (unsigned char)s.ptr[0];
        size_t n = c >= 0x80 ? utf8_char(s) : 1;
        if (n == 0 || c < 32 || c == 127) {
            buf_add_char(b, '?');
            n = 1;
        } else {
            buf_add(b, s.ptr, n);
        }
        s = str_from(s, n);
    }
}

/* The status of a reply without one, or with one of another class, is its class and no more. */
static void set_status(struct smtp_reply *r, struct str line)
{
    struct str rest = str_from(line, 4);
    while (rest.len > 0 && rest.ptr[0] == ' ')
        rest = str_from(rest, 1);
    size_t n = smtp_reply_dsn_length(rest);
    if (!memchr("245", line.ptr[0], 3)) {
        str_copy(r->dsn, sizeof(r->dsn), STR("5.5.0")); /* where one counts, the peer is at fault */
    } else if (n > 0 && rest.ptr[0] == line.ptr[0]) {
        str_copy(r->dsn, sizeof(r->dsn), str_head(rest, n));
    } else {
        str_copy(r->dsn, sizeof(r->dsn), STR("0.0.0"));
        r->dsn[0] = line.ptr[0];
    }
}

bool smtp_reply_line(struct smtp_reply *r, struct str line)
{
    line = str_head(line, SMTP_REPLY_LINE_MAX);
    r->lines++;
    if (r->text.len < SMTP_REPLY_TEXT_MAX) {
        if (r->lines > 1)
            buf_add_char(&r->text, '\n');
        add_printable(&r->text, line);
    }
    bool code = digits(line) == 3;
    if (code && line.len > 3 && line.ptr[3] == '-')
        return false;
    if (!code || (line.len > 3 && line.ptr[3] != ' ')) {
        r->garbage = true;
        return false;
    }
    r->code = (line.ptr[0] - '0') * 100 + (line.ptr[1] - '0') * 10 + (line.ptr[2] - '0');
    set_status(r, line);
    return true;
}
