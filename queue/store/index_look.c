/* Looking into the index: one row, rows in order, what is due, counts. Each in a read transaction of its own. */
#include "queue/store/index_private.h"

/* Pages of the map that were looked at count as our memory, each with its neighbours. */
#define LOOKED_MAX   ((size_t)1 << 20)
#define RESIDENT_MAX ((size_t)96 << 20)

void index_looked(struct index *x, size_t bytes)
{
    if (atomic_fetch_add_explicit(&x->looked, bytes, memory_order_relaxed) + bytes < LOOKED_MAX)
        return;
    atomic_store_explicit(&x->looked, 0, memory_order_relaxed);
    kv_forget(x->kv, RESIDENT_MAX);
}

static void row_keep(struct index_row *row, struct arena *a)
{
    row->envelope = a != NULL ? arena_str(a, row->envelope) : STR("");
    row->states = a != NULL ? arena_str(a, row->states) : STR("");
    row->dests = a != NULL ? arena_str(a, row->dests) : STR("");
}

struct err *index_envelope(const struct index_row *row, struct arena *a, struct envelope **out)
{
    return envelope_unpack_halves(row->envelope, row->states, a, out);
}

static void due_unkey(const uint8_t *key, struct store_due *out)
{
    *out = (struct store_due){.due_us = (int64_t)get_be64(key), .seq = get_be64(key + 8)};
}

static struct err *meta_get(struct index *x, struct kv_txn *t, enum index_meta what, uint64_t *out)
{
    struct str value;
    bool found = false;
    struct err *e = kv_get(t, x->meta, str_of(index_meta_name(what)), &value, &found);
    if (e == NULL)
        *out = found && value.len == 8 ? get_u64((const uint8_t *)value.ptr) : 0;
    return e;
}

struct err *index_meta(struct index *x, enum index_meta what, uint64_t *out)
{
    struct kv_txn *t;
    struct err *e = kv_begin(x->kv, false, &t);
    if (e != NULL)
        return e;
    e = meta_get(x, t, what, out);
    kv_abort(t);
    return e;
}

struct err *index_label_table(struct index *x, struct kv_txn *t, kv_table *out)
{
    uint64_t label = 0;
    struct err *e = meta_get(x, t, INDEX_LABEL, &label);
    *out = x->labels[label & 1];
    return e;
}

struct err *index_get(struct index *x, uint64_t seq, struct arena *a, struct index_row *out,
                      bool *found_out)
{
    struct kv_txn *t;
    bool found = false;
    struct err *e = kv_begin(x->kv, false, &t);
    if (e != NULL)
        return e;
    e = row_get(x, t, seq, out, &found);
    if (e == NULL && found)
        row_keep(out, a);
    kv_abort(t);
    if (e == NULL)
        *found_out = found;
    return e;
}

struct err *index_borrow(struct index *x, uint64_t seq, struct err *(*use)(void *ctx, const struct index_row *row),
                         void *ctx, bool *found_out)
{
    struct kv_txn *t;
    struct index_row row;
    struct err *e = kv_begin(x->kv, false, &t);
    if (e != NULL)
        return e;
    e = row_get(x, t, seq, &row, found_out);
    if (e == NULL && *found_out) {
        index_looked(x, row_bytes(&row));
        e = use(ctx, &row);
    }
    kv_abort(t);
    return e;
}

struct err *index_due(struct index *x, struct store_due after, int64_t until_us,
                      struct store_due *out, size_t max, size_t *count_out)
{
    struct kv_txn *t;
    struct kv_cursor *c;
    uint8_t from[DUE_KEY];
    size_t n = 0;
    bool found = true;
    struct err *e = kv_begin(x->kv, false, &t);
    if (e != NULL)
        return e;
    index_due_key(after.due_us, after.seq, from);
    e = kv_cursor_open(t, x->due, str_make((const char *)from, DUE_KEY), &c);
    if (e != NULL) {
        kv_abort(t);
        return e;
    }
    while (e == NULL && n < max) {
        struct str key, value;
        struct store_due d;
        e = kv_cursor_next(c, &key, &value, &found);
        if (e == NULL && found && key.len != DUE_KEY)
            e = err_new(ERR_DAMAGED, 0, "index table `due`");
        if (e != NULL || !found)
            break;
        due_unkey((const uint8_t *)key.ptr, &d);
        if (d.due_us > until_us)
            break;
        if (d.due_us != after.due_us || d.seq != after.seq)
            out[n++] = d;
    }
    kv_cursor_close(c);
    kv_abort(t);
    if (e == NULL)
        *count_out = n;
    return e;
}

