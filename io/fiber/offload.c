#include "io/fiber/offload.h"

#include <pthread.h>
#include <signal.h>
#include "io/base/check.h"
#include "io/base/mem.h"
#include "io/fiber/wait.h"

enum { OFFLOAD_THREADS = 4, OFFLOAD_THREADS_MAX = 64 };

/* On the waiting fiber's stack. */
struct job {
    struct list link;
    void (*fn)(void *arg);
    void *arg;
    struct completion done;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct list jobs;
    bool running, stopping;
    unsigned count;
    pthread_t threads[OFFLOAD_THREADS_MAX];
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER};

static struct job *job_take(void)
{
    struct list *node;
    pthread_mutex_lock(&pool.lock);
    while ((node = list_pop_front(&pool.jobs)) == NULL && !pool.stopping)
        pthread_cond_wait(&pool.work, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
    return node != NULL ? CONTAINER(node, struct job, link) : NULL;
}

static void *offload_thread(void *unused)
{
    (void)unused;
    struct job *j;
    pthread_setname_np(pthread_self(), "offload");
    while ((j = job_take()) != NULL) {
        j->fn(j->arg);
        completion_signal(&j->done);
    }
    return NULL;
}

struct err *offload_start(unsigned threads)
{
    unsigned want = threads != 0 ? threads : OFFLOAD_THREADS;
    sigset_t all, before;
    int rc = 0;
    CHECK(!pool.running);
    list_init(&pool.jobs);
    pool.stopping = false;
    pool.count = 0;
    sigfillset(&all); /* the threads inherit it: signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.count < want && pool.count < OFFLOAD_THREADS_MAX && rc == 0) {
        rc = pthread_create(&pool.threads[pool.count], NULL, offload_thread, NULL);
        pool.count += rc == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pool.running = true;
    if (rc != 0) {
        offload_stop();
        return err_errno(rc, "start offload threads");
    }
    return NULL;
}

void offload_stop(void)
{
    if (!pool.running)
        return;
    pthread_mutex_lock(&pool.lock);
    pool.stopping = true;
    pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.lock);
    for (unsigned i = 0; i < pool.count; i++)
        pthread_join(pool.threads[i], NULL);
    pool.running = false;
}

void offload(void (*fn)(void *arg), void *arg)
{
    if (fiber_self() == NULL || !pool.running) {
        fn(arg);
        return;
    }
    struct job j = {.fn = fn, .arg = arg};
    completion_init(&j.done);
    pthread_mutex_lock(&pool.lock);
    list_push_back(&pool.jobs, &j.link);
    pthread_cond_signal(&pool.work);
    pthread_mutex_unlock(&pool.lock);
    completion_wait(&j.done);
}
