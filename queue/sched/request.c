#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/fiber/wait.h"
#include "queue/sched/state.h"

#define REQUEST_MAGIC 0x52455155u

/* --- making one and sending it out (scheduler thread) */

static struct request *request_new(struct dest *d, const struct entry *e, uint32_t count)
{
    struct arena *arena = arena_new(512, 0);
    struct request *r = ARENA_NEW(arena, struct request);
    r->magic = REQUEST_MAGIC;
    r->arena = arena;
    r->msg = qmsg_ref(e->active->m);
    r->transport = d->transport->opts.name;
    r->nexthop = arena_cstr(arena, str_of(d->nexthop));
    r->rcpt_count = count;
    r->rcpts = arena_zalloc(arena, count * sizeof(*r->rcpts));
    for (uint32_t i = 0; i < count; i++) {
        r->rcpts[i].index = e->rcpts[e->at + i];
        r->rcpts[i].rcpt = &r->msg->env->rcpts[r->rcpts[i].index];
    }
    r->made_us = clock_wall_us();
    r->dest = d;
    return r;
}

static void request_free(struct request *r)
{
    struct qmsg *m = r->msg;
    r->magic = 0;
    arena_free(r->arena);
    qmsg_unref(m);
}

/* On the worker: the fiber of an agent. */
static void agent_main(void *arg)
{
    struct request *r = arg;
    const struct queue_hooks *hooks = r->dest->transport->sched->hooks;
    hooks->deliver(hooks->ctx, r);
}

static void on_worker(struct mbox_msg *msg)
{
    struct request *r = CONTAINER(msg, struct request, mbox);
    CHECK_MAGIC(r, REQUEST_MAGIC);
    if (!fiber_spawn("deliver", agent_main, r))
        worker_spawn(worker_self(), "deliver", agent_main, r); /* waits until a session has ended */
}

static void answer_on_worker(struct mbox_msg *msg)
{
    struct agent_wait *w = CONTAINER(msg, struct agent_wait, answer);
    w->answered = true;
    fiber_wake(w->fiber);
}

static void answer(struct agent_wait *w, struct request *next)
{
    if (w->listed) {
        list_remove(&w->link);
        w->listed = false;
    }
    w->next = next;
    w->answer.fn = answer_on_worker;
    worker_post(w->worker, &w->answer);
}

static struct request *next_share(struct dest *d, struct entry *e)
{
    int64_t limit = d->transport->opts.recipient_limit;
    struct slots *slots = &e->job->slots;
    uint32_t left = e->count - e->at;
    uint32_t n = limit > 0 && limit < left ? (uint32_t)limit : left;
    struct request *r = request_new(d, e, n);
    e->at += n;
    e->active->running++;
    int64_t requests = dest_requests(d, e);
    slots->left += requests - e->requests;
    slots_sent(slots);
    e->requests = requests;
    if (e->at < e->count)
        return r;
    dest_take_out(e);
    list_remove(&e->peers);
    mem_free(e);
    return r;
}

void request_emit(struct dest *d, struct entry *e)
{
    struct sched *s = d->transport->sched;
    struct request *r = next_share(d, e);
    d->busy++;
    transport_started(d->transport, r);
    s->requests_out++;
    if (!list_empty(&d->idle)) {
        struct agent_wait *w = CONTAINER(d->idle.next, struct agent_wait, link);
        r->worker = w->worker;
        answer(w, r);
        return;
    }
    r->worker = s->workers[s->next_worker++ % s->n_workers];
    r->mbox.fn = on_worker;
    worker_post(r->worker, &r->mbox);
}

/* --- what came back (scheduler thread) */

static struct str keep(struct arena *a, struct str s)
{
    return s.len > 0 ? arena_str(a, s) : STR("");
}

static void keep_why(struct qmsg *m, struct rcpt *rcpt, const struct dsn *why)
{
    if (m->part) { /* it is marked at once, and its slot goes to somebody else */
        rcpt->why = *why;
        return;
    }
    rcpt->why = (struct dsn){.text = keep(m->arena, why->text),
                             .mta = keep(m->arena, why->mta),
                             .diagnostic = keep(m->arena, why->diagnostic)};
    memcpy(rcpt->why.status, why->status, sizeof(rcpt->why.status));
}

