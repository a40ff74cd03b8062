/* The end of a message's round in the active queue: what to tell the sender, and where it goes. */
#include <stdlib.h>

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
    bool failed, damaged;
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
    for (int i = 1; e && e->kind != ERR_DAMAGED && t->notice.kind != NOTICE_BOUNCE &&
                    i < SUCCESS_NOTICE_TRIES; i++) {
        if (fiber_sleep_until(clock_in_s(i)))
            break;
        e = hooks->notify(hooks->ctx, &t->notice);
    }
    t->damaged = e && e->kind == ERR_DAMAGED;
    t->failed = e && !t->damaged;
    if (t->failed)
        log_warning("qmgr", "%s: could not notify the sender: %s", t->active->m->id, e->text);
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
bool active_left(const struct rcpt *r)
{
    return 1U << r->state & RCPTS_LEFT;
}

static size_t count_left(const struct active *a)
{
    return qmsg_count(a->m, RCPTS_LEFT);
}
static size_t count_bounced(const struct active *a)
{
    return qmsg_count(a->m, 1 << RCPT_BOUNCED);
}

void active_drop(struct active *a)
{
    refill_end(a);
    for (struct job *j = a->job.next, *next; j; j = next) {
        next = j->next;
        mem_free(j);
    }
    mem_free(a->fresh);
    mem_free(a);
}

void active_free(struct active *a)
{
    struct sched *s = a->sched;
    struct qmsg *m = a->m;
    CHECK(a->running == 0 && list_empty(&a->entries));
    umap_del(&s->active, m->seq);
    atomic_store_explicit(&s->active_count, s->active.count, memory_order_relaxed);
    m->sched = NULL;
    __atomic_store_n(&m->claimed, 0, __ATOMIC_RELEASE);
    sched_weigh(a, 0);
    active_drop(a);
    qmsg_unref(m);
    loader_room(s);
}

void active_stop(struct active *a)
{
    LIST_EACH_SAFE(&a->entries, it)
    {
        struct entry *e = CONTAINER(it, struct entry, peers);
        struct dest *d = e->dest;
        dest_take_out(e);
        list_remove(&e->peers);
        mem_free(e);
        dest_pump(d); /* it may have offered this one */
        dest_release(d);
    }
}

static void mark_with(struct active *a, uint32_t flags, int64_t due_us, const uint32_t *rcpts,
                      size_t n)
{
    struct mark_rcpt *list = mem_alloc((n + 1) * sizeof(*list));
    for (size_t i = 0; i < n; i++) {
        const struct rcpt *r = &a->m->env->rcpts[rcpts[i]];
        list[i] = (struct mark_rcpt){a->refill ? r->index : rcpts[i], r->state, r->why};
    }
    store_mark(a->m, &(struct mark){flags, due_us, list, n});
    mem_free(list);
}

void active_leave(struct active *a)
{
    store_keep_destinations(a->m);
    qmsg_drop_content(a->m);
    active_free(a);
}

void active_mark(struct active *a, const uint32_t *rcpts, size_t n)
{
    if (n > 0 && !a->want_remove) /* else the store has let go of it */
        mark_with(a, qmsg_flags(a->m), qmsg_due_us(a->m), rcpts, n);
}

static void remove_now(struct active *a)
{
    log_info("qmgr", "%s: removed", a->m->id);
    store_remove(a->m);
    active_free(a);
}

static void expire(struct active *a)
{
    static const struct dsn forced = {.status = "4.7.0",
                                      .text = STR("message is administratively expired"),
                                      .mta = STR(""),
                                      .diagnostic = STR("")};
    struct envelope *env = a->m->env;
    uint32_t *list;
    size_t n = 0, left = pick(a, active_left, &list);
    for (size_t i = 0; i < left; i++)
        if (!suspend_waits(a, &env->rcpts[list[i]])) /* nobody has tried it */
            list[n++] = list[i];
    a->expired = true;
    log_info("qmgr", "%s: from=<%.*s>, status=%s, returned to sender", a->m->id,
             STR_ARG(env->sender), a->force_expire ? "force-expired" : "expired");
    for (size_t i = 0; i < n; i++) {
        struct rcpt *r = &env->rcpts[list[i]];
        r->state = RCPT_BOUNCED;
        if (!r->why.status[0] && a->force_expire)
            r->why = forced;
    }
    active_mark(a, list, n);
    mem_free(list);
}

