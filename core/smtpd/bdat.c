/* bdat: BDAT (RFC 3030). A chunk that is refused is read all the same, and so are those behind it until
 * LAST: the client may have sent them already. */
#include "core/mail/ehlo.h"
#include "core/smtpd/restrict/restrict.h"
#include "core/smtpd/session.h"
#include "io/base/clock.h"
#include "io/base/log.h"

struct chunk {
    uint64_t size;
    bool last;
};

/* All complete lines of text; what is left over waits in chunk_rest, at most a piece and its end. */
static size_t take_lines(struct smtpd *s, struct str text)
{
    const size_t max = (size_t)s->p->line_length_limit;
    struct line line;
    size_t at = 0, scanned = 0, took;

    while (line_scan(str_from(text, at), max, &scanned, &line, &took)) {
        s->bare_lf = s->bare_lf || line.end == LINE_LF;
        if (s->bare_newline == BARE_NEWLINE_NO)
            while (line.end != LINE_LONG && line.text.len && line.text.ptr[line.text.len - 1] == '\r')
                line.text.len--;
        smtpd_content_line(s, &line);
        at += took;
        scanned = 0;
    }
    return at;
}

static void take(struct smtpd *s, struct str bytes)
{
    struct buf *rest = &s->chunk_rest;

    if (rest->len == 0) {
        buf_add_str(rest, str_from(bytes, take_lines(s, bytes)));
        return;
    }
    /* An unfinished line goes on: it is completed in rest, a little at a time, so that rest stays
     * small. */
    while (rest->len && bytes.len) {
        size_t some = bytes.len < 512 ? bytes.len : 512;
        buf_add(rest, bytes.ptr, some);
        bytes = str_from(bytes, some);
        size_t took = take_lines(s, buf_str(rest));
        memmove(rest->ptr, rest->ptr + took, rest->len - took);
        rest->len -= took;
    }
    if (bytes.len)
        take(s, bytes);
}

/* Reads the chunk's bytes, through take or into nothing. */
static bool read_chunk(struct smtpd *s, uint64_t size, bool keep)
{
    struct str bytes;

    smtpd_flush(s);
    s->in_content = true;
    while (size > 0 && s->end == END_NOT) {
        size_t want = size < SIZE_MAX ? (size_t)size : SIZE_MAX;
        struct err *e = stream_bytes(s->stream, want, smtpd_content_deadline(s), &bytes);
        if (e) {
            smtpd_content_broken(s, e);
            return false;
        }
        size -= bytes.len;
        if (keep)
            take(s, bytes);
    }
    if (s->end != END_NOT)
        return false;
    s->in_content = false;
    return true;
}

/* Reads and forgets the chunk, then says why. */
static bool refuse(struct smtpd *s, const struct chunk *k, const struct verdict *v)
{
    struct verdict kept = *v;

    if (s->state != STATE_CHUNKS)
        s->content_since_ns = clock_mono_ns();
    if (!read_chunk(s, k->size, false))
        return false;
    smtpd_reply_verdict(s, &kept);
    if (k->last) {
        smtpd_mail_reset(s);
    } else {
        if (s->cleanup)
            cleanup_abort(s->cleanup);
        s->cleanup = NULL;
        buf_fini(&s->chunk_rest);
        s->state = STATE_SWALLOW;
    }
    return false;
}

/* What speaks against this chunk; code 0: nothing. */
static struct verdict objection(struct smtpd *s, const struct chunk *k)
{
    int64_t limit = s->p->message_size_limit;
    int64_t have = s->state == STATE_CHUNKS ? s->size + (int64_t)s->chunk_rest.len : 0;
    struct verdict none = {0};

    if (limit > 0 && (k->size > (uint64_t)limit || (int64_t)k->size > limit - have)) {
        log_warning(s->svc->log_tag, "%s: BDAT request from %s exceeds message size limit",
                    smtpd_id(s), s->namaddr);
        return verdict_of(552, "5.3.4", "Chunk exceeds message size limit");
    }
    if (k->size == 0 && !k->last) {
        log_warning(s->svc->log_tag, "%s: null BDAT request from %s", smtpd_id(s), s->namaddr);
        return verdict_of(551, "5.7.1", "Null BDAT request");
    }
    if (s->state == STATE_SWALLOW)
        return verdict_make(s->cmd, 551, "5.0.0", "Discarded %llu bytes after earlier error",
                            (unsigned long long)k->size);
    if (s->state == STATE_CHUNKS)
        return none;
    if (!s->in_mail)
        return verdict_of(503, "5.5.1", "Error: need RCPT command");
    if (s->rcpt_count == 0)
        return verdict_of(554, "5.5.1", "Error: no valid recipients");
    return s->stand_alone ? none : restrict_data(s);
}

static bool bad_syntax(struct smtpd *s, const struct command *c)
{
    struct str shown = smtpd_printable(s->cmd, str_head(c->args, 100));

    log_warning(s->svc->log_tag, "%s: malformed BDAT command syntax from %s: %.*s%s%.*s",
                smtpd_id(s), s->namaddr, STR_ARG(c->word), shown.len ? " " : "", STR_ARG(shown));
    /* How many bytes follow cannot be told, so the session ends. */
    smtpd_reply(s, "521 5.5.4 Syntax: BDAT count [LAST]");
    return false;
}

bool smtpd_bdat(struct smtpd *s, const struct command *c)
{
    struct chunk k;

    if (EHLO_HAS(s->discard, CHUNKING)) {
        smtpd_reply(s, "521 5.5.1 Error: command not implemented");
        return false;
    }
    if (!command_bdat(c->args, &k.size, &k.last))
        return bad_syntax(s, c);
    struct verdict v = objection(s, &k);
    if (v.code)
        return refuse(s, &k, &v);
    if (s->state != STATE_CHUNKS) {
        smtpd_content_begin(s, true);
        s->state = STATE_CHUNKS;
    }
    if (!read_chunk(s, k.size, true))
        return false;
    if (!k.last) {
        if (s->content == CLEANUP_OK) {
            smtpd_reply(s, "250 2.0.0 Ok: %llu bytes", (unsigned long long)k.size);
            return true;
        }
        smtpd_reply(s, "%s", cleanup_status_reply(s->content));
        s->state = STATE_SWALLOW;
        return false;
    }
    if (s->chunk_rest.len) { /* content ends with a line's end, whether the client sent one or not */
        struct line line = {buf_str(&s->chunk_rest), LINE_CRLF};
        if (line.text.ptr[line.text.len - 1] == '\r')
            line.text.len--;
        smtpd_content_line(s, &line);
    }
    return smtpd_content_end(s, true);
}
