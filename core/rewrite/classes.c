/* classes: ADDRESS_CLASS_README: local, virtual alias, virtual mailbox, relay, default; the first that
 * claims a domain has it. */
#include "core/rewrite/classes.h"

#include "io/base/log.h"
#include "io/net/addr.h"

static struct err *in_list(struct match_list *list, struct arena *a, const char *name,
                           struct str domain, bool *out)
{
    *out = false;
    if (!list)
        return NULL;
    struct err *e = match_list_name(list, a, domain, out);
    return e ? err_in(e, "%s lookup", name) : NULL;
}

static bool own_literal(const struct snapshot *s, struct str domain)
{
    struct addr addr;

    if (domain.len < 3 || domain.ptr[domain.len - 1] != ']' ||
        !addr_parse_literal(str_make(domain.ptr + 1, domain.len - 2), 0, &addr))
        return false;
    for (size_t i = 0; i < s->own_addr_count; i++)
        if (addr_eq_host(&s->own_addrs[i].addr, &addr))
            return true;
    return false;
}

struct err *resolve_local(const struct service *svc, struct arena *a, struct str domain,
                          bool *local_out)
{
    if (domain.len > 1 && domain.ptr[domain.len - 1] == '.' && domain.ptr[domain.len - 2] != '.')
        domain.len--;
    struct err *e = in_list(svc->lists->mydestination, a, "mydestination", domain, local_out);
    if (!e && !*local_out && domain.len && domain.ptr[0] == '[')
        *local_out = own_literal(svc->snapshot, domain);
    return e;
}

/* A domain in two classes works by the order above, but surely not as its owner meant. */
static struct err *warn_twice(const struct service *svc, struct arena *a, struct match_list *list,
                              const char *name, const char *first, struct str domain)
{
    bool also;

    if (!svc->params->helpful_warnings)
        return NULL;
    struct err *e = in_list(list, a, name, domain, &also);
    if (!e && also)
        log_warning("trivial-rewrite", "do not list domain %.*s in BOTH %s and %s", STR_ARG(domain),
                    first, name);
    return e;
}

struct err *classes_remote(const struct service *svc, struct arena *a, struct str domain,
                           enum address_class *out)
{
    const struct lists *l = svc->lists;
    struct err *e;
    bool match;

    if ((e = in_list(l->virtual_alias_domains, a, "virtual_alias_domains", domain, &match)))
        return e;
    if (match) {
        *out = CLASS_VIRTUAL_ALIAS;
        if ((e = warn_twice(svc, a, l->virtual_mailbox_domains, "virtual_mailbox_domains",
                            "virtual_alias_domains", domain)))
            return e;
        return warn_twice(svc, a, l->relay_domains, "relay_domains", "virtual_alias_domains", domain);
    }
    if ((e = in_list(l->virtual_mailbox_domains, a, "virtual_mailbox_domains", domain, &match)))
        return e;
    if (match) {
        *out = CLASS_VIRTUAL_MAILBOX;
        return warn_twice(svc, a, l->relay_domains, "relay_domains", "virtual_mailbox_domains",
                          domain);
    }
    if ((e = in_list(l->relay_domains, a, "relay_domains", domain, &match)))
        return e;
    *out = match ? CLASS_RELAY : CLASS_DEFAULT;
    return NULL;
}

struct err *classes_local_warn(const struct service *svc, struct arena *a, struct str domain)
{
    const struct lists *l = svc->lists;
    struct err *e = warn_twice(svc, a, l->virtual_alias_domains, "virtual_alias_domains",
                               "mydestination", domain);

    return e ? e : warn_twice(svc, a, l->virtual_mailbox_domains, "virtual_mailbox_domains",
                              "mydestination", domain);
}

struct err *resolve_class(const struct service *svc, struct arena *a, struct str domain,
                          enum address_class *out)
{
    bool local = domain.len == 0;
    struct err *e = local ? NULL : resolve_local(svc, a, domain, &local);

    if (e)
        return e;
    if (!local)
        return classes_remote(svc, a, domain, out);
    *out = CLASS_LOCAL;
    return NULL;
}
