/* pace: when the next message starts. Closed loop: whenever a session is free. Open loop: at times
 * drawn beforehand, whatever the sessions do; a message that finds no free session waits, and its
 * waiting counts, because its time runs from the intended start (no coordinated omission). */
#include <math.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include "io/base/check.h"
#include "io/base/mem.h"
#include "io/base/rand.h"
#include "io/fiber/fiber.h"
#include "io/ring/ring.h"
#include "perf/load/report.h"
#include "perf/load/source.h"

#define NAP_NS (50 * NS_PER_US) /* arrivals nearer to each other than this share a wake-up */

struct idler {
    struct list link;
    struct fiber *fiber;
};

static bool stopped(const struct load *l)
{
    return atomic_load_explicit(&l->stop, memory_order_relaxed);
}

/* One of the messages that are left, when they are counted. */
static bool take_one(struct load *l)
{
    if (stopped(l))
        return false;
    return l->messages == 0 || atomic_fetch_sub_explicit(&l->left, 1, memory_order_relaxed) > 0;
}

bool pace_take(struct gang *g, struct job *out)
{
    if (g->load->rate <= 0) {
        out->start_ns = clock_mono_ns();
        return take_one(g->load);
    }
    while (g->due_count == 0) {
        if (g->no_more)
            return false;
        struct idler me = {.fiber = fiber_self()};
        list_push_front(&g->idle, &me.link); /* the one used last: fewer connections go stale */
        struct err *e = fiber_park(DEADLINE_NEVER);
        list_remove(&me.link);
        if (e)
            return false;
    }
    out->start_ns = g->due[g->due_at];
    g->due_at = (g->due_at + 1) % g->due_cap;
    g->due_count--;
    hist_add(&g->times[TIME_LAG], clock_mono_ns() - out->start_ns);
    return true;
}

static void due_push(struct gang *g, int64_t at_ns)
{
    if (g->due_count == g->due_cap) {
        size_t cap = g->due_cap > 0 ? g->due_cap * 2 : 1024;
        int64_t *due = mem_alloc(cap * sizeof *due);
        for (size_t i = 0; i < g->due_count; i++)
            due[i] = g->due[(g->due_at + i) % g->due_cap];
        mem_free(g->due);
        g->due = due;
        g->due_at = 0;
        g->due_cap = cap;
    }
    g->due[(g->due_at + g->due_count++) % g->due_cap] = at_ns;
    struct list *node = list_pop_front(&g->idle);
    if (node != NULL)
        fiber_wake(CONTAINER(node, struct idler, link)->fiber);
}

/* The wheel's millisecond is too coarse here. */
static struct err *nap_until(int timer_fd, int64_t at_ns)
{
    struct itimerspec its = {.it_value = {.tv_sec = at_ns / NS_PER_S, .tv_nsec = at_ns % NS_PER_S}};
    uint64_t expirations;
    size_t got;
    CHECK(timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &its, NULL) == 0);
    return io_pread(timer_fd, &expirations, sizeof expirations, IO_STREAM, &got);
}

void pace_arrivals(void *arg)
{
    struct gang *g = arg;
    struct load *l = g->load;
    double gap_ns = 1e9 * (double)l->threads / l->rate;
    int64_t last_ns = clock_mono_ns() + (l->seconds > 0 ? l->seconds * NS_PER_S : INT64_MAX / 2);
    double at = (double)clock_mono_ns() + gap_ns * (double)g->number / (double)l->threads;
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    CHECK(fd >= 0);
    for (;;) {
        if (l->poisson) /* 1 - u is never 0 */
            at += -log(1 - (double)(rand_u64() >> 11) * 0x1p-53) * gap_ns;
        else
            at += gap_ns;
        int64_t at_ns = (int64_t)at, now = clock_mono_ns();
        if (at_ns > last_ns || !take_one(l))
            break;
        if (at_ns > now) {
            int64_t soonest = now + NAP_NS;
            if (nap_until(fd, at_ns > soonest ? at_ns : soonest))
                break;
        }
        due_push(g, at_ns);
    }
    close(fd);
    g->no_more = true;
    LIST_EACH(&g->idle, node)
    {
        fiber_wake(CONTAINER(node, struct idler, link)->fiber);
    }
}
