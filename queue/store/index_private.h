/* What index.c, label.c and query.c share: the tables and the open transaction. */
#ifndef QUEUE_STORE_INDEX_PRIVATE_H
#define QUEUE_STORE_INDEX_PRIVATE_H

#include "queue/store/alive.h"
#include "queue/store/private.h"

enum { INDEX_FORMAT = 4 };
enum { DUE_KEY = 16, LABEL_KEY = 16, LABELS_MAX = 64, DEST_BYTES = 16, DESTS_MAX = 32, BUCKETS = 256 };

/* The labels of `fresh` on their way to `label`, sorted by their first byte (label.c). */
struct filing {
    bool on;
    enum { FILING_GATHER, FILING_PUT, FILING_DROP } step;
    uint64_t at;                /* seq to gather from */
    struct buf seqs;            /* u64 each: what was gathered */
    struct buf bucket[BUCKETS]; /* LABEL_KEY bytes each */
    size_t bucket_at, key_at, drop_at;
    struct umap renewed; /* seqs that got other labels meanwhile: they stay in `fresh` */
};

/* Labels with a row on their way to the other table (label.c). */
struct sweep {
    bool on, counted, ended;
    kv_table to;
    struct alive alive;
    uint64_t row_at; /* seq to count from */
    uint8_t label_at[LABEL_KEY]; /* the last one that was looked at */
    int64_t known, dropped; /* how many without a row there were said to be; how many have been found */
};

struct index {
    struct store *store;
    struct kv *kv;
    kv_table msg, state, due, held, live, fresh, meta;
    kv_table labels[2];
    kv_table label; /* the one of them that is in use, for the index's thread; others: index_label_table */
    struct kv_txn *txn;
    struct kv_cursor *at_msg, *at_state; /* in it, where the last row was deleted; NULL = not open */
    struct buf row, changing; /* being packed: halves of a row */
    struct buf dests; /* of the row that is replaced */
    struct buf delta; /* of struct delta: what this transaction changes in `live` */
    struct scrub *scrub; /* under way, or NULL */
    unsigned holds;
    _Atomic size_t looked; /* bytes of the map that were looked at since kv_forget */
    /* --- labels */
    size_t fresh_min, stale_min;
    int64_t stale, stale_stored; /* entries of `label` without a row, about */
    uint64_t rows_seen; /* a second ago, or more */
    int64_t seen_ns;
    bool shrinking, hasty; /* then there were more; that does not matter */
    struct filing filing;
    struct sweep sweep;
};

static inline struct str key_of(const uint64_t *n)
{
    return str_make((const char *)n, sizeof *n);
}
static inline void put_be64(uint8_t *to, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        to[i] = (uint8_t)(v >> (56 - 8 * i));
}
static inline uint64_t get_be64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | p[i];
    return v;
}

/* --- row.c */
/* To x->row, and to x->changing. */
void row_pack_msg(struct index *x, const struct index_row *row);
void row_pack_state(struct index *x, const struct index_row *row);
/* Both; and it is then as if it had been read. */
void row_pack_both(struct index *x, struct index_row *row);
/* A message in part, from the row that is there; msg: that half too, and *row is then as if it had been read.
 * ERR_DAMAGED. */
struct err *row_pack_part(struct index *x, const struct index_row *old, bool msg,
                          struct index_row *row) MUST_USE;
/* A row in t: what *out borrows lies there. ERR_DAMAGED. */
struct err *row_get(struct index *x, struct kv_txn *t, uint64_t seq, struct index_row *out,
                    bool *found_out) MUST_USE;
/* The row whose half in `msg` is there already: the other is fetched. */
struct err *row_read(const struct index *x, struct kv_txn *t, uint64_t seq, struct str msg,
                     struct index_row *out) MUST_USE;
/* Both halves are there. */
struct err *row_join(const struct index *x, uint64_t seq, struct str msg, struct str state,
                     struct index_row *out) MUST_USE;
/* What the half in `state` says, alone. */
struct err *row_state(const struct index *x, uint64_t seq, struct str state,
                      struct index_row *out) MUST_USE;
size_t row_bytes(const struct index_row *row); /* of the file, about */

/* --- index.c */
const char *index_meta_name(enum index_meta what);
void index_due_key(int64_t due_us, uint64_t seq, uint8_t out[DUE_KEY]);
/* In `due`, and not in `held`. */
static inline bool index_due_listed(uint32_t flags)
{
    return (flags & MESSAGE_HOLD) == 0;
}

/* --- index_look.c */
/* [any] So many bytes of the map were looked at: once it is a lot they are forgotten. */
void index_looked(struct index *x, size_t bytes);

/* Which of `label` and `label2` is in use. */
struct err *index_label_table(struct index *x, struct kv_txn *t, kv_table *out) MUST_USE;
/* Does it stand in `held`? */
struct err *index_held(struct index *x, struct kv_txn *t, uint64_t seq, bool *held_out) MUST_USE;
struct index_sizes {
    uint64_t rows, states, due, held;
};
struct err *index_sizes(struct index *x, struct index_sizes *out) MUST_USE;

/* --- scrub.c (b may be NULL) */
/* In the open transaction: a row comes (old NULL), changes, or goes (now NULL). */
void scrub_changes(struct scrub *b, const struct index_row *old, const struct index_row *now);
void scrub_settle(struct scrub *b, bool committed);

/* --- label.c */
enum label_kind {
    LABEL_SENDER = 1, /* whole address; "<>" */
    LABEL_SENDER_DOMAIN,
    LABEL_DOMAIN, /* of a recipient that is left */
    LABEL_DEST,   /* transport:nexthop */
    LABEL_NEXTHOP,
    LABEL_MANY, /* more labels than are kept: look at the row */
};
uint64_t label_hash(uint64_t secret, enum label_kind kind, struct str value);
void label_key(uint64_t hash, uint64_t seq, uint8_t out[LABEL_KEY]);
/* In the open transaction: this row is new, or has other labels than before. */
struct err *label_renew(struct index *x, const struct index_row *row) MUST_USE;
/* In the open transaction: it goes. */
struct err *label_drop(struct index *x, const struct index_row *row) MUST_USE;
void label_fini(struct index *x);

#endif
