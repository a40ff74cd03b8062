/* sheaf: what is due, up to half a million, bound in the order of arrival: in that order rows lie side by side in the
 * index, and neighbours that are loaded together are written, or go, together. Comes in parts, is never sorted as a whole. */
#ifndef QUEUE_SCHED_SHEAF_H
#define QUEUE_SCHED_SHEAF_H

#include "io/base/buf.h"
#include "queue/store/store.h"

enum { SHEAF_PART = 4096, SHEAF_PARTS = 128 };

struct sheaf {
    struct buf seqs; /* u64 each; every part in order */
    size_t parts, left;
    uint64_t head[SHEAF_PARTS]; /* the next of each; UINT64_MAX = it is used up */
    uint32_t at[SHEAF_PARTS], end[SHEAF_PARTS];
    int64_t first_us; /* the earliest due time of those that were added */
};

/* At most SHEAF_PART of them, all of them due no earlier than those before. */
void sheaf_add(struct sheaf *s, const struct store_due *list, size_t n);
static inline bool sheaf_full(const struct sheaf *s)
{
    return s->parts == SHEAF_PARTS;
}
/* The one with the lowest number. False: none is left, and it may be filled again. */
bool sheaf_next(struct sheaf *s, uint64_t *seq_out);
void sheaf_clear(struct sheaf *s);

#endif
