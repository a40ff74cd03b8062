/* The end of a message's round in the active queue: what to tell the sender, and where it goes. */
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/fiber/fiber.h"
#include "queue/sched/backoff.h"
#include "queue/sched/state.h"

#define SUCCESS_NOTICE_TRIES 5

struct telling {
    struct active *active;
    struct notice notice;
    uint32_t *rcpts;
    bool failed;
    struct mbox_msg mbox;
};

static void tell_ended(struct mbox_msg *msg);

static void tell_main(void *arg)
{
    struct telling *t = arg;
    struct sched *s = t->active->sched;
    const struct queue_hooks *hooks = s->hooks;
    struct err *e = hooks->notify(hooks->ctx, &t->notice);
    /* A lost bounce is tried again with the message; other notices have only this chance. */
    for (int i = 1; e && t->notice.kind != NOTICE_BOUNCE && i < SUCCESS_NOTICE_TRIES; i++) {
        if (fiber_sleep_until(clock_in_s(i)))
            break;
        e = hooks->notify(hooks->ctx, &t->notice);
    }
    if (e)
        log_warning("qmgr", "%s: could not notify the sender: %s", t->active->m->id, e->text);
    t->failed = e != NULL;
    t->mbox.fn = tell_ended;
    worker_post(s->home, &t->mbox);
}

static void tell(struct active *a, enum notice_kind kind, uint32_t *rcpts, size_t count)
{
    struct sched *s = a->sched;
    struct telling *t = MEM_NEW(struct telling);
    t->active = a;
    t->rcpts = rcpts;
    t->notice = (struct notice){
        .msg = a->m, .kind = kind, .rcpts = rcpts, .rcpt_count = count, .expired = a->expired};
    a->state = ACTIVE_NOTIFYING;
    s->requests_out++;
    worker_spawn(s->workers[s->next_worker++ % s->n_workers], "notify", tell_main, t);
}

static size_t pick(const struct active *a, bool (*want)(const struct rcpt *), uint32_t **out)
{
    const struct envelope *env = a->m->env;
    size_t n = 0;
    uint32_t *list = mem_alloc(env->rcpt_count * sizeof(*list));
    for (uint32_t i = 0; i < env->rcpt_count; i++)
        if (want(&env->rcpts[i]))
            list[n++] = i;
    *out = list;
    return n;
}

static bool is_bounced(const struct rcpt *r)
{
    return r->state == RCPT_BOUNCED;
}
static bool is_left(const struct rcpt *r)
{
    return r->state == RCPT_TODO || r->state == RCPT_DEFERRED;
}

static size_t count_if(const struct active *a, bool (*want)(const struct rcpt *))
{
    size_t n = 0;
    for (size_t i = 0; i < a->m->env->rcpt_count; i++)
        n += want(&a->m->env->rcpts[i]);
    return n;
}

void active_free(struct active *a)
{
    struct sched *s = a->sched;
    struct qmsg *m = a->m;
    CHECK(a->running == 0 && list_empty(&a->entries));
    umap_del(&s->active, m->seq);
    m->sched = NULL;
    __atomic_store_n(&m->claimed, 0, __ATOMIC_RELEASE);
    mem_free(a->fresh);
    mem_free(a);
    qmsg_unref(m);
    loader_room(s);
}

void active_stop(struct active *a)
{
    LIST_EACH_SAFE(&a->entries, it)
    {
        struct entry *e = CONTAINER(it, struct entry, peers);
        struct dest *d = e->dest;
        list_remove(&e->link);
        list_remove(&e->peers);
        if (d)
            d->todo_count--;
        mem_free(e);
    }
}

static void remove_now(struct active *a)
{
    log_info("qmgr", "%s: removed", a->m->id);
    store_remove(a->m);
    active_free(a);
}

static void expire(struct active *a)
{
    struct envelope *env = a->m->env;
    a->expired = true;
    log_info("qmgr", "%s: from=<%.*s>, status=%s, returned to sender", a->m->id,
             STR_ARG(env->sender), a->force_expire ? "force-expired" : "expired");
    for (uint32_t i = 0; i < env->rcpt_count; i++) {
        struct rcpt *r = &env->rcpts[i];
        if (!is_left(r))
            continue;
        r->state = RCPT_BOUNCED;
        if (!r->why.status[0])
            r->why = (struct dsn){.status = "4.4.7", .text = STR("delivery time expired")};
        active_mark(a, i);
    }
}

