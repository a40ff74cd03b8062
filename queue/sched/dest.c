/* One destination: what waits for it, how much of it may be out, and what became of the last ones.
 */
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "queue/sched/backoff.h"
#include "queue/sched/state.h"

/* Failures of a dest without work are forgotten after this long. */
#define SITE_MEMORY_NS NS_PER_S /* of one that only counts for others */
#define DEST_MEMORY_NS (INT64_C(60) * NS_PER_S)
/* So many dests of a transport are remembered without work (postconf(5),
 * qmgr_message_recipient_limit). */
#define REMEMBERED 20000

static void log_window(const struct dest *d, const char *event)
{
    const struct window *w = &d->window;
    if (d->transport->sched->opts.feedback_debug && !d->transport->internal)
        log_info("qmgr", "%s: queue %s: limit %lld window %lld success %g failure %g fail_cohorts %g",
                 event, d->key, (long long)d->transport->opts.concurrency_limit,
                 (long long)w->size, w->success, w->failure, w->fail_cohorts);
}

struct dest *dest_get(struct transport *t, const char *key, const char *nexthop)
{
    struct dest *d = hmap_get(&t->dests, str_of(key));
    if (d)
        return d;
    d = MEM_NEW(struct dest);
    d->transport = t;
    d->key = mem_strdup(key);
    d->nexthop = mem_strdup(nexthop);
    d->pace = pace_recall(d);
    feedback_init(&d->window, &t->opts);
    line_init(&d->todo);
    for (size_t i = 0; i < 2; i++)
        list_init(&d->offers[i].link);
    list_init(&d->idle);
    list_init(&d->hungry);
    hmap_put(&t->dests, str_of(key), d);
    d->site = strcmp(key, nexthop) == 0 ? d : dest_get(t, nexthop, nexthop);
    d->site->pins += d->site != d;
    return d;
}

static void why_set(struct dest *d, const struct dsn *why)
{
    mem_free((char *)d->why.text.ptr);
    d->why = (struct dsn){0};
    if (!why)
        return;
    memcpy(d->why.status, why->status, sizeof(d->why.status));
    char *text = mem_alloc(why->text.len + 1);
    if (why->text.len > 0)
        memcpy(text, why->text.ptr, why->text.len);
    text[why->text.len] = '\0';
    d->why.text = str_make(text, why->text.len);
}

static void timer_fired(struct timer *timer);

/* Not at once: somebody may be walking through all of them, and the next mail may be on its way. */
static void leave_site(struct dest *site)
{
    if (--site->pins == 0 && site->state == DEST_READY)
        timer_set(&site->timer, clock_mono_ns() + SITE_MEMORY_NS, timer_fired);
}

void dest_free(struct dest *d)
{
    timer_clear(&d->timer);
    if (d->site != d)
        leave_site(d->site);
    hmap_del(&d->transport->dests, str_of(d->key));
    why_set(d, NULL);
    share_forget(d);
    mem_free(d->key);
    mem_free(d->nexthop);
    mem_free(d);
}

static void timer_fired(struct timer *timer)
{
    struct dest *d = CONTAINER(timer, struct dest, timer);
    if (d->state != DEST_READY) {
        dest_revive(d);
        return;
    }
    if (d->busy > 0 || d->todo_count > 0)
        return;
    d->window.fail_cohorts = 0; /* only its failures were remembered */
    d->window.probing = false;
    dest_release(d);
}

/* How long it is kept in mind without work: a site that was dead, until the mail that was deferred
 * for it has come back, so that it too meets with one probe. */
static int64_t memory_ns(const struct dest *d)
{
    const struct sched *s = d->transport->sched;
    int64_t most = s->opts.message_recipient_limit;
    if (d->transport->dests.count > (size_t)(most > 0 ? most : REMEMBERED))
        return 0;
    if (d->window.probing)
        return s->opts.maximal_backoff_s * NS_PER_S;
    return d->window.fail_cohorts > 0 ? DEST_MEMORY_NS : 0;
}

void dest_release(struct dest *d)
{
    if (d->busy > 0 || d->todo_count > 0 || d->pins > 0 || d->left > 0 || !list_empty(&d->idle) ||
        d->state != DEST_READY)
        return;
    int64_t memory = memory_ns(d);
    if (memory > 0)
        timer_set(&d->timer, clock_mono_ns() + memory, timer_fired);
    else
        dest_free(d);
}

void dest_revive(struct dest *d)
{
    timer_clear(&d->timer);
    if (d->state == DEST_DEAD) {
        feedback_revive(&d->window);
        log_window(d, "qmgr_queue_unthrottle");
        why_set(d, NULL);
    }
    d->state = DEST_READY;
    share_eat(d->site);
    dest_pump(d);
    dest_release(d);
}

