/* wheel: hierarchical timer wheel, 1 ms ticks, six levels of 64 slots (two years; later deadlines
 * wait in the top level and are put again). Set and clear are O(1): most deadlines are cleared long
 * before they fire. For io/fiber only; one worker, no locks.
 *
 * Each level's slots share the higher digits of `elapsed` (base 64), so a timer's level is the
 * highest digit in which it differs from now, and the earliest occupied slot of the lowest level in
 * use is the next to act: fire (level 0) or spread over the lower levels. */
#ifndef IO_FIBER_WHEEL_H
#define IO_FIBER_WHEEL_H

#include <stdbool.h>
#include <stdint.h>
#include "io/fiber/worker.h"

enum { WHEEL_LEVELS = 6, WHEEL_BITS = 6, WHEEL_SLOTS = 1 << WHEEL_BITS };

struct wheel {
    uint64_t elapsed;                /* tick up to which all was fired */
    uint64_t occupied[WHEEL_LEVELS]; /* a set bit may be stale: clear does not visit it */
    struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

void wheel_init(struct wheel *w, int64_t now_ns);
void wheel_set(struct wheel *w, struct timer *t);
/* Fire all that is due. */
void wheel_advance(struct wheel *w, int64_t now_ns);
/* When wheel_advance should be called next; DEADLINE_NEVER when no timer is set. */
int64_t wheel_next_ns(struct wheel *w);

#endif
