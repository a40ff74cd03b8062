/* proto: one message. With PIPELINING (RFC 2920) MAIL, all RCPTs and DATA are one write, and the
 * content with its dot another:
 *
 *     MAIL RCPT RCPT DATA  ->  replies read in order  ->  content . [QUIT]  ->  one reply
 *
 * Without it, one command at a time. When DATA is refused, or there is nothing to send, RSET ends
 * the transaction; when DATA is taken though no recipient was, a lone dot does. */
#include "core/smtp/session.h"

#include "core/deliver/report.h"
#include "core/smtp/command.h"
#include "io/base/codec.h"
#include "io/base/metric.h"

/* Replies to this many bytes of commands fit into any socket's buffers: nobody waits for the other.
 */
enum { BATCH_FIRST = 255, BATCH_BYTES = 8192 };

/* Steps: 0 = MAIL, 1 .. count = RCPT, count + 1 = DATA. */
struct dialogue {
    struct smtp_try *t;
    struct smtp_session *s;
    uint32_t *rcpts; /* index in request.rcpts of each recipient to try */
    size_t count;
    size_t sent, got; /* steps */
    size_t accepted;
    bool pipelining;
    bool mail_refused;
    bool data_go; /* 354 */
    bool failed;  /* the connection is gone, all is dealt with */
};

enum step { STEP_MAIL, STEP_RCPT, STEP_DATA };

static enum step step_of(const struct dialogue *d, size_t at)
{
    return at == 0 ? STEP_MAIL : at <= d->count ? STEP_RCPT : STEP_DATA;
}

static int64_t step_deadline(const struct dialogue *d, enum step step)
{
    const struct params *p = d->s->svc->params;
    switch (step) {
    case STEP_MAIL:
        return smtp_deadline(p->smtp_mail_timeout);
    case STEP_RCPT:
        return smtp_deadline(p->smtp_rcpt_timeout);
    case STEP_DATA:
        return smtp_deadline(p->smtp_data_init_timeout);
    }
    return 0;
}

static const char *const step_doing[] = {"sending MAIL FROM", "sending RCPT TO",
                                         "sending DATA command"};
static const char *const step_name[] = {"MAIL FROM command", "RCPT TO command", "DATA command"};
static const char dot_doing[] = "sending end of data -- message may be sent more than once";

/* --- can this server take it at all? */

static bool too_large(struct smtp_try *t)
{
    const struct envelope *env = t->r->msg->env;
    if (t->s->size_limit == 0 || env->data_size <= t->s->size_limit)
        return false;
    t->s->dead = !smtp_reuse_wanted(t->s); /* Postfix hangs up without QUIT here, and so do we */
    smtp_mesg_fail(t, NULL, "5.3.4", NULL, "message size %llu exceeds size limit %llu of server %s",
                   (unsigned long long)env->data_size, (unsigned long long)t->s->size_limit,
                   t->s->namaddr);
    return true;
}

/* SMTPUTF8 was asked for, but is it needed? An address or a header must have UTF-8 in it. */
static bool utf8_needed(struct smtp_try *t)
{
    const struct request *r = t->r;
    const struct envelope *env = r->msg->env;
    if (!ascii_only(env->sender))
        return true;
    for (size_t i = 0; i < r->rcpt_count; i++)
        if (!ascii_only(r->rcpts[i].rcpt->address))
            return true;
    bool header = false;
    struct err *e = smtp_content_header_8bit(t, &header);
    return !e && header; /* a content that cannot be read fails when it is sent */
}

static bool utf8_missing(struct smtp_try *t)
{
    if (!(t->r->msg->env->flags & ENV_SMTPUTF8) || EHLO_HAS(t->s->features, SMTPUTF8) ||
        !utf8_needed(t))
        return false;
    smtp_mesg_fail(t, NULL, "5.6.7", NULL, "SMTPUTF8 is required, but was not offered by host %s",
                   t->s->namaddr);
    return true;
}

/* --- commands out */

static struct err *put_batch(struct dialogue *d)
{
    struct smtp_try *t = d->t;
    const struct envelope *env = t->r->msg->env;
    const struct smtp_wording w = {
        .features = d->s->features,
        .quote = d->s->svc->params->smtp_quote_rfc821_envelope,
        .no_size = smtp_content_downgraded(d->t),
    };
    struct buf out = {0};
    int64_t deadline = step_deadline(d, step_of(d, d->sent));
    buf_reserve(&out, BATCH_FIRST);
    do {
        switch (step_of(d, d->sent)) {
        case STEP_MAIL:
            smtp_command_mail(&out, t->r->arena, env, &w);
            break;
        case STEP_RCPT:
            smtp_command_rcpt(&out, t->r->arena, env, t->r->rcpts[d->rcpts[d->sent - 1]].rcpt, &w);
            break;
        case STEP_DATA:
            buf_add(&out, "DATA\r\n", 6);
            break;
        }
        d->sent++;
    } while (d->pipelining && d->sent < d->count + 2 && out.len < BATCH_BYTES);
    struct iovec all = {out.ptr, out.len};
    struct err *e = stream_putv(d->s->stream, &all, 1, deadline);
    buf_fini(&out);
    return e;
}

