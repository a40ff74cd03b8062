/* Shares: when the active queue is nearly full, what a destination may have waiting in it.
 *
 *     active queue   0 ......... 3/4 .... 7/8 .... qmgr_message_active_limit
 *                    all come in | over their share: sleep | and those that wait over it are put to sleep
 *
 * The share is such that all of them, with what is out, have three quarters; who needs less leaves the rest to others. So there
 * is always room for a destination that has little. What sleeps here has MESSAGE_PARKED and a due time like any other; it is
 * fetched by its destination as soon as this one has sent half of its share. */
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "queue/sched/state.h"

#define ROUNDS 4                  /* of water-filling: what is left over is little then */
#define STALE_NS (NS_PER_S / 10)  /* so old a share is computed anew */
#define AGAIN_NS NS_PER_S         /* between looking for what to put to sleep */
#define AT_ONCE 128               /* messages between two yields */
#define RCPTS_LOOKED_AT 64        /* a message with more has a place */

static size_t limit_of(const struct sched *s)
{
    return s->opts.message_active_limit > 0 ? (size_t)s->opts.message_active_limit : 1;
}

/* --- how much it is */

/* Calls for each destination that has mail waiting; there is a share for sites only. */
static void each_dest(struct sched *s, void (*fn)(struct dest *d, void *arg), void *arg)
{
    size_t t_at = 0, d_at;
    struct str key;
    void *t, *d;
    while (hmap_next(&s->transports, &t_at, &key, &t)) {
        d_at = 0;
        while (!((struct transport *)t)->internal &&
               hmap_next(&((struct transport *)t)->dests, &d_at, &key, &d))
            if (((struct dest *)d)->todo_count > 0)
                fn(d, arg);
    }
}

struct filling {
    size_t share, dests, waiting;
    size_t small, of_small; /* dests that need less, and what waits for them */
};

static void count_dest(struct dest *d, void *arg)
{
    struct filling *f = arg;
    f->dests++;
    f->waiting += d->todo_count;
}

static void count_small(struct dest *d, void *arg)
{
    struct filling *f = arg;
    if (d->todo_count >= f->share)
        return;
    f->small++;
    f->of_small += d->todo_count;
}

/* What those leave that need less than all alike is for the others. */
static size_t fill(struct sched *s)
{
    struct filling f = {0};
    size_t room = limit_of(s) - limit_of(s) / 4, least = limit_of(s) / 8;
    each_dest(s, count_dest, &f);
    size_t out = s->active.count > f.waiting ? s->active.count - f.waiting : 0;
    room = room > out + least ? room - out : least;
    f.share = room / (f.dests > 0 ? f.dests : 1);
    for (int i = 0; i < ROUNDS; i++) {
        f.small = f.of_small = 0;
        each_dest(s, count_small, &f);
        if (f.small == f.dests || f.of_small >= room)
            break;
        f.share = (room - f.of_small) / (f.dests - f.small);
    }
    return f.share > 0 ? f.share : 1;
}

static size_t share_now(struct sched *s)
{
    int64_t now = clock_mono_ns();
    if (s->share == 0 || now - s->share_ns > STALE_NS) {
        s->share = fill(s);
        s->share_ns = now;
    }
    return s->share;
}

/* --- going to sleep */

static bool is_left(const struct rcpt *r)
{
    return r->state == RCPT_TODO || r->state == RCPT_DEFERRED;
}

/* NULL: there is none yet, or it is one without a share. Where the recipient limit is 1, each recipient is one. */
static struct dest *dest_known(struct sched *s, const struct rcpt *r)
{
    struct transport *t =
        r->transport && r->nexthop ? hmap_get(&s->transports, str_of(r->transport)) : NULL;
    if (!t || t->internal || t->opts.recipient_limit == 1)
        return NULL;
    return hmap_get(&t->dests, str_of(r->nexthop));
}

static void park(struct active *a)
{
    struct sched *s = a->sched;
    const struct envelope *env = a->m->env;
    const struct dest *last = NULL;
    for (size_t i = 0; i < env->rcpt_count; i++) {
        struct dest *d = is_left(&env->rcpts[i]) ? dest_known(s, &env->rcpts[i]) : NULL;
        if (d && d != last)
            d->parked++;
        last = d;
    }
    active_park(a);
}

bool share_crowded(const struct sched *s)
{
    return s->active.count > limit_of(s) - limit_of(s) / 4;
}

bool share_parks(struct active *a)
{
    struct sched *s = a->sched;
    const struct envelope *env = a->m->env;
    size_t share = 0;
    if (!share_crowded(s) || env->rcpt_count > RCPTS_LOOKED_AT ||
        a->flushed || a->force_expire || s->draining)
        return false;
    for (size_t i = 0; i < env->rcpt_count; i++) {
        if (!is_left(&env->rcpts[i]))
            continue;
        const struct dest *d = dest_known(s, &env->rcpts[i]);
        share = share ? share : share_now(s);
        if (!d || d->state == DEST_DEAD || d->todo_count < share)
            return false;
    }
    if (share == 0)
        return false; /* none is left */
    park(a);
    return true;
}

