/* wait: what fibers wait on. All but completion: one worker, no locks. */
#ifndef IO_FIBER_WAIT_H
#define IO_FIBER_WAIT_H

#include "io/fiber/fiber.h"
#include "io/fiber/worker.h"

/* event: a flag one can wait for; stays set until cleared. */
struct event {
    struct list waiters;
    bool set;
};
void event_init(struct event *e);
void event_set(struct event *e); /* wakes all waiters */
void event_clear(struct event *e);
struct err *event_wait(struct event *e, int64_t deadline_ns); /* yields */

/* sem: at most n at a time; first come first served. */
struct sem {
    struct list waiters;
    int64_t count;
};
void sem_init_count(struct sem *s, int64_t count);
struct err *sem_take(struct sem *s, int64_t deadline_ns); /* yields */
void sem_give(struct sem *s);

/* group: start many fibers, join all. Cancel reaches all of them. */
struct group {
    struct list members;
    size_t live;
    struct event done;
};
void group_init(struct group *g);
/* false: fiber limit. */
bool group_spawn(struct group *g, const char *entry, void (*fn)(void *arg), void *arg);
void group_cancel(struct group *g);
/* Yields until all ended. On ERR_TIMEOUT or ERR_CANCELED members still run: cancel, then join in a
 * shield. */
struct err *group_join(struct group *g, int64_t deadline_ns);

/* completion: a fiber waits for another thread, once. Lives on the fiber's stack: the wait can be
 * neither canceled nor timed out, so the other side must always answer in bounded time. */
struct completion {
    struct mbox_msg msg;
    struct worker *home;
    struct fiber *waiter;
    bool done;
};
void completion_init(struct completion *c);   /* in the waiting fiber */
void completion_signal(struct completion *c); /* any thread, last touch of c by the signaller */
void completion_wait(struct completion *c);   /* yields */

#endif
