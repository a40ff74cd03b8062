/* Finding messages: by number, by due time, one after the other. What the index says is a little
 * behind; what was removed since is in `dead`, what changed since is in memory. */
#include "queue/store/private.h"

static struct err *from_row(struct store *s, const struct index_row *row, struct arena *a,
                            struct qmsg **out)
{
    struct envelope *env = NULL;
    struct err *e = envelope_unpack(row->envelope, a, &env);
    if (e != NULL)
        return e;
    struct message *m = message_new(s, row->seq, env->arrival_us, a, env);
    m->pub.place = row->place;
    m->flags = row->flags;
    m->due_us = row->due_us;
    m->stage = STAGE_INDEXED;
    message_publish(m);
    *out = &m->pub;
    return NULL;
}

struct err *store_get(struct store *s, uint64_t seq, struct qmsg **out)
{
    struct index_row row;
    bool found = false;
    struct qmsg *m = store_get_cached(s, seq);
    if (m != NULL || umap_get(&s->dead, seq) != NULL) {
        *out = m;
        return NULL;
    }
    if (store_hides(s, seq))
        return err_new(ERR_TIMEOUT, 0, "the index is being built again");
    struct arena *a = arena_new(0, 0);
    struct err *e = index_get(s->index, seq, a, &row, &found);
    m = NULL;
    if (e == NULL && found)
        e = from_row(s, &row, a, &m);
    if (m == NULL)
        arena_free(a);
    if (e == NULL)
        *out = m;
    return index_trouble(s, e);
}

struct err *store_due(struct store *s, struct store_due after, int64_t until_us,
                      struct store_due *out, size_t max, size_t *count_out)
{
    return index_trouble(s, index_due(s->index, after, until_us, out, max, count_out));
}

static struct err *show_row(const struct index_row *row, struct arena *a, struct store_row *out)
{
    out->seq = row->seq;
    out->flags = row->flags;
    out->due_us = row->due_us;
    return envelope_unpack(row->envelope, a, &out->env);
}

struct err *store_list(struct store *s, uint64_t after_seq, size_t max, struct arena *a,
                       struct store_row **out, size_t *count_out)
{
    size_t n = 1, shown = 0;
    struct err *e = store_wait_ready(s);
    if (e == NULL && after_seq == 0)
        e = keeper_round(s, 0);
    struct index_row *rows = arena_alloc(a, max * sizeof *rows);
    struct store_row *list = arena_zalloc(a, max * sizeof *list);
    /* None at all means the end, so a slice of removed ones only is not given out. */
    while (e == NULL && shown == 0 && n > 0) {
        e = index_walk(s->index, after_seq, a, rows, max, &n);
        for (size_t i = 0; e == NULL && i < n; i++) {
            after_seq = rows[i].seq;
            if (umap_get(&s->dead, after_seq) == NULL)
                e = show_row(&rows[i], a, &list[shown++]);
        }
    }
    if (e != NULL)
        return index_trouble(s, e);
    *out = list;
    *count_out = shown;
    return NULL;
}

struct err *store_show(struct store *s, uint64_t seq, struct arena *a, struct store_row **out)
{
    struct qmsg *m = NULL;
    struct err *e = store_get(s, seq, &m);
    if (e != NULL)
        return e;
    struct store_row *row = NULL;
    if (m != NULL) {
        row = ARENA_NEW(a, struct store_row);
        *row = (struct store_row){.seq = seq,
                                  .flags = qmsg_flags(m),
                                  .due_us = qmsg_due_us(m),
                                  .env = envelope_copy(m->env, a)};
        qmsg_unref(m);
    }
    *out = row;
    return NULL;
}
