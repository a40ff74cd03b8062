/* One destination: what waits for it, how much of it may be out, and what became of the last ones.
 */
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/mem.h"
#include "queue/sched/state.h"

/* Failures of a dest without work are forgotten after this long. */
#define DEST_MEMORY_NS (INT64_C(60) * NS_PER_S)

struct dest *dest_get(struct transport *t, const char *key, const char *nexthop)
{
    struct dest *d = hmap_get(&t->dests, str_of(key));
    if (d)
        return d;
    d = MEM_NEW(struct dest);
    d->transport = t;
    d->key = mem_strdup(key);
    d->nexthop = mem_strdup(nexthop);
    feedback_init(&d->window, &t->opts);
    list_init(&d->todo);
    list_init(&d->idle);
    list_init(&d->waiting);
    hmap_put(&t->dests, str_of(key), d);
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

void dest_free(struct dest *d)
{
    timer_clear(&d->timer);
    list_remove(&d->waiting);
    hmap_del(&d->transport->dests, str_of(d->key));
    why_set(d, NULL);
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
    d->window.fail_cohorts = 0; /* only its failures were remembered */
    dest_release(d);
}

void dest_release(struct dest *d)
{
    if (d->busy > 0 || d->todo_count > 0 || d->pins > 0 || !list_empty(&d->idle) ||
        d->state != DEST_READY)
        return;
    if (d->window.fail_cohorts > 0)
        timer_set(&d->timer, clock_mono_ns() + DEST_MEMORY_NS, timer_fired);
    else
        dest_free(d);
}

void dest_revive(struct dest *d)
{
    timer_clear(&d->timer);
    if (d->state == DEST_DEAD) {
        feedback_revive(&d->window, &d->transport->opts);
        why_set(d, NULL);
    }
    d->state = DEST_READY;
    dest_pump(d);
    dest_release(d);
}

/* What waits for a dead site is deferred at once by the retry agent, which logs it: the message
 * goes back to sleep and holds no memory here. */
static void suspend(struct dest *d, struct entry *e)
{
    struct buf text = {0};
    buf_printf(&text, "%s delivery temporarily suspended: %.*s",
               d->why.status[0] ? d->why.status : "4.3.0", STR_ARG(d->why.text));
    struct transport *retry = transport_get(d->transport->sched, "retry");
    struct dest *to = dest_get(retry, text.ptr, text.ptr);
    buf_fini(&text);
    dest_add(to, e);
}

static void suspend_all(struct dest *d)
{
    struct list *node;
    while ((node = list_pop_front(&d->todo)) != NULL) {
        d->todo_count--;
        suspend(d, CONTAINER(node, struct entry, link));
    }
}

void dest_add(struct dest *d, struct entry *e)
{
    if (d->state == DEST_DEAD) {
        suspend(d, e);
        return;
    }
    e->dest = d;
    list_push_back(&d->todo, &e->link);
    d->todo_count++;
    dest_pump(d);
}

static bool one_at_a_time(const struct dest *d)
{
    return d->transport->opts.rate_delay_ms > 0 && !d->transport->internal;
}

static bool may_go(const struct dest *d)
{
    int64_t limit = one_at_a_time(d) ? 1 : d->window.size;
    return d->state == DEST_READY && d->todo_count > 0 && d->busy < limit;
}

/* Whoever waits for a slot has it before those that come later, and before a dest that has just
 * given one back: no site takes all of a transport's processes. */
void dest_pump(struct dest *d)
{
    struct transport *t = d->transport;
    while (!t->sched->draining && may_go(d)) {
        if (!list_empty(&t->waiting) || !transport_has_slot(t)) {
            if (list_empty(&d->waiting))
                list_push_back(&t->waiting, &d->waiting);
            return;
        }
        request_emit(d);
    }
}

void transport_pump(struct transport *t)
{
    while (!t->sched->draining && !list_empty(&t->waiting) && transport_has_slot(t)) {
        struct dest *d = CONTAINER(t->waiting.next, struct dest, waiting);
        list_remove(&d->waiting);
        if (!may_go(d))
            continue;
        /* One request each, then to the end of the line. */
        request_emit(d);
        if (may_go(d))
            list_push_back(&t->waiting, &d->waiting);
    }
}

static void failed(struct dest *d, const struct dsn *why)
{
    struct sched *s = d->transport->sched;
    if (d->state == DEST_DEAD || !feedback_failure(&d->window, &d->transport->opts))
        return;
    d->state = DEST_DEAD;
    why_set(d, why);
    timer_set(&d->timer, clock_in_s(s->opts.minimal_backoff_s), timer_fired);
    suspend_all(d);
}

static void succeeded(struct dest *d)
{
    feedback_success(&d->window, &d->transport->opts, d->busy + 1);
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
    if (one_at_a_time(d) && d->state == DEST_READY) {
        d->state = DEST_PAUSED;
        timer_set(&d->timer, clock_in_ms(t->opts.rate_delay_ms), timer_fired);
    }
}
