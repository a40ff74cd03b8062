/* Many messages go at once: their entries of `due` lie all over it in the order of their rows, so
 * that each costs a page. In their own order, a page is written once for all that leave it. */
#include "queue/store/index_private.h"

#include <stdlib.h>

#include "io/fiber/offload.h"

enum { SEQS_AT_ONCE = 2000, KEYS_AT_ONCE = 2000 };

static struct err *gather_some(struct index *x, const struct buf *seqs, size_t *at,
                               struct buf *keys)
{
    struct kv_txn *t;
    struct err *e = kv_begin(x->kv, false, &t);
    if (e != NULL)
        return e;
    for (size_t n = 0; e == NULL && n < SEQS_AT_ONCE && *at < seqs->len; n++) {
        uint64_t seq;
        struct index_row row;
        uint8_t key[DUE_KEY];
        bool found;
        memcpy(&seq, seqs->ptr + *at, sizeof seq);
        *at += sizeof seq;
        e = row_get(x, t, seq, &row, &found);
        if (e != NULL || !found || (row.flags & MESSAGE_HOLD))
            continue;
        index_due_key(row.due_us, seq, key);
        buf_add(keys, key, sizeof key);
    }
    kv_abort(t);
    return e;
}

static int by_key(const void *a, const void *b)
{
    return memcmp(a, b, DUE_KEY);
}

static void sort(void *arg)
{
    struct buf *keys = arg;
    if (keys->len > 0)
        qsort(keys->ptr, keys->len / DUE_KEY, DUE_KEY, by_key);
}

static struct err *drop_some(struct index *x, const struct buf *keys, size_t *at)
{
    struct err *e = index_begin(x);
    if (e != NULL)
        return e;
    for (size_t n = 0; e == NULL && n < KEYS_AT_ONCE && *at < keys->len; n++) {
        bool found;
        e = kv_del(x->txn, x->due, str_make(keys->ptr + *at, DUE_KEY), &found);
        *at += DUE_KEY;
        index_looked(x, DUE_KEY);
    }
    if (e == NULL)
        return index_commit(x);
    index_abort(x);
    return e;
}

struct err *index_purge_due(struct index *x, const struct buf *seqs)
{
    struct buf keys = {0};
    struct err *e = NULL;
    for (size_t at = 0; e == NULL && at < seqs->len;) {
        e = gather_some(x, seqs, &at, &keys);
        fiber_yield();
    }
    if (e == NULL)
        offload(sort, &keys);
    for (size_t at = 0; e == NULL && at < keys.len;) {
        e = drop_some(x, &keys, &at);
        fiber_yield();
    }
    buf_fini(&keys);
    return e;
}
