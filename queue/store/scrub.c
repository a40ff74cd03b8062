/* Scrub: the index as it was found at start (or built) is looked through once, behind the back of
 * everybody. LMDB has no sums of its own, so a page that went bad shows in nothing but its contents.
 * Each row must have its right sums and stand in `due` or `held`; these tables must have no more
 * entries than that (of `due`, which is in another order, this is proven by sums over its keys: those that the rows say,
 * and then those that are there); the bytes of rows by segment must be those of `live`, for by them segments are
 * freed. (Labels are hints and are left out.) Until this is proven nothing is freed; what does not
 * fit ends in rebuild.c.
 *
 * Some rows at a time, with a pause in between and no reader left open. Rows that change behind the
 * place where the scrub stands are told to it by the transactions that change them. */
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "queue/store/index_private.h"

enum { LOOK_AT_CLOCK = 32, PAUSE_MS = 1, TELL_S = 2 };

struct change {
    uint64_t epoch;
    int64_t bytes, rows, held;
    uint64_t due;
};

struct scrub {
    struct index *index;
    uint64_t at; /* the last row that was looked at */
    uint8_t due_at[DUE_KEY]; /* the last key of `due`; behind all of the rows */
    uint64_t due; /* sum of the keys that the rows have, without those of the keys that are there */
    int64_t rows, held;
    struct umap bytes; /* epoch -> int64_t * */
    struct arena *arena;
    struct buf pending; /* of struct change: of the open transaction */
    bool rows_ended, ended;
};

static int64_t *bytes_of(struct scrub *b, uint64_t epoch)
{
    int64_t *n = umap_get(&b->bytes, epoch);
    if (n == NULL) {
        n = ARENA_NEW(b->arena, int64_t);
        (void)umap_put(&b->bytes, epoch, n);
    }
    return n;
}

static void count(struct scrub *b, const struct change *c)
{
    *bytes_of(b, c->epoch) += c->bytes;
    b->rows += c->rows;
    b->held += c->held;
    b->due += c->due;
}

static uint64_t key_sum(const struct scrub *b, const uint8_t *key)
{
    return hash_sum(key, DUE_KEY, b->index->store->secret);
}

/* What a row counts where the scrub stands. */
static struct change change_of(const struct scrub *b, const struct index_row *row)
{
    struct change c = {.epoch = row->place.epoch};
    bool held = !index_due_listed(row->flags);
    uint8_t key[DUE_KEY];
    index_due_key(row->due_us, row->seq, key);
    if (row->seq <= b->at) {
        c.bytes = (int64_t)row->place.length;
        c.rows = 1;
        c.held = held;
        c.due = held ? 0 : key_sum(b, key);
    }
    if (!held && memcmp(key, b->due_at, DUE_KEY) <= 0)
        c.due -= key_sum(b, key);
    return c;
}

/* --- told by index.c */

void scrub_changes(struct scrub *b, const struct index_row *old, const struct index_row *now)
{
    const struct index_row *rows[] = {old, now};
    if (b == NULL)
        return;
    for (int i = 0; i < 2; i++) {
        if (rows[i] == NULL)
            continue;
        struct change c = change_of(b, rows[i]);
        if (i == 0)
            c = (struct change){c.epoch, -c.bytes, -c.rows, -c.held, -c.due};
        if (c.rows != 0 || c.due != 0)
            buf_add(&b->pending, &c, sizeof c);
    }
}

void scrub_settle(struct scrub *b, bool committed)
{
    if (b == NULL)
        return;
    const struct change *c = (const struct change *)(const void *)b->pending.ptr;
    size_t n = committed ? b->pending.len / sizeof *c : 0;
    for (size_t i = 0; i < n; i++)
        count(b, &c[i]);
    buf_reset(&b->pending);
}

/* --- the walk */

static struct err *look_at(struct scrub *b, struct kv_txn *t, struct str key, struct str value)
{
    struct index *x = b->index;
    struct index_row row;
    uint64_t seq = 0;
    bool listed = true;
    if (key.len != sizeof seq)
        return err_new(ERR_DAMAGED, 0, "index table `msg`");
    memcpy(&seq, key.ptr, sizeof seq);
    if (seq <= b->at)
        return err_new(ERR_DAMAGED, 0, "index table `msg` is out of order");
    struct err *e = row_read(x, t, seq, value, &row);
    if (e == NULL && !index_due_listed(row.flags))
        e = index_held(x, t, seq, &listed);
    if (e == NULL && !listed)
        e = err_new(ERR_DAMAGED, 0, "index: message %llx has a row and no place in `held`", (unsigned long long)seq);
    if (e != NULL)
        return e;
    b->at = seq;
    struct change c = change_of(b, &row);
    count(b, &c);
    index_looked(x, row_bytes(&row));
    return NULL;
}

