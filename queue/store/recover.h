/* What survey.c (which segments there are), recover.c (does the index fit them), replay.c (records into rows)
 * and rebuild.c (the same behind the back of a running queue) share. */
#ifndef QUEUE_STORE_RECOVER_H
#define QUEUE_STORE_RECOVER_H

#include "queue/store/private.h"

struct recovery {
    struct store *store;
    struct buf found; /* of struct found */
    struct arena *arena;
    struct umap rows;  /* seq -> struct replay_row */
    struct buf doubts; /* of struct doubt, in the segment being replayed */
    struct umap lost;  /* seq -> struct lost: damaged, kept, and not yet told of */
    uint64_t next_seq;
    uint64_t index_secret;
    struct buf index_why; /* why the index is of no use; empty = it is */
    bool anew;            /* it was made anew */
    /* --- replay */
    uint64_t from, end;    /* positions; end exclusive */
    uint64_t last;         /* the last epoch with data: the end of it may be torn */
    size_t rows_max;       /* written at once */
    struct buf empty;      /* u64 each: epochs after `last` in which nothing was found */
    bool around;           /* what cannot be read is left out */
    bool behind;           /* of a running queue: yields, and stops when the store does */
    uint64_t batch;        /* position of the batch being applied: what is before it is in rows */
    uint64_t batches_seen; /* in this segment */
    uint64_t good;         /* records of that batch that are whole */
    uint64_t ended;        /* the log is whole to here; 0 = not known */
};

/* survey.c: fills the store's list of segments, s->secret and r->next_seq. Yields. */
struct err *survey(struct recovery *r) MUST_USE;

/* sweep.c: numbers of drafts that were never committed: their files are not to be written over, nor
 * taken for a new draft's when they are swept out. */
void number_above_content(struct recovery *r);

/* The same as segment_read; blocks that cannot be read are zeros, unless they are many (ERR_IO). */
struct err *segment_read_around(struct store *s, const char *name, uint64_t from, struct buf *out,
                                bool *around_out) MUST_USE;

void recovery_init(struct recovery *r, struct store *s);
void recovery_fini(struct recovery *r);
/* Applies the log from r->from to r->end to the index, a transaction at a time; each notes how far
 * the index has come, so that a crash in between goes on from there. Yields. ERR_CANCELED: the store
 * stops. ERR_DAMAGED: the index is. */
struct err *replay(struct recovery *r) MUST_USE;
/* After a scan to its end. */
bool scan_found_nothing(const struct segment_scan *scan);
/* After a scan of the last segment: where the log is whole to. good: whole records of the last batch. */
uint64_t scan_ended(const struct segment_scan *scan, uint64_t good);
/* The last epoch that was written to. */
uint64_t last_with_data(const struct store *s);
/* Bytes of segments between two positions. */
uint64_t bytes_behind(struct store *s, uint64_t from, uint64_t end);
/* rebuild.c: how far it has come; the log line comes by itself. */
void rebuild_tell(struct store *s);

#endif
