/* private: what queue.c, acts.c and look.c share. */
#ifndef QUEUE_PRIVATE_H
#define QUEUE_PRIVATE_H

#include "queue/sched/state.h"

struct queue {
    struct store *store;
    struct sched *sched;
    struct worker *home; /* the scheduler thread */
    struct queue_hooks hooks;
    bool offline;
};

/* Run fn(arg) in a fiber of the scheduler thread and wait for it: fn may yield. Not cancelable. */
void queue_on_sched(struct queue *q, void (*fn)(void *arg), void *arg);
/* Errors live in the fiber they were made in: carry one over. */
struct err_copy {
    bool set;
    struct err err;
};
void err_copy_take(struct err_copy *c, struct err *e);
struct err *err_copy_give(const struct err_copy *c);

/* Which of postqueue's queues a message is in. */
/* active: the seqs of the active queue. [any] when these are the caller's own */
enum queue_name queue_name_in(const struct umap *active, uint64_t seq, uint32_t flags, bool deferred);
enum queue_name queue_name_by(struct queue *q, uint64_t seq, uint32_t flags, bool deferred);
enum queue_name queue_name_of(struct queue *q, uint64_t seq, uint32_t flags,
                              const struct envelope *env);

#endif
