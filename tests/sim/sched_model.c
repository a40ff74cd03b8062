#include "sched_model.h"

#include <string.h>
#include "core/smtp/reach.h"
#include "driver.h"
#include "io/base/check.h"
#include "io/base/clock.h"
#include "queue/private.h"

#define REFUSED_NS (100 * NS_PER_MS)

const char *const site_kinds[SITE_KINDS] = {"plain",          "one of two hosts dead", "greylisting",
                                            "421 over a limit", "slow",                "down for hours",
                                            "stalling"};

struct model model;

/* What the memory of addresses reads (core/smtp/reach.h). */
static const struct params params = {
    .smtp_bind_address = "", .smtp_bind_address6 = "", .minimal_backoff_time = MINIMAL_S};

int64_t model_ms(int64_t from, int64_t to)
{
    return (from + (int64_t)sim_below((uint64_t)(to - from + 1))) * NS_PER_MS;
}

void model_nap(int64_t ns)
{
    CHECK(fiber_sleep_until(clock_mono_ns() + ns) == NULL);
}

static enum site_kind kind_of(int i)
{
    static const enum site_kind kinds[] = {SITE_PLAIN, SITE_PLAIN,     SITE_PLAIN, SITE_PLAIN,
                                           SITE_PLAIN, SITE_TWO_HOSTS, SITE_GREY,  SITE_LIMITED,
                                           SITE_SLOW,  SITE_DOWN};
    return i == DOWN_SITE ? SITE_DOWN : 
           i >= STALL_SITE && i < STALL_SITE + STALL_SITES ? SITE_STALLING : kinds[sim_below(10)];
}

static void make_site(int i, int64_t every_ns)
{
    struct site *s = &model.sites[i];
    *s = (struct site){.kind = kind_of(i),
                       .latency_ns = model_ms(20, 1500),
                       .paced = i % 30 == 1,
                       .every_ns = every_ns};
    if (s->kind == SITE_GREY)
        s->grey_ns = model_ms(60000, 900000);
    if (s->kind == SITE_LIMITED)
        s->capacity = 1 + (int)sim_below(6);
    if (s->kind == SITE_SLOW)
        s->latency_ns = model_ms(5000, 30000);
    if (s->kind == SITE_STALLING)
        s->latency_ns = model_ms(60000, 120000);
    if (s->kind != SITE_DOWN && s->kind != SITE_TWO_HOSTS)
        return;
    s->down_from_ns = i == DOWN_SITE ? 0 : model_ms(0, TRAFFIC_S * 500);
    s->down_for_ns = model_ms(1800000, 7200000);
}

void model_begin(int days, size_t count)
{
    memset(&model, 0, sizeof model);
    smtp_reach_clear();
    model.agent_from_ns = model_ms(0, TRAFFIC_S * 500);
    model.agent_for_ns = model_ms(1800000, 3600000);
    model.count = count < 1 ? 1 : count > SITES_MAX ? SITES_MAX : count;
    for (int i = 0; i < (int)model.count; i++)
        make_site(i, days > 0 ? DAY_S * NS_PER_S : INT64_MAX);
}

bool site_is_down(const struct site *s, int64_t now)
{
    int64_t since = now - s->down_from_ns;
    return since >= 0 && since % s->every_ns < s->down_for_ns;
}

bool site_is_healthy(const struct site *s)
{
    return (s->kind == SITE_PLAIN || s->kind == SITE_TWO_HOSTS) && !s->paced;
}

/* --- what must hold when an attempt begins */

static void check_pause(const struct site *s, const char *name, int64_t now)
{
    const struct sched_transport *t = &model.transports[1];
    if (t->rate_serial && s->busy > 1)
        sim_fail("%s is not served one at a time", name);
    /* The thread of the scheduler is this one, but its decision was a moment ago. */
    int64_t last = t->rate_serial ? s->ended_ns : s->begun_ns;
    if (last > 0 && now - last < t->rate_delay_ms * NS_PER_MS - 50 * NS_PER_MS)
        sim_fail("%s has no pause: %.3f s", name, (double)(now - last) / 1e9);
}

static void check_probe(struct site *s, const char *name, int64_t now)
{
    if (s->busy > 1)
        sim_fail("%s is probed while %d deliveries are out", name, s->busy - 1);
    if (s->probed_ns > 0 && now - s->probed_ns < (MINIMAL_S - EARLY_S) * NS_PER_S)
        sim_fail("%s is probed again after %.0f s", name, (double)(now - s->probed_ns) / 1e9);
    s->probed_ns = now;
    s->probes++;
}

