/* bounce: who is told what.
 *
 *   notice    sender is        goes to                    from             original
 *   bounce    double-bounce    nobody, with a warning
 *   bounce    null             2bounce_notice_recipient   double-bounce    whole       if 2bounce or bounce
 *   bounce    somebody         the sender                 null             RET         as NOTIFY asks
 *             and              bounce_notice_recipient    double-bounce    headers     if bounce
 *   delay     null             delay_notice_recipient     double-bounce    headers     if delay
 *   delay     somebody         the sender, and that       null             headers
 *   success   somebody         the sender                 null             headers     NOTIFY=SUCCESS only */
#include "core/bounce/bounce.h"

#include "core/bounce/report.h"
#include "core/cleanup/cleanup.h"
#include "core/mail/date.h"
#include "io/base/clock.h"
#include "io/base/log.h"

enum { CLASS_BOUNCE = 1, CLASS_2BOUNCE = 2, CLASS_DELAY = 4 };

static unsigned notify_classes(const struct params *p)
{
    struct str rest = str_of(p->notify_classes), one;
    unsigned set = 0;

    while (str_token(&rest, ", \t\r\n", &one)) {
        if (str_eq_nocase(one, STR("bounce")))
            set |= CLASS_BOUNCE | CLASS_2BOUNCE;
        else if (str_eq_nocase(one, STR("2bounce")))
            set |= CLASS_2BOUNCE;
        else if (str_eq_nocase(one, STR("delay")))
            set |= CLASS_DELAY;
    }
    return set;
}

static const char *log_tag(const struct service *svc)
{
    const struct service *own = config_service(svc->snapshot, "bounce", NULL);
    return own ? own->log_tag : "bounce";
}

static void give_line(void *ctx, struct str text, bool whole)
{
    cleanup_line(ctx, text, whole);
}

static void trace_headers(struct report *r, struct cleanup *c)
{
    char date[DATE_TEXT_MAX];
    const struct params *p = r->svc->params;

    date_rfc5322(cleanup_arrival_us(c), date);
    cleanup_line(c, arena_printf(r->arena, "Received: by %s (%s)", p->myhostname, p->mail_name), true);
    cleanup_line(c, arena_printf(r->arena, "\tid %s; %s", cleanup_id(c), date), true);
    cleanup_line(c, arena_printf(r->arena, "Date: %s", date), true);
}

/* One message. what: for the log, "sender non-delivery". */
static struct err *post(struct report *r, struct str from, const char *what)
{
    struct cleanup *c;
    char id[QUEUE_ID_MAX];
    const struct qmsg *m = r->notice->msg;
    bool utf8 = m->env->flags & ENV_SMTPUTF8;
    const struct service *cleanup = config_service(r->svc->snapshot, "cleanup", NULL);
    enum cleanup_status status =
        cleanup_begin(cleanup ? cleanup : r->svc, m->queue,
                      CLEANUP_LOCAL | CLEANUP_INTERNAL | (utf8 ? CLEANUP_UTF8 : 0U), &c);

    if (status != CLEANUP_OK)
        return err_new(status == CLEANUP_QUEUE_FULL ? ERR_FULL : ERR_IO, 0, "%s notification: %s", what,
                       cleanup_status_reply(status));
    str_copy(id, sizeof id, str_of(cleanup_id(c)));
    cleanup_sender(c, from, 0, STR(""), ENV_BOUNCE);
    cleanup_rcpt(c, r->to, r->to, STR(""), 0);
    r->line = give_line;
    r->ctx = c;
    r->now_us = cleanup_arrival_us(c);
    trace_headers(r, c);
    struct err *e = report_write(r);
    if (e) {
        cleanup_abort(c);
        return err_in(e, "%s notification: original message", what);
    }
    struct str why;
    status = cleanup_commit(c, r->arena, &why);
    if (status != CLEANUP_OK)
        return err_new(status == CLEANUP_QUEUE_FULL ? ERR_FULL : ERR_IO, 0,
                       "%s notification: %.*s", what, STR_ARG(why));
    log_info(log_tag(r->svc), "%s: %s notification: %s", m->id, what, id);
    return NULL;
}

