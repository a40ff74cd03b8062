/* All rows, one after the other: both tables have the same keys in the same order, so two cursors go side by
 * side and nothing is looked up. */
#include "queue/store/index_private.h"

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

static struct err *one(struct index *x, const struct side *msg, const struct side *state,
                       void (*each)(void *ctx, const struct store_seen *m), void *ctx)
{
    struct index_row row;
    struct envelope_view view;
    if (!state->found || state->seq != msg->seq)
        return err_new(ERR_DAMAGED, 0, "index row of message %llx", (unsigned long long)msg->seq);
    struct err *e = row_join(x, msg->seq, msg->value, state->value, &row);
    if (e != NULL)
        return e;
    index_looked(x, row_bytes(&row));
    if (umap_get(&x->store->dead, row.seq) != NULL)
        return NULL;
    if (!envelope_look(row.envelope, row.states, &view))
        return err_new(ERR_DAMAGED, 0, "index row of message %llx", (unsigned long long)msg->seq);
    each(ctx, &(struct store_seen){row.seq, row.flags, row.deferred, &view});
    return NULL;
}

static struct err *walk(struct index *x, struct side *msg, struct side *state, struct store_census *c,
                        size_t max, void (*each)(void *ctx, const struct store_seen *m), void *ctx)
{
    struct err *e = NULL;
    for (size_t n = 0; n < max; n++) {
        e = next(msg);
        if (e == NULL)
            e = next(state);
        if (e != NULL)
            return e;
        if (!msg->found || msg->seq >= c->until) {
            c->ended = true;
            return NULL;
        }
        e = one(x, msg, state, each, ctx);
        if (e != NULL)
            return e;
        c->at = msg->seq + 1;
    }
    return NULL;
}

struct err *index_census(struct index *x, struct store_census *c, size_t max,
                         void (*each)(void *ctx, const struct store_seen *m), void *ctx)
{
    struct kv_txn *t;
    struct side msg = {0}, state = {0};
    struct err *e = kv_begin(x->kv, false, &t);
    if (e != NULL)
        return e;
    e = kv_cursor_open(t, x->msg, key_of(&c->at), &msg.cursor);
    if (e == NULL)
        e = kv_cursor_open(t, x->state, key_of(&c->at), &state.cursor);
    if (e == NULL)
        e = walk(x, &msg, &state, c, max, each, ctx);
    if (state.cursor != NULL)
        kv_cursor_close(state.cursor);
    if (msg.cursor != NULL)
        kv_cursor_close(msg.cursor);
    kv_abort(t);
    return e;
}
