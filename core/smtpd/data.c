/* data: DATA (RFC 5321 §4.1.1.4). */
#include "core/smtpd/restrict/restrict.h"
#include "core/smtpd/session.h"

static bool out_of_order(struct smtpd *s)
{
    if (s->state == STATE_CHUNKS || s->state == STATE_SWALLOW)
        smtpd_reply(s, "503 5.5.1 Error: DATA after BDAT");
    else if (!s->in_mail)
        smtpd_reply(s, "503 5.5.1 Error: need RCPT command");
    else if (s->rcpt_count == 0) /* a client that pipelines cannot know it */
        smtpd_reply(s, "554 5.5.1 Error: no valid recipients");
    else
        return false;
    return true;
}

static struct err *read_content(struct smtpd *s)
{
    const size_t max = (size_t)s->p->line_length_limit;
    int64_t deadline = smtpd_content_deadline(s);
    struct line line;
    struct dot dot;
    bool ended;

    for (dot_begin(&dot, s->stream, s->bare_newline);; smtpd_content_line(s, &line)) {
        smtpd_content_plain(s, &dot, max);
        /* As long as a whole piece is in memory nobody waits, and the clock need not be asked. */
        if (stream_pending(s->stream) < max + 2)
            deadline = smtpd_content_deadline(s);
        struct err *e = stream_dot(&dot, max, deadline, &line, &ended);
        s->bare_lf = dot.bare_lf;
        if (e || ended)
            return e;
    }
}

bool smtpd_data(struct smtpd *s, const struct command *c)
{
    if (out_of_order(s))
        return false;
    if (c->args.len) {
        smtpd_reply(s, "501 5.5.4 Syntax: DATA");
        return false;
    }
    if (!s->stand_alone) {
        struct verdict v = restrict_data(s);
        if (v.code) {
            smtpd_reply_verdict(s, &v);
            return false;
        }
    }
    smtpd_content_begin(s, false);
    smtpd_reply(s, "354 End data with <CR><LF>.<CR><LF>");
    smtpd_flush(s);
    s->in_content = true;
    struct err *e = s->end == END_NOT ? read_content(s) : NULL;
    if (e || s->end != END_NOT) {
        if (e)
            smtpd_content_broken(s, e);
        return false;
    }
    return smtpd_content_end(s, false);
}
