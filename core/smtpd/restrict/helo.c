/* helo: restrictions on the HELO name. */
#include "core/mail/address.h"
#include "core/smtpd/restrict/dns.h"
#include "core/smtpd/restrict/eval.h"
#include "io/base/log.h"

static struct str without_dot(struct str name)
{
    return name.len > 1 && name.ptr[name.len - 1] == '.' ? str_head(name, name.len - 1) : name;
}

static bool is_address(struct str name)
{
    struct addr addr;
    return addr_parse(name, 0, &addr);
}

static bool is_hostname(struct str name)
{
    return name.len && name.ptr[0] != '[' && address_domain_valid(name) &&
           !address_domain_numeric(name);
}

/* "[192.0.2.1]" is judged as an address by every restriction here. */
static enum check literal(struct eval *v, struct str name)
{
    struct addr addr;

    if (name.len > 2 && name.ptr[name.len - 1] == ']' &&
        addr_parse_literal(str_make(name.ptr + 1, name.len - 2), 0, &addr))
        return CHECK_DUNNO;
    return eval_refuse(v, v->s->p->invalid_hostname_reject_code, "5.5.2",
                       "<%.*s>: %s rejected: invalid ip address", STR_ARG(*v->helo),
                       "Helo command");
}

enum check check_invalid_helo(struct eval *v, struct str *rest)
{
    (void)rest;
    if (!v->helo)
        return CHECK_DUNNO;
    struct str name = *v->helo;
    if (name.len && name.ptr[0] == '[')
        return literal(v, name);
    name = without_dot(name);
    if (is_hostname(name) || is_address(name))
        return CHECK_DUNNO;
    return eval_refuse(v, v->s->p->invalid_hostname_reject_code, "5.5.2",
                       "<%.*s>: Helo command rejected: Invalid name", STR_ARG(*v->helo));
}

enum check check_non_fqdn_helo(struct eval *v, struct str *rest)
{
    (void)rest;
    if (!v->helo)
        return CHECK_DUNNO;
    struct str name = *v->helo;
    if (name.len && name.ptr[0] == '[')
        return literal(v, name);
    name = without_dot(name);
    if (is_hostname(name) && str_index(name, '.') >= 0)
        return CHECK_DUNNO;
    return eval_refuse(v, v->s->p->non_fqdn_reject_code, "5.5.2",
                       "<%.*s>: Helo command rejected: need fully-qualified hostname",
                       STR_ARG(*v->helo));
}

enum check check_unknown_helo(struct eval *v, struct str *rest)
{
    static const enum dns_type types[] = {DNS_A, DNS_AAAA, DNS_MX, 0};

    (void)rest;
    if (!v->helo)
        return CHECK_DUNNO;
    struct str name = *v->helo;
    if (name.len && name.ptr[0] == '[')
        return literal(v, name);
    enum dns_presence answer = dns_presence(v->s, name, types);
    if (answer == DNS_UNSURE)
        return eval_defer_if_permit(v, v->s->p->unknown_helo_hostname_tempfail_action, "4.7.1",
                                    "<%.*s>: Helo command rejected: Host not found",
                                    STR_ARG(name));
    if (answer != DNS_ABSENT)
        return CHECK_DUNNO;
    return eval_refuse(v, v->s->p->unknown_hostname_reject_code, "4.7.1",
                       "<%.*s>: Helo command rejected: Host not found", STR_ARG(name));
}

enum check check_permit_naked_ip(struct eval *v, struct str *rest)
{
    (void)rest;
    log_warning(v->s->svc->log_tag, "restriction permit_naked_ip_address is deprecated. Use "
                "permit_mynetworks or permit_sasl_authenticated instead");
    return v->helo && is_address(*v->helo) ? CHECK_OK : CHECK_DUNNO;
}
