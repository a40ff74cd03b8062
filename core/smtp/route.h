/* route: from a next hop to the addresses to try (RFC 5321 §5, RFC 7505).
 *
 *   next hop = host | "[" host "]" | "[" ipv4 "]" | "[" ipv6 "]" | "[IPv6:" ipv6 "]", then optional
 * ":" port
 *
 * Without brackets a host's MX records count; brackets mean the host itself. A next hop may be a
 * list (commas, blanks): they are tried in turn. */
#ifndef CORE_SMTP_ROUTE_H
#define CORE_SMTP_ROUTE_H

#include "core/config/snapshot.h"
#include "io/base/arena.h"
#include "io/net/addr.h"

struct smtp_site {
    const char *text; /* as given */
    const char *host; /* without brackets, "IPv6:" and port */
    uint16_t port;
    bool direct; /* in brackets: no MX */
};
/* service: smtp_tcp_port. ERR_CONFIG: bad port, empty host. */
struct err *smtp_site_parse(struct arena *a, struct str text, const char *service,
                            struct smtp_site *out) MUST_USE;

struct smtp_target {
    const char *host;
    struct addr addr; /* with port */
    uint16_t preference;
    bool best_mx;
    bool unreachable; /* known to be (reach.h): after the others */
};

/* Which addresses come first (smtp_address_preference). */
enum smtp_family { SMTP_FAMILY_ANY, SMTP_FAMILY_IPV4, SMTP_FAMILY_IPV6 };
/* Orders by preference; equal ones are shuffled (rand_below) if asked, then by family. Pure. */
void smtp_targets_order(struct smtp_target *list, size_t count, bool shuffle,
                        enum smtp_family family);
/* At most `limit` targets, neither family crowding the other out (smtp_balance_inet_protocols). The
 * order stays. Returns how many are left. Pure. */
size_t smtp_targets_balance(struct smtp_target *list, size_t count, size_t limit);
/* Own host in the list: cuts it at the first of our own preference (RFC 5321 §5.1), returns what is
 * left. list is in order of preference. *self_out: we were in it. Pure. */
size_t smtp_targets_cut_own(struct smtp_target *list, size_t count, const struct own_addr *own,
                            size_t own_count, bool *self_out);

struct smtp_route {
    struct smtp_target *targets; /* arena memory */
    size_t count;                /* 0: status and reason say why */
    bool self;                   /* we are one of its MX hosts */
    bool loops;                  /* nothing but us is left: no backup is to be tried either */
    char status[12];
    const char *reason;
};
/* Asks DNS. Yields. */
void smtp_route_find(struct arena *a, const struct service *svc, const struct smtp_site *site,
                     struct smtp_route *out);

#endif
