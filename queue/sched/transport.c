/* One transport of master.cf: its limits and the destinations that take turns in it. */
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "queue/sched/state.h"

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
    t->seats.limit = t->opts.pool;
    t->seats.extra = t->opts.extra_pool;
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
    for (size_t i = 0; i < PACES; i++)
        line_init(&t->waiting[i]);
    list_init(&t->running);
    list_init(&t->held);
    transport_configure(t);
    hmap_put(&s->transports, str_of(name), t);
    return t;
}

static void job_init(struct job *j, struct transport *t)
{
    *j = (struct job){.transport = t, .since_ns = clock_mono_ns()};
    j->slots.id = ++t->sched->jobs;
    j->seats.pool = &t->seats;
    for (size_t i = 0; i < PACES; i++) {
        line_item_init(&j->turns[i].item, &j->slots);
        list_init(&j->turns[i].offers);
    }
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
        if (((struct dest *)value)->site != value)
            dest_free(value);
    at = 0;
    while (hmap_next(&t->dests, &at, &key, &value))
        dest_free(value);
    hmap_fini(&t->dests);
    timer_clear(&t->pause);
    timer_clear(&t->stall);
    mem_free(t->paces);
    transport_revive(t);
    mem_free((char *)t->opts.name);
    mem_free(t);
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

void transport_started(struct transport *t, struct request *r)
{
    t->busy++;
    pace_started(t, r);
    if (t->opts.transport_rate_delay_ms > 0 && !t->opts.rate_serial)
        rest(t);
}

void transport_finished(struct transport *t, struct request *r)
{
    CHECK(t->busy > 0);
    t->busy--;
    pace_finished(t, r);
    if (t->opts.transport_rate_delay_ms > 0 && t->opts.rate_serial)
        rest(t);
}
