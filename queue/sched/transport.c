/* One transport of master.cf: its limits and the destinations that take turns in it. */
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "queue/sched/state.h"

#define LINGER_NS NS_PER_S

static const struct sched_transport *options_for(struct sched *s, const char *name)
{
    for (size_t i = 0; i < s->opts.transport_count; i++)
        if (strcmp(s->opts.transports[i].name, name) == 0)
            return &s->opts.transports[i];
    return &s->opts.fallback;
}

static bool listed(const char *list, const char *name)
{
    static const char between[] = ", \t\r\n";
    size_t len = strlen(name), n;
    for (const char *p = list; *p; p += n) {
        p += strspn(p, between);
        n = strcspn(p, between);
        if (n == len && memcmp(p, name, len) == 0)
            return true;
    }
    return false;
}

/* --- an agent that fails (postconf(5), transport_retry_time) */

void transport_revive(struct transport *t)
{
    timer_clear(&t->retry);
    mem_free(t->broken);
    t->broken = NULL;
}

static void retry_due(struct timer *timer)
{
    transport_revive(CONTAINER(timer, struct transport, retry));
}

void transport_failed(struct transport *t, const struct dsn *why)
{
    int64_t wait_s = t->sched->opts.transport_retry_s;
    size_t at = 0;
    struct str key;
    void *value;
    if (t->internal || t->broken || wait_s <= 0)
        return;
    log_warning("qmgr", "transport %s failure: %.*s", t->opts.name, STR_ARG(why->text));
    struct buf text = {0};
    buf_printf(&text, "%s %.*s", why->status[0] ? why->status : "4.3.0", STR_ARG(why->text));
    t->broken = mem_strdup(text.ptr);
    buf_fini(&text);
    timer_set(&t->retry, clock_in_s(wait_s), retry_due);
    while (hmap_next(&t->dests, &at, &key, &value)) {
        dest_suspend_all(value);
        dest_release(value);
    }
}

/* Running destinations keep window and history; only their limits change. */
void transport_configure(struct transport *t)
{
    const char *name = t->opts.name;
    t->opts = *options_for(t->sched, name);
    t->opts.name = name;
    t->opts.why = NULL;
    t->rules = (struct slot_rules){.cost = t->opts.slot_cost,
                                   .loan = t->opts.slot_loan,
                                   .discount = t->opts.slot_discount,
                                   .minimum = t->opts.minimum_slots};
    transport_revive(t); /* master.cf may have it now */
    t->deferred = !t->internal && listed(t->sched->opts.defer_transports, name);
    if (t->opts.transport_rate_delay_ms <= 0) {
        timer_clear(&t->pause);
        t->paused = false;
    }
    transport_pump(t);
    size_t at = 0;
    struct str key;
    void *value;
    while (hmap_next(&t->dests, &at, &key, &value)) {
        struct dest *d = value;
        if (t->opts.concurrency_limit > 0 && d->window.size > t->opts.concurrency_limit)
            d->window.size = t->opts.concurrency_limit;
        if (d->state == DEST_PAUSED && t->opts.rate_delay_ms <= 0)
            dest_revive(d); /* may free it */
        else
            dest_pump(d);
    }
}

struct transport *transport_get(struct sched *s, const char *name)
{
    struct transport *t = hmap_get(&s->transports, str_of(name));
    if (t)
        return t;
    t = MEM_NEW(struct transport);
    t->sched = s;
    t->opts.name = mem_strdup(name);
    t->internal =
        strcmp(name, "retry") == 0 || strcmp(name, "error") == 0 || strcmp(name, "discard") == 0;
    line_init(&t->waiting);
    list_init(&t->running);
    transport_configure(t);
    hmap_put(&s->transports, str_of(name), t);
    return t;
}

static void job_init(struct job *j, struct transport *t)
{
    *j = (struct job){.transport = t, .since_ns = clock_mono_ns()};
    j->slots.id = ++t->sched->jobs;
    line_item_init(&j->item, &j->slots);
    list_init(&j->offers);
}

struct job *transport_job(struct transport *t, struct active *a)
{
    if (!a->job.transport)
        job_init(&a->job, t);
    struct job *j = &a->job;
    for (; j->transport != t; j = j->next) {
        if (j->next)
            continue;
        struct job *other = MEM_NEW(struct job);
        job_init(other, t);
        j->next = other;
    }
    return j;
}

void transport_free(struct transport *t)
{
    size_t at = 0;
    struct str key;
    void *value;
    while (hmap_next(&t->dests, &at, &key, &value))
        dest_free(value);
    hmap_fini(&t->dests);
    timer_clear(&t->pause);
    timer_clear(&t->linger);
    transport_revive(t);
    mem_free((char *)t->opts.name);
    mem_free(t);
}

bool transport_has_slot(const struct transport *t)
{
    if (t->opts.transport_rate_delay_ms > 0 && (t->paused || (t->opts.rate_serial && t->busy > 0)))
        return false;
    return t->opts.process_limit <= 0 || t->busy - t->lingering < t->opts.process_limit;
}

static void pause_ended(struct timer *timer)
{
    struct transport *t = CONTAINER(timer, struct transport, pause);
    t->paused = false;
    transport_pump(t);
}

static void rest(struct transport *t)
{
    t->paused = true;
    timer_set(&t->pause, clock_in_ms(t->opts.transport_rate_delay_ms), pause_ended);
}

/* --- those that linger. A delivery that has taken a second waits for its peer, not for us, and costs us little. Where
 * nobody has asked for a number of processes (maxproc "-"), it does not count for it any more: else a hundred
 * sites that take minutes for each mail would have them all, and everybody's mail would wait for theirs. */

static void linger_due(struct timer *timer);

static void watch(struct transport *t)
{
    if (list_empty(&t->running) || t->lingering >= t->opts.lingering_max)
        return;
    const struct request *oldest = CONTAINER(t->running.next, struct request, running);
    if (!t->watched)
        timer_set(&t->linger, oldest->begun_ns + LINGER_NS, linger_due);
    t->watched = true;
}

static void linger_due(struct timer *timer)
{
    struct transport *t = CONTAINER(timer, struct transport, linger);
    int64_t now = clock_mono_ns();
    t->watched = false;
    while (!list_empty(&t->running) && t->lingering < t->opts.lingering_max) {
        struct request *r = CONTAINER(t->running.next, struct request, running);
        if (r->begun_ns + LINGER_NS > now)
            break;
        list_remove(&r->running);
        r->lingers = true;
        t->lingering++;
    }
    watch(t);
    transport_pump(t);
}

void transport_started(struct transport *t, struct request *r)
{
    t->busy++;
    list_init(&r->running);
    if (t->opts.lingering_max > 0 && t->opts.process_limit > 0) {
        r->begun_ns = clock_mono_ns();
        list_push_back(&t->running, &r->running);
        watch(t);
    }
    if (t->opts.transport_rate_delay_ms > 0 && !t->opts.rate_serial)
        rest(t);
}

void transport_finished(struct transport *t, struct request *r)
{
    CHECK(t->busy > 0);
    t->busy--;
    list_remove(&r->running);
    if (r->lingers) {
        t->lingering--;
        watch(t);
    }
    if (t->opts.transport_rate_delay_ms > 0 && t->opts.rate_serial)
        rest(t);
}
