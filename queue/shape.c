/* shape: what qshape counts, as rows: some threads look at the index beside each other, and pack; counting is for the one
 * who asked, in a process of its own. */
#include "io/base/check.h"
#include "io/fiber/offload.h"
#include "queue/private.h"

/* So many threads of the pool are asked for at a time: others want to be served, too. */
enum { LANES = 3, STEP_ROWS = 4000, DOMAIN_MAX = 255 };

struct shaping {
    struct queue *queue;
    const struct queue_shape *what;
    struct store_census *census;
    struct umap active; /* seqs of the active queue when it began: the scheduler goes on */
    bool (*each)(void *ctx, struct str rows);
    void *ctx;
    struct sem turn; /* to call each() */
    bool unwanted;   /* it is over, one way or the other */
    struct err_copy err;
};

struct lane {
    struct shaping *shaping;
    struct store_lane at;
    struct buf rows;
    bool ended;
    struct err_copy err;
};

/* What stands behind the last @. */
static struct str domain_of(struct str address)
{
    ssize_t at = str_rindex(address, '@');
    struct str d = at < 0 ? address : str_from(address, (size_t)at + 1);
    return d.len > DOMAIN_MAX ? str_from(d, d.len - DOMAIN_MAX) : d;
}

static void put(struct lane *l, int64_t arrival_us, uint32_t count, struct str domain)
{
    if (count == 0)
        return;
    buf_add_u32(&l->rows, (uint32_t)(arrival_us / US_PER_S));
    buf_add_u32(&l->rows, count);
    buf_add_u8(&l->rows, (uint8_t)domain.len);
    buf_add_str(&l->rows, domain);
}

/* Neighbours in one domain are one row. */
static void put_rcpts(struct lane *l, struct envelope_view *v)
{
    struct str last = STR(""), address;
    uint32_t count = 0;
    enum rcpt_state state;
    while (envelope_next_rcpt(v, &state, &address)) {
        if (state != RCPT_TODO && state != RCPT_DEFERRED)
            continue;
        struct str domain = domain_of(address);
        if (count > 0 && !str_eq(domain, last)) {
            put(l, v->arrival_us, count, last);
            count = 0;
        }
        last = domain;
        count++;
    }
    put(l, v->arrival_us, count, last);
}

static void one(void *ctx, const struct store_seen *m)
{
    struct lane *l = ctx;
    const struct shaping *s = l->shaping;
    enum queue_name in = queue_name_in(&s->active, m->seq, m->flags, m->deferred);
    if ((s->what->queues & 1U << in) == 0)
        return;
    if (s->what->senders)
        put(l, m->view->arrival_us, 1, domain_of(m->view->sender));
    else
        put_rcpts(l, m->view);
}

static void look(void *arg)
{
    struct lane *l = arg;
    err_copy_take(&l->err, store_census_look(l->shaping->census, &l->at, STEP_ROWS, one, l, &l->ended));
}

static void lane_main(void *arg)
{
    struct lane *l = arg;
    struct shaping *s = l->shaping;
    fiber_shield_begin();
    while (!l->ended && !l->err.set && !s->unwanted) {
        buf_reset(&l->rows);
        offload(look, l);
        struct err *e = sem_take(&s->turn, DEADLINE_NEVER);
        CHECK(!e);
        if (l->err.set)
            s->err = l->err;
        if (l->err.set || (!s->unwanted && l->rows.len > 0 && !s->each(s->ctx, buf_str(&l->rows))))
            s->unwanted = true;
        sem_give(&s->turn);
    }
    buf_fini(&l->rows);
    fiber_shield_end();
}

static void begin(void *arg)
{
    struct shaping *s = arg;
    size_t at = 0;
    uint64_t seq;
    void *value;
    struct err *e = store_census_begin(s->queue->store, &s->census);
    err_copy_take(&s->err, e);
    while (!e && umap_next(&s->queue->sched->active, &at, &seq, &value))
        umap_put(&s->active, seq, value);
}

static void end(void *arg)
{
    struct shaping *s = arg;
    struct err *e = store_census_end(s->census, err_copy_give(&s->err));
    s->err.set = false;
    err_copy_take(&s->err, e);
}

struct err *queue_shape(struct queue *q, const struct queue_shape *what,
                        bool (*each)(void *ctx, struct str rows), void *ctx)
{
    struct shaping s = {.queue = q, .what = what, .each = each, .ctx = ctx};
    struct lane lanes[LANES] = {0};
    struct group g;
    queue_on_sched(q, begin, &s);
    if (s.err.set)
        return err_copy_give(&s.err);
    sem_init_count(&s.turn, 1);
    group_init(&g);
    fiber_shield_begin();
    for (size_t i = 0; i < LANES; i++) {
        lanes[i].shaping = &s;
        if (i > 0)
            (void)group_spawn(&g, "shape", lane_main, &lanes[i]);
    }
    lane_main(&lanes[0]);
    struct err *e = group_join(&g, DEADLINE_NEVER);
    CHECK(!e);
    fiber_shield_end();
    queue_on_sched(q, end, &s);
    umap_fini(&s.active);
    return err_copy_give(&s.err);
}
