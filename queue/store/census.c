/* All rows: both tables have the same keys in the same order, so two cursors go side by side and nothing is looked up.
 * Several lanes at a time, each in a read transaction of its own for some ms; they take stretches of numbers in turn.
 * Who has been removed is noted at the beginning: the table of them belongs to the scheduler thread. */
#include "queue/store/index_private.h"

#include "io/base/mem.h"

enum { STRETCHES = 64, STRETCH_MIN = 1024, COUNT_BYTES = 1 << 16 };

struct store_census {
    struct store *store;
    struct index *index;
    struct umap dead;
    uint64_t until, stretch;
    _Atomic uint64_t next;
};

struct side {
    struct kv_cursor *cursor;
    struct str value;
    uint64_t seq;
    bool found;
};

static struct err *next(struct side *s)
{
    struct str key;
    struct err *e = kv_cursor_next(s->cursor, &key, &s->value, &s->found);
    if (e != NULL || !s->found)
        return e;
    if (key.len != sizeof s->seq)
        return err_new(ERR_DAMAGED, 0, "a key of the index has %zu bytes", key.len);
    memcpy(&s->seq, key.ptr, sizeof s->seq);
    return NULL;
}

static struct err *one(struct store_census *c, const struct side *msg, const struct side *state, size_t *bytes,
                       void (*each)(void *ctx, const struct store_seen *m), void *ctx)
{
    struct index_row row;
    struct envelope_view view;
    if (!state->found || state->seq != msg->seq)
        return err_new(ERR_DAMAGED, 0, "index row of message %llx", (unsigned long long)msg->seq);
    struct err *e = row_join(c->index, msg->seq, msg->value, state->value, &row);
    if (e != NULL)
        return e;
    *bytes += row_bytes(&row);
    if (umap_get(&c->dead, row.seq) != NULL)
        return NULL;
    if (!envelope_look(row.envelope, row.states, &view))
        return err_new(ERR_DAMAGED, 0, "index row of message %llx", (unsigned long long)msg->seq);
    each(ctx, &(struct store_seen){row.seq, row.flags, row.deferred, &view});
    return NULL;
}

static struct err *walk(struct store_census *c, struct store_lane *lane, struct side *msg,
                        struct side *state, size_t max,
                        void (*each)(void *ctx, const struct store_seen *m), void *ctx)
{
    size_t bytes = 0;
    for (size_t n = 0; n < max; n++) {
        struct err *e = next(msg);
        if (e == NULL)
            e = next(state);
        if (e != NULL)
            return e;
        if (!msg->found || msg->seq >= lane->to) {
            lane->at = lane->to;
            return NULL;
        }
        e = one(c, msg, state, &bytes, each, ctx);
        if (e != NULL)
            return e;
        lane->at = msg->seq + 1;
        /* All lanes count in one place. */
        if (bytes >= COUNT_BYTES) {
            index_looked(c->index, bytes);
            bytes = 0;
        }
    }
    return NULL;
}

/* False: all have been taken. */
static bool take_stretch(struct store_census *c, struct store_lane *lane)
{
    if (lane->at < lane->to)
        return true;
    uint64_t at = atomic_fetch_add_explicit(&c->next, c->stretch, memory_order_relaxed);
    if (at >= c->until)
        return false;
    *lane = (struct store_lane){at, c->until - at < c->stretch ? c->until : at + c->stretch};
    return true;
}

struct err *store_census_look(struct store_census *c, struct store_lane *lane, size_t max,
                              void (*each)(void *ctx, const struct store_seen *m), void *ctx,
                              bool *ended_out)
{
    struct index *x = c->index;
    struct kv_txn *t;
    struct side msg = {0}, state = {0};
    *ended_out = !take_stretch(c, lane);
    if (*ended_out)
        return NULL;
    struct err *e = kv_begin(x->kv, false, &t);
    if (e != NULL)
        return e;
    e = kv_cursor_open(t, x->msg, key_of(&lane->at), &msg.cursor);
    if (e == NULL)
        e = kv_cursor_open(t, x->state, key_of(&lane->at), &state.cursor);
    if (e == NULL)
        e = walk(c, lane, &msg, &state, max, each, ctx);
    kv_cursor_close(state.cursor);
    kv_cursor_close(msg.cursor);
    kv_abort(t);
    return e;
}

static void note_dead(struct store_census *c)
{
    size_t at = 0;
    uint64_t seq;
    void *value;
    while (umap_next(&c->store->dead, &at, &seq, &value))
        (void)umap_put(&c->dead, seq, value);
}

struct err *store_census_begin(struct store *s, struct store_census **out)
{
    uint64_t from = 0, until = 0;
    struct err *e = store_wait_ready(s);
    if (e == NULL) {
        until = atomic_load(&s->next_seq);
        e = keeper_round(s, 0);
    }
    if (e == NULL)
        e = index_trouble(s, index_first(s->index, &from));
    if (e != NULL)
        return e;
    struct store_census *c = MEM_NEW(struct store_census);
    uint64_t span = until > from ? until - from : 0;
    c->store = s;
    c->index = index_hold(s->index);
    c->until = from == 0 ? 0 : until;
    c->stretch = span / STRETCHES > STRETCH_MIN ? span / STRETCHES + 1 : STRETCH_MIN;
    atomic_store(&c->next, from);
    note_dead(c);
    s->lookers++;
    *out = c;
    return NULL;
}

struct err *store_census_end(struct store_census *c, struct err *e)
{
    struct store *s = c->store;
    /* Another one may have been built meanwhile. */
    if (c->index == s->index)
        e = index_trouble(s, e);
    index_close(c->index);
    umap_fini(&c->dead);
    mem_free(c);
    s->lookers--;
    return e;
}
