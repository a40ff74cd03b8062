/* index: which messages there are, in LMDB (queue_directory/index). Derived from the log, and may
 * be deleted at any time: recovery builds it again. Looked at on the scheduler thread (index_look, query, census), in
 * transactions that never yield; changed on the index's thread, by pieces of index_work.
 *
 * Tables (numbers in values little-endian; keys as said)
 *   msg    seq (host order integer) -> what never changes, but for the place of one that was copied:
 *           0  u8  version 4   u8 bits: 1 content is spilled   u16 0
 *           4  u32 offset      u64 epoch   u32 length of the record
 *          20  u64 sum of the other bytes, seeded with seq and the queue's secret: damage is seen
 *              before anything is believed
 *          28  envelope, packed without states
 *   state  seq (host order integer) -> what each deferral changes, and no more than that:
 *           0  u8  version 4   u8 bits: 2 some recipient is deferred
 *           2  u16 length of the destinations
 *           4  u32 flags       i64 due_us
 *          16  u64 sum, as above
 *          24  destinations as last resolved, each: u64 hash of "transport:nexthop", u64 hash of
 *              "nexthop"; then the recipients' states, packed
 *   due    due_us, seq (both big-endian, so that LMDB's order is ours) -> nothing; what is on hold
 *          is not in it
 *   held   seq (host order integer) -> nothing; what is on hold
 *   live   epoch (host order integer) -> u64 bytes of records that rows point to
 *   label, label2
 *          u64 hash of (kind, value in lower case), seq (both big-endian) -> nothing; one of them is in use
 *   fresh  seq (host order integer) -> u64 hashes: labels that are not in `label` yet
 *   meta   "format" "secret" "covered" "next_seq" "stale" "unread" "label" (0 or 1: which is) -> u64
 *
 * Keys of msg, state and fresh come in rising order, so that pages are filled to the end; the row of a
 * message that is deferred once more takes about 150 bytes, beside its neighbours.
 *
 * Labels find messages by sender, sender's domain, recipient's domain and destination. An entry of
 * `label` or `fresh` is a hint: the row decides. A row gets its labels into `fresh`, which grows at
 * its end and so costs few pages; they go on to `label` sorted and in bulk (index_tidy), so that a
 * page of it takes many at once, and what has left by then never does. When the entries whose row is gone are
 * three of four, the others are copied to the other table, in order: a tenth of what it costs to take those out one by
 * one. While the backlog shrinks neither is done: where no row is left, both tables are emptied at once. */
#ifndef QUEUE_STORE_INDEX_H
#define QUEUE_STORE_INDEX_H

#include "queue/store/store.h"

struct index;

struct index_row {
    uint64_t seq;
    uint32_t flags;
    int64_t due_us;
    struct qmsg_place place;
    bool deferred;       /* some recipient waits for another attempt */
    struct str dests;          /* table above; borrowed. Put with none: those that are there stay */
    const struct envelope *env;  /* to put. A row that is there keeps all but the states of it */
    const struct part *part; /* to put instead: the row that is there, with its changes */
    struct str envelope; /* out: packed; borrowed */
    struct str states;   /* the same; to put: with `deferred`, instead of those in env (STR_NULL) */
};

/* ERR_DAMAGED: not ours, or broken: remove it and build it again. */
struct err *index_open(struct store *s, const char *path, struct index **out) MUST_USE;
/* Only to look, also while a server has it open. s: its secret is used. ERR_NOTFOUND: there is none. */
struct err *index_open_read(struct store *s, const char *path, struct index **out) MUST_USE;
void index_close(struct index *x); /* also what was held */

