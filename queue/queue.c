#include "queue/queue.h"

#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "queue/private.h"

static void store_options_of(const struct queue_options *o, struct store_options *out)
{
    *out = (struct store_options){
        .directory = o->directory,
        .long_ids = o->long_ids,
        .minfree_bytes = o->minfree_bytes,
        .inline_limit_bytes = o->inline_limit_bytes,
        .segment_bytes = o->segment_bytes,
        .memory_limit_bytes = o->memory_limit_bytes,
        .mark_delay_ms = o->mark_delay_ms,
        .replay_at_once_bytes = o->replay_at_once_bytes,
    };
}

struct err *queue_open(const struct queue_options *options, const struct queue_hooks *hooks,
                       struct worker **workers, size_t n_workers, struct queue **out)
{
    CHECK(worker_self() != NULL && fiber_self() != NULL);
    struct store_options so;
    store_options_of(options, &so);
    struct store *store;
    struct err *e = store_open(&so, &store);
    if (e)
        return err_in(e, "queue directory %s", options->directory);
    struct queue *q = MEM_NEW(struct queue);
    q->store = store;
    q->offline = options->offline;
    if (hooks)
        q->hooks = *hooks;
    q->sched = sched_new(q, store, workers, n_workers, &q->hooks, options->sched);
    q->home = worker_self();
    e = suspend_open(&q->sched->suspensions, options->data_directory);
    if (e) {
        fiber_shield_begin();
        sched_free(q->sched);
        struct err *closing = store_close(store);
        if (closing)
            log_warning("qmgr", "%s", closing->text);
        fiber_shield_end();
        mem_free(q);
        return e;
    }
    if (!q->offline)
        loader_start(q->sched);
    *out = q;
    return NULL;
}

/* --- reload */

struct reconfigure {
    struct mbox_msg mbox;
    struct queue *queue;
    struct sched_options sched;
    struct arena *arena;
};

static void reconfigure_on_sched(struct mbox_msg *msg)
{
    struct reconfigure *r = CONTAINER(msg, struct reconfigure, mbox);
    sched_configure(r->queue->sched, &r->sched);
    arena_free(r->arena);
}

void queue_reconfigure(struct queue *q, const struct queue_options *options)
{
    struct store_options so;
    store_options_of(options, &so);
    store_reconfigure(q->store, &so);
    struct arena *a = arena_new(0, 0);
    struct reconfigure *r = ARENA_NEW(a, struct reconfigure);
    r->arena = a;
    r->queue = q;
    r->mbox.fn = reconfigure_on_sched;
    const struct sched_options *o = options->sched;
    r->sched = *o;
    struct sched_transport *list = arena_zalloc(a, (o->transport_count + 1) * sizeof(*list));
    for (size_t i = 0; i < o->transport_count; i++) {
        list[i] = o->transports[i];
        list[i].name = arena_cstr(a, str_of(list[i].name));
        list[i].why = arena_cstr(a, str_of(list[i].why));
    }
    r->sched.transports = list;
    r->sched.fallback.why = arena_cstr(a, str_of(o->fallback.why));
    r->sched.defer_transports = arena_cstr(a, str_of(o->defer_transports));
    worker_post(q->home, &r->mbox);
}

/* --- stop */

struct err *queue_drain(struct queue *q, int64_t deadline_ns)
{
    struct sched *s = q->sched;
    CHECK(worker_self() == q->home);
    loader_stop(s);
    store_end_waits(q->store);
    request_drain(s);
    event_set(&s->room);
    while (s->requests_out > 0) {
        event_clear(&s->idle);
        struct err *e = event_wait(&s->idle, deadline_ns);
        if (e)
            return err_in(e, "%zu deliveries are still running", s->requests_out);
    }
    return NULL;
}

struct err *queue_close(struct queue *q)
{
    CHECK(worker_self() == q->home);
    fiber_shield_begin();
    struct err *e = queue_drain(q, clock_in_s(10));
    if (!e) {
        sched_free(q->sched);
        e = store_close(q->store);
        mem_free(q);
    }
    fiber_shield_end();
    return e;
}

/* --- intake */

struct err *queue_begin(struct queue *q, struct draft **out)
{
    return store_begin(q->store, q, out);
}

