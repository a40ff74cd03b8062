/* acts: postsuper's and postqueue's doings, on the scheduler thread. */
#include "io/base/check.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "queue/private.h"

#define SLICE 256

struct on_sched {
    void (*fn)(void *arg);
    void *arg;
    struct completion done;
};

static void on_sched_main(void *arg)
{
    struct on_sched *o = arg;
    fiber_shield_begin();
    o->fn(o->arg);
    fiber_shield_end();
    completion_signal(&o->done);
}

void queue_on_sched(struct queue *q, void (*fn)(void *arg), void *arg)
{
    if (worker_self() == q->home) {
        fn(arg);
        return;
    }
    struct on_sched o = {.fn = fn, .arg = arg};
    completion_init(&o.done);
    worker_spawn(q->home, "act", on_sched_main, &o);
    completion_wait(&o.done);
}

void err_copy_take(struct err_copy *c, struct err *e)
{
    if (!e)
        return;
    c->set = true;
    c->err = *e;
}

struct err *err_copy_give(const struct err_copy *c)
{
    if (!c->set)
        return NULL;
    return err_new(c->err.kind, c->err.code, "%s", c->err.text);
}

/* --- queue_do */

struct doing {
    struct queue *queue;
    enum queue_act act;
    const struct queue_select *what;
    struct buf ids; /* QUEUE_ID_MAX bytes each */
    uint64_t count;
    struct err_copy err;
};

static struct mark mark_of(struct qmsg *m)
{
    return (struct mark){.flags = qmsg_flags(m), .due_us = qmsg_due_us(m)};
}

static void do_remove(struct qmsg *m, struct active *a)
{
    store_remove(m);
    if (a) {
        a->want_remove = true;
        active_stop(a);
        active_settle(a);
    }
}

static void do_hold(struct qmsg *m, struct active *a)
{
    struct mark k = mark_of(m);
    k.flags |= MESSAGE_HOLD;
    store_mark(m, &k);
    if (a) {
        a->want_hold = true;
        active_stop(a);
        active_settle(a);
    }
}

/* With new flags, and unless it is held: at once. What is being delivered comes back when its
 * running attempts have ended. */
static void try_now(struct queue *q, struct qmsg *m, struct active *a, uint32_t flags)
{
    struct mark k = {.flags = flags};
    bool hold = flags & MESSAGE_HOLD;
    store_mark(m, &k);
    if (a) {
        a->want_hold = hold;
        a->force_expire = flags & MESSAGE_EXPIRE;
        a->again = !hold;
        active_stop(a);
        active_settle(a);
    } else if (!q->offline && !hold) {
        loader_take_or_leave(q->sched, qmsg_ref(m));
    }
}

static bool act_one(struct doing *d, struct qmsg *m)
{
    struct active *a = umap_get(&d->queue->sched->active, m->seq);
    uint32_t flags = qmsg_flags(m);
    if ((flags & MESSAGE_IMPORT) && d->act != QUEUE_ACT_REMOVE)
        return false;
    switch (d->act) {
    case QUEUE_ACT_REMOVE:
        if (a && a->want_remove)
            return false;
        do_remove(m, a);
        return true;
    case QUEUE_ACT_HOLD:
        if (flags & MESSAGE_HOLD)
            return false;
        do_hold(m, a);
        return true;
    case QUEUE_ACT_RELEASE:
        if (!(flags & MESSAGE_HOLD))
            return false;
        try_now(d->queue, m, a, flags & ~(uint32_t)MESSAGE_HOLD);
        return true;
    case QUEUE_ACT_REQUEUE:
        try_now(d->queue, m, a, flags & ~(uint32_t)MESSAGE_HOLD);
        return true;
    case QUEUE_ACT_EXPIRE: /* held mail stays held, and expires when it is released */
        try_now(d->queue, m, a, flags | MESSAGE_EXPIRE);
        return true;
    }
    UNREACHABLE();
}

enum queue_name queue_name_of(struct queue *q, uint64_t seq, uint32_t flags,
                              const struct envelope *env)
{
    if (flags & MESSAGE_HOLD)
        return QUEUE_HOLD;
    if (umap_get(&q->sched->active, seq))
        return QUEUE_ACTIVE;
    for (size_t i = 0; i < env->rcpt_count; i++)
        if (env->rcpts[i].state == RCPT_DEFERRED)
            return QUEUE_DEFERRED;
    return QUEUE_INCOMING;
}

static void act_on(struct doing *d, struct qmsg *m)
{
    enum queue_name in = queue_name_of(d->queue, m->seq, qmsg_flags(m), m->env);
    char id[QUEUE_ID_MAX];
    memcpy(id, m->id, sizeof(id));
    if (d->what->queue != QUEUE_ANY && d->what->queue != in)
        return;
    if (!m->queue)
        m->queue = d->queue;
    if (!act_one(d, m))
        return;
    buf_add(&d->ids, id, sizeof(id));
    d->count++;
}

