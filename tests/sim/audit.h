/* audit: what holds of a store after each start, whatever the model: every row is what its model
 * says, its content is whole, it comes up again unless it is on hold, and nothing was set aside (but see may_be_aside). */
#ifndef SIM_AUDIT_H
#define SIM_AUDIT_H

#include "queue/store/store.h"

struct audit {
    void *ctx;
    void (*row)(void *ctx, const struct store_row *row);
    /* What its content has to be. Called after row. */
    void (*content)(const void *ctx, const struct store_row *row, struct buf *out);
    /* Nobody was told that it is safe: a start may have seen what was written when its write failed, and the next
     * power cut may have taken it. NULL: there is no such message. */
    bool (*may_be_gone)(const void *ctx, const struct store_row *row);
    uint64_t may_be_aside; /* so many of these: a row that the start made of one, without its record, is set aside */
};

/* Fiber; waits until the store is ready. */
void audit_store(struct store *s, const struct audit *a);

/* The whole content of a message. */
struct err *audit_read(struct qmsg *m, struct buf *out) MUST_USE;

#endif
