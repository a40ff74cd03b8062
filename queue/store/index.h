/* index: which messages there are, in LMDB (queue_directory/index). Derived from the log, and may
 * be deleted at any time: recovery builds it again. Scheduler thread only; transactions never
 * yield.
 *
 * Tables (numbers in values little-endian; keys as said)
 *   msg   seq (host order integer) -> row: u8 version 1, u8 spilled, u16 0, u32 flags, i64 due_us,
 *         u64 epoch, u32 offset, u32 length of the record, packed envelope
 *   due   due_us, seq (both big-endian, so that LMDB's order is ours) -> nothing; what is on hold
 *         is not in it
 *   live  epoch (host order integer) -> u64 bytes of records that rows point to
 *   meta  "format" "secret" "covered" "next_seq" -> u64 */
#ifndef QUEUE_STORE_INDEX_H
#define QUEUE_STORE_INDEX_H

#include "queue/store/store.h"

struct index;

struct index_row {
    uint64_t seq;
    uint32_t flags;
    int64_t due_us;
    struct qmsg_place place;
    struct str envelope; /* packed; borrowed */
};

/* ERR_DAMAGED: not ours, or broken: remove it and build it again. */
struct err *index_open(struct store *s, const char *path, struct index **out) MUST_USE;
void index_close(struct index *x);

/* --- one write transaction at a time. */
struct err *index_begin(struct index *x) MUST_USE;
struct err *index_put(struct index *x, const struct index_row *row) MUST_USE;
struct err *index_del(struct index *x, uint64_t seq) MUST_USE;
enum index_meta { INDEX_SECRET, INDEX_COVERED, INDEX_NEXT_SEQ };
struct err *index_set(struct index *x, enum index_meta what, uint64_t value) MUST_USE;
/* On success the segments' live bytes in memory follow. */
struct err *index_commit(struct index *x) MUST_USE;
void index_abort(struct index *x);

/* --- looking; also outside a write transaction only. */
struct err *index_meta(struct index *x, enum index_meta what,
                       uint64_t *out) MUST_USE; /* 0 = absent */
/* The envelope is copied to a (may be NULL: not wanted). *found_out. */
struct err *index_get(struct index *x, uint64_t seq, struct arena *a, struct index_row *out,
                      bool *found_out) MUST_USE;
struct err *index_due(struct index *x, struct store_due after, int64_t until_us,
                      struct store_due *out, size_t max, size_t *count_out) MUST_USE;
/* Up to max rows behind after_seq, envelopes in a. */
struct err *index_walk(struct index *x, uint64_t after_seq, struct arena *a, struct index_row *out,
                       size_t max, size_t *count_out) MUST_USE;
/* Messages, and those of them that are on hold (they have no due time). */
struct err *index_count(struct index *x, uint64_t *out, uint64_t *held_out) MUST_USE;
/* Calls each(ctx, epoch, bytes) for every row of `live`. */
struct err *index_live(struct index *x, void (*each)(void *ctx, uint64_t epoch, uint64_t bytes),
                       void *ctx) MUST_USE;

#endif
