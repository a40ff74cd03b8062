/* mail: MAIL FROM (RFC 5321 §4.1.1.2). */
#include "core/mail/ehlo.h"
#include "core/smtpd/restrict/restrict.h"
#include "core/smtpd/session.h"
#include "io/base/log.h"

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