static struct err *look_at_due(struct scrub *b, struct str key)
{
    if (key.len != DUE_KEY)
        return err_new(ERR_DAMAGED, 0, "index table `due`");
    int order = memcmp(b->due_at, key.ptr, DUE_KEY);
    if (order > 0)
        return err_new(ERR_DAMAGED, 0, "index table `due` is out of order");
    if (order == 0)
        return NULL; /* where the last slice ended */
    memcpy(b->due_at, key.ptr, DUE_KEY);
    b->due -= key_sum(b, b->due_at);
    index_looked(b->index, 2 * DUE_KEY);
    return NULL;
}

/* What comes behind it from now on is told by those who put it there. */
static void table_ended(struct scrub *b)
{
    if (b->rows_ended) {
        memset(b->due_at, 0xff, DUE_KEY);
        b->ended = true;
    }
    b->rows_ended = true;
    b->at = UINT64_MAX;
}

static struct err *walk(struct scrub *b, struct kv_txn *t, struct kv_cursor *c)
{
    int64_t until = clock_mono_ns() + NS_PER_MS;
    for (unsigned n = 0; n < b->index->store->scrub_rows; n++) {
        struct str key, value;
        bool found = false;
        struct err *e = kv_cursor_next(c, &key, &value, &found);
        if (e == NULL && found)
            e = b->rows_ended ? look_at_due(b, key) : look_at(b, t, key, value);
        else if (e == NULL)
            table_ended(b);
        if (e != NULL || !found || (n % LOOK_AT_CLOCK == 0 && clock_mono_ns() > until))
            return e;
    }
    return NULL;
}

static struct err *slice(struct scrub *b)
{
    struct kv_txn *t;
    struct kv_cursor *c;
    uint64_t next = b->at + 1;
    struct str from = b->rows_ended ? str_make((const char *)b->due_at, DUE_KEY) : key_of(&next);
    struct err *e = kv_begin(b->index->kv, false, &t);
    if (e != NULL)
        return e;
    e = kv_cursor_open(t, b->rows_ended ? b->index->due : b->index->msg, from, &c);
    if (e == NULL) {
        e = walk(b, t, c);
        kv_cursor_close(c);
    }
    kv_abort(t);
    return e;
}

/* --- the sums of it */

struct comparison {
    struct scrub *scrub;
    size_t live;
    uint64_t wrong; /* epoch; 0 = none */
};

static void compare_live(void *ctx, uint64_t epoch, uint64_t bytes)
{
    struct comparison *c = ctx;
    const int64_t *have = umap_get(&c->scrub->bytes, epoch);
    c->live++;
    if (have == NULL || (uint64_t)*have != bytes)
        c->wrong = epoch;
}

static struct err *compare(struct scrub *b)
{
    struct comparison c = {.scrub = b};
    struct index_sizes n;
    size_t at = 0, epochs = 0;
    uint64_t epoch;
    void *value;
    struct err *e = index_sizes(b->index, &n);
    if (e == NULL)
        e = index_live(b->index, compare_live, &c);
    if (e != NULL)
        return e;
    while (umap_next(&b->bytes, &at, &epoch, &value))
        epochs += *(const int64_t *)value != 0;
    if ((int64_t)n.rows != b->rows || (int64_t)n.states != b->rows || (int64_t)n.held != b->held ||
        (int64_t)n.due != b->rows - b->held)
        return err_new(ERR_DAMAGED, 0,
                       "index: of %llu rows (%llu due, %llu held) %lld are there, %lld of them held",
                       (unsigned long long)n.rows, (unsigned long long)n.due,
                       (unsigned long long)n.held, (long long)b->rows, (long long)b->held);
    if (b->due != 0)
        return err_new(ERR_DAMAGED, 0, "index: some row has no place in `due`, which has one for none");
    if (c.wrong != 0 || c.live != epochs)
        return err_new(ERR_DAMAGED, 0, "index table `live`: segment %llx has other mail in it",
                       (unsigned long long)c.wrong);
    return NULL;
}

/* The next slice; behind the last one: the comparison, in the same breath. */
static struct err *go_on(struct scrub *b)
{
    struct err *e = slice(b);
    return e == NULL && b->ended ? compare(b) : e;
}

/* While the index is being changed, the scrub neither looks nor moves. */
struct err *scrub(struct store *s)
{
    struct scrub b = {.index = index_turn_begin(s), .arena = arena_new(0, 0)};
    int64_t began = clock_mono_ns();
    struct err *e = NULL;
    b.index->scrub = &b;
    while (e == NULL && !b.ended && !s->stopping && !s->rebuild.damaged) {
        e = go_on(&b);
        if (e != NULL || b.ended)
            break;
        index_turn_end(s);
        e = fiber_sleep_until(clock_in_ms(PAUSE_MS));
        (void)index_turn_begin(s);
    }
    b.index->scrub = NULL;
    index_turn_end(s);
    if (e == NULL && b.ended) {
        s->proven = true;
        index_trial_end(s);
        keeper_wake(s);
        if (clock_mono_ns() - began > TELL_S * NS_PER_S)
            log_info("queue", "the index was looked through: %lld messages", (long long)b.rows);
    }
    umap_fini(&b.bytes);
    buf_fini(&b.pending);
    arena_free(b.arena);
    return e;
}
