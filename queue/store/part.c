/* Messages with very many recipients: those are read from the index some at a time. What is in memory of all of them is a
 * byte, and what was marked until the keeper has put it into the row: row and changes together are the truth, as
 * row and marks in the log are after a crash. */
#include "io/base/check.h"
#include "io/base/mem.h"
#include "queue/store/private.h"

void store_set_slice(struct store *s, uint32_t recipients)
{
    atomic_store_explicit(&s->slice, recipients, memory_order_relaxed);
}

uint32_t store_slice(const struct store *s)
{
    return atomic_load_explicit(&s->slice, memory_order_relaxed);
}

bool part_wanted(const struct store *s, const struct index_row *row)
{
    enum { RCPT_BYTES_MIN = 6 };
    struct envelope_view v;
    uint32_t slice = store_slice(s);
    return slice > 0 && row->envelope.len / RCPT_BYTES_MIN > slice &&
           envelope_look(row->envelope, row->states, &v) && v.left > slice;
}

struct err *part_load(struct store *s, const struct index_row *row, struct arena *a,
                      struct envelope **env_out, struct part **out)
{
    struct part *p = MEM_NEW(struct part);
    struct err *e = envelope_unpack_head(row->envelope, a, env_out, &p->total);
    (void)s;
    p->states = mem_alloc((size_t)p->total + 1);
    if (e == NULL && !envelope_unpack_states(row->states, p->total, p->states))
        e = err_new(ERR_DAMAGED, 0, "recipients of message %llx", (unsigned long long)row->seq);
    if (e != NULL) {
        part_free(p);
        return e;
    }
    for (uint32_t i = 0; i < p->total; i++)
        p->counts[p->states[i]]++;
    *out = p;
    return NULL;
}

void part_free(struct part *p)
{
    if (p == NULL)
        return;
    mem_free(p->states);
    buf_fini(&p->changes);
    mem_free(p);
}

void part_mark(struct part *p, const struct mark *k)
{
    for (size_t i = 0; i < k->rcpt_count; i++) {
        const struct mark_rcpt *r = &k->rcpts[i];
        if (r->index >= p->total)
            continue;
        p->counts[p->states[r->index]]--;
        p->counts[r->state]++;
        p->states[r->index] = (uint8_t)r->state;
        envelope_pack_change(&(struct rcpt_change){r->index, r->state, &r->why}, &p->changes);
    }
}

void part_put_done(struct part *p)
{
    size_t left = p->changes.len - p->put;
    if (left == 0) {
        buf_fini(&p->changes);
    } else {
        memmove(p->changes.ptr, p->changes.ptr + p->put, left);
        p->changes.len = left;
    }
    p->put = 0;
}

/* --- looking */

size_t qmsg_recipients(const struct qmsg *m)
{
    return m->part != NULL ? m->part->total : m->env->rcpt_count;
}

size_t qmsg_count(const struct qmsg *m, unsigned states)
{
    size_t n = 0;
    if (m->part != NULL) {
        for (unsigned state = 0; state <= RCPT_NOTIFIED; state++)
            n += states & 1U << state ? m->part->counts[state] : 0;
        return n;
    }
    for (size_t i = 0; i < m->env->rcpt_count; i++)
        n += (states & 1U << m->env->rcpts[i].state) != 0;
    return n;
}

size_t store_part_find(const struct qmsg *m, uint32_t from, unsigned states, uint32_t *indexes_out,
                       size_t max)
{
    const struct part *p = m->part;
    size_t n = 0;
    for (uint32_t i = from; i < p->total && n < max; i++) {
        if (states & 1U << p->states[i])
            indexes_out[n++] = i;
    }
    return n;
}

struct reading {
    struct part *part;
    const uint32_t *indexes;
    size_t n;
    struct arena *arena;
    struct rcpt *out;
    bool whys;
};

static struct err *read_row(void *ctx, const struct index_row *row)
{
    struct reading *g = ctx;
    struct envelope_place place = g->part->read_to;
    if (place.index > g->indexes[0])
        place = (struct envelope_place){0};
    struct err *e = envelope_unpack_some(row->envelope, g->whys ? row->states : STR_NULL, g->indexes, g->n,
                                         g->arena, g->out, &place);
    if (e == NULL)
        g->part->read_to = place;
    return e;
}

static struct err *borrow(const struct qmsg *m, struct err *(*use)(void *ctx, const struct index_row *row),
                          void *ctx)
{
    struct store *s = ((const struct message *)(const void *)m)->store;
    bool found = false;
    if (store_hides(s, m->seq))
        return err_new(ERR_TIMEOUT, 0, "the index is being built again");
    struct err *e = index_borrow(s->index, m->seq, use, ctx, &found);
    if (e == NULL && !found)
        e = err_new(ERR_DAMAGED, 0, "index row of message %llx is gone", (unsigned long long)m->seq);
    return index_trouble(s, e);
}

struct err *store_part_read(struct qmsg *m, const uint32_t *indexes, size_t n, struct arena *a,
                            struct rcpt *out)
{
    struct part *p = m->part;
    struct reading g = {.part = p, .indexes = indexes, .n = n, .arena = a, .out = out};
    CHECK(n > 0 && indexes[n - 1] < p->total);
    for (size_t i = 0; i < n && !g.whys; i++)
        g.whys = p->states[indexes[i]] != RCPT_TODO;
    struct err *e = borrow(m, read_row, &g);
    if (e != NULL)
        return e;
    if (g.whys)
        envelope_change_rcpts(buf_str(&p->changes), indexes, n, a, out);
    for (size_t i = 0; i < n; i++)
        out[i].state = (enum rcpt_state)p->states[indexes[i]];
    return NULL;
}

struct whole {
    struct arena *arena;
    struct envelope *env;
};

static struct err *whole_row(void *ctx, const struct index_row *row)
{
    struct whole *w = ctx;
    return index_envelope(row, w->arena, &w->env);
}

static struct err *read_whole(const struct qmsg *m, struct arena *a, struct envelope **out)
{
    struct whole w = {.arena = a};
    struct err *e = borrow(m, whole_row, &w);
    if (e != NULL)
        return e;
    envelope_change_rcpts(buf_str(&m->part->changes), NULL, w.env->rcpt_count, a, w.env->rcpts);
    *out = w.env;
    return NULL;
}

struct err *part_whole(const struct qmsg *m, struct arena **arena, const struct envelope **out)
{
    struct envelope *env = m->env;
    struct err *e = NULL;
    *arena = NULL;
    if (m->part != NULL) {
        *arena = arena_new(0, 0);
        e = read_whole(m, *arena, &env);
    }
    *out = env;
    return e;
}

/* Not by copying: a worker may be filling in the answers of hooks.resolve right now. */
struct err *store_envelope(const struct qmsg *m, struct arena *a, struct envelope **out)
{
    struct buf packed = {0};
    if (m->part != NULL)
        return read_whole(m, a, out);
    envelope_pack(m->env, &packed);
    struct err *e = envelope_unpack(buf_str(&packed), a, out);
    buf_fini(&packed);
    return e;
}