/* What all waits by an operator's word comes back when it is resumed; then the time is for one who has
 * lost count of that. */
static int64_t next_due_us(const struct active *a, bool all_wait)
{
    const struct sched_options *o = &a->sched->opts;
    int64_t now_us = clock_wall_us();
    struct {
        uint64_t seq;
        int64_t now_us;
    } dice = {a->m->seq, now_us};
    if (all_wait)
        return now_us + o->maximal_backoff_s * US_PER_S;
    return backoff_next_us(o, a->m->env->arrival_us, now_us, hash_sum(&dice, sizeof(dice), 0));
}

/* Back to the log: until its time has come, or, when something was asked for meanwhile, at once. */
static void put_to_sleep(struct active *a)
{
    struct sched *s = a->sched;
    struct qmsg *m = a->m;
    uint32_t *list = NULL;
    size_t n = a->refill ? 0 : pick(a, active_left, &list); /* else they are marked */
    struct suspend_sum sum = suspend_sum(a);
    bool again = (a->again || sum.freed > 0) && !a->want_hold;
    /* What a stop of the server held up, a bounce or most of a long list, is due when it is back. */
    bool now = again || (s->draining && (count_bounced(a) > 0 || refill_unread(a)));
    uint32_t flags = (qmsg_flags(m) & ~(uint32_t)MESSAGE_SUSPENDED) |
                     (sum.waiting > 0 ? MESSAGE_SUSPENDED : 0) | (a->want_hold ? MESSAGE_HOLD : 0);
    bool all_wait = sum.waiting > 0 && sum.others == 0;
    if (!all_wait)
        why_tried(&s->memory, m->seq);
    mark_with(a, flags, now ? 0 : next_due_us(a, all_wait), list, n);
    mem_free(list);
    qmsg_drop_content(m);
    if (again)
        (void)qmsg_ref(m);
    active_free(a);
    if (again)
        loader_take_or_leave(s, m);
}

static bool warning_is_due(const struct active *a)
{
    const struct envelope *env = a->m->env;
    if (a->want_hold || a->again || (env->flags & ENV_BOUNCE) || env->sender.len == 0 ||
        (qmsg_flags(a->m) & MESSAGE_WARNED))
        return false;
    return backoff_warn_due(&a->sched->opts, env->arrival_us, clock_wall_us()) &&
           count_left(a) > 0;
}

static int by_turn(const void *left, const void *right, void *ctx)
{
    const struct rcpt *rcpts = ctx;
    uint32_t l = *(const uint32_t *)left, r = *(const uint32_t *)right;
    uint32_t l_turn = rcpts[l].turn, r_turn = rcpts[r].turn;
    return l_turn != r_turn ? (l_turn > r_turn) - (l_turn < r_turn) : (l > r) - (l < r);
}

static bool tell_what_is_due(struct active *a)
{
    uint32_t *rcpts;
    size_t n;
    if (!a->bounce_failed && count_bounced(a) > 0)
        a->bounce_failed = !refill_pick(a, 1 << RCPT_BOUNCED);
    if (!a->bounce_failed && count_bounced(a) > 0) {
        n = pick(a, is_bounced, &rcpts);
        qsort_r(rcpts, n, sizeof(*rcpts), by_turn, a->m->env->rcpts);
        tell(a, NOTICE_BOUNCE, rcpts, n);
        return true;
    }
    if (a->fresh_count > 0) {
        bool there = refill_pick_fresh(a);
        rcpts = a->fresh;
        n = a->fresh_count;
        a->fresh = NULL;
        a->fresh_count = 0;
        if (there) {
            tell(a, NOTICE_SUCCESS, rcpts, n);
            return true;
        }
        mem_free(rcpts);
    }
    if (warning_is_due(a) && refill_pick(a, RCPTS_LEFT)) {
        store_mark(a->m,
                   &(struct mark){qmsg_flags(a->m) | MESSAGE_WARNED, qmsg_due_us(a->m), NULL, 0});
        n = pick(a, active_left, &rcpts);
        tell(a, NOTICE_DELAY, rcpts, n);
        return true;
    }
    return false;
}