static void take_result(struct active *a, struct request_rcpt *rr)
{
    struct qmsg *m = a->m;
    struct rcpt *rcpt = &m->env->rcpts[rr->index];
    if (rr->result == REQUEST_PENDING) {
        rr->result = REQUEST_DEFER;
        rr->dsn = (struct dsn){.status = "4.3.0", .text = STR("unknown mail transport error")};
    }
    switch (rr->result) {
    case REQUEST_SENT: /* why matters only to those who will be told */
        rcpt->state = RCPT_DONE;
        rcpt->why = (struct dsn){.text = STR(""), .mta = STR(""), .diagnostic = STR("")};
        if (!(rcpt->notify & NOTIFY_SUCCESS) || rr->told_elsewhere)
            return;
        if (a->refill) {
            refill_note_success(a, rcpt->index);
            break;
        }
        if (!a->fresh)
            a->fresh = mem_alloc(m->env->rcpt_count * sizeof(*a->fresh));
        a->fresh[a->fresh_count++] = rr->index;
        break;
    case REQUEST_BOUNCE:
        rcpt->state = RCPT_BOUNCED;
        rcpt->turn = ++a->turns;
        break;
    case REQUEST_DEFER:
    case REQUEST_PENDING:
        rcpt->state = RCPT_DEFERRED;
        /* What was wrong with it says more than that somebody lost patience. */
        if (a->force_expire && rcpt->why.status[0])
            return;
        break;
    }
    keep_why(m, rcpt, &rr->dsn);
}

/* In the order in which the agent knew; those it said nothing of come last. */
static void take_results(struct active *a, struct request *r)
{
    uint32_t *order = arena_zalloc(r->arena, (r->turns + 1) * sizeof(*order));
    for (size_t i = 0; i < r->rcpt_count; i++)
        order[r->rcpts[i].turn] = (uint32_t)i;
    for (uint32_t turn = 1; turn <= r->turns; turn++)
        take_result(a, &r->rcpts[order[turn]]);
    for (size_t i = 0; i < r->rcpt_count; i++)
        if (r->rcpts[i].turn == 0)
            take_result(a, &r->rcpts[i]);
}

/* A message whose recipients are all delivered needs no marks: its tombstone says it. */
static bool ends_here(const struct active *a)
{
    if (a->running > 0 || !list_empty(&a->entries) || a->fresh_count > 0 || a->refill)
        return false;
    for (size_t i = 0; i < a->m->env->rcpt_count; i++) {
        enum rcpt_state st = a->m->env->rcpts[i].state;
        if (st != RCPT_DONE && st != RCPT_NOTIFIED)
            return false;
    }
    return true;
}

/* Those that are deferred are marked all at once when the message goes to sleep. */
static void mark_results(struct active *a, struct request *r)
{
    if (ends_here(a))
        return;
    size_t n = 0;
    uint32_t *list = arena_alloc(r->arena, r->rcpt_count * sizeof(*list));
    for (size_t i = 0; i < r->rcpt_count; i++)
        if (r->rcpts[i].result != REQUEST_DEFER || a->refill)
            list[n++] = r->rcpts[i].index;
    active_mark(a, list, n);
    if (a->refill)
        refill_settled(a, r);
}

/* Nothing of what was asked for was answered: Postfix's words for an agent that has died. */
static void note_silence(struct request *r)
{
    for (size_t i = 0; i < r->rcpt_count; i++)
        if (r->rcpts[i].turn > 0 || r->rcpts[i].result != REQUEST_PENDING)
            return;
    r->transport_failed = true;
    r->dest_why = (struct dsn){.status = "4.3.0", .text = STR("unknown mail transport error")};
}

