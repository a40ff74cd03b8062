/* mail: MAIL FROM (RFC 5321 §4.1.1.2). */
#include "core/mail/ehlo.h"
#include "core/smtpd/restrict/restrict.h"
#include "core/smtpd/session.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/fiber/fiber.h"

#include <stdatomic.h>

#define TELL_EVERY_S 60
#define LOOK_MS      20
#define LOOK_EACH_US 100

static struct command_rules rules_of(const struct smtpd *s)
{
    return (struct command_rules){
        .dsn = !EHLO_HAS(s->discard, DSN),
        .smtputf8 = s->p->smtputf8_enable && !EHLO_HAS(s->discard, SMTPUTF8),
    };
}

/* SMTPUTF8 stands behind the address and says how to read it. */
static bool asks_utf8(struct str options)
{
    struct str word;
    bool broken;

    while (command_word(&options, &word, &broken))
        if (str_eq_nocase(word, STR("SMTPUTF8")))
            return true;
    return false;
}

static bool out_of_order(struct smtpd *s)
{
    if (s->p->smtpd_helo_required && s->helo.len == 0)
        smtpd_reply(s, "503 5.5.1 Error: send HELO/EHLO first");
    else if (s->in_mail)
        smtpd_reply(s, "503 5.5.1 Error: nested MAIL command");
    else if (s->state == STATE_SWALLOW)
        smtpd_reply(s, "503 5.5.1 Error: MAIL after BDAT");
    else
        return false;
    return true;
}

/* Size, then the sender's restrictions when they are not delayed until RCPT. */
static struct verdict allowed(struct smtpd *s, struct str sender)
{
    struct verdict v = {0};

    if (s->p->message_size_limit > 0 && s->options.size > s->p->message_size_limit)
        v = verdict_of(552, "5.3.4", "Message size exceeds fixed limit");
    bool full = v.code == 0 && s->queue && queue_full(s->queue);
    if (full)
        v = verdict_of(452, "4.3.1", "Insufficient system storage");
    if (v.code) {
        if (s->p->soft_bounce)
            verdict_soften(&v);
        s->log_sender = full ? NULL : &sender; /* Postfix has not looked at it by then */
        smtpd_log_whatsup(s, "reject", verdict_print(s->cmd, &v));
        s->log_sender = NULL;
        if (full)
            log_warning(s->svc->log_tag, "not enough free space in mail queue: less than queue_minfree or "
                                         "1.5*message size limit");
        return v;
    }
    return s->stand_alone || s->p->smtpd_delay_reject ? v : restrict_mail(s, sender);
}

/* Mail that comes in faster than it leaves waits at the door, for it would only wait inside: each MAIL a little, and
 * in_flow_delay at most, so that a site that takes its mail slowly stops nobody. */
static void inflow_wait(struct smtpd *s)
{
    static _Atomic unsigned waiting;
    static _Atomic int64_t told_ns;
    int64_t now = clock_mono_ns(), told = told_ns, until = now + s->p->in_flow_delay * NS_PER_S;

    if (now - told > TELL_EVERY_S * NS_PER_S && atomic_compare_exchange_strong(&told_ns, &told, now))
        log_warning(s->svc->log_tag, "mail arrives faster than it is delivered: MAIL waits for up to "
                                     "in_flow_delay (%lld s)", (long long)s->p->in_flow_delay);
    smtpd_flush(s);
    /* Many that wait look seldom. */
    int64_t step = LOOK_MS * NS_PER_MS + atomic_fetch_add(&waiting, 1) * LOOK_EACH_US * NS_PER_US;
    for (; s->end == END_NOT && queue_crowded(s->queue) && now < until; now = clock_mono_ns()) {
        struct err *e = fiber_sleep_until(now + step < until ? now + step : until);
        if (e)
            smtpd_trouble(s, e);
    }
    atomic_fetch_sub(&waiting, 1);
}

bool smtpd_mail(struct smtpd *s, const struct command *c)
{
    struct command_rules rules = rules_of(s);
    struct str raw, options, sender;
    struct verdict why;
    bool broken;

    if (out_of_order(s))
        return false;
    if (!command_path(c->args, STR("FROM:"), &raw, &options, &broken)) {
        smtpd_reply(s, "501 5.5.4 Syntax: MAIL FROM:<address>");
        return false;
    }
    /* A size once declared stays for the next try, as it does in Postfix. */
    s->options = (struct mail_options){.size = s->options.size,
                                       .smtputf8 = rules.smtputf8 && asks_utf8(options)};
    if (broken || !smtpd_path(s, raw, true, &sender)) {
        smtpd_reply(s, "501 5.1.7 Bad sender address syntax");
        return false;
    }
    if (!command_mail_options(s->msg, options, &rules, &s->options, &why)) {
        smtpd_reply_verdict(s, &why);
        return false;
    }
    if (s->p->in_flow_delay > 0 && s->queue && queue_crowded(s->queue))
        inflow_wait(s);
    struct verdict v = allowed(s, sender);
    if (v.code) {
        smtpd_reply_verdict(s, &v);
        return false;
    }
    s->sender = arena_str(s->msg, sender);
    s->in_mail = true;
    s->state = STATE_MAIL;
    if (!s->p->smtpd_delay_open_until_valid_rcpt && !smtpd_open(s)) {
        smtpd_mail_reset(s);
        return false;
    }
    smtpd_reply(s, "250 2.1.0 Ok");
    return true;
}
