/* jobs: what fibers hand to plain threads. For offload and offload_thread. */
#ifndef IO_FIBER_JOBS_H
#define IO_FIBER_JOBS_H

#include <pthread.h>
#include "io/base/err.h"
#include "io/base/list.h"

struct jobs {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct list waiting;
    bool stopping;
};

void jobs_init(struct jobs *q);
void jobs_fini(struct jobs *q); /* all threads have been joined */
/* A thread with this name, of 15 bytes at the most, that takes no signals and does jobs until it is stopped. */
struct err *jobs_thread(struct jobs *q, const char *name, pthread_t *out) MUST_USE;
void jobs_stop(struct jobs *q); /* what waits is done first */
/* From a fiber: some thread calls fn(arg); returns when that has returned (yields, not cancelable). */
void jobs_do(struct jobs *q, void (*fn)(void *arg), void *arg);

#endif
