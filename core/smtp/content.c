/* content: what goes out between DATA's 354 and the dot. The usual message goes as it lies, without
 * a copy, and the dot goes with it. */
#include "core/smtp/session.h"

#include "core/smtp/downgrade.h"
#include "core/smtp/wire.h"
#include "io/base/check.h"
#include "io/base/log.h"

enum { LINE_STORED_MAX = 998 }; /* what ENV_LONG_LINES counts from */

static struct iovec vec(struct str s)
{
    return (struct iovec){(void *)(uintptr_t)s.ptr, s.len};
}

static int64_t deadline(const struct smtp_session *s)
{
    return smtp_deadline(s->svc->params->smtp_data_xfer_timeout);
}

/* --- as it lies */

struct sender {
    struct smtp_try *t;
    struct content_reader *reader;
    struct str tail;
    bool *local_out;
};

static struct err *next_piece(struct sender *d, struct str *piece_out)
{
    struct err *e = content_next(d->reader, piece_out);
    if (e)
        *d->local_out = true;
    return e;
}

static bool ends_line(struct str s)
{
    return str_ends(s, STR("\r\n"));
}

/* The size tells the last piece, so that the tail goes out in the same write. */
static struct err *send_plain(struct sender *d)
{
    struct smtp_session *s = d->t->s;
    uint64_t left = d->t->r->msg->env->size;
    struct str piece = STR_NULL, end = STR("");
    for (;;) {
        struct err *e = next_piece(d, &piece);
        if (e)
            return e;
        CHECK(piece.len <= left); /* or the dot would come too early */
        left -= piece.len;
        if (piece.len > 0)
            end = ends_line(piece) ? STR("") : STR("\r\n");
        if (piece.len == 0 || left == 0) {
            struct iovec all[] = {vec(piece), vec(end), vec(d->tail)};
            return stream_putv(s->stream, all, 3, deadline(s));
        }
        struct iovec one = vec(piece);
        e = stream_putv(s->stream, &one, 1, deadline(s));
        if (e)
            return e;
    }
}

/* --- with dots doubled, lines broken, and 7-bit for those who want it */

struct changes {
    struct smtp_wire wire;
    struct downgrade *downgrade; /* NULL: the server takes 8-bit content */
    struct buf seven;            /* what it made */
    struct buf out;
};

/* piece empty: the end. */
static void change(struct changes *c, struct str piece)
{
    if (!c->downgrade) {
        smtp_wire_feed(&c->wire, piece, &c->out);
    } else {
        if (piece.len > 0)
            downgrade_feed(c->downgrade, piece, &c->seven);
        else
            downgrade_end(c->downgrade, &c->seven);
        smtp_wire_feed(&c->wire, buf_str(&c->seven), &c->out);
        buf_reset(&c->seven);
    }
    if (piece.len == 0)
        smtp_wire_end(&c->wire, &c->out);
}

static struct err *send_changed(struct sender *d, size_t limit, struct changes *c)
{
    struct smtp_session *s = d->t->s;
    struct str piece;
    smtp_wire_begin(&c->wire, limit);
    do {
        struct err *e = next_piece(d, &piece);
        if (e)
            return e;
        bool broke = c->wire.broke;
        change(c, piece);
        if (c->wire.broke && !broke)
            log_info(s->svc->log_tag, "%s: breaking line > %zu bytes with <CR><LF>SPACE",
                     d->t->r->msg->id, limit);
        struct iovec one = vec(buf_str(&c->out));
        if (piece.len == 0 || c->out.len < 32768)
            continue;
        e = stream_putv(s->stream, &one, 1, deadline(s));
        if (e)
            return e;
        buf_reset(&c->out);
    } while (piece.len > 0);
    struct iovec all[] = {vec(buf_str(&c->out)), vec(d->tail)};
    return stream_putv(s->stream, all, 2, deadline(s));
}

/* What was not declared to be 7-bit may have parts that are not. */
bool smtp_content_downgraded(const struct smtp_try *t)
{
    return !EHLO_HAS(t->s->features, 8BITMIME) && !(t->r->msg->env->flags & ENV_7BIT) &&
           !t->s->svc->params->disable_mime_output_conversion;
}

struct err *smtp_content_send(struct smtp_try *t, struct str tail, bool *local_out)
{
    const struct params *p = t->s->svc->params;
    const struct envelope *env = t->r->msg->env;
    struct sender d = {.t = t, .tail = tail, .local_out = local_out};
    *local_out = false;
    struct err *e = content_open(t->r->msg, &d.reader);
    if (e) {
        *local_out = true;
        return e;
    }
    bool downgrade = smtp_content_downgraded(t);
    size_t limit = (size_t)p->smtp_line_length_limit;
    bool break_lines = limit > 0 && (limit < LINE_STORED_MAX || (env->flags & ENV_LONG_LINES) != 0);
    /* A large message to a slow peer: the limit is for each part of it, not for the whole. */
    stream_set_idle(t->s->stream, p->smtp_per_request_deadline ? 0 : p->smtp_data_xfer_timeout);
    if (downgrade || break_lines || (env->flags & ENV_DOTS) != 0) {
        struct changes c = {.downgrade = downgrade ? downgrade_new() : NULL};
        e = send_changed(&d, break_lines ? limit : 0, &c);
        downgrade_free(c.downgrade);
        buf_fini(&c.seven);
        buf_fini(&c.out);
    } else {
        e = send_plain(&d);
    }
    stream_set_idle(t->s->stream, 0);
    content_close(d.reader);
    return e;
}

struct err *smtp_content_header_8bit(struct smtp_try *t, bool *out)
{
    struct content_reader *reader;
    struct str piece;
    bool eight = false, done = false;
    size_t at_line = 0; /* bytes of the current line */
    struct err *e = content_open(t->r->msg, &reader);
    if (e)
        return e;
    while (!done && !eight) {
        e = content_next(reader, &piece);
        if (e || piece.len == 0)
            break;
        for (size_t i = 0; i < piece.len && !done && !eight; i++) {
            char c = piece.ptr[i];
            eight = (c & 0x80) != 0;
            done = c == '\n' && at_line == 0;
            if (c == '\n')
                at_line = 0;
            else if (c != '\r')
                at_line++;
        }
    }
    content_close(reader);
    if (!e)
        *out = eight;
    return e;
}
