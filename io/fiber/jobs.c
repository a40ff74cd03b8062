#include "io/fiber/jobs.h"

#include "io/base/check.h"
#include "io/base/thread.h"
#include "io/fiber/wait.h"

/* On the waiting fiber's stack. */
struct job {
    struct list link;
    void (*fn)(void *arg);
    void *arg;
    struct completion done;
};

void jobs_init(struct jobs *q)
{
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->work, NULL);
    list_init(&q->waiting);
    q->stopping = false;
}

void jobs_fini(struct jobs *q)
{
    pthread_cond_destroy(&q->work);
    pthread_mutex_destroy(&q->lock);
}

static struct job *take(struct jobs *q)
{
    struct list *node;
    pthread_mutex_lock(&q->lock);
    while ((node = list_pop_front(&q->waiting)) == NULL && !q->stopping)
        pthread_cond_wait(&q->work, &q->lock);
    pthread_mutex_unlock(&q->lock);
    return node != NULL ? CONTAINER(node, struct job, link) : NULL;
}

static void *run(void *arg)
{
    struct job *j;
    check_alt_stack();
    while ((j = take(arg)) != NULL) {
        j->fn(j->arg);
        completion_signal(&j->done);
    }
    return NULL;
}

struct err *jobs_thread(struct jobs *q, const char *name, pthread_t *out)
{
    int rc = thread_start(out, name, run, q);
    return rc != 0 ? err_errno(rc, "start thread %s", name) : NULL;
}

void jobs_stop(struct jobs *q)
{
    pthread_mutex_lock(&q->lock);
    q->stopping = true;
    pthread_cond_broadcast(&q->work);
    pthread_mutex_unlock(&q->lock);
}

void jobs_do(struct jobs *q, void (*fn)(void *arg), void *arg)
{
    struct job j = {.fn = fn, .arg = arg};
    completion_init(&j.done);
    pthread_mutex_lock(&q->lock);
    list_push_back(&q->waiting, &j.link);
    pthread_cond_signal(&q->work);
    pthread_mutex_unlock(&q->lock);
    completion_wait(&j.done);
}
