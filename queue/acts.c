/* acts: postsuper's and postqueue's doings, on the scheduler thread. */
#include "io/base/check.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "queue/private.h"

/* So many are done in one go, then others have a turn; so many before it is made safe and told. */
enum { STEP = 64, SLICE = 4096 };

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
    struct store_query query;
    struct buf ids; /* of this slice, QUEUE_ID_MAX bytes each */
    struct err_copy err;
};

static size_t ids_in(const struct doing *d)
{
    return d->ids.len / QUEUE_ID_MAX;
}

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

/* A message with these flags is one to act on. */
static bool is_for(enum queue_act act, uint32_t flags)
{
    switch (act) {
    case QUEUE_ACT_REMOVE:
        return true;
    case QUEUE_ACT_HOLD:
        return !(flags & (MESSAGE_HOLD | MESSAGE_IMPORT));
    case QUEUE_ACT_RELEASE:
        return (flags & MESSAGE_HOLD) && !(flags & MESSAGE_IMPORT);
    case QUEUE_ACT_EXPIRE: /* who did it twice is told of it once, as in Postfix */
        return !(flags & (MESSAGE_EXPIRE | MESSAGE_IMPORT));
    case QUEUE_ACT_REQUEUE:
    case QUEUE_ACT_FIND:
        return !(flags & MESSAGE_IMPORT);
    }
    UNREACHABLE();
}

static bool act_one(struct doing *d, struct qmsg *m)
{
    struct active *a = umap_get(&d->queue->sched->active, m->seq);
    uint32_t flags = qmsg_flags(m);
    if (!is_for(d->act, flags))
        return false;
    switch (d->act) {
    case QUEUE_ACT_REMOVE:
        if (a && a->want_remove)
            return false;
        do_remove(m, a);
        return true;
    case QUEUE_ACT_HOLD:
        do_hold(m, a);
        return true;
    case QUEUE_ACT_RELEASE:
    case QUEUE_ACT_REQUEUE:
        try_now(d->queue, m, a, flags & ~(uint32_t)MESSAGE_HOLD);
        return true;
    case QUEUE_ACT_EXPIRE: /* held mail stays held, and expires when it is released */
        try_now(d->queue, m, a, flags | MESSAGE_EXPIRE);
        return true;
    case QUEUE_ACT_FIND:
        return !a || !a->want_remove;
    }
    UNREACHABLE();
}

enum queue_name queue_name_in(const struct umap *active, uint64_t seq, uint32_t flags, bool deferred)
{
    if (flags & MESSAGE_HOLD)
        return QUEUE_HOLD;
    if (umap_get(active, seq))
        return QUEUE_ACTIVE;
    return deferred ? QUEUE_DEFERRED : QUEUE_INCOMING;
}

enum queue_name queue_name_by(struct queue *q, uint64_t seq, uint32_t flags, bool deferred)
{
    return queue_name_in(&q->sched->active, seq, flags, deferred);
}

enum queue_name queue_name_of(struct queue *q, uint64_t seq, uint32_t flags,
                              const struct envelope *env)
{
    bool deferred = false;
    for (size_t i = 0; !deferred && i < env->rcpt_count; i++)
        deferred = env->rcpts[i].state == RCPT_DEFERRED;
    return queue_name_by(q, seq, flags, deferred);
}

static bool queue_fits(const struct doing *d, enum queue_name in)
{
    return d->what->queue == QUEUE_ANY || d->what->queue == in;
}

static void touched(struct doing *d, const char *id)
{
    size_t n = strlen(id);
    memset(buf_reserve(&d->ids, QUEUE_ID_MAX), 0, QUEUE_ID_MAX);
    memcpy(d->ids.ptr + d->ids.len, id, n);
    d->ids.len += QUEUE_ID_MAX;
}

static void act_on(struct doing *d, struct qmsg *m)
{
    char id[QUEUE_ID_MAX];
    memcpy(id, m->id, sizeof(id)); /* it may be gone with the act */
    if (!queue_fits(d, queue_name_by(d->queue, m->seq, qmsg_flags(m), qmsg_count(m, 1 << RCPT_DEFERRED) > 0)))
        return;
    if (!m->queue)
        m->queue = d->queue;
    if (act_one(d, m))
        touched(d, id);
}

/* What the index says of a message decides as long as the message is not in memory: many are passed
 * over, or removed, without being loaded. */
