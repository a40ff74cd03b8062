/* misc: the small verbs, and those that wait for their layer: STARTTLS, AUTH, XCLIENT, XFORWARD are
 * answered as Postfix answers them where TLS, SASL and the client lists are off. */
#include "core/mail/address.h"
#include "core/smtpd/restrict/restrict.h"
#include "core/smtpd/session.h"
#include "io/base/log.h"

bool smtpd_rset(struct smtpd *s, const struct command *c)
{
    if (c->args.len) {
        smtpd_reply(s, "501 5.5.4 Syntax: RSET");
        return false;
    }
    smtpd_mail_reset(s);
    smtpd_reply(s, "250 2.0.0 Ok");
    return true;
}

bool smtpd_noop(struct smtpd *s, const struct command *c)
{
    (void)c;
    smtpd_reply(s, "250 2.0.0 Ok");
    return true;
}

bool smtpd_quit(struct smtpd *s, const struct command *c)
{
    (void)c;
    smtpd_reply(s, "221 2.0.0 Bye");
    if (s->end == END_NOT)
        s->end = END_DONE;
    return true;
}

bool smtpd_starttls(struct smtpd *s, const struct command *c)
{
    if (c->args.len)
        smtpd_reply(s, "501 5.5.4 Syntax: STARTTLS");
    else
        smtpd_reply(s, "502 5.5.1 Error: command not implemented");
    return false;
}

bool smtpd_auth(struct smtpd *s, const struct command *c)
{
    (void)c;
    smtpd_reply(s, "503 5.5.1 Error: authentication not enabled");
    return false;
}

static bool x_refused(struct smtpd *s, const struct command *c)
{
    if (s->in_mail)
        smtpd_reply(s, "503 5.5.1 Error: MAIL transaction in progress");
    else if (c->args.len == 0)
        smtpd_reply(s, "501 5.5.4 Syntax: %s attribute=value...", command_verb_name(c->verb));
    else
        smtpd_reply(s, "550 5.7.0 Error: insufficient authorization");
    return false;
}

bool smtpd_xclient(struct smtpd *s, const struct command *c)
{
    return x_refused(s, c);
}

bool smtpd_xforward(struct smtpd *s, const struct command *c)
{
    return x_refused(s, c);
}

/* --- VRFY (RFC 5321 §4.1.1.6, RFC 6531 §3.7.4.2) */

/* "<a@b" and "a@[1.2" are taken here as if they were closed, which MAIL and RCPT do not do. */
static struct str closed(struct smtpd *s, struct str text)
{
    bool angle = str_index(text, '<') >= 0 && str_index(text, '>') < 0;
    bool square = str_index(text, '[') >= 0 && str_index(text, ']') < 0;

    if (!angle && !square)
        return text;
    return arena_printf(s->cmd, "%.*s%s%s", STR_ARG(text), square ? "]" : "", angle ? ">" : "");
}

bool smtpd_vrfy(struct smtpd *s, const struct command *c)
{
    struct str text = c->args, address;
    bool utf8 = s->p->smtputf8_enable;

    if (s->p->disable_vrfy_command) {
        smtpd_reply(s, "502 5.5.1 VRFY command is disabled");
        return false;
    }
    if (text.len == 0) {
        smtpd_reply(s, "501 5.5.4 Syntax: VRFY address%s", utf8 ? " [SMTPUTF8]" : "");
        return false;
    }
    bool kept = s->options.smtputf8;
    if (utf8 && str_ends_nocase(text, STR(" SMTPUTF8"))) {
        s->options.smtputf8 = true;
        text = str_trim(str_head(text, text.len - strlen(" SMTPUTF8")));
    }
    bool good = smtpd_path(s, closed(s, text), false, &address);
    s->options.smtputf8 = kept;
    if (!good) {
        smtpd_reply(s, "501 5.1.3 Bad recipient address syntax");
        return false;
    }
    if (!s->stand_alone) {
        struct verdict v = restrict_rcpt(s, address);
        if (v.code) {
            smtpd_reply_verdict(s, &v);
            return false;
        }
    }
    smtpd_reply(s, "252 2.0.0 %.*s", STR_ARG(text));
    return true;
}

/* --- ETRN (RFC 1985) */

static bool etrn_refused(struct smtpd *s, struct str site, const struct command *c)
{
    struct str more = c->args, word;
    bool broken, two = command_word(&more, &word, &broken) && command_word(&more, &word, &broken);

    if (s->p->smtpd_helo_required && s->helo.len == 0)
        smtpd_reply(s, "503 Error: send HELO/EHLO first");
    else if (s->in_mail)
        smtpd_reply(s, "503 Error: MAIL transaction in progress");
    else if (site.len == 0 || two)
        smtpd_reply(s, "500 Syntax: ETRN domain");
    else if (!address_domain_valid(site))
        smtpd_reply(s, "501 Error: invalid parameter syntax");
    else if (s->stand_alone)
        smtpd_reply(s, "458 Unable to queue messages");
    else
        return false;
    return true;
}

bool smtpd_etrn(struct smtpd *s, const struct command *c)
{
    struct str site = c->args;
    bool listed = false, found;

    if (site.len && (site.ptr[0] == '@' || site.ptr[0] == '#'))
        site = str_from(site, 1);
    if (etrn_refused(s, site, c))
        return false;
    struct verdict v = restrict_etrn(s, site);
    if (v.code) {
        smtpd_reply_verdict(s, &v);
        return false;
    }
    struct err *e = match_list_name(s->lists->fast_flush_domains, s->cmd, site, &listed);
    if (!e && listed)
        e = queue_flush(s->queue, STR_NULL, site, &found);
    if (e) {
        log_warning(s->svc->log_tag, "ETRN %.*s: %s", STR_ARG(site), e->text);
        smtpd_reply(s, "458 Unable to queue messages");
        return false;
    }
    if (!listed) {
        struct str shown = smtpd_printable(s->cmd, str_head(site, 100));
        log_warning(s->svc->log_tag, "reject: ETRN %.*s... from %s", STR_ARG(shown), s->namaddr);
        smtpd_reply(s, "459 <%.*s>: service unavailable", STR_ARG(site));
        return false;
    }
    smtpd_reply(s, "250 Queuing started");
    return true;
}
