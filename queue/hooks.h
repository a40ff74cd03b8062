/* hooks: the only way up from the queue. core/server fills them in at start. All run in a fiber on
 * one of queue_open's workers and may yield. */
#ifndef QUEUE_HOOKS_H
#define QUEUE_HOOKS_H

#include "queue/envelope.h"

struct qmsg;
struct request;

/* What to tell the sender about. */
enum notice_kind { NOTICE_BOUNCE, NOTICE_DELAY, NOTICE_SUCCESS };
struct notice {
    struct qmsg *msg;
    enum notice_kind kind;
    const uint32_t *rcpts; /* indexes into msg->env->rcpts; their `why` tells the reason */
    size_t rcpt_count;
    bool expired; /* NOTICE_BOUNCE because the lifetime is up */
};

struct queue_hooks {
    void *ctx;
    /* Fill transport, nexthop and resolved of every recipient in state RCPT_TODO or RCPT_DEFERRED (memory:
     * m->arena). Doubt (a table error) is transport "retry" with the reason as nexthop; a permanent
     * failure is "error" with "5.1.1 text". Nobody else touches m meanwhile. */
    void (*resolve)(void *ctx, struct qmsg *m);
    /* Deliver r, and what request_next gives after it (queue/sched/request.h). */
    void (*deliver)(void *ctx, struct request *r);
    /* Make and commit the notice (through cleanup). NULL = done or not wanted; ERR_DAMAGED = done or
     * not wanted, but the content of the original is damaged: it will be set aside; on any other
     * error the scheduler tries again later. */
    struct err *(*notify)(void *ctx, const struct notice *n);
};

#endif
