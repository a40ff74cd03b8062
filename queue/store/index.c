#include "queue/store/index.h"

#include "io/base/check.h"
#include "io/base/mem.h"
#include "io/base/metric.h"
#include "queue/store/private.h"

#define SPARE_BYTES (8u << 20)

enum { FORMAT = 1, ROW_FIXED = 32, DUE_KEY = 16 };

struct delta {
    uint64_t epoch;
    int64_t bytes;
};

struct index {
    struct store *store;
    struct kv *kv;
    kv_table msg, due, live, meta;
    struct kv_txn *txn;
    struct buf row;   /* being packed */
    struct buf delta; /* of struct delta: what this transaction changes in `live` */
};

static const char *meta_name(enum index_meta what)
{
    static const char *const names[] = {"secret", "covered", "next_seq"};
    return names[what];
}

static struct str key_of(const uint64_t *n)
{
    return str_make((const char *)n, sizeof *n);
}

static bool due_listed(uint32_t flags)
{
    return (flags & MESSAGE_HOLD) == 0;
}

/* Due times before 1970 do not occur; 0 stands for at once. */
static void due_key(int64_t due_us, uint64_t seq, uint8_t out[DUE_KEY])
{
    uint64_t due = due_us > 0 ? (uint64_t)due_us : 0;
    for (int i = 0; i < 8; i++) {
        out[i] = (uint8_t)(due >> (56 - 8 * i));
        out[8 + i] = (uint8_t)(seq >> (56 - 8 * i));
    }
}

static void due_unkey(const uint8_t *key, struct store_due *out)
{
    uint64_t due = 0, seq = 0;
    for (int i = 0; i < 8; i++) {
        due = due << 8 | key[i];
        seq = seq << 8 | key[8 + i];
    }
    *out = (struct store_due){.due_us = (int64_t)due, .seq = seq};
}

/* --- rows */

static void row_pack(const struct index_row *row, struct buf *out)
{
    buf_reset(out);
    buf_add_u8(out, FORMAT);
    buf_add_u8(out, row->place.spilled);
    buf_add_u16(out, 0);
    buf_add_u32(out, row->flags);
    buf_add_u64(out, (uint64_t)row->due_us);
    buf_add_u64(out, row->place.epoch);
    buf_add_u32(out, row->place.at);
    buf_add_u32(out, row->place.length);
    buf_add_str(out, row->envelope);
}

static struct err *row_unpack(uint64_t seq, struct str value, struct index_row *out)
{
    struct rd r = rd_of(value);
    if (rd_u8(&r) != FORMAT || value.len < ROW_FIXED)
        return err_new(ERR_DAMAGED, 0, "index row of message %llx", (unsigned long long)seq);
    *out = (struct index_row){.seq = seq};
    out->place.spilled = rd_u8(&r) != 0;
    (void)rd_u16(&r);
    out->flags = rd_u32(&r);
    out->due_us = (int64_t)rd_u64(&r);
    out->place.epoch = rd_u64(&r);
    out->place.at = rd_u32(&r);
    out->place.length = rd_u32(&r);
    out->envelope = str_from(value, ROW_FIXED);
    return NULL;
}

/* --- opening */

static struct err *open_tables(struct index *x, bool *fresh_out)
{
    struct kv_txn *t;
    struct err *e = kv_begin(x->kv, true, &t);
    if (e != NULL)
        return e;
    e = kv_table_open(t, "msg", true, true, &x->msg);
    if (e == NULL)
        e = kv_table_open(t, "due", true, false, &x->due);
    if (e == NULL)
        e = kv_table_open(t, "live", true, true, &x->live);
    if (e == NULL)
        e = kv_table_open(t, "meta", true, false, &x->meta);
    struct str value;
    bool found = false;
    if (e == NULL)
        e = kv_get(t, x->meta, STR("format"), &value, &found);
    *fresh_out = !found;
    if (e == NULL && found && (value.len != 8 || get_u64((const uint8_t *)value.ptr) != FORMAT))
        e = err_new(ERR_DAMAGED, 0, "the index has an unknown format");
    if (e == NULL && !found) {
        uint8_t format[8];
        put_u64(format, FORMAT);
        e = kv_put(t, x->meta, STR("format"), str_make((const char *)format, 8));
    }
    if (e == NULL)
        return kv_commit(t);
    kv_abort(t);
    return e;
}

