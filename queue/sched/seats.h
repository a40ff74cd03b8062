/* seats: how many recipients of messages in part (refill.c) are in memory: each has a seat, one of its message's own or one
 * of its transport (SCHEDULER_README, "Dealing with memory resource limits"). Pure: tests are tables.
 *
 *     transport   limit seats for all its messages, extra ones for those that have passed another (slots.h): such a one
 *                 has half of the extra ones that are left then
 *     message     limit seats whatever transport its recipients have, no extra ones */
#ifndef QUEUE_SCHED_SEATS_H
#define QUEUE_SCHED_SEATS_H

#include <stdbool.h>
#include <stdint.h>

struct seat_pool {
    int64_t limit, extra;
    int64_t taken, extra_taken; /* more than there are, when a reload has left fewer */
};

/* What one message has of a pool. */
struct seat_share {
    struct seat_pool *pool;
    int64_t taken, extra_taken;
    int64_t extra_max; /* of the extra ones; 0: it has passed nobody */
};

/* So many it could take now. */
int64_t seats_free(const struct seat_share *s);
bool seats_take(struct seat_share *s);
/* One of those it has: extra ones first. */
void seats_leave(struct seat_share *s);
/* It has passed another. Once. */
void seats_pass(struct seat_share *s);

#endif
