/* unlisted: addresses in our domains that no table knows are refused now: a bounce later would go to
 * whoever the sender's name was stolen from. */
#include "core/mail/address.h"
#include "core/smtpd/restrict/eval.h"
#include "io/base/log.h"

static int64_t code_of(const struct params *p, enum address_class class)
{
    switch (class) {
    case CLASS_VIRTUAL_ALIAS:
        return p->unknown_virtual_alias_reject_code;
    case CLASS_VIRTUAL_MAILBOX:
        return p->unknown_virtual_mailbox_reject_code;
    case CLASS_RELAY:
        return p->unknown_relay_recipient_reject_code;
    case CLASS_LOCAL:
    case CLASS_DEFAULT:
        break;
    }
    return p->unknown_local_recipient_reject_code;
}

/* Addresses that work without standing in a table. */
static bool always_listed(const struct params *p, const struct resolved *r)
{
    struct str local = address_local(r->recipient);

    return r->class == CLASS_LOCAL &&
           (str_eq_nocase(local, str_of(p->double_bounce_sender)) ||
            str_eq_nocase(local, STR("postmaster")) || str_eq_nocase(local, STR("mailer-daemon")));
}

/* The resolver says that mail goes nowhere (error:, retry:, relocated): "5.1.6 User has moved to x". */
static bool leads_nowhere(const struct resolved *r)
{
    return r->class != CLASS_VIRTUAL_ALIAS &&
           (strcmp(r->transport, "error") == 0 || strcmp(r->transport, "retry") == 0);
}

static enum check nowhere(struct eval *v, struct str address, const struct resolved *r, bool sender)
{
    struct smtpd *s = v->s;
    struct str text = str_of(r->nexthop), first, status, ext;
    bool aliased = false;

    struct err *e = map_addr_find(&s->lists->virtual_alias_maps, s->cmd, r->recipient,
                                  s->p->recipient_delimiter, NULL, NULL, &status, &ext, &aliased);
    if (e)
        return eval_lookup_failed(v, address, e->text);
    if (aliased)
        return CHECK_DUNNO;
    char dsn[12] = "5.0.0";
    struct str rest = text;
    if (str_token(&rest, " ", &first) && first.len >= 5 && first.len < sizeof dsn &&
        str_is_digit(first.ptr[0]) && first.ptr[1] == '.') {
        str_copy(dsn, sizeof dsn, first);
        text = str_trim(rest);
    }
    bool later = dsn[0] == '4' || strcmp(r->transport, "retry") == 0;
    return eval_refuse(v, later ? 450 : 550, dsn, "<%.*s>: %s rejected: %.*s", STR_ARG(address),
                       sender ? "Sender address" : "Recipient address", STR_ARG(text));
}

static enum check unlisted(struct eval *v, struct str address, const struct resolved *r, bool sender)
{
    struct smtpd *s = v->s;
    const char *table = "", *dsn = sender ? "5.1.0" : "5.1.1";
    bool listed = true;

    if (r->table_error)
        return eval_lookup_failed(v, address, r->why);
    if (always_listed(s->p, r))
        return CHECK_DUNNO;
    if (leads_nowhere(r))
        return nowhere(v, address, r, sender);
    struct err *e = resolve_listed(s->svc, s->cmd, r, &listed, &table);
    if (e)
        return eval_lookup_failed(v, address, e->text);
    if (listed)
        return CHECK_DUNNO;
    if (sender && r->class == CLASS_VIRTUAL_ALIAS) {
        log_info(s->svc->log_tag, "mapping DSN status 5.1.1 into Sender address status 5.1.7");
        dsn = "5.1.7";
    }
    bool name = s->p->show_user_unknown_table_name;
    return eval_refuse(v, code_of(s->p, r->class), dsn, "<%.*s>: %s rejected: User unknown%s%s",
                       STR_ARG(address), sender ? "Sender address" : "Recipient address",
                       name ? " in " : "", name ? table : "");
}

enum check check_unlisted_sender(struct eval *v, struct str *rest)
{
    (void)rest;
    v->s->sender_checked = true;
    if (!v->sender || v->sender->len == 0)
        return CHECK_DUNNO;
    return unlisted(v, *v->sender, eval_resolve_sender(v), true);
}

enum check check_unlisted_recipient(struct eval *v, struct str *rest)
{
    (void)rest;
    v->s->rcpt_checked = true;
    if (!v->recipient)
        return CHECK_DUNNO;
    return unlisted(v, *v->recipient, eval_resolve_recipient(v), false);
}