struct err *index_open(struct store *s, const char *path, struct index **out)
{
    /* A start on a full disk must be able to write down what it found. */
    struct kv_options options = {.tables_max = 4, .spare_bytes = SPARE_BYTES};
    struct index *x = MEM_NEW(struct index);
    bool fresh;
    x->store = s;
    struct err *e = kv_open(path, &options, &x->kv);
    if (e == NULL)
        e = open_tables(x, &fresh);
    if (e != NULL) {
        index_close(x);
        return e;
    }
    *out = x;
    return NULL;
}

void index_close(struct index *x)
{
    if (x == NULL)
        return;
    index_abort(x);
    kv_close(x->kv);
    buf_fini(&x->row);
    buf_fini(&x->delta);
    mem_free(x);
}

/* --- changing */

struct err *index_begin(struct index *x)
{
    CHECK(x->txn == NULL);
    buf_reset(&x->delta);
    return kv_begin(x->kv, true, &x->txn);
}

static void delta_add(struct index *x, uint64_t epoch, int64_t bytes)
{
    struct delta *d = (struct delta *)(void *)x->delta.ptr;
    size_t n = x->delta.len / sizeof *d;
    for (size_t i = n; i-- > 0;) {
        if (d[i].epoch == epoch) {
            d[i].bytes += bytes;
            return;
        }
    }
    struct delta fresh = {epoch, bytes};
    buf_add(&x->delta, &fresh, sizeof fresh);
}

static struct err *drop_due(struct index *x, const struct index_row *row)
{
    uint8_t key[DUE_KEY];
    bool found;
    if (!due_listed(row->flags))
        return NULL;
    due_key(row->due_us, row->seq, key);
    return kv_del(x->txn, x->due, str_make((const char *)key, DUE_KEY), &found);
}

/* What is there now, and take its share out of `due` and `live`. */
static struct err *retire(struct index *x, uint64_t seq, bool *found_out)
{
    struct str value;
    struct index_row old;
    struct err *e = kv_get(x->txn, x->msg, key_of(&seq), &value, found_out);
    if (e != NULL || !*found_out)
        return e;
    e = row_unpack(seq, value, &old);
    if (e != NULL)
        return e;
    delta_add(x, old.place.epoch, -(int64_t)old.place.length);
    return drop_due(x, &old);
}

struct err *index_put(struct index *x, const struct index_row *row)
{
    bool found;
    CHECK(row->place.epoch != 0);
    struct err *e = retire(x, row->seq, &found);
    if (e != NULL)
        return e;
    row_pack(row, &x->row);
    e = kv_put(x->txn, x->msg, key_of(&row->seq), buf_str(&x->row));
    if (e == NULL && due_listed(row->flags)) {
        uint8_t key[DUE_KEY];
        due_key(row->due_us, row->seq, key);
        e = kv_put(x->txn, x->due, str_make((const char *)key, DUE_KEY), STR(""));
    }
    delta_add(x, row->place.epoch, row->place.length);
    return e;
}

struct err *index_del(struct index *x, uint64_t seq)
{
    bool found;
    struct err *e = retire(x, seq, &found);
    if (e == NULL && found)
        e = kv_del(x->txn, x->msg, key_of(&seq), &found);
    return e;
}

struct err *index_set(struct index *x, enum index_meta what, uint64_t value)
{
    uint8_t bytes[8];
    put_u64(bytes, value);
    return kv_put(x->txn, x->meta, str_of(meta_name(what)), str_make((const char *)bytes, 8));
}

