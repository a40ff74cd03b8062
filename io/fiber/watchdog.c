#include "io/fiber/watchdog.h"

#include <inttypes.h>
#include <time.h>
#include "io/base/check.h"
#include "io/base/log.h"
#include "io/base/thread.h"
#include "io/fiber/private.h"

static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    bool running, stopping;
    int64_t stall_ns;
    atomic_uint_fast64_t stalls;
} dog = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* A worker that sleeps in the kernel stands still rightly, so the counter alone cannot tell: only
 * "in a fiber, and in the same turn for so many periods" is a stall. */
static void watch_one(struct worker *w)
{
    struct watch *seen = &w->watch;
    uint64_t turns = atomic_load_explicit(&w->turns, memory_order_relaxed);
    const char *entry = atomic_load_explicit(&w->running, memory_order_acquire);
    bool busy = entry != NULL;
    if (!busy || turns != seen->turns) {
        *seen = (struct watch){.turns = turns, .periods = busy ? 1 : 0};
        return;
    }
    if (seen->periods++ != WATCH_PERIODS)
        return;
    atomic_fetch_add(&dog.stalls, 1);
    log_warning("master",
                "%s has not yielded for %" PRId64 " ms in fiber \"%s\": its other sessions wait; "
                "the machine may be overloaded, or a library call blocks",
                w->name, dog.stall_ns / NS_PER_MS, entry);
}

static void *watch_thread(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&dog.lock);
    while (!dog.stopping) {
        /* Real time in spite of clock_replace: this watches threads, not sessions. */
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        int64_t at = ts.tv_sec * NS_PER_S + ts.tv_nsec + dog.stall_ns / WATCH_PERIODS;
        ts = (struct timespec){.tv_sec = at / NS_PER_S, .tv_nsec = at % NS_PER_S};
        if (pthread_cond_timedwait(&dog.wake, &dog.lock, &ts) != ETIMEDOUT)
            continue;
        for (struct worker *w = worker_registry(); w != NULL; w = w->registry_next)
            watch_one(w);
    }
    pthread_mutex_unlock(&dog.lock);
    return NULL;
}

struct err *watchdog_start(int64_t stall_ns)
{
    pthread_condattr_t attr;
    CHECK(!dog.running);
    dog.stall_ns = stall_ns != 0 ? stall_ns : 2 * NS_PER_S;
    dog.stopping = false;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&dog.wake, &attr);
    pthread_condattr_destroy(&attr);
    int rc = thread_start(&dog.thread, "watchdog", watch_thread, NULL);
    if (rc != 0)
        return err_errno(rc, "start watchdog thread");
    dog.running = true;
    return NULL;
}

void watchdog_stop(void)
{
    if (!dog.running)
        return;
    pthread_mutex_lock(&dog.lock);
    dog.stopping = true;
    pthread_cond_signal(&dog.wake);
    pthread_mutex_unlock(&dog.lock);
    pthread_join(dog.thread, NULL);
    pthread_cond_destroy(&dog.wake);
    dog.running = false;
}

uint64_t watchdog_stalls(void)
{
    return atomic_load(&dog.stalls);
}