static struct err *act_on_pick(struct doing *d, const struct store_pick *p)
{
    struct store *store = d->queue->store;
    struct qmsg *m = store_get_cached(store, p->seq);
    struct err *e = NULL;
    if (!m) {
        if (!is_for(d->act, p->flags) ||
            !queue_fits(d, queue_name_by(d->queue, p->seq, p->flags, p->deferred)))
            return NULL;
        char id[QUEUE_ID_MAX];
        store_id(p->flags, p->arrival_us, p->seq, id);
        if (d->act == QUEUE_ACT_FIND || (d->act == QUEUE_ACT_REMOVE && store_remove_pick(store, p))) {
            touched(d, id);
            return NULL;
        }
        e = store_get(store, p->seq, &m);
    }
    if (!e && m)
        act_on(d, m);
    qmsg_unref(m);
    return e;
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

/* One slice, in steps between which others have a turn. */
static struct err *act_slice(struct doing *d)
{
    struct store_pick picks[STEP];
    struct err *e = NULL;
    for (size_t step = 0; !e && step < SLICE / STEP && !d->query.ended; step++) {
        size_t n = 0;
        if (step > 0)
            fiber_yield();
        e = store_query(d->queue->store, &d->query, picks, STEP, &n);
        for (size_t i = 0; !e && i < n; i++)
            e = act_on_pick(d, &picks[i]);
    }
    return e;
}

/* The active queue is in memory, and small beside the others. */
static struct err *act_active(struct doing *d)
{
    struct buf seqs = {0};
    struct err *e = NULL;
    size_t at = 0, n = 0;
    uint64_t seq;
    void *value;
    while (umap_next(&d->queue->sched->active, &at, &seq, &value))
        buf_add(&seqs, &seq, sizeof(seq));
    for (at = 0; !e && at < seqs.len; at += sizeof(seq)) {
        struct qmsg *m = NULL;
        memcpy(&seq, seqs.ptr + at, sizeof(seq));
        e = store_get(d->queue->store, seq, &m);
        if (!e && m)
            act_on(d, m);
        qmsg_unref(m);
        if (++n % STEP == 0)
            fiber_yield();
    }
    d->query.ended = true;
    buf_fini(&seqs);
    return e;
}

static struct err *act_on_id(struct doing *d, struct str id)
{
    struct qmsg *m;
    struct err *e = find(d->queue, id, &m);
    if (!e && m && store_fits(m, &d->query))
        act_on(d, m);
    qmsg_unref(m);
    return e;
}

/* They are named, so there are not many. */
static struct err *act_by_id(struct doing *d)
{
    struct str rest = d->what->id, id;
    struct err *e = NULL;
    size_t n = 0;
    d->query.ended = true;
    while (!e && str_token(&rest, " ", &id)) {
        e = act_on_id(d, id);
        if (++n % STEP == 0)
            fiber_yield();
    }
    return e;
}

static bool only_active(const struct queue_select *what)
{
    return what->queue == QUEUE_ACTIVE && what->sender.len == 0 && what->domain.len == 0 &&
           what->destination.len == 0;
}

/* What was done before an error is told of too. */
static void do_main(void *arg)
{
    struct doing *d = arg;
    struct store *store = d->queue->store;
    struct err *e, *unsafe = NULL;
    if (d->what->id.len > 0)
        e = act_by_id(d);
    else if (only_active(d->what))
        e = act_active(d);
    else
        e = act_slice(d);
    if (d->ids.len > 0 && d->act != QUEUE_ACT_FIND)
        unsafe = store_sync(store);
    if (unsafe)
        buf_reset(&d->ids);
    else if (!e && !d->query.ended)
        e = store_catch_up(store);
    err_copy_take(&d->err, unsafe ? unsafe : e);
}

struct err *queue_do(struct queue *q, enum queue_act act, const struct queue_select *what,
                     void (*each)(void *ctx, const char *id), void *ctx, uint64_t *count_out)
{
    struct doing d = {.queue = q, .act = act, .what = what};
    uint64_t count = 0;
    d.query = (struct store_query){.sender = what->sender,
                                   .domain = what->domain,
                                   .destination = what->destination,
                                   .held = what->queue == QUEUE_HOLD};
    while (!d.query.ended && !d.err.set) {
        buf_reset(&d.ids);
        queue_on_sched(q, do_main, &d);
        size_t n = ids_in(&d);
        for (size_t i = 0; each && i < n; i++)
            each(ctx, d.ids.ptr + i * QUEUE_ID_MAX);
        count += n;
    }
    buf_fini(&d.ids);
    if (count_out)
        *count_out = count;
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
        transport_revive(t);
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
