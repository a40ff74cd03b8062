/* route: the asking half: MX, A and AAAA, and the hosts file. */
#include "core/smtp/route.h"

#include "core/smtp/reach.h"
#include "io/base/clock.h"
#include "io/base/codec.h"
#include "io/base/log.h"
#include "io/net/dns.h"

enum {
    SMTP_PORT = 25,
    TARGETS_MAX = 200, /* addresses of one next hop; more are not looked at */
};

struct finder {
    struct arena *arena;
    const struct service *svc;
    const struct params *params;
    const struct smtp_site *site;
    struct smtp_route *route;
    size_t cap;
    bool ipv4, ipv6, use_dns, use_native;
};

static bool listed(const char *list, const char *word)
{
    struct str rest = str_of(list), token;
    while (str_token(&rest, ", \t\r\n", &token))
        if (str_eq_nocase(token, str_of(word)))
            return true;
    return false;
}

static void why(struct finder *f, const char *status, const char *text)
{
    str_copy(f->route->status, sizeof(f->route->status), str_of(status));
    f->route->reason = text;
}

static void why_dns(struct finder *f, const char *name, enum dns_type type,
                    const struct dns_answer *answer)
{
    const char *status = answer->status == DNS_TEMPORARY ? "4.4.3" : "5.4.4";
    const char *text = dns_error_text(f->arena, name, type, answer);
    why(f, status, arena_printf(f->arena, "Host or domain name not found. %s", text).ptr);
}

static void ask(struct finder *f, const char *name, enum dns_type type, struct dns_answer *out)
{
    dns_lookup(f->arena, name, type, clock_in_s(f->params->dns_timeout + 1), out);
}

static void add(struct finder *f, const char *host, const struct addr *addr, uint16_t preference)
{
    struct smtp_route *r = f->route;
    if (r->count == TARGETS_MAX)
        return;
    if (r->count == f->cap) {
        size_t cap = f->cap ? f->cap * 2 : 4;
        struct smtp_target *list = arena_alloc(f->arena, cap * sizeof(*list));
        if (r->count > 0)
            memcpy(list, r->targets, r->count * sizeof(*list));
        r->targets = list;
        f->cap = cap;
    }
    struct smtp_target *t = &r->targets[r->count++];
    *t = (struct smtp_target){.host = host, .addr = *addr, .preference = preference};
    addr_set_port(&t->addr, f->site->port);
}

/* --- a host's own addresses */

static bool wanted(const struct finder *f, sa_family_t family)
{
    return family == AF_INET6 ? f->ipv6 : f->ipv4;
}

/* Doubt wins over certainty: a later "no such name" does not turn a temporary failure permanent. */
static bool add_dns(struct finder *f, const char *host, const char *name, uint16_t preference)
{
    static const enum dns_type types[] = {DNS_A, DNS_AAAA};
    size_t had = f->route->count;
    bool doubt = false;
    for (size_t i = 0; i < 2; i++) {
        struct dns_answer answer;
        if (!wanted(f, types[i] == DNS_A ? AF_INET : AF_INET6))
            continue;
        ask(f, name, types[i], &answer);
        if (answer.status != DNS_FOUND && !doubt) {
            why_dns(f, name, types[i], &answer);
            doubt = answer.status == DNS_TEMPORARY;
        }
        for (size_t k = 0; answer.status == DNS_FOUND && k < answer.count; k++)
            add(f, host, &answer.records[k].addr, preference);
    }
    return f->route->count > had;
}

static void add_native(struct finder *f, const char *host, const char *name, uint16_t preference)
{
    struct addr *list;
    size_t n = 0, had = f->route->count;
    bool doubt = f->use_dns && f->route->status[0] == '4';
    struct err *e = dns_hosts_file(f->arena, name, &list, &n);
    for (size_t i = 0; !e && i < n; i++)
        if (wanted(f, list[i].sa.sa_family))
            add(f, host, &list[i], preference);
    if (f->route->count > had)
        return;
    const char *reason = e ? arena_cstr(f->arena, str_of(e->text)) : "Name or service not known";
    why(f, e || doubt ? "4.4.3" : "5.4.4",
        arena_printf(f->arena, "unable to look up host %s: %s", host, reason).ptr);
}

static const char *ascii_name(struct finder *f, const char *host)
{
    struct str ascii;
    if (ascii_only(str_of(host)))
        return host;
    return idna_to_ascii(f->arena, str_of(host), &ascii) ? arena_cstr(f->arena, ascii) : host;
}

static void add_host(struct finder *f, const char *host, uint16_t preference)
{
    struct addr addr;
    if (addr_parse(str_of(host), f->site->port, &addr)) {
        add(f, host, &addr, preference);
        return;
    }
    const char *name = ascii_name(f, host);
    if (f->use_dns && add_dns(f, host, name, preference))
        return;
    if (f->use_native)
        add_native(f, host, name, preference);
}

/* --- what became of it */

static enum smtp_family preferred(const char *value)
{
    if (strcmp(value, "ipv4") == 0)
        return SMTP_FAMILY_IPV4;
    return strcmp(value, "ipv6") == 0 ? SMTP_FAMILY_IPV6 : SMTP_FAMILY_ANY;
}

