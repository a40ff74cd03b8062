/* trouble: what a failure means. A temporary one is for the next server while there is one; then,
 * or when it is permanent, the recipients are reported. Trouble of the site, as against this
 * message's, throttles its destination (request.dest_dead). */
#include "core/smtp/session.h"

#include "core/deliver/report.h"
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/log.h"

enum throttle { NO_THROTTLE, THROTTLE };

const char *smtp_reply_flat(const struct smtp_try *t, const struct smtp_reply *reply)
{
    char *text = arena_cstr(t->r->arena, buf_str(&reply->text));
    for (char *p = text; *p; p++)
        if (*p == '\n')
            *p = ' ';
    return text;
}

/* A reply that is neither 4xx nor 5xx where it had to be one breaks the protocol. */
PRINTF(5, 0)
static void why_fill(struct smtp_try *t, const char *mta, const char *status,
                     const struct smtp_reply *reply, const char *fmt, va_list ap)
{
    struct buf text = {0};
    if (reply && !status)
        status = reply->dsn;
    if (mta && status[0] != '4' && status[0] != '5') {
        buf_add_c(&text, "Protocol error: ");
        status = "5.5.0";
    }
    buf_vprintf(&text, fmt, ap);
    str_copy(t->why.status, sizeof(t->why.status), str_of(status));
    t->why.reason = arena_cstr(t->r->arena, buf_str(&text));
    t->why.mta = mta ? arena_cstr(t->r->arena, str_of(mta)) : NULL;
    t->why.diagnostic =
        reply ? arena_printf(t->r->arena, "smtp; %s", smtp_reply_flat(t, reply)).ptr : NULL;
    buf_fini(&text);
}

void smtp_why_set(struct smtp_try *t, const char *status, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    why_fill(t, NULL, status, NULL, fmt, ap);
    va_end(ap);
}

static bool for_next_server(const struct smtp_try *t)
{
    return !t->final && (!smtp_why_permanent(&t->why) || t->svc->params->soft_bounce);
}

static void report(struct smtp_try *t, size_t i)
{
    const struct smtp_why *w = &t->why;
    report_failed(t->svc, t->r, i, smtp_why_permanent(w), t->s ? t->s->relay : "none", w->status,
                  w->reason, w->mta, w->diagnostic);
    t->rcpts[i] = SMTP_RCPT_DONE;
    t->left--;
}

static void throttle_site(struct smtp_try *t)
{
    struct request *r = t->r;
    const struct smtp_why *w = &t->why;
    if (r->dest_dead || (smtp_why_permanent(w) && !t->svc->params->soft_bounce))
        return;
    r->dest_dead = true;
    str_copy(r->dest_why.status, sizeof(r->dest_why.status), str_of(w->status));
    r->dest_why.text = str_of(w->reason);
    r->dest_why.mta = str_of(w->mta);
    r->dest_why.diagnostic = str_of(w->diagnostic);
}

/* Those that were put off before are left, and this was not about them: least of all when it was for
 * good. */
static void speak_of_the_others(struct smtp_try *t)
{
    if (t->put_off.status[0])
        t->why = t->put_off;
}

static void fail_all(struct smtp_try *t, enum throttle throttle)
{
    if (t->s && throttle == THROTTLE)
        t->s->keep = false;
    if (for_next_server(t)) {
        log_info(t->svc->log_tag, "%s: %s", t->r->msg->id, t->why.reason);
        for (size_t i = 0; i < t->r->rcpt_count; i++)
            if (t->rcpts[i] != SMTP_RCPT_DONE)
                t->rcpts[i] = SMTP_RCPT_KEPT;
        t->put_off = t->why;
        return;
    }
    /* Set-up ends here: what it took is not the transfer's delay. */
    if (t->r->conn_done_us == 0)
        t->r->conn_done_us = clock_wall_us();
    for (size_t i = 0; i < t->r->rcpt_count; i++)
        if (t->rcpts[i] == SMTP_RCPT_TRY || t->rcpts[i] == SMTP_RCPT_ACCEPTED)
            report(t, i);
    if (throttle == THROTTLE && !t->complete)
        throttle_site(t);
    speak_of_the_others(t);
}

void smtp_site_fail(struct smtp_try *t, const char *mta, const char *status,
                    const struct smtp_reply *reply, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    why_fill(t, mta, status, reply, fmt, ap);
    va_end(ap);
    fail_all(t, THROTTLE);
}

void smtp_mesg_fail(struct smtp_try *t, const char *mta, const char *status,
                    const struct smtp_reply *reply, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    why_fill(t, mta, status, reply, fmt, ap);
    va_end(ap);
    fail_all(t, NO_THROTTLE);
}

void smtp_rcpt_fail(struct smtp_try *t, size_t i, const struct smtp_reply *reply, const char *fmt,
                    ...)
{
    va_list ap;
    va_start(ap, fmt);
    why_fill(t, t->s->host, NULL, reply, fmt, ap);
    va_end(ap);
    if (for_next_server(t)) {
        log_info(t->svc->log_tag, "%s: %s", t->r->msg->id, t->why.reason);
        t->rcpts[i] = SMTP_RCPT_KEPT;
        t->put_off = t->why;
    } else {
        report(t, i);
        speak_of_the_others(t);
    }
}

void smtp_stream_fail(struct smtp_try *t, const struct err *e, const char *doing)
{
    t->s->dead = true;
    t->s->keep = false;
    switch (e->kind) {
    case ERR_TIMEOUT:
        smtp_why_set(t, "4.4.2", "conversation with %s timed out while %s", t->s->namaddr, doing);
        break;
    case ERR_CANCELED:
        smtp_why_set(t, "4.3.2", "mail system is shutting down while %s to %s", doing,
                     t->s->namaddr);
        break;
    case ERR_PROTOCOL:
        smtp_why_set(t, "4.5.0", "%s while %s to %s", e->text, doing, t->s->namaddr);
        break;
    default:
        smtp_why_set(t, "4.4.2", "lost connection with %s while %s", t->s->namaddr, doing);
        break;
    }
    fail_all(t, THROTTLE);
}

void smtp_damaged(struct smtp_try *t, const struct err *e)
{
    report_damaged(t->svc, t->r, t->s->relay, e->text);
    for (size_t i = 0; i < t->r->rcpt_count; i++)
        t->rcpts[i] = SMTP_RCPT_DONE;
    t->left = 0;
}

void smtp_sess_fail(struct smtp_try *t)
{
    CHECK(t->final && t->why.status[0]);
    for (size_t i = 0; i < t->r->rcpt_count; i++)
        if (t->rcpts[i] == SMTP_RCPT_KEPT)
            t->rcpts[i] = SMTP_RCPT_TRY;
    fail_all(t, THROTTLE);
    CHECK(t->left == 0);
}
