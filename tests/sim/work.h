/* work: what the workloads of sim.queue and sim.mail share: a small queue, and writing to it. */
#ifndef SIM_WORK_H
#define SIM_WORK_H

#include "cuts.h"
#include "queue/store/store.h"

enum {
    WORK_SEGMENT = 32 << 10,
    WORK_INLINE_MAX = 6 << 10,
};

/* Some time, at most this long. Cut short where the fiber is canceled. */
void work_rest(int64_t most_ms);
/* Bytes that this number makes. */
void work_content(struct buf *out, uint64_t x, size_t size);
/* Content, in pieces. The draft is the caller's to abort. */
struct err *work_write(struct draft *d, struct str content);

#endif