static void order(struct finder *f)
{
    const struct params *p = f->params;
    struct smtp_route *r = f->route;
    smtp_targets_order(r->targets, r->count, p->smtp_randomize_addresses,
                       preferred(p->smtp_address_preference));
    (void)smtp_reach_order(p, r->targets, r->count, clock_mono_ns());
    if (p->smtp_balance_inet_protocols && p->smtp_mx_address_limit > 0)
        r->count = smtp_targets_balance(r->targets, r->count, (size_t)p->smtp_mx_address_limit);
}

static void loops(struct finder *f)
{
    f->route->count = 0;
    f->route->loops = true;
    why(f, "5.4.6", arena_printf(f->arena, "mail for %s loops back to myself", f->site->host).ptr);
}

/* Ourselves on another port are somebody else. */
static bool may_be_self(const struct finder *f)
{
    return f->site->port == SMTP_PORT;
}

static void find_host(struct finder *f)
{
    struct smtp_route *r = f->route;
    const struct snapshot *snap = f->svc->snapshot;
    add_host(f, f->site->host, 0);
    for (size_t i = 0; may_be_self(f) && i < r->count; i++) {
        bool self;
        (void)smtp_targets_cut_own(&r->targets[i], 1, snap->own_addrs, snap->own_addr_count, &self);
        if (self) {
            loops(f);
            return;
        }
    }
    order(f);
}

/* Only hosts that may be better than ourselves are left. */
static void cut_own(struct finder *f, uint16_t best_listed)
{
    struct smtp_route *r = f->route;
    const struct snapshot *snap = f->svc->snapshot;
    uint16_t best_found = r->targets[0].preference;
    r->count =
        smtp_targets_cut_own(r->targets, r->count, snap->own_addrs, snap->own_addr_count, &r->self);
    if (r->count > 0)
        return;
    if (best_listed == best_found) {
        loops(f);
        return;
    }
    /* The hosts before us have no address now: they may have one later. */
    why(f, "4.4.4",
        arena_printf(f->arena, "unable to find primary relay for %s", f->site->host).ptr);
}

static void find_mx(struct finder *f, const struct dns_answer *answer)
{
    struct smtp_route *r = f->route;
    uint16_t best = UINT16_MAX;
    for (size_t i = 0; i < answer->count; i++) {
        const struct dns_record *mx = &answer->records[i];
        if (mx->name[0] == '\0')
            continue;
        best = mx->preference < best ? mx->preference : best;
        add_host(f, mx->name, mx->preference);
    }
    if (r->count == 0) {
        log_warning(f->svc->log_tag, "no MX host for %s has a valid address record", f->site->host);
        if (f->params->smtp_defer_if_no_mx_address_found && r->status[0] == '5')
            r->status[0] = '4';
        return;
    }
    /* Own preference cuts before chance and family have their say. */
    smtp_targets_order(r->targets, r->count, false, SMTP_FAMILY_ANY);
    if (may_be_self(f))
        cut_own(f, best);
    order(f);
    for (size_t i = 0; i < r->count; i++)
        r->targets[i].best_mx = r->targets[i].preference == best;
}

static bool null_mx(const struct dns_answer *answer)
{
    return answer->count == 1 && answer->records[0].name[0] == '\0';
}

static void find_domain(struct finder *f)
{
    struct dns_answer answer;
    const char *name = ascii_name(f, f->site->host);
    ask(f, name, DNS_MX, &answer);
    switch (answer.status) {
    case DNS_FOUND:
        if (null_mx(&answer))
            why(f, "5.1.0",
                arena_printf(f->arena, "Domain %s does not accept mail (nullMX)", name).ptr);
        else
            find_mx(f, &answer);
        return;
    case DNS_NXDOMAIN:
    case DNS_NODATA:
        find_host(f);
        return;
    case DNS_TEMPORARY:
    case DNS_INVALID:
        why_dns(f, name, DNS_MX, &answer);
        if (f->params->ignore_mx_lookup_error)
            find_host(f);
        return;
    }
}

void smtp_route_find(struct arena *a, const struct service *svc, const struct smtp_site *site,
                     struct smtp_route *out)
{
    const struct params *p = svc->params;
    *out = (struct smtp_route){0};
    bool disabled = p->disable_dns_lookups || strcmp(p->smtp_dns_support_level, "disabled") == 0;
    bool all = listed(p->inet_protocols, "all");
    struct finder f = {
        .arena = a,
        .svc = svc,
        .params = p,
        .site = site,
        .route = out,
        .ipv4 = all || listed(p->inet_protocols, "ipv4"),
        .ipv6 = all || listed(p->inet_protocols, "ipv6"),
        .use_dns = !disabled && listed(p->smtp_host_lookup, "dns"),
        .use_native = disabled || listed(p->smtp_host_lookup, "native"),
    };
    if (site->direct || disabled)
        find_host(&f);
    else
        find_domain(&f);
    if (out->count == 0 && !out->status[0])
        why(&f, "4.4.3",
            arena_printf(a, "no address of %s can be used here (inet_protocols)", site->host).ptr);
}