/* --- one write transaction at a time, within a piece of index_work. */
struct err *index_begin(struct index *x) MUST_USE;
struct err *index_put(struct index *x, const struct index_row *row) MUST_USE; /* ERR_DAMAGED */
struct err *index_del(struct index *x, uint64_t seq) MUST_USE;
/* A message whose row is to go. */
struct index_dead {
    uint64_t seq;
    int64_t due_us; /* where it is thought to stand in `due` */
    bool purged;    /* it did, and was taken out of it */
};
struct err *index_del_dead(struct index *x, const struct index_dead *d) MUST_USE;
/* Before the rows of many messages go: takes them out of `due`. They must not come back. Does it in slices; yields.
 * They are in the order of their numbers afterwards. */
struct err *index_purge_due(struct store *s, struct buf *dead) MUST_USE; /* struct index_dead each */
/* Into the order of their numbers. */
void index_sort_dead(struct buf *dead);
/* INDEX_NEXT_SEQ is SEQ_GAP ahead but after an orderly stop: of the numbers that were given last no record may
 * tell, where a write failed that is there all the same after the next power cut. They are not given again. */
enum { SEQ_GAP = 65536 };
enum index_meta { INDEX_SECRET, INDEX_COVERED, INDEX_NEXT_SEQ, INDEX_STALE, INDEX_UNREAD, INDEX_LABEL };
struct err *index_set(struct index *x, enum index_meta what, uint64_t value) MUST_USE;
/* On success the segments' live bytes in memory follow. */
struct err *index_commit(struct index *x) MUST_USE;
void index_abort(struct index *x);

/* --- looking; also outside a write transaction only. */
struct err *index_meta(struct index *x, enum index_meta what,
                       uint64_t *out) MUST_USE; /* 0 = absent */
/* Envelope, states and dests are copied to a (may be NULL: not wanted). *found_out. */
struct err *index_get(struct index *x, uint64_t seq, struct arena *a, struct index_row *out,
                      bool *found_out) MUST_USE;
/* use(ctx, row) while the row lies there; it must not yield. */
struct err *index_borrow(struct index *x, uint64_t seq, struct err *(*use)(void *ctx, const struct index_row *row),
                         void *ctx, bool *found_out) MUST_USE;
struct err *index_due(struct index *x, struct store_due after, int64_t until_us,
                      struct store_due *out, size_t max, size_t *count_out) MUST_USE;
/* Up to max rows behind after_seq, as index_get does. */
struct err *index_walk(struct index *x, uint64_t after_seq, struct arena *a, struct index_row *out,
                       size_t max, size_t *count_out) MUST_USE;
/* The envelope of a row that was got, in a. ERR_DAMAGED. */
struct err *index_envelope(const struct index_row *row, struct arena *a,
                           struct envelope **out) MUST_USE;
/* It stays open as long as somebody holds it, also when it has been closed. [scheduler] */
struct index *index_hold(struct index *x);
/* The first key of `msg`; 0 = none. */
struct err *index_first(struct index *x, uint64_t *seq_out) MUST_USE;
/* Messages, and those of them that are on hold (they have no due time). */
struct err *index_count(struct index *x, uint64_t *out, uint64_t *held_out) MUST_USE;
/* Calls each(ctx, epoch, bytes) for every row of `live`. */
struct err *index_live(struct index *x, void (*each)(void *ctx, uint64_t epoch, uint64_t bytes),
                       void *ctx) MUST_USE;

/* --- labels. */
/* One destination, as it stands in index_row.dests, added unless it is there. secret: the queue's. */
void index_dest_add(uint64_t secret, struct str transport, struct str nexthop, struct buf *dests);
/* One slice (some ms) of what keeps `label` in order. Call it again soon while *more_out. Yields. */
struct err *index_tidy(struct store *s, bool *more_out) MUST_USE;
/* For tests: labels are filed when more rows than this wait (and more than an eighth of all), swept
 * when so many more are without a row than with one; and also while the backlog shrinks. */
void index_label_limits(struct index *x, size_t fresh_min, size_t stale_min);
/* The next matches of store_query. */
struct err *index_query(struct index *x, struct store_query *q, struct store_pick *out, size_t max,
                        size_t *count_out) MUST_USE;

#endif
