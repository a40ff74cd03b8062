#include "queue/store/index.h"

#include <stdlib.h>

#include "io/base/check.h"
#include "io/base/mem.h"
#include "io/base/metric.h"
#include "queue/store/index_private.h"

#define SPARE_BYTES (8u << 20)
enum { TABLES = 9, PAGE = 4096 };

struct delta {
    uint64_t epoch;
    int64_t bytes;
};

const char *index_meta_name(enum index_meta what)
{
    static const char *const names[] = {"secret", "covered", "next_seq", "stale", "unread", "label"};
    return names[what];
}

/* Due times before 1970 do not occur; 0 stands for at once. */
void index_due_key(int64_t due_us, uint64_t seq, uint8_t out[DUE_KEY])
{
    uint64_t due = due_us > 0 ? (uint64_t)due_us : 0;
    put_be64(out, due);
    put_be64(out + 8, seq);
}

/* --- opening */

/* The tables differ from format to format: of another one's file none is opened. */
static struct err *check_format(struct index *x, struct kv_txn *t, bool create)
{
    struct str value;
    bool found = false;
    uint8_t format[8];
    struct err *e = kv_table_open(t, "meta", create, false, &x->meta);
    if (e == NULL)
        e = kv_get(t, x->meta, STR("format"), &value, &found);
    if (e != NULL)
        return e;
    if (found && (value.len != 8 || get_u64((const uint8_t *)value.ptr) != INDEX_FORMAT))
        return err_new(ERR_DAMAGED, 0, "the index has another format");
    put_u64(format, INDEX_FORMAT);
    return found || !create ? NULL
                            : kv_put(t, x->meta, STR("format"), str_make((const char *)format, 8));
}

static struct err *open_tables(struct index *x, bool create)
{
    const struct {
        const char *name;
        bool integer_keys;
        kv_table *table;
    } tables[] = {{"msg", true, &x->msg},   {"state", true, &x->state},  {"due", false, &x->due},
                  {"held", true, &x->held}, {"live", true, &x->live},    {"fresh", true, &x->fresh},
                  {"label", false, &x->labels[0]}, {"label2", false, &x->labels[1]}};
    struct kv_txn *t;
    struct err *e = kv_begin(x->kv, create, &t);
    if (e != NULL)
        return e;
    e = check_format(x, t, create);
    for (size_t i = 0; e == NULL && i < sizeof tables / sizeof *tables; i++)
        e = kv_table_open(t, tables[i].name, create, tables[i].integer_keys, tables[i].table);
    if (e == NULL)
        return kv_commit(t);
    kv_abort(t);
    return e->kind == ERR_NOTFOUND ? err_new(ERR_DAMAGED, 0, "the index lacks a table") : e;
}

static struct err *open_index(struct store *s, const char *path, const struct kv_options *options,
                              struct index **out)
{
    struct index *x = MEM_NEW(struct index);
    uint64_t stale = 0, label = 0;
    x->store = s;
    index_label_limits(x, 0, 0);
    struct err *e = kv_open(path, options, &x->kv);
    if (e == NULL)
        e = open_tables(x, !options->read_only);
    if (e == NULL)
        e = index_meta(x, INDEX_STALE, &stale);
    if (e == NULL)
        e = index_meta(x, INDEX_LABEL, &label);
    x->label = x->labels[label & 1];
    x->stale = x->stale_stored = (int64_t)stale;
    if (e != NULL) {
        index_close(x);
        return e;
    }
    *out = x;
    return NULL;
}

struct err *index_open(struct store *s, const char *path, struct index **out)
{
    /* A start on a full disk must be able to write down what it found. */
    const struct kv_options options = {
        .tables_max = TABLES, .spare_bytes = SPARE_BYTES, .often_written = true};
    return open_index(s, path, &options, out);
}

struct err *index_open_read(struct store *s, const char *path, struct index **out)
{
    return open_index(s, path, &(struct kv_options){.tables_max = TABLES, .read_only = true}, out);
}

void index_close(struct index *x)
{
    if (x == NULL)
        return;
    if (x->holds > 0) {
        x->holds--;
        return;
    }
    index_abort(x);
    kv_close(x->kv);
    label_fini(x);
    buf_fini(&x->row);
    buf_fini(&x->changing);
    buf_fini(&x->dests);
    buf_fini(&x->delta);
    mem_free(x);
}

