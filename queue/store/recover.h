/* What recover.c (which segments there are, does the index fit them) and replay.c (records into
 * rows) share. */
#ifndef QUEUE_STORE_RECOVER_H
#define QUEUE_STORE_RECOVER_H

#include "queue/store/private.h"

struct recovery {
    struct store *store;
    struct buf found; /* of struct found */
    struct arena *arena;
    struct umap rows;  /* seq -> struct replay_row */
    struct buf doubts; /* of struct doubt, in the segment being replayed */
    uint64_t next_seq;
    uint64_t index_secret;
    struct buf index_why; /* why the index is of no use; empty = it is */
};

/* Applies the log behind store->covered to the index. Yields. */
struct err *replay(struct recovery *r) MUST_USE;

#endif
