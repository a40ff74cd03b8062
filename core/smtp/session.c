/* session: what is said before the first message and after the last one. */
#include "core/smtp/session.h"

#include "core/smtp/reach.h"
#include "io/base/clock.h"
#include "io/base/log.h"

int64_t smtp_deadline(int64_t timeout_s)
{
    return clock_coarse_ns() + timeout_s * NS_PER_S;
}

/* --- replies */

/* Passes over what is left of an overlong line. */
static struct err *finish_line(struct smtp_session *s, int64_t deadline_ns)
{
    struct line rest;
    struct err *e;
    do
        e = stream_line(s->stream, SMTP_REPLY_LINE_MAX, deadline_ns, &rest);
    while (!e && rest.end == LINE_LONG);
    return e;
}

/* With pipelining, a line out of place may shift all later replies by one. */
static void complain(const struct smtp_session *s, const char *id)
{
    struct str text = str_head(buf_str(&s->reply.text), 100);
    ssize_t end = str_index(text, '\n');
    if (end >= 0)
        text.len = (size_t)end;
    log_warning(s->svc->log_tag, "%s: non-ESMTP response from %s: %.*s", id, s->relay,
                STR_ARG(text));
}

struct err *smtp_session_reply(struct smtp_session *s, const char *id, int64_t deadline_ns)
{
    struct line line;
    bool complete;
    smtp_reply_begin(&s->reply);
    do {
        struct err *e = stream_line(s->stream, SMTP_REPLY_LINE_MAX, deadline_ns, &line);
        if (e)
            return e;
        complete = smtp_reply_line(&s->reply, line.text);
        if (line.end == LINE_LONG)
            e = finish_line(s, deadline_ns);
        if (e)
            return e;
        if (!complete && smtp_reply_endless(&s->reply))
            return err_new(ERR_PROTOCOL, 0, "reply without end");
    } while (!complete);
    if (s->reply.garbage && EHLO_HAS(s->features, PIPELINING))
        complain(s, id);
    return NULL;
}

/* --- greeting and EHLO */

/* A server that says nothing, or hangs up, before it has heard of a message. */
static bool silent(struct smtp_try *t, const struct err *e, const char *doing)
{
    if (e->kind != ERR_CANCELED)
        smtp_reach_failed(t->svc->params, &t->s->addr, clock_mono_ns());
    smtp_stream_fail(t, e, doing);
    return false;
}

static bool refused(struct smtp_try *t)
{
    smtp_site_fail(t, t->s->host, NULL, &t->s->reply, "host %s refused to talk to me: %s",
                   t->s->namaddr, smtp_reply_flat(t, &t->s->reply));
    return false;
}

/* Servers name themselves in the first word; further ones tell of ESMTP. */
static void read_greeting(struct smtp_try *t)
{
    struct smtp_session *s = t->s;
    const struct params *p = s->svc->params;
    struct str rest = str_from(buf_str(&s->reply.text), 3), word;
    for (bool first = true; str_token(&rest, first ? "- \t\n" : " \t\n", &word); first = false) {
        if (first && str_eq_nocase(word, str_of(p->myhostname)) && s->loop_detect)
            log_warning(s->svc->log_tag, "host %s greeted me with my own hostname %s", s->relay,
                        p->myhostname);
        else if (!first && str_eq_nocase(word, STR("ESMTP")))
            s->esmtp = true;
    }
    if (p->smtp_always_send_ehlo)
        s->esmtp = true;
    if (p->smtp_never_send_ehlo)
        s->esmtp = false;
}

static void read_keyword(struct smtp_session *s, struct str word, struct str rest)
{
    unsigned bit = ehlo_parse(word);
    s->features |= bit;
    if (!EHLO_HAS(bit, SIZE) || !str_token(&rest, " \t", &word))
        return;
    uint64_t limit;
    if (str_u64(word, &limit))
        s->size_limit = limit;
    else
        log_warning(s->svc->log_tag, "bad EHLO SIZE limit \"%.*s\" from %s", STR_ARG(word),
                    s->relay);
}

