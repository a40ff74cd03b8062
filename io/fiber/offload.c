#include "io/fiber/offload.h"

#include "io/base/check.h"
#include "io/fiber/fiber.h"
#include "io/fiber/jobs.h"

enum { OFFLOAD_THREADS = 4, OFFLOAD_THREADS_MAX = 64 };

static struct {
    struct jobs jobs;
    bool running;
    unsigned count;
    pthread_t threads[OFFLOAD_THREADS_MAX];
} pool;

struct err *offload_start(unsigned threads)
{
    unsigned want = threads != 0 ? threads : OFFLOAD_THREADS;
    struct err *e = NULL;
    CHECK(!pool.running);
    jobs_init(&pool.jobs);
    pool.count = 0;
    while (e == NULL && pool.count < want && pool.count < OFFLOAD_THREADS_MAX) {
        e = jobs_thread(&pool.jobs, "offload", &pool.threads[pool.count]);
        pool.count += e == NULL;
    }
    pool.running = true;
    if (e != NULL)
        offload_stop();
    return e;
}

void offload_stop(void)
{
    if (!pool.running)
        return;
    jobs_stop(&pool.jobs);
    for (unsigned i = 0; i < pool.count; i++)
        pthread_join(pool.threads[i], NULL);
    jobs_fini(&pool.jobs);
    pool.running = false;
}

void offload(void (*fn)(void *arg), void *arg)
{
    if (fiber_self() == NULL || !pool.running)
        fn(arg);
    else
        jobs_do(&pool.jobs, fn, arg);
}
