/* why: what the scheduler remembers for those who ask why mail waits: the last reply of each destination, and
 * when a message was last tried. Of fixed size: the latest of many destinations or messages displace
 * others, and all is forgotten at a stop. Nothing is decided by it. Scheduler thread only. */
#ifndef QUEUE_SCHED_WHY_H
#define QUEUE_SCHED_WHY_H

#include "queue/sched/request.h"

enum { WHY_DESTS = 4096, WHY_MESSAGES = 65536 };

struct why_reply {
    char *dest; /* "transport:nexthop" */
    int64_t at_us;
    enum request_result result; /* of the last recipient of the request */
    char status[12];
    char *text;
};
struct why_tried {
    uint64_t seq;
    int64_t at_us;
};
struct why_memory {
    struct why_reply *replies; /* by hash; WHY_DESTS, from the first use */
    struct why_tried *tried;   /* by number; WHY_MESSAGES, from the first use */
};

void why_fini(struct why_memory *w);
/* An attempt has come back. */
void why_replied(struct why_memory *w, const struct request *r);
/* This message goes to sleep after an attempt. */
void why_tried(struct why_memory *w, uint64_t seq);
/* NULL: not known, or not any more. */
const struct why_reply *why_last_reply(const struct why_memory *w, const char *transport,
                                       const char *nexthop);
int64_t why_last_tried_us(const struct why_memory *w, uint64_t seq); /* 0 = not known */

#endif