static struct err *find(struct queue *q, struct str id, struct qmsg **out)
{
    uint64_t seq;
    uint32_t usec;
    *out = NULL;
    if (!queue_id_parse(id, &seq, &usec))
        return NULL;
    struct err *e = store_hidden(q->store, seq) ? store_wait_ready(q->store) : NULL;
    if (!e)
        e = store_get(q->store, seq, out);
    if (!e && *out && !str_eq(str_of((*out)->id), id)) {
        qmsg_unref(*out);
        *out = NULL;
    }
    return e;
}

static struct err *act_all(struct doing *d)
{
    struct arena *a = arena_new(16384, 0);
    struct err *e = NULL;
    uint64_t after = 0;
    size_t n = 0;
    do {
        struct store_row *rows;
        arena_reset(a);
        e = store_list(d->queue->store, after, SLICE, a, &rows, &n);
        for (size_t i = 0; !e && i < n; i++) {
            struct qmsg *m;
            after = rows[i].seq;
            e = store_get(d->queue->store, after, &m);
            if (!e && m) {
                act_on(d, m);
                qmsg_unref(m);
            }
        }
        if (!e)
            fiber_yield();
    } while (!e && n > 0);
    arena_free(a);
    return e;
}

static void do_main(void *arg)
{
    struct doing *d = arg;
    struct err *e = NULL;
    if (d->what->id.len > 0) {
        struct qmsg *m;
        e = find(d->queue, d->what->id, &m);
        if (!e && m) {
            act_on(d, m);
            qmsg_unref(m);
        }
    } else {
        e = act_all(d);
    }
    if (!e && d->count > 0)
        e = store_sync(d->queue->store);
    err_copy_take(&d->err, e);
}

struct err *queue_do(struct queue *q, enum queue_act act, const struct queue_select *what,
                     void (*each)(void *ctx, const char *id), void *ctx, uint64_t *count_out)
{
    struct doing d = {.queue = q, .act = act, .what = what};
    queue_on_sched(q, do_main, &d);
    for (uint64_t i = 0; each && !d.err.set && i < d.count; i++)
        each(ctx, d.ids.ptr + i * QUEUE_ID_MAX);
    buf_fini(&d.ids);
    if (!d.err.set && count_out)
        *count_out = d.count;
    return err_copy_give(&d.err);
}

/* --- queue_flush */

struct flushing {
    struct queue *queue;
    struct str id, site;
    bool found;
    struct err_copy err;
};

static void revive_all(struct sched *s)
{
    size_t t_at = 0;
    struct str key;
    void *t, *d;
    while (hmap_next(&s->transports, &t_at, &key, &t)) {
        size_t d_at = 0;
        while (hmap_next(&((struct transport *)t)->dests, &d_at, &key, &d))
            if (((struct dest *)d)->state == DEST_DEAD)
                dest_revive(d);
    }
}

struct flush_job {
    struct queue *queue;
    struct str site;
    char site_text[256];
};

static void flush_job_main(void *arg)
{
    struct flush_job *j = arg;
    struct sched *s = j->queue->sched;
    fiber_shield_begin();
    loader_flush(s, j->site);
    fiber_shield_end();
    mem_free(j);
    sched_fiber_ended(s);
}

static void flush_main(void *arg)
{
    struct flushing *f = arg;
    struct queue *q = f->queue;
    revive_all(q->sched);
    f->found = true;
    if (f->id.len > 0) {
        struct qmsg *m;
        struct err *e = find(q, f->id, &m);
        f->found = m != NULL;
        err_copy_take(&f->err, e);
        if (!e && m && !(qmsg_flags(m) & MESSAGE_HOLD) && !umap_get(&q->sched->active, m->seq)) {
            (void)loader_take(q->sched, m, true);
        } else if (m) {
            qmsg_unref(m);
        }
        return;
    }
    if (q->offline || q->sched->draining)
        return;
    struct flush_job *j = MEM_NEW(struct flush_job);
    j->queue = q;
    j->site = str_make(j->site_text, str_copy(j->site_text, sizeof(j->site_text), f->site));
    q->sched->requests_out++;
    worker_spawn(q->home, "flush", flush_job_main, j);
}

struct err *queue_flush(struct queue *q, struct str id, struct str site, bool *found_out)
{
    struct flushing f = {.queue = q, .id = id, .site = site};
    queue_on_sched(q, flush_main, &f);
    if (!f.err.set)
        *found_out = f.found;
    return err_copy_give(&f.err);
}