static void tell_ended(struct mbox_msg *msg)
{
    struct telling *t = CONTAINER(msg, struct telling, mbox);
    struct active *a = t->active;
    struct sched *s = a->sched;
    if (t->notice.kind == NOTICE_BOUNCE) {
        a->bounce_failed = t->failed;
        for (size_t i = 0; !t->failed && i < t->notice.rcpt_count; i++)
            a->m->env->rcpts[t->rcpts[i]].state = RCPT_NOTIFIED;
        if (!t->failed && (a->refill || count_left(a) > 0))
            active_mark(a, t->rcpts, t->notice.rcpt_count);
    }
    if (t->damaged)
        active_damaged(a);
    a->state = ACTIVE_RUNNING;
    mem_free(t->rcpts);
    mem_free(t);
    active_settle(a);
    sched_fiber_ended(s);
}

/* --- what cannot be read */

void active_damaged(struct active *a)
{
    a->damaged = true;
    active_stop(a);
}

/* Postfix's words. */
static struct err *move_to_corrupt(const struct active *a, const char *why)
{
    struct qmsg *m = a->m;
    struct err *e = store_quarantine(m, why);
    if (e)
        return e;
    log_warning("qmgr", "saving corrupt file \"%s\" from queue \"active\" to queue \"corrupt\"",
                m->id);
    log_info("qmgr", "%s: from=<%.*s>, corrupt: %zu recipients were not delivered to, the sender is not told",
             m->id, STR_ARG(m->env->sender), count_left(a));
    return NULL;
}

/* Looked at once more before it is given up: memory and cables fail too. */
static void set_aside_main(void *arg)
{
    struct active *a = arg;
    struct sched *s = a->sched;
    char why[ERR_TEXT_MAX];
    size_t id = strlen(a->m->id) + 2;
    fiber_shield_begin();
    struct err *e = a->want_remove ? NULL : content_check(a->m);
    bool damaged = e && e->kind == ERR_DAMAGED;
    if (damaged) {
        struct str text = str_of(e->text); /* "<id>: what" */
        str_copy(why, sizeof(why), str_starts(text, str_of(a->m->id)) ? str_from(text, id) : text);
        e = move_to_corrupt(a, why);
    } else if (!a->want_remove) {
        log_warning("qmgr", "%s", e ? e->text : "a damaged message could be read after all");
        e = NULL;
    }
    if (e)
        log_warning("qmgr", "%s", e->text);
    fiber_shield_end();
    a->damaged = false;
    a->state = ACTIVE_RUNNING;
    if (qmsg_removed(a->m))
        active_free(a);
    else
        put_to_sleep(a);
    sched_fiber_ended(s);
}

static void set_aside(struct active *a)
{
    a->state = ACTIVE_NOTIFYING;
    a->sched->requests_out++;
    worker_spawn(a->sched->home, "set-aside", set_aside_main, a);
}

static bool must_expire(const struct active *a)
{
    const struct envelope *env = a->m->env;
    if (a->want_hold || count_left(a) == 0)
        return false;
    if (a->force_expire)
        return true;
    struct suspend_sum sum = suspend_sum(a);
    return !a->again && sum.others > 0 && sum.freed == 0 &&
           backoff_expired(&a->sched->opts, env->sender.len == 0, env->arrival_us, clock_wall_us());
}

void active_settle(struct active *a)
{
    if (a->state != ACTIVE_RUNNING || a->running > 0 || !list_empty(&a->entries))
        return;
    if (a->want_remove) { /* whoever wanted it has removed it from the store */
        active_free(a);
        return;
    }
    if (a->damaged) {
        set_aside(a);
        return;
    }
    if (refill_more(a))
        return;
    if (!a->sched->draining) {
        if (must_expire(a) && refill_pick(a, RCPTS_LEFT))
            expire(a);
        if (tell_what_is_due(a))
            return;
    }
    if (count_left(a) > 0 || count_bounced(a) > 0)
        put_to_sleep(a);
    else
        remove_now(a);
}
