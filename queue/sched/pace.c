/* Which sites take their mail quickly, and what that counts for when the processes of a transport
 * are all taken.
 *
 *     NEW --a delivery ended in time--> QUICK --two stall--> SLOW --one ended in time--> QUICK
 *     NEW --two stall--> SLOW
 *
 * A delivery stalls when it has been out for patience_ms. One alone says little: its first host was
 * dead, perhaps. And one that ended in time says little as long as more than half of what is out to
 * its site stalls: behind a greeting that took a minute the next ones on that connection are quick,
 * and each new connection waits for its minute. A hundred sites that take minutes for each mail
 * would otherwise have all processes, and everybody's mail would wait for theirs. */
#include "io/base/clock.h"
#include "io/base/hash.h"
#include "io/base/mem.h"
#include "queue/sched/state.h"

/* Of so many processes one is not for sites that stall, and one of twice as many for quick sites alone; of few processes only
 * while something stalls. */
#define KEPT_OF 10
#define FEW 50
#define STALLS 2 /* without one between that ended in time */

int64_t transport_lingering(const struct transport *t)
{
    return t->stalled < t->opts.lingering_max ? t->stalled : t->opts.lingering_max;
}

bool transport_has_slot(const struct transport *t, enum pace pace)
{
    int64_t limit = t->opts.process_limit, out = t->busy - transport_lingering(t);
    if (t->opts.transport_rate_delay_ms > 0 && (t->paused || (t->opts.rate_serial && t->busy > 0)))
        return false;
    if (limit <= 0)
        return true;
    if (out >= limit)
        return false;
    if (pace == PACE_QUICK || (limit < FEW && t->stalled == 0))
        return true;
    return out - t->quick < limit - limit / (pace == PACE_NEW ? 2 * KEPT_OF : KEPT_OF);
}

/* --- those who wait */

static bool may_have(const struct transport *t, enum pace pace)
{
    return !line_empty(&t->waiting[pace]) && transport_has_slot(t, pace);
}

/* As long as nobody is out for long: who came first. */
static enum pace first_come(const struct transport *t)
{
    enum pace first = PACES;
    for (enum pace p = 0; p < PACES; p++)
        if (may_have(t, p) && (first == PACES || line_first(&t->waiting[p])->since_ns <
                                                     line_first(&t->waiting[first])->since_ns))
            first = p;
    return first;
}

/* Each has a share of the slots, so that the others too come to an end. */
static enum pace next_line(const struct transport *t)
{
    static const enum pace shares[] = {PACE_QUICK, PACE_NEW, PACE_QUICK, PACE_NEW,
                                       PACE_QUICK, PACE_NEW, PACE_QUICK, PACE_SLOW};
    enum pace turn = shares[t->grants % (sizeof shares / sizeof *shares)];
    if (t->stalled == 0)
        return first_come(t);
    if (may_have(t, turn))
        return turn;
    for (enum pace p = 0; p < PACES; p++)
        if (may_have(t, p))
            return p;
    return PACES;
}

bool transport_waited_for(const struct transport *t)
{
    return t->offered > 0 && next_line(t) < PACES;
}

struct line_item *transport_next(struct transport *t)
{
    enum pace at = t->offered > 0 ? next_line(t) : PACES;
    return at < PACES ? line_next(&t->waiting[at], &t->rules, clock_mono_ns()) : NULL;
}

/* --- those that are out */

static void stall_due(struct timer *timer);

static int64_t due_ns(const struct transport *t, const struct request *r)
{
    return r->begun_ns + t->opts.patience_ms * NS_PER_MS;
}

static void watch(struct transport *t)
{
    if (t->watched || list_empty(&t->running))
        return;
    timer_set(&t->stall, due_ns(t, CONTAINER(t->running.next, struct request, running)), stall_due);
    t->watched = true;
}

static void leave_running(struct transport *t, struct request *r)
{
    list_remove(&r->running);
    t->quick -= r->quick;
    r->quick = false;
}

static void stall_due(struct timer *timer)
{
    struct transport *t = CONTAINER(timer, struct transport, stall);
    int64_t now = clock_mono_ns();
    t->watched = false;
    while (!list_empty(&t->running)) {
        struct request *r = CONTAINER(t->running.next, struct request, running);
        if (due_ns(t, r) > now)
            break;
        leave_running(t, r);
        r->stalled = true;
        t->stalled++;
        r->dest->stalled++;
        if (++r->dest->stalls >= STALLS)
            dest_set_pace(r->dest, PACE_SLOW);
    }
    watch(t);
    transport_pump(t);
}

void pace_started(struct transport *t, struct request *r)
{
    list_init(&r->running);
    if (t->opts.process_limit <= 0 || t->internal)
        return;
    r->begun_ns = clock_mono_ns();
    r->quick = r->dest->pace == PACE_QUICK;
    t->quick += r->quick;
    list_push_back(&t->running, &r->running);
    watch(t);
}

static void went_well(struct dest *d)
{
    if (2 * d->stalled > d->busy)
        return;
    d->stalls = 0;
    dest_set_pace(d, PACE_QUICK);
}

void pace_finished(struct transport *t, struct request *r)
{
    if (r->stalled) {
        t->stalled--;
        r->dest->stalled--;
    } else if (!list_empty(&r->running) && !r->dest_dead && !r->transport_failed) {
        went_well(r->dest);
    }
    leave_running(t, r);
}

/* --- what is remembered: of each key a hash, whose last bits are the pace. Many displace others. */

#define REMEMBERED 16384

static uint64_t hash_of(const struct dest *d)
{
    return hash_sum(d->key, strlen(d->key), 0) & ~UINT64_C(3);
}

void pace_remember(const struct dest *d)
{
    struct transport *t = d->transport;
    uint64_t hash = hash_of(d);
    if (!t->paces)
        t->paces = mem_zalloc(REMEMBERED * sizeof(*t->paces));
    t->paces[(hash >> 2) % REMEMBERED] = hash | d->pace;
}

enum pace pace_recall(const struct dest *d)
{
    const struct transport *t = d->transport;
    if (!t->paces)
        return PACE_NEW;
    uint64_t hash = hash_of(d), known = t->paces[(hash >> 2) % REMEMBERED];
    return known != 0 && (known & ~UINT64_C(3)) == hash ? (enum pace)(known & 3) : PACE_NEW;
}