static struct err *walk(struct index *x, struct kv_txn *t, struct kv_cursor *c, struct arena *a,
                        struct index_row *out, size_t max, size_t *n)
{
    bool found = true;
    while (*n < max) {
        struct str key, value;
        uint64_t seq;
        struct err *e = kv_cursor_next(c, &key, &value, &found);
        if (e != NULL || !found)
            return e;
        if (key.len != sizeof seq)
            return err_new(ERR_DAMAGED, 0, "index table `msg`");
        memcpy(&seq, key.ptr, sizeof seq);
        e = row_read(x, t, seq, value, &out[*n]);
        if (e != NULL)
            return e;
        index_looked(x, row_bytes(&out[*n]));
        row_keep(&out[*n], a);
        ++*n;
    }
    return NULL;
}

struct err *index_walk(struct index *x, uint64_t after_seq, struct arena *a, struct index_row *out,
                       size_t max, size_t *count_out)
{
    struct kv_txn *t;
    struct kv_cursor *c;
    uint64_t from = after_seq + 1;
    size_t n = 0;
    struct err *e = kv_begin(x->kv, false, &t);
    if (e != NULL)
        return e;
    e = kv_cursor_open(t, x->msg, key_of(&from), &c);
    if (e == NULL) {
        e = walk(x, t, c, a, out, max, &n);
        kv_cursor_close(c);
    }
    kv_abort(t);
    if (e == NULL)
        *count_out = n;
    return e;
}

struct err *index_first(struct index *x, uint64_t *seq_out)
{
    struct kv_txn *t;
    struct kv_cursor *c;
    struct str key, value;
    bool found = false;
    struct err *e = kv_begin(x->kv, false, &t);
    if (e != NULL)
        return e;
    e = kv_cursor_open(t, x->msg, STR_NULL, &c);
    if (e == NULL) {
        e = kv_cursor_next(c, &key, &value, &found);
        if (e == NULL && found && key.len != sizeof *seq_out)
            e = err_new(ERR_DAMAGED, 0, "index table `msg`");
        *seq_out = 0;
        if (e == NULL && found)
            memcpy(seq_out, key.ptr, sizeof *seq_out);
        kv_cursor_close(c);
    }
    kv_abort(t);
    return e;
}

struct err *index_count(struct index *x, uint64_t *out, uint64_t *held_out)
{
    struct kv_txn *t;
    struct err *e = kv_begin(x->kv, false, &t);
    if (e != NULL)
        return e;
    e = kv_count(t, x->msg, out);
    if (e == NULL)
        e = kv_count(t, x->held, held_out);
    kv_abort(t);
    return e;
}

struct err *index_held(struct index *x, struct kv_txn *t, uint64_t seq, bool *held_out)
{
    struct str value;
    return kv_get(t, x->held, key_of(&seq), &value, held_out);
}

struct err *index_sizes(struct index *x, struct index_sizes *out)
{
    struct kv_txn *t;
    struct err *e = kv_begin(x->kv, false, &t);
    if (e != NULL)
        return e;
    e = kv_count(t, x->msg, &out->rows);
    if (e == NULL)
        e = kv_count(t, x->state, &out->states);
    if (e == NULL)
        e = kv_count(t, x->due, &out->due);
    if (e == NULL)
        e = kv_count(t, x->held, &out->held);
    kv_abort(t);
    return e;
}

static struct err *walk_live(struct kv_cursor *c,
                             void (*each)(void *ctx, uint64_t epoch, uint64_t bytes), void *ctx)
{
    for (;;) {
        struct str key, value;
        uint64_t epoch;
        bool found;
        struct err *e = kv_cursor_next(c, &key, &value, &found);
        if (e != NULL || !found)
            return e;
        if (key.len != sizeof epoch || value.len != 8)
            return err_new(ERR_DAMAGED, 0, "index table `live`");
        memcpy(&epoch, key.ptr, sizeof epoch);
        each(ctx, epoch, get_u64((const uint8_t *)value.ptr));
    }
}

struct err *index_live(struct index *x, void (*each)(void *ctx, uint64_t epoch, uint64_t bytes),
                       void *ctx)
{
    struct kv_txn *t;
    struct kv_cursor *c;
    struct err *e = kv_begin(x->kv, false, &t);
    if (e != NULL)
        return e;
    e = kv_cursor_open(t, x->live, STR_NULL, &c);
    if (e == NULL) {
        e = walk_live(c, each, ctx);
        kv_cursor_close(c);
    }
    kv_abort(t);
    return e;
}