/* --- replies in */

static void refused(struct dialogue *d, enum step step)
{
    smtp_mesg_fail(d->t, d->s->host, NULL, &d->s->reply, "host %s said: %s (in reply to %s)",
                   d->s->namaddr, smtp_reply_flat(d->t, &d->s->reply), step_name[step]);
}

static void take_reply(struct dialogue *d)
{
    struct smtp_try *t = d->t;
    const struct smtp_reply *reply = &d->s->reply;
    enum step step = step_of(d, d->got);
    size_t i = step == STEP_RCPT ? d->rcpts[d->got - 1] : 0;
    d->got++;
    if (reply->code == 421)
        d->s->keep = false;
    switch (step) {
    case STEP_MAIL:
        d->mail_refused = smtp_reply_class(reply) != 2;
        if (d->mail_refused)
            refused(d, step);
        break;
    case STEP_RCPT:
        if (d->mail_refused)
            break;
        if (smtp_reply_class(reply) == 2) {
            t->rcpts[i] = SMTP_RCPT_ACCEPTED;
            d->accepted++;
        } else {
            smtp_rcpt_fail(t, i, reply, "host %s said: %s (in reply to %s)", d->s->namaddr,
                           smtp_reply_flat(t, reply), step_name[step]);
        }
        break;
    case STEP_DATA:
        d->data_go = smtp_reply_class(reply) == 3;
        if (!d->data_go && d->accepted > 0)
            refused(d, step);
        break;
    }
}

/* A kept connection that ended before it took MAIL says nothing about this message. */
static bool went_stale(const struct dialogue *d, const struct err *e)
{
    if (d->s->uses < 2 || d->got > 0)
        return false;
    return e ? e->kind == ERR_CLOSED || e->kind == ERR_IO : d->s->reply.code == 421;
}

static void give_up(struct dialogue *d, const struct err *e)
{
    d->failed = true;
    if (went_stale(d, e)) {
        d->s->dead = true;
        d->s->keep = false;
        d->t->stale = true;
        return;
    }
    smtp_stream_fail(d->t, e, step_doing[step_of(d, d->got)]);
}

static void read_batch(struct dialogue *d)
{
    while (d->got < d->sent) {
        struct err *e =
            smtp_session_reply(d->s, d->t->r->msg->id, step_deadline(d, step_of(d, d->got)));
        if (e || went_stale(d, NULL)) {
            give_up(d, e);
            return;
        }
        take_reply(d);
    }
}

/* Is there a step that can still lead to a delivery? */
static bool more_steps(const struct dialogue *d)
{
    if (d->failed || d->mail_refused || d->sent == d->count + 2)
        return false;
    return step_of(d, d->sent) != STEP_DATA || d->accepted > 0;
}

static void send_envelope(struct dialogue *d)
{
    while (more_steps(d)) {
        struct err *e = put_batch(d);
        if (!e)
            read_batch(d);
        else
            give_up(d, e);
    }
}

/* --- content and the end */

/* For a notice of success. A next hop that offers DSN was handed NOTIFY, and with it the duty. */
static void tell_of_success(struct dialogue *d, struct request_rcpt *rr)
{
    struct smtp_try *t = d->t;
    if (!(rr->rcpt->notify & NOTIFY_SUCCESS))
        return;
    rr->told_elsewhere = EHLO_HAS(d->s->features, DSN);
    rr->dsn.mta = arena_str(t->r->arena, str_of(d->s->host));
    rr->dsn.diagnostic = arena_printf(t->r->arena, "smtp; %s", smtp_reply_flat(t, &d->s->reply));
}

static void sent(struct dialogue *d)
{
    struct smtp_try *t = d->t;
    const char *text = smtp_reply_flat(t, &d->s->reply);
    for (size_t i = 0; i < t->r->rcpt_count; i++) {
        if (t->rcpts[i] != SMTP_RCPT_ACCEPTED)
            continue;
        report_sent(t->svc, t->r, i, d->s->relay, d->s->reply.dsn, text);
        tell_of_success(d, &t->r->rcpts[i]);
        t->rcpts[i] = SMTP_RCPT_DONE;
        t->left--;
    }
    metric_add(METRIC_smtp_messages, 1);
}