struct index *index_hold(struct index *x)
{
    x->holds++;
    return x;
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
    if (n > 0 && d[n - 1].epoch == epoch) {
        d[n - 1].bytes += bytes;
        return;
    }
    struct delta fresh = {epoch, bytes};
    buf_add(&x->delta, &fresh, sizeof fresh);
}

static int by_epoch(const void *a, const void *b)
{
    uint64_t left = ((const struct delta *)a)->epoch, right = ((const struct delta *)b)->epoch;
    return (left > right) - (left < right);
}

/* One for each epoch. */
static size_t delta_sum(struct index *x)
{
    struct delta *d = (struct delta *)(void *)x->delta.ptr;
    size_t n = x->delta.len / sizeof *d, to = 0;
    if (n > 1)
        qsort(d, n, sizeof *d, by_epoch);
    for (size_t i = 1; i < n; i++) {
        if (d[i].epoch == d[to].epoch)
            d[to].bytes += d[i].bytes;
        else
            d[++to] = d[i];
    }
    return n == 0 ? 0 : to + 1;
}

static struct err *drop_due(struct index *x, const struct index_row *row)
{
    uint8_t key[DUE_KEY];
    bool found;
    index_looked(x, PAGE);
    if (!index_due_listed(row->flags))
        return kv_del(x->txn, x->held, key_of(&row->seq), &found);
    index_due_key(row->due_us, row->seq, key);
    return kv_del(x->txn, x->due, str_make((const char *)key, DUE_KEY), &found);
}

static struct err *put_due(struct index *x, const struct index_row *row)
{
    uint8_t key[DUE_KEY];
    if (!index_due_listed(row->flags))
        return kv_put(x->txn, x->held, key_of(&row->seq), STR(""));
    index_due_key(row->due_us, row->seq, key);
    index_looked(x, PAGE);
    return kv_put_last(x->txn, x->due, str_make((const char *)key, DUE_KEY), STR(""));
}

/* Destinations that the row did not have before. */
static bool dests_are_new(struct str old, struct str dests)
{
    for (size_t i = 0; i < dests.len; i += DEST_BYTES) {
        bool known = false;
        for (size_t k = 0; !known && k < old.len; k += DEST_BYTES)
            known = memcmp(dests.ptr + i, old.ptr + k, DEST_BYTES) == 0;
        if (!known)
            return true;
    }
    return false;
}

static bool same_place(const struct qmsg_place *a, const struct qmsg_place *b)
{
    return a->epoch == b->epoch && a->at == b->at && a->length == b->length &&
           a->spilled == b->spilled;
}

/* The halves that differ: of a message that is deferred once more, the small one. */
static struct err *put_halves(struct index *x, const struct index_row *old, struct index_row *row)
{
    struct err *e = NULL;
    struct str key = key_of(&row->seq);
    bool placed = old == NULL || !same_place(&old->place, &row->place);
    if (placed) {
        if (row->part == NULL)
            row_pack_msg(x, row);
        e = old == NULL ? kv_put_last(x->txn, x->msg, key, buf_str(&x->row))
                        : kv_put(x->txn, x->msg, key, buf_str(&x->row));
    }
    if (row->part == NULL)
        row_pack_state(x, row);
    if (e != NULL)
        return e;
    return old == NULL ? kv_put_last(x->txn, x->state, key, buf_str(&x->changing))
                       : kv_put(x->txn, x->state, key, buf_str(&x->changing));
}

