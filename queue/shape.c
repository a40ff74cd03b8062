/* shape: what qshape counts, as rows: the scheduler thread looks at the index in slices and packs; counting is for
 * the one who asked, in a process of its own. */
#include "queue/private.h"

enum { STEP_ROWS = 1000, SLICE_STEPS = 4, DOMAIN_MAX = 255 };

struct shaping {
    struct queue *queue;
    const struct queue_shape *what;
    struct store_census census;
    struct buf rows;
    struct err_copy err;
};

/* What stands behind the last @. */
static struct str domain_of(struct str address)
{
    ssize_t at = str_rindex(address, '@');
    struct str d = at < 0 ? address : str_from(address, (size_t)at + 1);
    return d.len > DOMAIN_MAX ? str_from(d, d.len - DOMAIN_MAX) : d;
}

static void put(struct shaping *s, int64_t arrival_us, uint32_t count, struct str domain)
{
    if (count == 0)
        return;
    buf_add_u32(&s->rows, (uint32_t)(arrival_us / US_PER_S));
    buf_add_u32(&s->rows, count);
    buf_add_u8(&s->rows, (uint8_t)domain.len);
    buf_add_str(&s->rows, domain);
}

/* Neighbours in one domain are one row. */
static void put_rcpts(struct shaping *s, struct envelope_view *v)
{
    struct str last = STR(""), address;
    uint32_t count = 0;
    enum rcpt_state state;
    while (envelope_next_rcpt(v, &state, &address)) {
        if (state != RCPT_TODO && state != RCPT_DEFERRED)
            continue;
        struct str domain = domain_of(address);
        if (count > 0 && !str_eq(domain, last)) {
            put(s, v->arrival_us, count, last);
            count = 0;
        }
        last = domain;
        count++;
    }
    put(s, v->arrival_us, count, last);
}

static void one(void *ctx, const struct store_seen *m)
{
    struct shaping *s = ctx;
    enum queue_name in = queue_name_by(s->queue, m->seq, m->flags, m->deferred);
    if ((s->what->queues & 1U << in) == 0)
        return;
    if (s->what->senders)
        put(s, m->view->arrival_us, 1, domain_of(m->view->sender));
    else
        put_rcpts(s, m->view);
}

static void slice(void *arg)
{
    struct shaping *s = arg;
    struct err *e = NULL;
    for (size_t i = 0; !e && i < SLICE_STEPS && !s->census.ended; i++) {
        if (i > 0)
            fiber_yield();
        e = store_census(s->queue->store, &s->census, STEP_ROWS, one, s);
    }
    err_copy_take(&s->err, e);
}

struct err *queue_shape(struct queue *q, const struct queue_shape *what,
                        bool (*each)(void *ctx, struct str rows), void *ctx)
{
    struct shaping s = {.queue = q, .what = what};
    bool wanted = true;
    while (wanted && !s.census.ended && !s.err.set) {
        buf_reset(&s.rows);
        queue_on_sched(q, slice, &s);
        if (s.rows.len > 0)
            wanted = each(ctx, buf_str(&s.rows));
    }
    buf_fini(&s.rows);
    return err_copy_give(&s.err);
}