/* --- those that have more than their share */

static bool may_leave(const struct entry *e)
{
    const struct active *a = e->active;
    bool alone = a->entries.next == &e->peers && a->entries.prev == &e->peers;
    return a->state == ACTIVE_RUNNING && a->running == 0 && alone && !a->want_remove &&
           !a->want_hold && !a->again && !a->flushed && !a->damaged && !a->suspended;
}

struct trimming {
    size_t share;
    struct buf seqs; /* u64 each: messages that may leave */
};

/* The newest of them. */
static void trim_dest(struct dest *d, void *arg)
{
    struct trimming *t = arg;
    const struct line_item *item = NULL;
    if (d->todo_count <= t->share || d->transport->opts.recipient_limit == 1)
        return;
    for (size_t n = d->todo_count - t->share; n > 0 && t->seqs.len < AT_ONCE * sizeof(uint64_t); n--) {
        item = line_newest(&d->todo, item);
        if (!item)
            return;
        const struct entry *e = CONTAINER(item, const struct entry, item);
        if (may_leave(e))
            buf_add(&t->seqs, &e->active->m->seq, sizeof(uint64_t));
    }
}

/* False: nobody may leave. */
static bool trim(struct sched *s)
{
    struct trimming t = {.share = fill(s)};
    uint64_t seq;
    each_dest(s, trim_dest, &t);
    for (size_t at = 0; at < t.seqs.len; at += sizeof(seq)) {
        memcpy(&seq, t.seqs.ptr + at, sizeof(seq));
        struct active *a = umap_get(&s->active, seq);
        /* It may have had its turn when another one left. */
        if (!a || list_empty(&a->entries) || !may_leave(CONTAINER(a->entries.next, struct entry, peers)))
            continue;
        active_stop(a);
        park(a);
    }
    bool some = t.seqs.len > 0;
    buf_fini(&t.seqs);
    return some;
}

static void trim_main(void *arg)
{
    struct sched *s = arg;
    while (!s->draining && trim(s))
        fiber_yield();
    s->trimming = false;
    s->trim_next_ns = clock_mono_ns() + AGAIN_NS;
    sched_fiber_ended(s);
}

/* One that has slept is seldom alone: after a restart nobody remembers. */
void share_met(struct active *a)
{
    const struct envelope *env = a->m->env;
    if (!(qmsg_flags(a->m) & MESSAGE_PARKED) || env->rcpt_count > RCPTS_LOOKED_AT)
        return;
    for (size_t i = 0; i < env->rcpt_count; i++) {
        struct dest *d = is_left(&env->rcpts[i]) ? dest_known(a->sched, &env->rcpts[i]) : NULL;
        if (d && d->parked == 0 && !d->walk)
            d->parked = 1;
    }
}

void share_watch(struct sched *s)
{
    if (s->active.count < limit_of(s) - limit_of(s) / 8 || s->trimming || s->draining ||
        clock_mono_ns() < s->trim_next_ns)
        return;
    s->trimming = true;
    s->requests_out++;
    worker_spawn(s->home, "trim", trim_main, s);
}

/* --- coming back */

/* Its walk goes on where it ended; what was put to sleep behind its back is for the next one. */
static void feed(struct sched *s, struct dest *d)
{
    struct buf name = {0};
    size_t share = share_now(s), room = share > d->todo_count ? share - d->todo_count : 0;
    buf_printf(&name, "%s:%s", d->transport->opts.name, d->nexthop);
    if (!d->walk) {
        d->walk = MEM_NEW(struct store_query);
        d->walked = d->parked;
    }
    d->walk->destination = buf_str(&name);
    bool ended = !loader_fetch(s, d->walk, MESSAGE_PARKED, room);
    d->walk->destination = STR("");
    buf_fini(&name);
    if (!ended)
        return;
    mem_free(d->walk);
    d->walk = NULL;
    d->parked -= d->walked;
}

static void feed_main(void *arg)
{
    struct sched *s = arg;
    while (!list_empty(&s->hungry) && !s->draining) {
        struct dest *d = CONTAINER(list_pop_front(&s->hungry), struct dest, hungry);
        d->pins++;
        feed(s, d);
        d->pins--;
        dest_release(d);
    }
    s->feeding = false;
    sched_fiber_ended(s);
}

void share_eat(struct dest *d)
{
    struct sched *s = d->transport->sched;
    if (d->parked == 0 || d->state == DEST_DEAD || s->draining || !list_empty(&d->hungry) ||
        d->todo_count > share_now(s) / 2)
        return;
    list_push_back(&s->hungry, &d->hungry);
    if (s->feeding)
        return;
    s->feeding = true;
    s->requests_out++;
    worker_spawn(s->home, "feed", feed_main, s);
}

void share_forget(struct dest *d)
{
    list_remove(&d->hungry);
    mem_free(d->walk);
    d->walk = NULL;
}