static void check_limits(struct site *s, const struct request *r, int64_t now)
{
    const struct sched_transport *t = &model.transports[s->paced];
    if (s->busy > t->concurrency_limit)
        sim_fail("%s has %d deliveries at once", r->nexthop, s->busy);
    if (t->process_limit > 0 && model.out[s->paced] > t->process_limit)
        sim_fail("%d deliveries of %s at once", model.out[s->paced], t->name);
    if ((int64_t)r->rcpt_count > t->recipient_limit)
        sim_fail("%zu recipients in one request", r->rcpt_count);
    if (s->paced)
        check_pause(s, r->nexthop, now);
    /* Its backlog waits: known to be down, it is tried once in a while, whoever comes. */
    if (s == &model.sites[DOWN_SITE] && model.burst_ns > 0 && now < s->down_for_ns &&
        now > model.burst_ns + 5 * NS_PER_S && now - s->begun_ns < (MINIMAL_S - EARLY_S) * NS_PER_S)
        sim_fail("%s is tried again after %.3f s", r->nexthop, (double)(now - s->begun_ns) / 1e9);
    if (r->dest->window.probing)
        check_probe(s, r->nexthop, now);
}

/* --- an agent that does not work */

/* The first of a moment find out; then it is left alone for transport_retry_time. */
static void check_agent(const char *name, int64_t now)
{
    int64_t since = now - model.agent_tried_ns;
    if (model.agent_tried_ns > 0 && since > 50 * NS_PER_MS && since < AGENT_RETRY_S * NS_PER_S)
        sim_fail("%s: its agent is tried again after %.3f s", name, (double)since / 1e9);
    if (since > 50 * NS_PER_MS)
        model.agent_tried_ns = now;
    model.agent_deaths++;
}

bool agent_dies(const struct site *s, const struct request *r)
{
    int64_t now = clock_mono_ns(), since = now - model.agent_from_ns;
    if (!s->paced || since < 0 || since % s->every_ns >= model.agent_for_ns)
        return false;
    check_agent(r->nexthop, now);
    return true;
}

/* --- two hosts, of which the first may be dead; who asks in which order is core/smtp's own */

static struct smtp_target host(const struct site *s, int number)
{
    struct smtp_target t = {.host = "host", .preference = (uint16_t)number};
    t.addr.in.sin_family = AF_INET;
    t.addr.in.sin_port = htons(25);
    t.addr.in.sin_addr.s_addr = htonl(0x0a000000u + (uint32_t)(s - model.sites) * 2 + (uint32_t)number);
    return t;
}

/* From when it is known to be dead it costs one attempt in a while, and nobody else anything. */
static void check_dead_host(struct site *s, const char *name, int64_t now)
{
    s->asked_dead++;
    if (s->lost_ns == 0) {
        if (++s->first > model.transports[s->paced].concurrency_limit)
            sim_fail("%s: %d attempts find out that its first host is dead", name, s->first);
        return;
    }
    if (now - s->lost_ns < MINIMAL_S * NS_PER_S)
        sim_fail("%s: its first host is asked again after %.3f s", name,
                 (double)(now - s->lost_ns) / 1e9);
    if (s->asking > s->first + 1)
        sim_fail("%s: two ask its first host at once", name);
}

static bool ask_first_host(struct site *s, const char *name, const struct smtp_target *t)
{
    if (!site_is_down(s, clock_mono_ns())) {
        smtp_reach_ok(&params, &t->addr);
        s->lost_ns = 0;
        s->first = 0;
        return true;
    }
    bool one_of_the_first = s->lost_ns == 0;
    s->asking++;
    check_dead_host(s, name, clock_mono_ns());
    model_nap((s - model.sites) % 2 ? REFUSED_NS : 5 * NS_PER_S); /* refused; timed out */
    smtp_reach_failed(&params, &t->addr, clock_mono_ns());
    s->lost_ns = clock_mono_ns();
    s->asking--;
    if (one_of_the_first && s->first > 0)
        s->first--;
    return false;
}

static void ask_hosts(struct site *s, const char *name)
{
    int64_t now = clock_mono_ns();
    struct smtp_target list[2] = {host(s, 0), host(s, 1)};
    size_t front = smtp_reach_order(&params, list, 2, now);
    if (list[0].preference == 0) {
        if (ask_first_host(s, name, &list[0]))
            return;
    } else {
        s->passed_by++;
        if (s->asking == 0 && now - s->lost_ns > MINIMAL_S * NS_PER_S)
            sim_fail("%s: nobody has asked its first host for %.0f s", name,
                     (double)(now - s->lost_ns) / 1e9);
    }
    if (front == 0)
        sim_fail("%s: its second host is taken for dead", name);
}

bool site_attempt(struct site *s, const struct request *r)
{
    int64_t now = clock_mono_ns();
    s->busy++;
    s->attempts++;
    model.out[s->paced]++;
    check_limits(s, r, now);
    s->begun_ns = now;
    bool down = s->kind == SITE_DOWN && site_is_down(s, now);
    bool refused = down || (s->capacity > 0 && s->busy > s->capacity);
    s->refused += refused;
    if (s->kind == SITE_TWO_HOSTS)
        ask_hosts(s, r->nexthop);
    model_nap(refused ? REFUSED_NS : s->latency_ns);
    s->busy--;
    model.out[s->paced]--;
    s->ended_ns = clock_mono_ns();
    return !refused;
}
