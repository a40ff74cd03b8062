/* letter: a message on its way into a file: trace headers ahead, LF line ends, From_ quoting for mbox. */
#include <stdio.h>
#include <time.h>

#include "core/mail/address.h"
#include "core/virtual/private.h"
#include "io/base/clock.h"
#include "io/ring/ring.h"

#define WRITE_BYTES 65536

/* --- form */

/* asctime's: the date mbox readers know. */
static void add_from_line(struct buf *out, struct str sender, int64_t now_us)
{
    char date[64];
    struct tm tm;
    time_t now = (time_t)(now_us / US_PER_S);
    localtime_r(&now, &tm);
    strftime(date, sizeof(date), "%a %b %e %H:%M:%S %Y", &tm);
    buf_add_c(out, "From ");
    if (sender.len == 0)
        buf_add_c(out, "MAILER-DAEMON");
    else
        address_quote_to(out, sender);
    buf_printf(out, "  %s\n", date);
}

void letter_head(const struct mailbox *m, enum letter_style style, int64_t now_us, struct buf *out)
{
    struct str sender = m->request->msg->env->sender;
    if (style == LETTER_MBOX)
        add_from_line(out, sender, now_us);
    buf_add_c(out, "Return-Path: <");
    if (sender.len > 0)
        address_quote_to(out, sender);
    buf_add_c(out, ">\n");
    if (m->svc->params->enable_original_recipient && m->rcpt->original.len > 0) {
        buf_add_c(out, "X-Original-To: ");
        address_quote_to(out, m->rcpt->original);
        buf_add_char(out, '\n');
    }
    buf_add_c(out, "Delivered-To: ");
    address_quote_to(out, m->rcpt->address);
    buf_add_char(out, '\n');
}

void letter_line(enum letter_style style, struct str text, bool starts, bool ends, struct buf *out)
{
    if (style == LETTER_MBOX && starts && str_starts(text, STR("From ")))
        buf_add_char(out, '>');
    buf_add_str(out, text);
    if (ends)
        buf_add_char(out, '\n');
}

/* --- writing */

static void note(struct letter *l, const struct err *e)
{
    l->failed = true;
    l->why.kind = e->kind;
    l->why.code = e->code;
    str_copy(l->why.text, sizeof(l->why.text), str_of(e->text));
}

static void flush(struct letter *l)
{
    struct err *e = NULL;
    if (l->failed || l->out.len == 0)
        return;
    if (l->limit > 0 && l->at + l->out.len > l->limit)
        e = err_errno(EFBIG, "write");
    else
        e = io_pwrite(l->fd, l->out.ptr, l->out.len, l->at);
    if (e)
        note(l, e);
    l->at += l->out.len;
    buf_reset(&l->out);
}

static void each_line(void *ctx, struct str text, bool starts, bool ends)
{
    struct letter *l = ctx;
    letter_line(l->style, text, starts, ends, &l->out);
    if (l->out.len >= WRITE_BYTES)
        flush(l);
}

static struct err *copy_content(const struct mailbox *m, struct letter *l)
{
    struct content_reader *reader;
    struct lines lines;
    struct err *e = content_open(m->request->msg, &reader);
    if (e)
        return e;
    lines_begin(&lines, each_line, l);
    while (!l->failed) {
        struct str piece;
        e = content_next(reader, &piece);
        if (e || piece.len == 0)
            break;
        lines_push(&lines, piece);
    }
    lines_end(&lines);
    content_close(reader);
    return e;
}

/* As Postfix: over a size or quota limit is the recipient's state, and final; a full disk is the system's, and passes. */
static void write_failed(const struct mailbox *m, const struct letter *l, struct failure *why,
                         const char *prefix)
{
    bool quota = l->why.code == EFBIG || l->why.code == EDQUOT;
    struct err e = {.kind = l->why.kind, .code = l->why.code};
    str_copy(e.text, sizeof(e.text), str_of(l->why.text));
    failure_set(why, m->arena, quota, quota ? "5.2.2" : "4.3.0", &e, "%s: error writing message", prefix);
    why->diagnostic = "x-unix; input/output error"; /* EX_IOERR of sysexits(3), by name */
}

bool letter_write(const struct mailbox *m, enum letter_style style, int fd, uint64_t at,
                  struct failure *why, const char *prefix)
{
    struct letter l = {.style = style, .fd = fd, .at = at,
                       .limit = (uint64_t)m->svc->params->virtual_mailbox_limit};
    letter_head(m, style, clock_wall_us(), &l.out);
    struct err *e = copy_content(m, &l);
    if (e) {
        failure_set(why, m->arena, false, "4.3.0", e, "%s: error reading message", prefix);
        why->damaged = e->kind == ERR_DAMAGED;
        if (why->damaged)
            why->text = arena_cstr(m->arena, str_of(e->text));
        buf_fini(&l.out);
        return false;
    }
    if (style == LETTER_MBOX)
        buf_add_char(&l.out, '\n');
    flush(&l);
    if (!l.failed && (e = io_fsync(fd, false)) != NULL)
        note(&l, e);
    if (l.failed)
        write_failed(m, &l, why, prefix);
    buf_fini(&l.out);
    return !l.failed;
}