/* --- offers: what a dest that waits for a slot of its transport would send */

static void withdraw(struct dest *d)
{
    for (size_t i = 0; i < 2; i++) {
        struct offer *o = &d->offers[i];
        if (!o->entry)
            continue;
        struct turn *turn = &o->entry->job->turns[d->pace];
        list_remove(&o->link);
        o->entry = NULL;
        if (!list_empty(&turn->offers))
            continue;
        line_remove(&turn->item);
        d->transport->offered--;
    }
}

/* Small mail takes turns by destination: its place is that of its dest, which loses it with each
 * request, so that none takes all the slots. A long list keeps the place it has. */
static void offer_one(struct dest *d, struct offer *o, struct entry *e)
{
    struct transport *t = d->transport;
    struct job *j = e->job;
    struct turn *turn = &j->turns[d->pace];
    *o = (struct offer){.dest = d, .entry = e};
    list_push_back(&turn->offers, &o->link);
    if (!list_empty(&turn->item.link))
        return;
    turn->item.since_ns = slots_passable(&t->rules, &j->slots) ? j->since_ns : d->waiting_ns;
    line_add(&t->waiting[d->pace], &turn->item);
    t->offered++;
}

static void offer(struct dest *d)
{
    int64_t now = clock_mono_ns();
    struct line_item *item = line_top(&d->todo);
    struct entry *first = CONTAINER(item, struct entry, item), *other = NULL;
    item = line_candidate(&d->todo, &d->transport->rules, item, now);
    if (item)
        other = CONTAINER(item, struct entry, item);
    if (d->offers[0].entry == first && d->offers[1].entry == other)
        return;
    withdraw(d);
    if (d->waiting_ns == 0)
        d->waiting_ns = now;
    offer_one(d, &d->offers[0], first);
    if (other)
        offer_one(d, &d->offers[1], other);
}

static void stop_waiting(struct dest *d)
{
    withdraw(d);
    d->waiting_ns = 0;
}

void dest_set_pace(struct dest *d, enum pace pace)
{
    if (d->pace == pace)
        return;
    bool waits = d->offers[0].entry != NULL;
    withdraw(d);
    d->pace = pace;
    pace_remember(d);
    if (waits)
        offer(d);
}

/* --- what waits */

int64_t dest_requests(const struct dest *d, const struct entry *e)
{
    int64_t left = e->count - e->at, limit = d->transport->opts.recipient_limit;
    return limit > 0 ? (left + limit - 1) / limit : left > 0;
}

static struct entry *peer(const struct entry *e, struct list *node)
{
    return node == &e->active->entries || node == &e->peers ? NULL : CONTAINER(node, struct entry, peers);
}

/* A message counts once, though it has an entry for each of its recipients there: the first of those that stand side by side. */
static void count_share(struct entry *e)
{
    const struct entry *before = peer(e, e->peers.prev);
    bool counted = before && before->dest && before->dest->site == e->dest->site;
    e->sharing = !e->active->refill && !counted;
    e->dest->site->sharing += e->sharing;
}

static void uncount_share(struct entry *e)
{
    struct entry *next = peer(e, e->peers.next);
    if (!e->sharing)
        return;
    e->sharing = false;
    if (next && !next->sharing && next->dest && next->dest->site == e->dest->site)
        next->sharing = true;
    else
        e->dest->site->sharing--;
}

void dest_take_out(struct entry *e)
{
    struct dest *d = e->dest;
    if (d->offers[0].entry == e || d->offers[1].entry == e)
        withdraw(d);
    line_remove(&e->item);
    dest_uncount(e);
    d->todo_count--;
    uncount_share(e);
    share_eat(d->site);
}

void dest_uncount(struct entry *e)
{
    e->job->slots.left -= e->requests;
    e->requests = 0;
    e->job = NULL;
}

/* What waits for a dead site, or a transport that does not work, is deferred at once by the retry agent, which logs it: the message
 * goes back to sleep and holds no memory here. */
static void suspend(struct dest *d, struct entry *e)
{
    struct buf text = {0};
    if (d->transport->broken)
        buf_printf(&text, "%s", d->transport->broken);
    else
        buf_printf(&text, "%s delivery temporarily suspended: %.*s",
                   d->why.status[0] ? d->why.status : "4.3.0", STR_ARG(d->why.text));
    struct transport *retry = transport_get(d->transport->sched, "retry");
    struct dest *to = dest_get(retry, text.ptr, text.ptr);
    buf_fini(&text);
    dest_add(to, e);
}

