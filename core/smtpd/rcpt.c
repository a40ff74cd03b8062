/* rcpt: RCPT TO (RFC 5321 §4.1.1.3). */
#include "core/mail/ehlo.h"
#include "core/smtpd/restrict/restrict.h"
#include "core/smtpd/session.h"
#include "io/base/log.h"

static bool out_of_order(struct smtpd *s)
{
    if (!s->in_mail)
        smtpd_reply(s, "503 5.5.1 Error: need MAIL command");
    else if (s->state == STATE_CHUNKS || s->state == STATE_SWALLOW)
        smtpd_reply(s, "503 5.5.1 Error: RCPT after BDAT");
    else
        return false;
    return true;
}

static bool read_options(struct smtpd *s, struct str options, struct rcpt_options *io)
{
    struct command_rules rules = {.dsn = !EHLO_HAS(s->discard, DSN)};
    struct verdict why;

    if (command_rcpt_options(s->cmd, options, &rules, io, &why))
        return true;
    if (io->bad_notify.len)
        log_warning(s->svc->log_tag, "unknown DSN NOTIFY command value \"%.*s\" in \"%.*s\"",
                    STR_ARG(io->bad_notify), STR_ARG(io->bad_notify_list));
    smtpd_reply_verdict(s, &why);
    return false;
}

/* Without ORCPT the address as it was typed is the original recipient. */
static struct str original(struct smtpd *s, struct str raw, const struct rcpt_options *options)
{
    if (options->orcpt.len)
        return options->orcpt;
    if (raw.len >= 2 && raw.ptr[0] == '<')
        raw = str_make(raw.ptr + 1, raw.len - 2);
    return arena_printf(s->cmd, "rfc822;%.*s", STR_ARG(raw));
}

bool smtpd_rcpt(struct smtpd *s, const struct command *c)
{
    struct rcpt_options options = {0};
    struct str raw, rest, address;
    bool broken;

    if (out_of_order(s))
        return false;
    if (!command_path(c->args, STR("TO:"), &raw, &rest, &broken)) {
        smtpd_reply(s, "501 5.5.4 Syntax: RCPT TO:<address>");
        return false;
    }
    if (broken || !smtpd_path(s, raw, false, &address)) {
        smtpd_reply(s, "501 5.1.3 Bad recipient address syntax");
        return false;
    }
    if (!read_options(s, rest, &options))
        return false;
    if ((int64_t)s->rcpt_count >= s->p->smtpd_recipient_limit) {
        smtpd_reply(s, "452 4.5.3 Error: too many recipients");
        return s->overshoot++ < s->p->smtpd_recipient_overshoot_limit;
    }
    if (!s->stand_alone) {
        struct verdict v = restrict_rcpt(s, address);
        if (v.code) {
            smtpd_reply_verdict(s, &v);
            return false;
        }
    }
    if (!s->cleanup && !smtpd_open(s))
        return false;
    cleanup_rcpt(s->cleanup, address, address, original(s, raw, &options), options.notify);
    if (s->rcpt_count++ == 0)
        s->recipient = arena_str(s->msg, address);
    s->state = STATE_RCPT;
    smtpd_reply(s, "250 2.1.5 Ok");
    return true;
}
