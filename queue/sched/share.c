/* Shares: when the active queue is nearly full, what a destination may have waiting in it.
 *
 *     active queue   0 ......... 3/4 .... 7/8 .... qmgr_message_active_limit
 *                    all come in | over their share: left | and the newest of those that wait over it are let go
 *
 * The share is such that all of them, with what is out, have three quarters; who needs less leaves the rest to others. So there
 * is always room for a destination that has little. What is left stays in the log and in the index as it was, due and untried: a
 * queue run goes past it (share_skips), and its destination fetches it when it has sent half of its share. */
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
#define KNOWN_AT_ONCE 64

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
            if (((struct dest *)d)->sharing > 0)
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
    f->waiting += d->sharing;
}

static void count_small(struct dest *d, void *arg)
{
    struct filling *f = arg;
    if (d->sharing >= f->share)
        return;
    f->small++;
    f->of_small += d->sharing;
}

/* What those leave that need less than all alike is for the others. */
static size_t fill(struct sched *s)
{
    struct filling f = {0};
    size_t room = loader_limit(s) - loader_limit(s) / 4, least = loader_limit(s) / 8;
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

static void count_left(struct dest *d, uint64_t before)
{
    d->transport->sched->dests_left += (d->left > 0) - (before > 0);
}

static void note_left(struct dest *d, uint64_t seq)
{
    struct sched *s = d->transport->sched;
    count_left(d, d->left++);
    if (s->known_left >= s->known_max)
        return;
    buf_add(&d->known, &seq, sizeof seq);
    s->known_left++;
}

static size_t known_count(const struct dest *d)
{
    return (d->known.len - d->known_at) / sizeof(uint64_t);
}

static size_t take_known(struct dest *d, uint64_t *out, size_t max)
{
    size_t n = known_count(d);
    n = n < max ? n : max;
    if (n == 0)
        return 0;
    memcpy(out, d->known.ptr + d->known_at, n * sizeof(*out));
    d->known_at += n * sizeof(*out);
    d->transport->sched->known_left -= n;
    if (d->known_at == d->known.len) {
        buf_fini(&d->known);
        d->known_at = 0;
    }
    d->left -= n;
    count_left(d, d->left + n);
    return n;
}

static size_t has(const struct dest *d)
{
    return d->sharing + d->coming;
}

static bool has_share(const struct dest *d)
{
    return has(d) >= d->transport->sched->share;
}

/* Found by what the index calls it. One that has most of it may have all in a moment. */
static void note_full(struct dest *d, void *arg)
{
    struct sched *s = arg;
    if (has(d) < s->share - s->share / 4)
        return;
    s->dests_full++;
    if (d->number != 0)
        return;
    d->number = store_destination(s->store, d->transport->opts.name, d->nexthop);
    if (umap_put(&s->full, d->number, d) != NULL)
        d->number = 0; /* two spellings of one: the later is found */
}

static size_t share_now(struct sched *s)
{
    int64_t now = clock_mono_ns();
    if (s->share == 0 || now - s->share_ns > STALE_NS) {
        s->share = fill(s);
        s->share_ns = now;
        s->dests_full = 0;
        each_dest(s, note_full, s);
    }
    return s->share;
}

/* --- what finds no place */

/* Where its share is; NULL: there is none yet. */
static struct dest *dest_known(struct sched *s, const struct rcpt *r)
{
    struct transport *t =
        r->transport && r->nexthop ? hmap_get(&s->transports, str_of(r->transport)) : NULL;
    if (!t || t->internal)
        return NULL;
    return hmap_get(&t->dests, str_of(r->nexthop));
}

static void leave(struct active *a)
{
    struct sched *s = a->sched;
    const struct envelope *env = a->m->env;
    const struct dest *last = NULL;
    for (size_t i = 0; i < env->rcpt_count; i++) {
        struct dest *d = active_left(&env->rcpts[i]) ? dest_known(s, &env->rcpts[i]) : NULL;
        if (d && d != last)
            note_left(d, a->m->seq);
        last = d;
    }
    s->more = true;
    active_leave(a);
}

bool share_crowded(const struct sched *s)
{
    return s->active.count > loader_limit(s) - loader_limit(s) / 4;
}

bool share_leaves(struct active *a)
{
    struct sched *s = a->sched;
    const struct envelope *env = a->m->env;
    size_t share = 0;
    if (!share_crowded(s) || env->rcpt_count > RCPTS_LOOKED_AT ||
        a->flushed || a->force_expire || s->draining ||
        qmsg_due_us(a->m) > clock_wall_us())
        return false;
    for (size_t i = 0; i < env->rcpt_count; i++) {
        if (!active_left(&env->rcpts[i]))
            continue;
        const struct dest *d = dest_known(s, &env->rcpts[i]);
        share = share ? share : share_now(s);
        if (!d || d->state == DEST_DEAD || d->sharing < share)
            return false;
    }
    if (share == 0)
        return false; /* none is left */
    leave(a);
    return true;
}

bool share_skips(struct sched *s, uint64_t seq, struct dest **dest_out)
{
    uint64_t number;
    *dest_out = NULL;
    if (s->active.count <= loader_limit(s) / 2)
        return false;
    (void)share_now(s);
    if (s->dests_full == 0 || !store_only_destination(s->store, seq, &number))
        return false;
    struct dest *d = umap_get(&s->full, number);
    if (!d || d->state == DEST_DEAD || !has_share(d)) {
        *dest_out = d;
        return false;
    }
    note_left(d, seq);
    return true;
}

void share_expect(struct dest *d, struct active *a)
{
    a->expected = d;
    d->coming++;
    d->pins++;
}

struct dest *share_came(struct active *a)
{
    struct dest *d = a->expected;
    a->expected = NULL;
    if (d)
        d->coming--;
    return d;
}

/* --- those that have more than their share */

static bool may_leave(const struct entry *e)
{
    const struct active *a = e->active;
    bool alone = a->entries.next == &e->peers && a->entries.prev == &e->peers;
    return a->state == ACTIVE_RUNNING && a->running == 0 && alone && !a->want_remove &&
           !a->want_hold && !a->again && !a->flushed && !a->damaged && !a->suspended && !a->refill &&
           qmsg_due_us(a->m) <= clock_wall_us();
}

struct trimming {
    size_t share;
    struct buf seqs; /* u64 each: messages that may leave */
};

/* The newest of them: so many that were looked at. */
static size_t trim_line(struct trimming *t, const struct dest *d, size_t n)
{
    const struct line_item *item = NULL;
    size_t i = 0;
    for (; i < n && t->seqs.len < AT_ONCE * sizeof(uint64_t); i++) {
        item = line_newest(&d->todo, item);
        if (!item)
            break;
        const struct entry *e = CONTAINER(item, const struct entry, item);
        if (may_leave(e))
            buf_add(&t->seqs, &e->active->m->seq, sizeof(uint64_t));
    }
    return i;
}

/* What a site has over its share; where each recipient is a destination, of one after the other. */
static void trim_dest(struct dest *d, void *arg)
{
    struct trimming *t = arg;
    size_t n = d->sharing > t->share ? d->sharing - t->share : 0, at = 0;
    struct str key;
    void *value;
    if (n == 0)
        return;
    n -= trim_line(t, d, n);
    while (n > 0 && d->pins > 0 && hmap_next(&d->transport->dests, &at, &key, &value)) {
        const struct dest *one = value;
        if (one != d && one->site == d)
            n -= trim_line(t, one, n);
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
        leave(a);
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

void share_watch(struct sched *s)
{
    if (s->active.count < loader_limit(s) - loader_limit(s) / 8 || s->trimming || s->draining ||
        clock_mono_ns() < s->trim_next_ns)
        return;
    s->trimming = true;
    s->requests_out++;
    worker_spawn(s->home, "trim", trim_main, s);
}

/* --- coming back */

static size_t room_of(struct dest *d)
{
    size_t share = share_now(d->transport->sched);
    return share > has(d) ? share - has(d) : 0;
}

static size_t feed_known(struct sched *s, struct dest *d, size_t room)
{
    uint64_t seqs[KNOWN_AT_ONCE];
    size_t n, taken = 0;
    while (taken < room && !s->draining &&
           (n = take_known(d, seqs, room - taken < KNOWN_AT_ONCE ? room - taken : KNOWN_AT_ONCE)) > 0)
        taken += loader_fetch_these(s, d, seqs, n);
    return taken;
}

/* Of more than could be kept the rest is looked for. The walk goes on where it ended; what was left behind its back is for the
 * next one. */
static void feed(struct sched *s, struct dest *d)
{
    struct buf name = {0};
    size_t room = room_of(d), taken = feed_known(s, d, room);
    if (taken >= room || d->left <= known_count(d))
        return;
    room -= taken;
    buf_printf(&name, "%s:%s", d->transport->opts.name, d->nexthop);
    if (!d->walk) {
        d->walk = MEM_NEW(struct store_query);
        d->walked = d->left - known_count(d);
    }
    d->walk->destination = buf_str(&name);
    bool ended = !loader_fetch(s, d, d->walk, room);
    d->walk->destination = STR("");
    buf_fini(&name);
    if (!ended)
        return;
    mem_free(d->walk);
    d->walk = NULL;
    uint64_t before = d->left;
    d->left -= d->walked;
    count_left(d, before);
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
    if (d->left == 0 || d->state == DEST_DEAD || s->draining || !list_empty(&d->hungry) ||
        has(d) > share_now(s) / 2)
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
    uint64_t before = d->left;
    d->left = 0;
    count_left(d, before);
    d->transport->sched->known_left -= known_count(d);
    buf_fini(&d->known);
    if (d->number != 0)
        (void)umap_del(&d->transport->sched->full, d->number);
}