static struct err *put_live(struct index *x, const struct delta *d)
{
    struct str value;
    bool found;
    uint64_t bytes = 0;
    struct err *e = kv_get(x->txn, x->live, key_of(&d->epoch), &value, &found);
    if (e != NULL || d->bytes == 0)
        return e;
    if (found && value.len == 8)
        bytes = get_u64((const uint8_t *)value.ptr);
    bytes += (uint64_t)d->bytes;
    if (bytes == 0)
        return kv_del(x->txn, x->live, key_of(&d->epoch), &found);
    uint8_t packed[8];
    put_u64(packed, bytes);
    return kv_put(x->txn, x->live, key_of(&d->epoch), str_make((const char *)packed, 8));
}

struct err *index_commit(struct index *x)
{
    const struct delta *d = (const struct delta *)(const void *)x->delta.ptr;
    size_t n = x->delta.len / sizeof *d;
    struct err *e = NULL;
    for (size_t i = 0; e == NULL && i < n; i++)
        e = put_live(x, &d[i]);
    if (e != NULL) {
        index_abort(x);
        return e;
    }
    e = kv_commit(x->txn);
    x->txn = NULL;
    if (e != NULL)
        return e;
    metric_add(METRIC_queue_index_commits, 1);
    for (size_t i = 0; i < n; i++)
        space_rows_add(x->store, d[i].epoch, d[i].bytes);
    return NULL;
}

void index_abort(struct index *x)
{
    kv_abort(x->txn);
    x->txn = NULL;
}

/* --- looking */

struct err *index_meta(struct index *x, enum index_meta what, uint64_t *out)
{
    struct kv_txn *t;
    struct str value;
    bool found = false;
    struct err *e = kv_begin(x->kv, false, &t);
    if (e != NULL)
        return e;
    e = kv_get(t, x->meta, str_of(meta_name(what)), &value, &found);
    if (e == NULL)
        *out = found && value.len == 8 ? get_u64((const uint8_t *)value.ptr) : 0;
    kv_abort(t);
    return e;
}

struct err *index_get(struct index *x, uint64_t seq, struct arena *a, struct index_row *out,
                      bool *found_out)
{
    struct kv_txn *t;
    struct str value;
    bool found = false;
    struct err *e = kv_begin(x->kv, false, &t);
    if (e != NULL)
        return e;
    e = kv_get(t, x->msg, key_of(&seq), &value, &found);
    if (e == NULL && found)
        e = row_unpack(seq, value, out);
    if (e == NULL && found)
        out->envelope = a != NULL ? arena_str(a, out->envelope) : STR("");
    kv_abort(t);
    if (e == NULL)
        *found_out = found;
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
    due_key(after.due_us, after.seq, from);
    e = kv_cursor_open(t, x->due, str_make((const char *)from, DUE_KEY), &c);
    if (e != NULL) {
        kv_abort(t);
        return e;
    }
    while (e == NULL && n < max) {
        struct str key, value;
        struct store_due d;
        e = kv_cursor_next(c, &key, &value, &found);
        if (e != NULL || !found || key.len != DUE_KEY)
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

static struct err *walk(struct kv_cursor *c, struct arena *a, struct index_row *out, size_t max,
                        size_t *n)
{
    bool found = true;
    while (*n < max) {
        struct str key, value;
        uint64_t seq;
        struct err *e = kv_cursor_next(c, &key, &value, &found);
        if (e != NULL || !found)
            return e;
        CHECK(key.len == sizeof seq);
        memcpy(&seq, key.ptr, sizeof seq);
        e = row_unpack(seq, value, &out[*n]);
        if (e != NULL)
            return e;
        out[*n].envelope = arena_str(a, out[*n].envelope);
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
        e = walk(c, a, out, max, &n);
        kv_cursor_close(c);
    }
    kv_abort(t);
    if (e == NULL)
        *count_out = n;
    return e;
}

struct err *index_count(struct index *x, uint64_t *out, uint64_t *held_out)
{
    struct kv_txn *t;
    uint64_t due = 0;
    struct err *e = kv_begin(x->kv, false, &t);
    if (e != NULL)
        return e;
    e = kv_count(t, x->msg, out);
    if (e == NULL)
        e = kv_count(t, x->due, &due);
    kv_abort(t);
    if (e == NULL)
        *held_out = *out - due;
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