void dest_suspend_all(struct dest *d)
{
    struct line_item *item;
    stop_waiting(d);
    while ((item = line_first(&d->todo)) != NULL) {
        struct entry *e = CONTAINER(item, struct entry, item);
        dest_take_out(e);
        suspend(d, e);
    }
}

void dest_add(struct dest *d, struct entry *e)
{
    if (d->state == DEST_DEAD || d->transport->broken) {
        if (e->job)
            dest_uncount(e);
        suspend(d, e);
        return;
    }
    e->dest = d;
    if (!e->job) {
        e->job = transport_job(d->transport, e->active);
        e->requests = dest_requests(d, e);
        e->job->slots.left += e->requests;
    }
    line_item_init(&e->item, &e->job->slots);
    e->item.since_ns = e->job->since_ns;
    line_add(&d->todo, &e->item);
    d->todo_count++;
    count_share(e);
    dest_pump(d);
}

static bool has_pauses(const struct dest *d)
{
    return d->transport->opts.rate_delay_ms > 0 && !d->transport->internal;
}

static bool one_at_a_time(const struct dest *d)
{
    return has_pauses(d) && d->transport->opts.rate_serial;
}

static void rest(struct dest *d)
{
    d->state = DEST_PAUSED;
    timer_set(&d->timer, clock_in_ms(d->transport->opts.rate_delay_ms), timer_fired);
}

static bool may_go(const struct dest *d)
{
    int64_t limit = one_at_a_time(d) ? 1 : feedback_limit(&d->window);
    return d->state == DEST_READY && d->todo_count > 0 && d->busy < limit;
}

/* It has passed another, or used up what that gave it: everywhere, not only in the line where this
 * came out. */
static void place_again(struct active *a, struct job *j)
{
    j->paid = !j->paid;
    LIST_EACH(&a->entries, node)
    {
        struct entry *e = CONTAINER(node, struct entry, peers);
        if (e->job != j)
            continue;
        line_remove(&e->item);
        line_add(&e->dest->todo, &e->item);
    }
}

static void send(struct dest *d, struct entry *e)
{
    if ((e->job->slots.payer != 0) != e->job->paid)
        place_again(e->active, e->job);
    request_emit(d, e);
    if (has_pauses(d) && !one_at_a_time(d))
        rest(d);
}

/* Whoever waits for a slot has it before those that come later, and before a dest that has just
 * given one back. */
void dest_pump(struct dest *d)
{
    struct transport *t = d->transport;
    while (!t->sched->draining && may_go(d)) {
        if (!transport_has_slot(t, d->pace) || transport_waited_for(t)) {
            offer(d);
            return;
        }
        struct line_item *next = line_next(&d->todo, &t->rules, clock_mono_ns());
        stop_waiting(d);
        send(d, CONTAINER(next, struct entry, item));
    }
    stop_waiting(d);
}

void transport_pump(struct transport *t)
{
    struct line_item *next;
    while (!t->sched->draining && (next = transport_next(t)) != NULL) {
        struct turn *turn = CONTAINER(next, struct turn, item);
        struct offer *o = CONTAINER(turn->offers.next, struct offer, link);
        struct dest *d = o->dest;
        struct entry *e = o->entry;
        stop_waiting(d);
        if (!may_go(d))
            continue;
        t->grants++;
        send(d, e);
        if (may_go(d))
            offer(d);
    }
}

static void failed(struct dest *d, const struct dsn *why)
{
    struct sched *s = d->transport->sched;
    if (d->state == DEST_DEAD)
        return;
    bool dead = feedback_failure(&d->window, &d->transport->opts, d->busy);
    log_window(d, "qmgr_queue_throttle");
    if (!dead)
        return;
    d->state = DEST_DEAD;
    why_set(d, why);
    timer_set(&d->timer, clock_mono_ns() + backoff_dead_ns(&s->opts), timer_fired);
    dest_suspend_all(d);
}

static void succeeded(struct dest *d)
{
    feedback_success(&d->window, &d->transport->opts, d->busy + 1);
    log_window(d, "qmgr_queue_unthrottle");
    if (d->state == DEST_DEAD) { /* one that was under way got through after all */
        why_set(d, NULL);
        d->state = DEST_READY;
        timer_clear(&d->timer);
    }
}

void dest_finished(struct dest *d, bool dead, const struct dsn *why)
{
    struct transport *t = d->transport;
    CHECK(d->busy > 0);
    d->busy--;
    if (dead && !t->internal)
        failed(d, why);
    else
        succeeded(d);
    if (one_at_a_time(d) && d->state == DEST_READY)
        rest(d);
}
