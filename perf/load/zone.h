/* zone: answers of a made-up zone to DNS queries (RFC 1035), computed, not stored: domain number n
 * of `count` has `mx` exchangers, and exchanger k of it lives at
 *
 *     first + (n - 1) % sites + 65536 * (k - 1)
 *
 * so that with first = 127.1.0.1 domain 1 is at 127.1.0.1, domain 300 at 127.1.1.44, and the second
 * exchangers are at 127.2.x.y. Names: MX of prefix<n>suffix are mx<k>.prefix<n>suffix, which have an A
 * record. Every other name does not exist. */
#ifndef PERF_LOAD_ZONE_H
#define PERF_LOAD_ZONE_H

#include "io/base/str.h"

struct zone {
    struct str prefix, suffix; /* "dest", ".test": lower case, no dot at the end */
    uint64_t count, sites;
    uint32_t first, mx, ttl;
    uint64_t servfail_every; /* SERVFAIL for each nth domain; 0: none */
};

enum zone_kind { ZONE_MX, ZONE_A, ZONE_OTHER, ZONE_NXDOMAIN, ZONE_SERVFAIL, ZONE_IGNORED, ZONE_KINDS };

#define ZONE_REPLY_MAX 1232

/* The reply to a query, its length in *n_out. IGNORED: no reply is due (not a query, cut off). */
enum zone_kind zone_answer(const struct zone *z, struct str query, char reply[ZONE_REPLY_MAX],
                           size_t *n_out);

#endif