bool queue_full(struct queue *q)
{
    return store_full(q->store);
}

bool queue_crowded(const struct queue *q)
{
    return store_crowded(q->store);
}

/* It stays in the log and is found through the index, if it is not gone or held by now. */
static void leave_in_log(struct sched *s, struct qmsg *m)
{
    qmsg_drop_content(m);
    __atomic_store_n(&m->claimed, 0, __ATOMIC_RELEASE);
    qmsg_unref(m);
    if (!s->draining)
        loader_soon(s);
}

static bool welcome(struct sched *s, struct qmsg *m)
{
    atomic_fetch_sub_explicit(&s->arriving, 1, memory_order_relaxed);
    if (!s->draining && loader_fits(s, m) && !qmsg_removed(m) && !(qmsg_flags(m) & MESSAGE_HOLD))
        return true;
    leave_in_log(s, m);
    share_watch(s);
    return false;
}

static void arrived_on_sched(struct mbox_msg *msg)
{
    struct qmsg *m = CONTAINER(msg, struct qmsg, mbox);
    struct sched *s = m->queue->sched;
    if (welcome(s, m))
        sched_resolved(sched_admit(s, m));
}

/* No fiber was to be had for it where it came in. */
static void unresolved_on_sched(struct mbox_msg *msg)
{
    struct qmsg *m = CONTAINER(msg, struct qmsg, mbox);
    struct sched *s = m->queue->sched;
    if (welcome(s, m))
        sched_resolve(sched_admit(s, m));
}

/* Its recipients are read when it comes from the index, some at a time. */
static void long_on_sched(struct mbox_msg *msg)
{
    struct qmsg *m = CONTAINER(msg, struct qmsg, mbox);
    struct sched *s = m->queue->sched;
    atomic_fetch_sub_explicit(&s->arriving, 1, memory_order_relaxed);
    leave_in_log(s, m);
}

/* On the worker that took the mail in, after the reply is on its way. */
static void arrival_main(void *arg)
{
    struct qmsg *m = arg;
    const struct queue_hooks *hooks = &m->queue->hooks;
    hooks->resolve(hooks->ctx, m);
    order_recipients(m);
    m->mbox.fn = arrived_on_sched;
    worker_post(m->queue->home, &m->mbox);
}

struct err *queue_commit(struct draft *d, struct envelope *env)
{
    struct queue *q = d->queue;
    struct qmsg *m;
    bool held = (env->flags & ENV_HOLD) || (d->flags & MESSAGE_HOLD);
    uint32_t slice = store_slice(q->store);
    bool is_long = slice > 0 && env->rcpt_count > slice;
    struct err *e = store_commit(d, env, &m);
    if (e)
        return e;
    /* From here on the scheduler may have it too: only what never changes is looked at. */
    bool wanted = !q->offline && !held;
    if (!wanted || __atomic_exchange_n(&m->claimed, 1, __ATOMIC_ACQ_REL) != 0) {
        qmsg_unref(m);
        return NULL;
    }
    atomic_fetch_add_explicit(&q->sched->arriving, 1, memory_order_relaxed);
    if (is_long) {
        m->mbox.fn = long_on_sched;
        worker_post(q->home, &m->mbox);
    } else if (!fiber_spawn("arrival", arrival_main, m)) {
        m->mbox.fn = unresolved_on_sched;
        worker_post(q->home, &m->mbox);
    }
    return NULL;
}

struct queue_counts queue_counts(struct queue *q)
{
    struct store_counts c = store_counts(q->store);
    uint64_t active = atomic_load_explicit(&q->sched->active_count, memory_order_relaxed);
    uint64_t incoming = atomic_load_explicit(&q->sched->arriving, memory_order_relaxed);
    uint64_t others = active + incoming + c.held;
    return (struct queue_counts){
        .active = active,
        .deferred = c.messages > others ? c.messages - others : 0,
        .hold = c.held,
        .incoming = incoming,
        .corrupt = c.corrupt,
        .log_bytes = c.log_bytes,
        .live_bytes = c.live_bytes,
        .segments = c.segments,
    };
}

int queue_ready_percent(const struct queue *q)
{
    return store_ready_percent(q->store);
}