/* The destination first, the message last: when it is settled, everybody else is done with it. */
static void take_back(struct request *r, struct agent_wait *w)
{
    struct active *a = r->msg->sched;
    struct sched *s = a->sched;
    struct dest *d = r->dest;
    struct transport *t = d->transport;
    CHECK(a->running > 0);
    a->running--;
    why_replied(&s->memory, r);
    if (!s->draining) /* else it was told to stop */
        note_silence(r);
    take_results(a, r);
    mark_results(a, r);
    if (r->damaged)
        active_damaged(a); /* d is busy still, and stays */
    transport_finished(t, r);
    dest_finished(d, r->dest_dead, &r->dest_why);
    if (r->transport_failed) {
        d->pins++;
        transport_failed(t, &r->dest_why);
        d->pins--;
    }
    if (w && (r->dest_dead || r->transport_failed || s->draining)) {
        answer(w, NULL);
    } else if (w) {
        list_push_front(&d->idle, &w->link);
        w->listed = true;
    }
    request_free(r);
    dest_pump(d);
    dest_release(d);
    transport_pump(t);
    refill_maybe(a);
    refill_serve(t);
    active_settle(a);
    sched_fiber_ended(s);
}

static void done_on_sched(struct mbox_msg *msg)
{
    struct request *r = CONTAINER(msg, struct request, mbox);
    CHECK_MAGIC(r, REQUEST_MAGIC);
    take_back(r, NULL);
}

static void next_on_sched(struct mbox_msg *msg)
{
    struct agent_wait *w = CONTAINER(msg, struct agent_wait, to_sched);
    struct request *r = w->done;
    CHECK_MAGIC(r, REQUEST_MAGIC);
    w->dest = r->dest;
    take_back(r, w);
}

static void leave_acked_on_worker(struct mbox_msg *msg)
{
    struct agent_wait *w = CONTAINER(msg, struct agent_wait, leave);
    w->leave_acked = true;
    fiber_wake(w->fiber);
}

static void leave_on_sched(struct mbox_msg *msg)
{
    struct agent_wait *w = CONTAINER(msg, struct agent_wait, leave);
    if (w->listed) {
        struct dest *d = w->dest;
        answer(w, NULL);
        dest_release(d);
    }
    w->leave.fn = leave_acked_on_worker;
    worker_post(w->worker, &w->leave);
}

void request_drain(struct sched *s)
{
    size_t t_at = 0, d_at;
    struct str key;
    void *t, *d;
    s->draining = true;
    while (hmap_next(&s->transports, &t_at, &key, &t)) {
        d_at = 0;
        while (hmap_next(&((struct transport *)t)->dests, &d_at, &key, &d)) {
            struct list *idle = &((struct dest *)d)->idle;
            while (!list_empty(idle))
                answer(CONTAINER(idle->next, struct agent_wait, link), NULL);
        }
    }
}

/* --- the agent's side (a fiber on a worker) */

static struct sched *sched_of(const struct request *r)
{
    return r->dest->transport->sched;
}

void request_done(struct request *done)
{
    CHECK_MAGIC(done, REQUEST_MAGIC);
    done->mbox.fn = done_on_sched;
    worker_post(sched_of(done)->home, &done->mbox);
}

struct request *request_next(struct request *done, int64_t idle_until_ns)
{
    CHECK_MAGIC(done, REQUEST_MAGIC);
    struct agent_wait w = {
        .sched = sched_of(done),
        .done = done,
        .fiber = fiber_self(),
        .worker = worker_self(),
    };
    list_init(&w.link);
    w.to_sched.fn = next_on_sched;
    worker_post(w.sched->home, &w.to_sched);
    while (!w.answered) {
        struct err *e = fiber_park(idle_until_ns);
        if (e && !w.answered)
            break;
    }
    if (w.answered)
        return w.next;
    /* Time to go; but a request may be on its way to us: the scheduler decides which was first. */
    w.leave.fn = leave_on_sched;
    worker_post(w.sched->home, &w.leave);
    fiber_shield_begin();
    while (!w.answered || !w.leave_acked)
        (void)fiber_park(DEADLINE_NEVER);
    fiber_shield_end();
    return w.next;
}
