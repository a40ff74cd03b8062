#include "io/base/mem.h"
#include "io/fiber/fiber.h"
#include "io/fiber/jobs.h"
#include "io/fiber/offload.h"

struct offload_thread {
    struct jobs jobs;
    pthread_t thread;
};

struct err *offload_thread_start(const char *name, struct offload_thread **out)
{
    struct offload_thread *t = MEM_NEW(struct offload_thread);
    jobs_init(&t->jobs);
    struct err *e = jobs_thread(&t->jobs, name, &t->thread);
    if (e == NULL) {
        *out = t;
        return NULL;
    }
    jobs_fini(&t->jobs);
    mem_free(t);
    return e;
}

void offload_thread_stop(struct offload_thread *t)
{
    if (t == NULL)
        return;
    jobs_stop(&t->jobs);
    pthread_join(t->thread, NULL);
    jobs_fini(&t->jobs);
    mem_free(t);
}

void offload_to(struct offload_thread *t, void (*fn)(void *arg), void *arg)
{
    if (t == NULL || fiber_self() == NULL)
        fn(arg);
    else
        jobs_do(&t->jobs, fn, arg);
}