struct letters {
    bool damaged; /* the original is */
    const struct service *svc;
    const struct notice *n;
    struct arena *arena;
    struct str double_bounce;
};

static bool too_big(const struct letters *l)
{
    int64_t limit = l->svc->params->bounce_size_limit;
    return limit > 0 && l->n->msg->env->data_size > (uint64_t)limit;
}

static struct err *to_sender(struct letters *l, const char *what)
{
    const struct envelope *env = l->n->msg->env;
    struct report r = {.svc = l->svc, .notice = l->n, .arena = l->arena, .to = env->sender};

    if (report_count(l->n, false) == 0)
        return NULL;
    r.headers_only = l->n->kind != NOTICE_BOUNCE || env->ret == RET_HDRS || too_big(l);
    struct err *e = post(&r, STR(""), what);
    l->damaged |= r.damaged;
    return e;
}

static struct err *to_postmaster(struct letters *l, const char *recipient, bool whole,
                                 const char *what)
{
    struct report r = {.svc = l->svc,
                       .notice = l->n,
                       .arena = l->arena,
                       .to = str_of(recipient),
                       .postmaster = true,
                       .headers_only = !whole || too_big(l)};

    struct err *e = post(&r, l->double_bounce, what);
    l->damaged |= r.damaged;
    return e;
}

/* The sender has his notice already: a copy that fails must not send it a second time. */
static void copy_to_postmaster(struct letters *l, const char *recipient, const char *what)
{
    struct err *e = to_postmaster(l, recipient, false, what);
    if (e)
        log_warning(log_tag(l->svc), "%s: %s", l->n->msg->id, e->text);
}

static struct err *notify_bounce(struct letters *l, unsigned classes)
{
    const struct params *p = l->svc->params;
    struct str sender = l->n->msg->env->sender;

    if (str_eq_nocase(sender, l->double_bounce)) {
        log_warning(log_tag(l->svc), "%s: undeliverable postmaster notification discarded",
                    l->n->msg->id);
        return NULL;
    }
    if (sender.len == 0) {
        if (!(classes & CLASS_2BOUNCE))
            return NULL;
        const char *recipient = config_value(l->svc->snapshot, "2bounce_notice_recipient");
        return to_postmaster(l, recipient && *recipient ? recipient : "postmaster", true,
                             "postmaster non-delivery");
    }
    struct err *e = to_sender(l, "sender non-delivery");
    if (!e && (classes & CLASS_BOUNCE))
        copy_to_postmaster(l, p->bounce_notice_recipient, "postmaster non-delivery");
    return e;
}

static struct err *notify_delay(struct letters *l, unsigned classes)
{
    const char *postmaster = l->svc->params->delay_notice_recipient;
    struct str sender = l->n->msg->env->sender;

    if (str_eq_nocase(sender, l->double_bounce))
        return NULL;
    if (sender.len == 0)
        return classes & CLASS_DELAY ? to_postmaster(l, postmaster, false, "postmaster delay") : NULL;
    struct err *e = to_sender(l, "sender delay");
    if (!e && (classes & CLASS_DELAY))
        copy_to_postmaster(l, postmaster, "postmaster delay");
    return e;
}

struct err *bounce_notify(const struct service *svc, const struct notice *n)
{
    struct arena *a = arena_new(0, 0);
    const struct params *p = svc->params;
    unsigned classes = notify_classes(p);
    struct letters l = {.svc = svc, .n = n, .arena = a};
    struct err *e = NULL;

    l.double_bounce = arena_printf(a, "%s@%s", p->double_bounce_sender, p->myhostname);
    switch (n->kind) {
    case NOTICE_BOUNCE:
        e = notify_bounce(&l, classes);
        break;
    case NOTICE_DELAY:
        e = notify_delay(&l, classes);
        break;
    case NOTICE_SUCCESS:
        if (n->msg->env->sender.len && !str_eq_nocase(n->msg->env->sender, l.double_bounce))
            e = to_sender(&l, "sender delivery status");
        break;
    }
    arena_free(a);
    return e == NULL && l.damaged ? err_new(ERR_DAMAGED, 0, "%s: content is damaged", n->msg->id) : e;
}