static void dot_reply(struct dialogue *d)
{
    const struct smtp_reply *reply = &d->s->reply;
    if (reply->code == 421)
        d->s->keep = false;
    if (smtp_reply_class(reply) == 2)
        sent(d);
    else
        smtp_mesg_fail(d->t, d->s->host, NULL, reply,
                       "host %s said: %s (in reply to end of DATA command)", d->s->namaddr,
                       smtp_reply_flat(d->t, reply));
}

/* A server may refuse in the middle of the content, say why, and hang up. What it said counts; but
 * a success before the end is none. */
static void lost_in_content(struct dialogue *d, const struct err *sending)
{
    bool timed_out = sending->kind == ERR_TIMEOUT || sending->kind == ERR_CANCELED;
    d->s->dead = true;
    d->s->keep = false;
    if (!timed_out) {
        struct err *e = smtp_session_reply(d->s, d->t->r->msg->id, smtp_deadline(1));
        if (!e && smtp_reply_class(&d->s->reply) >= 4) {
            dot_reply(d);
            return;
        }
    }
    smtp_stream_fail(d->t, sending, "sending message body");
}

static void send_content(struct dialogue *d, struct str tail)
{
    bool local = false;
    struct err *e = smtp_content_send(d->t, tail, &local);
    if (e && local) {
        /* Without its dot the message does not exist for the server. */
        d->s->dead = true;
        d->s->keep = false;
        if (e->kind == ERR_DAMAGED) {
            smtp_damaged(d->t, e);
            return;
        }
        smtp_mesg_fail(d->t, NULL, "4.3.0", NULL, "local data error while talking to %s: %s",
                       d->s->namaddr, e->text);
        return;
    }
    if (e) {
        struct err copy = *e; /* reading the reply makes errors of its own */
        lost_in_content(d, &copy);
        return;
    }
    e = smtp_session_reply(d->s, d->t->r->msg->id,
                           smtp_deadline(d->s->svc->params->smtp_data_done_timeout));
    if (e)
        smtp_stream_fail(d->t, e, dot_doing);
    else
        dot_reply(d);
}

/* All recipients have their answer: the connection is to be made ready for the next message, or
 * not. */
static void end_empty(struct dialogue *d, struct str command, int64_t timeout_s)
{
    struct smtp_session *s = d->s;
    int64_t deadline = smtp_deadline(timeout_s);
    struct iovec all = {(void *)(uintptr_t)command.ptr, command.len};
    struct err *e = stream_putv(s->stream, &all, 1, deadline);
    if (!e)
        e = smtp_session_reply(s, d->t->r->msg->id, deadline);
    if (e)
        s->dead = true;
    if (e || smtp_reply_class(&s->reply) == 4)
        s->keep = false;
}

static void finish(struct dialogue *d)
{
    struct smtp_session *s = d->s;
    const struct params *p = s->svc->params;
    bool wanted = smtp_reuse_wanted(s);
    /* QUIT rides along with the last command where the server can take two at once. Postfix sends
     * it so after the dot to any server. */
    s->keep = wanted;
    s->quit_sent = !wanted && (d->data_go || d->pipelining);
    if (d->data_go && d->accepted > 0)
        send_content(d, wanted ? STR(".\r\n") : STR(".\r\nQUIT\r\n"));
    else if (d->data_go)
        end_empty(d, wanted ? STR(".\r\n") : STR(".\r\nQUIT\r\n"), p->smtp_data_done_timeout);
    else
        end_empty(d, s->quit_sent ? STR("RSET\r\nQUIT\r\n") : STR("RSET\r\n"),
                  p->smtp_rset_timeout);
}

void smtp_transfer(struct smtp_try *t)
{
    struct dialogue d = {.t = t, .s = t->s};
    d.s->uses++;
    t->r->conn_use = d.s->uses;
    if (too_large(t) || utf8_missing(t)) {
        d.s->keep = smtp_reuse_wanted(d.s);
        t->complete = true;
        return;
    }
    d.pipelining = EHLO_HAS(d.s->features, PIPELINING);
    d.rcpts = arena_alloc(t->r->arena, t->r->rcpt_count * sizeof(*d.rcpts));
    for (uint32_t i = 0; i < t->r->rcpt_count; i++)
        if (t->rcpts[i] == SMTP_RCPT_TRY)
            d.rcpts[d.count++] = i;
    send_envelope(&d);
    if (!d.failed)
        finish(&d);
    t->complete = !d.s->dead;
}