static void put_to_sleep(struct active *a)
{
    struct sched *s = a->sched;
    struct qmsg *m = a->m;
    const struct envelope *env = m->env;
    struct mark_rcpt *list = mem_alloc(env->rcpt_count * sizeof(*list));
    struct mark k = {.flags = qmsg_flags(m), .rcpts = list};
    if (a->want_hold)
        k.flags |= MESSAGE_HOLD;
    k.due_us = backoff_next_us(&s->opts, env->arrival_us, clock_wall_us());
    for (uint32_t i = 0; i < env->rcpt_count; i++)
        if (env->rcpts[i].state == RCPT_DEFERRED)
            list[k.rcpt_count++] = (struct mark_rcpt){i, RCPT_DEFERRED, env->rcpts[i].why};
    store_mark(m, &k);
    mem_free(list);
    qmsg_drop_content(m);
    active_free(a);
}

void active_mark(struct active *a, uint32_t rcpt)
{
    const struct rcpt *r = &a->m->env->rcpts[rcpt];
    if (a->want_remove) /* the store has let go of it */
        return;
    struct mark_rcpt one = {rcpt, r->state, r->why};
    store_mark(a->m, &(struct mark){qmsg_flags(a->m), qmsg_due_us(a->m), &one, 1});
}

static bool tell_what_is_due(struct active *a)
{
    struct sched *s = a->sched;
    const struct envelope *env = a->m->env;
    uint32_t *rcpts;
    size_t n;
    if (count_if(a, is_bounced) > 0) {
        n = pick(a, is_bounced, &rcpts);
        tell(a, NOTICE_BOUNCE, rcpts, n);
        return true;
    }
    if (a->fresh_count > 0) {
        rcpts = a->fresh;
        n = a->fresh_count;
        a->fresh = NULL;
        a->fresh_count = 0;
        tell(a, NOTICE_SUCCESS, rcpts, n);
        return true;
    }
    if (count_if(a, is_left) > 0 && !(env->flags & ENV_BOUNCE) && env->sender.len > 0 &&
        !(qmsg_flags(a->m) & MESSAGE_WARNED) &&
        backoff_warn_due(&s->opts, env->arrival_us, clock_wall_us())) {
        store_mark(a->m, &(struct mark){qmsg_flags(a->m) | MESSAGE_WARNED, qmsg_due_us(a->m), NULL, 0});
        n = pick(a, is_left, &rcpts);
        tell(a, NOTICE_DELAY, rcpts, n);
        return true;
    }
    return false;
}

static void finish(struct active *a)
{
    if (count_if(a, is_left) > 0 || count_if(a, is_bounced) > 0)
        put_to_sleep(a);
    else
        remove_now(a);
}

static void tell_ended(struct mbox_msg *msg)
{
    struct telling *t = CONTAINER(msg, struct telling, mbox);
    struct active *a = t->active;
    struct sched *s = a->sched;
    bool bounce = t->notice.kind == NOTICE_BOUNCE;
    if (bounce && !t->failed)
        for (size_t i = 0; i < t->notice.rcpt_count; i++)
            a->m->env->rcpts[t->rcpts[i]].state = RCPT_NOTIFIED;
    if (bounce && !t->failed && count_if(a, is_left) > 0)
        for (size_t i = 0; i < t->notice.rcpt_count; i++)
            active_mark(a, t->rcpts[i]);
    s->requests_out--;
    a->state = ACTIVE_RUNNING;
    bool again = bounce && t->failed;
    mem_free(t->rcpts);
    mem_free(t);
    if (again && !a->want_remove)
        finish(a);
    else
        active_settle(a);
    if (s->draining && s->requests_out == 0)
        event_set(&s->idle);
}

void active_settle(struct active *a)
{
    struct sched *s = a->sched;
    if (a->state != ACTIVE_RUNNING || a->running > 0 || !list_empty(&a->entries))
        return;
    if (a->want_remove) { /* whoever wanted it has removed it from the store */
        active_free(a);
        return;
    }
    const struct envelope *env = a->m->env;
    bool tried = !a->want_hold || a->force_expire;
    if (count_if(a, is_left) > 0 && tried && !s->draining &&
        (a->force_expire ||
         backoff_expired(&s->opts, env->sender.len == 0, env->arrival_us, clock_wall_us())))
        expire(a);
    if (!s->draining && tell_what_is_due(a))
        return;
    finish(a);
}