struct err *index_put(struct index *x, const struct index_row *row)
{
    bool found = false;
    struct index_row old = {0}, fresh = *row;
    CHECK(row->place.epoch != 0);
    struct err *e = row_get(x, x->txn, row->seq, &old, &found);
    if (e != NULL)
        return e;
    buf_reset(&x->dests);
    if (found)
        buf_add_str(&x->dests, old.dests); /* the page may change under it now */
    if (row->dests.len == 0)
        fresh.dests = buf_str(&x->dests);
    scrub_changes(x->scrub, found ? &old : NULL, row);
    bool relabel = !found || dests_are_new(buf_str(&x->dests), row->dests);
    bool moved =
        !found || old.due_us != row->due_us || index_due_listed(old.flags) != index_due_listed(row->flags);
    if (row->part != NULL) { /* what it is made from lies in the page too */
        bool msg = relabel || (found && !same_place(&old.place, &row->place));
        e = found ? row_pack_part(x, &old, msg, &fresh)
                  : err_new(ERR_DAMAGED, 0, "index row of message %llx is gone", (unsigned long long)row->seq);
        if (e != NULL)
            return e;
    }
    if (found) {
        delta_add(x, old.place.epoch, -(int64_t)old.place.length);
        if (moved)
            e = drop_due(x, &old);
    }
    if (e == NULL)
        e = put_halves(x, found ? &old : NULL, &fresh);
    if (e == NULL && moved)
        e = put_due(x, row);
    if (e == NULL && relabel) {
        if (row->part == NULL)
            row_pack_both(x, &fresh);
        e = label_renew(x, &fresh);
    }
    delta_add(x, row->place.epoch, row->place.length);
    return e;
}

/* Both halves of a row that is to go, where the cursors stand then. */
static struct err *find_halves(struct index *x, uint64_t seq, struct index_row *out, bool *found_out)
{
    struct str msg, state = STR("");
    bool found;
    struct err *e = NULL;
    if (x->at_msg == NULL)
        e = kv_cursor_open(x->txn, x->msg, STR_NULL, &x->at_msg);
    if (e == NULL && x->at_state == NULL)
        e = kv_cursor_open(x->txn, x->state, STR_NULL, &x->at_state);
    if (e == NULL)
        e = kv_cursor_seek(x->at_msg, key_of(&seq), &msg, found_out);
    if (e != NULL || !*found_out)
        return e;
    e = kv_cursor_seek(x->at_state, key_of(&seq), &state, &found);
    index_looked(x, 2 * PAGE);
    return e != NULL ? e : row_join(x, seq, msg, state, out);
}

struct err *index_del_dead(struct index *x, const struct index_dead *d)
{
    bool found = false;
    struct index_row old;
    struct err *e = find_halves(x, d->seq, &old, &found);
    if (e != NULL || !found)
        return e;
    delta_add(x, old.place.epoch, -(int64_t)old.place.length);
    scrub_changes(x->scrub, &old, NULL);
    e = label_drop(x, &old);
    if (e == NULL && !d->purged)
        e = drop_due(x, &old);
    if (e == NULL)
        e = kv_cursor_del(x->at_state);
    if (e == NULL)
        e = kv_cursor_del(x->at_msg);
    return e;
}

struct err *index_del(struct index *x, uint64_t seq)
{
    return index_del_dead(x, &(struct index_dead){.seq = seq});
}

static void close_cursors(struct index *x)
{
    kv_cursor_close(x->at_msg);
    kv_cursor_close(x->at_state);
    x->at_msg = x->at_state = NULL;
}

struct err *index_set(struct index *x, enum index_meta what, uint64_t value)
{
    uint8_t bytes[8];
    put_u64(bytes, value);
    return kv_put(x->txn, x->meta, str_of(index_meta_name(what)), str_make((const char *)bytes, 8));
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
    size_t n = delta_sum(x);
    struct err *e = NULL;
    if (x->stale != x->stale_stored)
        e = index_set(x, INDEX_STALE, (uint64_t)x->stale);
    for (size_t i = 0; e == NULL && i < n; i++)
        e = put_live(x, &d[i]);
    if (e != NULL) {
        index_abort(x);
        return e;
    }
    close_cursors(x);
    e = kv_commit(x->txn);
    x->txn = NULL;
    scrub_settle(x->scrub, e == NULL);
    if (e != NULL)
        return e;
    x->stale_stored = x->stale;
    metric_add(METRIC_queue_index_commits, 1);
    for (size_t i = 0; i < n; i++)
        space_rows_add(x->store, d[i].epoch, d[i].bytes);
    return NULL;
}

void index_abort(struct index *x)
{
    close_cursors(x);
    kv_abort(x->txn);
    x->txn = NULL;
    scrub_settle(x->scrub, false);
    x->stale = x->stale_stored;
}
