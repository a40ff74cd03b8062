/* content: lines come in, lines go out. The body's path is a copy and three scans by memchr, or one
 * copy for the lines that stream_plain found; it allocates nothing once the block has its size.
 *
 *   message = *header [body]
 *   header  = name *WSP ":" text *(LF WSP text)
 *   name    = 1*<any of 33..126 except ":">
 *   body    = LF *line              ; the empty line between is not content
 *           / non-header-line *line ; a line that is no header begins the body, an empty line is put
 *                                     before it */
#include "core/cleanup/private.h"

#include "io/base/check.h"
#include "io/base/log.h"
#include "io/net/stream.h"

#define BLOCK_BYTES      (32 * 1024)
#define RECORD_LINE_MAX  2048 /* Postfix's line_length_limit: longer lines are several records */

void cleanup_fail(struct cleanup *c, enum cleanup_status status, const char *why)
{
    if (c->status != CLEANUP_OK)
        return;
    c->status = status;
    c->why = why;
}

void cleanup_flush(struct cleanup *c)
{
    int64_t limit = c->svc->params->message_size_limit;

    if (limit > 0 && c->status == CLEANUP_OK &&
        c->record_size + c->envelope_size > (uint64_t)limit && !(c->flags & CLEANUP_INTERNAL)) {
        log_warning(c->svc->log_tag, "%s: queue file size limit exceeded", c->id);
        cleanup_fail(c, CLEANUP_TOO_BIG, NULL);
    }
    if (c->draft && c->status == CLEANUP_OK && c->block.len) {
        struct err *e = draft_take(c->draft, &c->block);
        if (e) {
            log_warning(c->svc->log_tag, "%s: write queue file: %s", c->id, e->text);
            cleanup_fail(c, e->kind == ERR_FULL ? CLEANUP_QUEUE_FULL : CLEANUP_TROUBLE, NULL);
        }
    }
    if (c->draft || c->status != CLEANUP_OK)
        buf_reset(&c->block);
}

/* A record is a type byte, a length in units of 7 bits, and the text. */
static void count_record(struct cleanup *c, size_t len)
{
    while (len > RECORD_LINE_MAX) {
        c->record_size += RECORD_LINE_MAX + 3;
        len -= RECORD_LINE_MAX;
    }
    c->record_size += len + (len < 128 ? 2 : 3);
}

static void put(struct cleanup *c, struct str text)
{
    char *to = buf_reserve(&c->block, text.len + 2);

    memcpy(to, text.ptr, text.len);
    c->block.len += text.len;
    c->size += text.len;
    if (!memchr(to, '\r', text.len) && !memchr(to, '\n', text.len))
        return;
    /* A lone CR or LF would end a line for some readers and not for others. Without the masking a LF
     * still may not pass, because our lines end in CRLF. */
    bool mask = c->svc->params->cleanup_replace_stray_cr_lf;
    for (size_t i = 0; i < text.len; i++)
        if (to[i] == '\n' || (mask && to[i] == '\r'))
            to[i] = ' ';
}

static void put_end(struct cleanup *c, size_t line_len)
{
    char *to = buf_reserve(&c->block, 2);

    to[0] = '\r';
    to[1] = '\n';
    c->block.len += 2;
    c->size += 2;
    count_record(c, line_len);
    if (line_len > CLEANUP_PLAIN_MAX)
        c->env.flags |= ENV_LONG_LINES;
    if (c->block.len >= BLOCK_BYTES)
        cleanup_flush(c);
}

void cleanup_emit(struct cleanup *c, struct str line)
{
    if (line.len && line.ptr[0] == '.')
        c->env.flags |= ENV_DOTS;
    put(c, line);
    put_end(c, line.len);
}

static void body_piece(struct cleanup *c, struct str text, bool whole)
{
    if (!c->in_line) {
        c->line_at = 0;
        if (text.len && text.ptr[0] == '.')
            c->env.flags |= ENV_DOTS;
    }
    put(c, text);
    c->line_at += text.len;
    if (whole)
        put_end(c, c->line_at);
    else if (c->block.len >= BLOCK_BYTES)
        cleanup_flush(c);
}

/* --- headers */

static void header_add(struct cleanup *c, struct str text)
{
    size_t limit = (size_t)c->svc->params->header_size_limit;

    if (c->header.len + text.len >= limit) {
        text = str_head(text, limit > c->header.len ? limit - c->header.len : 0);
        c->header_full = true;
    }
    buf_add_str(&c->header, text);
}

static void header_close(struct cleanup *c)
{
    if (!c->header_open)
        return;
    c->header_open = c->header_full = false;
    struct str text = buf_str(&c->header);
    const char *nul = memchr(text.ptr, '\0', text.len); /* as Postfix: the rest is not seen */
    if (nul)
        text.len = (size_t)(nul - text.ptr);
    cleanup_header(c, text);
    buf_reset(&c->header);
}

static void begin_body(struct cleanup *c)
{
    header_close(c);
    cleanup_headers_done(c);
    c->in_body = true;
    cleanup_emit(c, STR(""));
}

static void header_piece(struct cleanup *c, struct str text, bool whole)
{
    size_t name_len;

    if (c->in_line) {
        if (!c->header_full)
            header_add(c, text);
    } else if (c->header_open && text.len && (text.ptr[0] == ' ' || text.ptr[0] == '\t')) {
        /* A folded line goes in whole or not at all; only a long one is cut. */
        if (c->header.len + 1 + text.len > (size_t)c->svc->params->header_size_limit)
            c->header_full = true;
        if (!c->header_full) {
            header_add(c, STR("\n"));
            header_add(c, text);
        }
    } else if (cleanup_is_header(text, &name_len)) {
        header_close(c);
        c->header_open = true;
        header_add(c, str_head(text, name_len));
        text = str_from(text, name_len);
        while (text.len && text.ptr[0] != ':') /* "Subject : x" is "Subject: x" */
            text = str_from(text, 1);
        header_add(c, text);
    } else {
        begin_body(c);
        if (text.len || !whole)
            body_piece(c, text, whole);
    }
}

void cleanup_line(struct cleanup *c, struct str text, bool whole)
{
    if (c->status != CLEANUP_OK)
        return;
    if (c->in_body)
        body_piece(c, text, whole);
    else
        header_piece(c, text, whole);
    c->in_line = !whole;
}

bool cleanup_plain(const struct cleanup *c)
{
    return c->status == CLEANUP_OK && c->in_body && !c->in_line;
}

void cleanup_lines(struct cleanup *c, const struct plain *lines)
{
    CHECK(cleanup_plain(c));
    buf_add_str(&c->block, lines->text);
    c->size += lines->text.len;
    /* As count_record: CRLF weighs what type and length of a short record do. */
    c->record_size += lines->text.len + lines->over_127;
    if (c->block.len >= BLOCK_BYTES)
        cleanup_flush(c);
}

void cleanup_content_end(struct cleanup *c)
{
    if (c->in_line)
        cleanup_line(c, STR(""), true);
    if (!c->in_body) {
        header_close(c);
        cleanup_headers_done(c);
    }
    cleanup_flush(c);
}