/* False: it is ourselves we talk to. */
static bool read_ehlo(struct smtp_try *t)
{
    struct smtp_session *s = t->s;
    const struct params *p = s->svc->params;
    s->features = 0;
    struct str lines = buf_str(&s->reply.text), line, word;
    for (bool first = true; str_token(&lines, "\n", &line); first = false) {
        line = str_from(line, 3);
        if (line.len > 0)
            line = str_from(line, 1);
        if (!str_token(&line, " \t=", &word))
            continue;
        if (!first) {
            read_keyword(s, word, line);
        } else if (s->loop_detect && str_eq_nocase(word, str_of(p->myhostname))) {
            log_warning(s->svc->log_tag, "host %s replied to HELO/EHLO with my own hostname %s",
                        s->relay, p->myhostname);
            smtp_site_fail(t, NULL, s->best_mx ? "5.4.6" : "4.4.6", NULL,
                           "mail for %s loops back to myself", t->r->nexthop);
            return false;
        }
    }
    /* SMTPUTF8 cannot be had without 8-bit content (RFC 6531 §3.1). */
    if (EHLO_HAS(s->features, SMTPUTF8))
        s->features |= ehlo_parse(STR("8BITMIME"));
    s->features &= ~ehlo_parse(str_of(p->smtp_discard_ehlo_keywords));
    if (!EHLO_HAS(s->features, SIZE))
        s->size_limit = 0;
    return true;
}

static struct err *ask(struct smtp_try *t, const char *verb)
{
    struct smtp_session *s = t->s;
    int64_t deadline = smtp_deadline(s->svc->params->smtp_helo_timeout);
    struct err *e =
        stream_printf(s->stream, deadline, "%s %s\r\n", verb, s->svc->params->smtp_helo_name);
    if (!e)
        e = stream_flush(s->stream, deadline);
    return e ? e : smtp_session_reply(s, t->r->msg->id, deadline);
}

static bool greet(struct smtp_try *t)
{
    struct smtp_session *s = t->s;
    struct err *e =
        smtp_session_reply(s, t->r->msg->id, smtp_deadline(s->svc->params->smtp_helo_timeout));
    if (e)
        return silent(t, e, "receiving the initial server greeting");
    smtp_reach_ok(s->svc->params, &s->addr);
    if (smtp_reply_class(&s->reply) == 2)
        return true;
    /* Another server may be in a better mood. */
    if (smtp_reply_class(&s->reply) == 5 && s->svc->params->smtp_skip_5xx_greeting)
        s->reply.dsn[0] = '4';
    return refused(t);
}

bool smtp_session_begin(struct smtp_try *t)
{
    struct smtp_session *s = t->s;
    if (!greet(t))
        return false;
    read_greeting(t);
    if (s->esmtp) {
        struct err *e = ask(t, "EHLO");
        if (e)
            return silent(t, e, "performing the EHLO handshake");
        if (s->reply.code == 421)
            return refused(t);
        s->esmtp = smtp_reply_class(&s->reply) == 2;
    }
    if (!s->esmtp) {
        struct err *e = ask(t, "HELO");
        if (e)
            return silent(t, e, "performing the HELO handshake");
        if (smtp_reply_class(&s->reply) != 2)
            return refused(t);
    } else if (!read_ehlo(t)) {
        return false;
    }
    t->r->conn_done_us = clock_wall_us();
    s->keep = true;
    return true;
}

/* --- the end */

void smtp_session_end(struct smtp_session *s)
{
    if (!s)
        return;
    const struct params *p = s->svc->params;
    struct err *e = NULL;
    int64_t deadline = smtp_deadline(p->smtp_quit_timeout);
    if (!s->dead && !s->quit_sent) {
        e = stream_put(s->stream, STR("QUIT\r\n"), deadline);
        if (!e)
            e = stream_flush(s->stream, deadline);
    }
    /* The mail is where it belongs: whatever happens now changes nothing. */
    if (!e && !s->dead && !p->smtp_skip_quit_response)
        e = smtp_session_reply(s, "QUIT", deadline);
    stream_free(s->stream);
    smtp_reply_fini(&s->reply);
    arena_free(s->arena);
}
