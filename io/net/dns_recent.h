/* dns_recent: what this worker asked within the last second. libunbound has the cache, on another thread; a
 * client that connects a thousand times a second is worth one question to it and not a thousand. An answer is kept
 * for one second, if its TTL is one at least: so no record outlives its TTL. Errors are not kept. */
#ifndef IO_NET_DNS_RECENT_H
#define IO_NET_DNS_RECENT_H

#include "io/net/dns_query.h"

/* The question as it was answered, or NULL. Good until the worker's next call of dns_recent_keep. */
const struct dns_query *dns_recent(const char *name, enum dns_type type);
/* Takes q, answered as it says. */
void dns_recent_keep(struct dns_query *q, const struct dns_answer *answer);
/* Of all workers: the resolver's settings are others now. */
void dns_recent_forget(void);

#endif
