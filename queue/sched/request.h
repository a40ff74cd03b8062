/* request: the contract between scheduler and delivery agents: one message, one destination, some
 * recipients, one attempt. The scheduler makes it, a fiber on a worker fills in what became of each
 * recipient, and hands it back, exactly once, by request_next or request_done. */
#ifndef QUEUE_SCHED_REQUEST_H
#define QUEUE_SCHED_REQUEST_H

#include "io/fiber/worker.h"
#include "queue/envelope.h"

struct qmsg;
struct dest;

enum request_result { REQUEST_PENDING, REQUEST_SENT, REQUEST_DEFER, REQUEST_BOUNCE };

struct request_rcpt {
    uint32_t index;             /* in msg->env->rcpts */
    const struct rcpt *rcpt;    /* immutable part only */
    enum request_result result; /* PENDING when handed back = DEFER with "4.3.0 unknown status" */
    struct dsn dsn;             /* texts in request->arena */
    uint32_t turn;              /* 1, 2, ...: as outcomes came to be known; a notice keeps to it */
    bool told_elsewhere;        /* SENT to a next hop that offers DSN: it tells of success (RFC 3461
                                   §5.2.2) */
};

struct request {
    uint32_t magic;
    struct mbox_msg mbox;  /* scheduler and worker post it to each other */
    struct qmsg *msg;      /* one reference */
    struct arena *arena;   /* lives as long as the request; results go here */
    const char *transport; /* master.cf name, "smtp" */
    const char *nexthop;
    struct request_rcpt *rcpts;
    size_t rcpt_count;
    uint32_t turns;  /* the last one given to a recipient */
    int64_t made_us; /* wall clock, when it went out: delays= b ends here */
    /* --- set by the agent for feedback */
    bool dest_dead; /* could not be reached or refused service: site trouble, not this mail's */
    struct dsn dest_why; /* when dest_dead or transport_failed */
    bool transport_failed; /* there is no agent, or it could not begin: nobody's mail or site is to
                              blame, and others of this transport would meet the same */
    bool damaged; /* the message itself cannot be read: it is set aside when its other requests have
                     come back, whatever these say */
    unsigned
        conn_use; /* messages this connection has carried, this one included; logged from 2 on */
    int64_t conn_done_us; /* wall clock when the connection was ready: delays= c; 0 = none */
    /* --- the scheduler's own */
    struct dest *dest;
    struct worker *worker;
    struct list running; /* transport->running, until it is stalled */
    int64_t begun_ns;
    bool stalled, quick;
};

/* Hand back `done` and get the next request for the same destination on this fiber, while an open
 * connection is worth keeping: waits (yields) until one comes or idle_until_ns passes. NULL: none;
 * close the connection and return from the deliver hook. `done` is gone in either case. */
struct request *request_next(struct request *done, int64_t idle_until_ns);
/* Hand back, want no more. */
void request_done(struct request *done);

#endif
