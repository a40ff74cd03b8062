#include "queue/sched/state.h"

#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/mem.h"

/* A dest that is DEAD or has a shrunken window is worth remembering this long without work. */
#define DEST_MEMORY_NS (INT64_C(60) * NS_PER_S)

static const struct sched_transport *options_for(struct sched *s, const char *name)
{
    for (size_t i = 0; i < s->opts.transport_count; i++)
        if (strcmp(s->opts.transports[i].name, name) == 0)
            return &s->opts.transports[i];
    return &s->opts.fallback;
}

struct transport *transport_get(struct sched *s, const char *name)
{
    struct transport *t = hmap_get(&s->transports, str_of(name));
    if (t)
        return t;
    t = MEM_NEW(struct transport);
    t->sched = s;
    t->opts = *options_for(s, name);
    t->opts.name = mem_strdup(name);
    list_init(&t->waiting);
    hmap_put(&s->transports, str_of(name), t);
    return t;
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
    memcpy(text, why->text.ptr ? why->text.ptr : "", why->text.len);
    text[why->text.len] = '\0';
    d->why.text = str_make(text, why->text.len);
}

void dest_release(struct dest *d)
{
    bool remembers = d->state != DEST_READY || d->window.fail_cohorts > 0;
    if (d->busy > 0 || d->todo_count > 0 || !list_empty(&d->idle) || remembers)
        return;
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
    if (d->state == DEST_READY) { /* only its failures were remembered */
        d->window.fail_cohorts = 0;
        dest_release(d);
        return;
    }
    dest_revive(d);
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

/* What waits for a dead site is deferred at once by the retry agent, which logs it: the message goes
 * back to sleep and holds no memory here. */
static void suspend(struct dest *d, struct entry *e)
{
    struct buf text = {0};
    buf_printf(&text, "%s delivery temporarily suspended: %.*s",
               d->why.status[0] ? d->why.status : "4.3.0", STR_ARG(d->why.text));
    struct transport *retry = transport_get(d->transport->sched, "retry");
    struct dest *to = dest_get(retry, text.ptr, text.ptr);
    buf_fini(&text);
    if (to->state == DEST_DEAD) /* the retry agent itself cannot fail for site reasons */
        dest_revive(to);
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

/* Is there a process slot? Otherwise wait in the transport's turn. */
static bool slot_free(struct dest *d)
{
    struct transport *t = d->transport;
    if (t->opts.process_limit <= 0 || t->busy < t->opts.process_limit)
        return true;
    if (list_empty(&d->waiting))
        list_push_back(&t->waiting, &d->waiting);
    return false;
}

static bool one_at_a_time(const struct dest *d)
{
    return d->transport->opts.rate_delay_ms > 0;
}

void dest_pump(struct dest *d)
{
    struct sched *s = d->transport->sched;
    while (!s->draining && d->state == DEST_READY && d->todo_count > 0) {
        int64_t limit = one_at_a_time(d) ? 1 : d->window.size;
        if (d->busy >= limit || !slot_free(d))
            return;
        struct list *node = list_pop_front(&d->todo);
        d->todo_count--;
        request_emit(d, CONTAINER(node, struct entry, link));
    }
}

void transport_pump(struct transport *t)
{
    while (!list_empty(&t->waiting) &&
           (t->opts.process_limit <= 0 || t->busy < t->opts.process_limit)) {
        struct dest *d = CONTAINER(list_pop_front(&t->waiting), struct dest, waiting);
        /* One request each, then to the end of the line: no site takes all the slots. */
        if (t->sched->draining || d->state != DEST_READY || d->todo_count == 0 ||
            d->busy >= (one_at_a_time(d) ? 1 : d->window.size))
            continue;
        struct list *node = list_pop_front(&d->todo);
        d->todo_count--;
        request_emit(d, CONTAINER(node, struct entry, link));
        if (d->todo_count > 0)
            list_push_back(&t->waiting, &d->waiting);
    }
}

void dest_finished(struct dest *d, bool dead, const struct dsn *why)
{
    struct sched *s = d->transport->sched;
    CHECK(d->busy > 0 && d->transport->busy > 0);
    d->busy--;
    d->transport->busy--;
    if (!dead) {
        feedback_success(&d->window, &d->transport->opts, d->busy + 1);
        if (d->state == DEST_DEAD) { /* one that was under way got through after all */
            why_set(d, NULL);
            d->state = DEST_READY;
            timer_clear(&d->timer);
        }
    } else if (d->state != DEST_DEAD) {
        if (feedback_failure(&d->window, &d->transport->opts)) {
            d->state = DEST_DEAD;
            why_set(d, why);
            timer_set(&d->timer, clock_in_s(s->opts.minimal_backoff_s), timer_fired);
            suspend_all(d);
        } else if (d->state == DEST_READY) {
            timer_set(&d->timer, clock_mono_ns() + DEST_MEMORY_NS, timer_fired);
        }
    }
    if (one_at_a_time(d) && d->state == DEST_READY) {
        d->state = DEST_PAUSED;
        timer_set(&d->timer, clock_in_ms(d->transport->opts.rate_delay_ms), timer_fired);
    }
}
