/* address: restrictions on the domains of sender and recipient. */
#include "core/mail/address.h"
#include "core/smtpd/restrict/dns.h"
#include "core/smtpd/restrict/eval.h"

#define SENDER    "Sender address"
#define RECIPIENT "Recipient address"

static enum check non_fqdn(struct eval *v, struct str address, const char *class)
{
    struct str domain = address_domain(address), name = domain;

    if (address.len == 0 || str_eq_nocase(address, STR("postmaster")) ||
        (domain.len && domain.ptr[0] == '['))
        return CHECK_DUNNO;
    if (name.len > 1 && name.ptr[name.len - 1] == '.')
        name.len--;
    if (str_index(name, '.') >= 0 && address_domain_valid(name))
        return CHECK_DUNNO;
    return eval_refuse(v, v->s->p->non_fqdn_reject_code, "5.5.2",
                       "<%.*s>: %s rejected: need fully-qualified address", STR_ARG(address),
                       class);
}

enum check check_non_fqdn_sender(struct eval *v, struct str *rest)
{
    (void)rest;
    return v->sender ? non_fqdn(v, *v->sender, SENDER) : CHECK_DUNNO;
}

enum check check_non_fqdn_recipient(struct eval *v, struct str *rest)
{
    (void)rest;
    return v->recipient ? non_fqdn(v, *v->recipient, RECIPIENT) : CHECK_DUNNO;
}

/* A domain that is ours in some way needs no DNS; for another there must be a host to answer to. */
static enum check unknown_domain(struct eval *v, struct str address, const struct resolved *r,
                                 bool sender)
{
    static const enum dns_type types[] = {DNS_MX, DNS_A, DNS_AAAA, 0};
    const char *class = sender ? SENDER : RECIPIENT, *dsn = sender ? "4.1.8" : "4.1.2";
    struct str domain = address_domain(r->table_error ? address : r->recipient);

    if (r->table_error)
        return eval_lookup_failed(v, address, r->why);
    if (r->class != CLASS_DEFAULT || domain.len == 0 || domain.ptr[0] == '[')
        return CHECK_DUNNO;
    switch (dns_presence(v->s, domain, types)) {
    case DNS_PRESENT:
        return CHECK_DUNNO;
    case DNS_NULL_MX:
        return eval_refuse(v, sender ? 550 : 556, sender ? "5.7.27" : "5.1.10",
                           "<%.*s>: %s rejected: Domain %.*s does not accept mail (nullMX)",
                           STR_ARG(address), class, STR_ARG(domain));
    case DNS_UNSURE:
        return eval_defer_if_permit(v, v->s->p->unknown_address_tempfail_action, dsn,
                                    "<%.*s>: %s rejected: Domain not found", STR_ARG(address),
                                    class);
    case DNS_ABSENT:
        break;
    }
    return eval_refuse(v, v->s->p->unknown_address_reject_code, dsn,
                       "<%.*s>: %s rejected: Domain not found", STR_ARG(address), class);
}

enum check check_unknown_sender_domain(struct eval *v, struct str *rest)
{
    (void)rest;
    if (!v->sender || v->sender->len == 0)
        return CHECK_DUNNO;
    return unknown_domain(v, *v->sender, eval_resolve_sender(v), true);
}

enum check check_unknown_recipient_domain(struct eval *v, struct str *rest)
{
    (void)rest;
    if (!v->recipient)
        return CHECK_DUNNO;
    return unknown_domain(v, *v->recipient, eval_resolve_recipient(v), false);
}
