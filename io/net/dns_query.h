/* dns_query: one question on its way between a fiber (dns.c) and the resolver thread
 * (dns_unbound.c). Its life:
 *
 *     WAITING --answer--> POSTED       the answer is in the fiber's mailbox; the fiber frees it
 *     WAITING --deadline, cancel--> ABANDONED     nobody waits; the resolver frees it
 *
 * The state changes under one lock, so the resolver never touches a fiber or worker that has gone. */
#ifndef IO_NET_DNS_QUERY_H
#define IO_NET_DNS_QUERY_H

#include "io/fiber/fiber.h"
#include "io/fiber/worker.h"
#include "io/net/dns_msg.h"

enum dns_query_state { QUERY_WAITING, QUERY_POSTED, QUERY_ABANDONED };

struct dns_query {
    struct mbox_msg back;
    struct list link; /* the resolver's: queued, then in flight */
    enum dns_query_state state;
    struct worker *home;
    struct fiber *waiter; /* home only */
    bool arrived;         /* home only */
    enum dns_type type;
    char name[256];
    /* Set before it is posted. */
    char *packet; /* NULL: no reply */
    size_t packet_len;
    bool secure, bogus;
};

struct err *dns_thread_start(const struct dns_options *options) MUST_USE;
void dns_thread_stop(void);
/* False: no resolver, or too many questions are waiting. */
bool dns_thread_ask(struct dns_query *q);
/* False: it was posted meanwhile and will arrive. */
bool dns_thread_abandon(struct dns_query *q);

#endif
