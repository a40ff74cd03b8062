/* worker: one thread = one ring + run queue + timers + mailbox. All engine threads but the logger
 * and the resolver are workers: sessions, the scheduler, acceptors. Mailboxes are the only road
 * between threads: a lock-free queue, one wake-up (MSG_RING, eventfd from a thread without a ring)
 * per empty-to-non-empty edge.
 *
 *     NEW --worker_start--> RUNNING --worker_stop--> DRAINING --no fibers left--> ENDED */
#ifndef IO_FIBER_WORKER_H
#define IO_FIBER_WORKER_H

#include "io/base/err.h"
#include "io/base/list.h"

struct worker;

struct worker_options {
    const char *name;      /* thread name, at most 15 bytes: "worker-0", "sched", "accept" */
    unsigned ring_entries; /* 0 = 1024 */
    size_t fibers_max;     /* 0 = 30000; 300 under TSan */
    int cpu;               /* pin to it; -1 = anywhere */
};

/* A message in a mailbox: embed it, set fn, post it. fn(m) runs on the target's loop, outside any
 * fiber: it may wake and spawn fibers and post on, but not wait. The memory is the receiver's again
 * from the moment fn is called. */
struct mbox_msg {
    struct mbox_msg *next;
    void (*fn)(struct mbox_msg *m);
};

/* Sets up ring and thread; `init` (may be NULL) runs first on the new thread's loop, in a fiber.
 * Errors: ERR_REFUSED io_uring is not allowed here (text says what to do), ERR_IO. */
struct err *worker_start(const struct worker_options *options, void (*init)(void *arg), void *arg,
                         struct worker **out) MUST_USE;
/* Ask it to end: cancels all its fibers, runs until none is left. Any thread. */
void worker_stop(struct worker *w);
/* Wait for the end and free it. Not from a worker. */
void worker_join(struct worker *w);
/* Run init in a fiber on a ring of the calling thread until it returns and all fibers ended:
 * for main programs and tests. */
struct err *worker_run_here(const struct worker_options *options, void (*init)(void *arg),
                            void *arg) MUST_USE;
struct worker *worker_self(void); /* NULL on other threads */
const char *worker_name(const struct worker *w);
size_t worker_load(const struct worker *w); /* live fibers, any thread, approximate */

/* Any thread, never waits. Messages from one thread arrive in order. */
void worker_post(struct worker *w, struct mbox_msg *m);
/* Run fn(arg) on w's loop and wait for it (yields; not cancelable; fn must be short). Fiber only. */
void worker_call(struct worker *w, void (*fn)(void *arg), void *arg);
/* Spawn fn(arg) as a fiber on w. Any thread. Memory for the message is its own. */
void worker_spawn(struct worker *w, const char *entry, void (*fn)(void *arg), void *arg);

/* At the end of the calling worker's turn, before what was prepared in it goes to the kernel: fn runs once, on
 * the loop, as a message's does. Asked for again before that it still runs once. The same worker only.
 * What is prepared there goes out no later than what was prepared at the call. */
struct turn_end {
    struct list link;
    void (*fn)(struct turn_end *t);
};
void worker_at_turn_end(struct turn_end *t, void (*fn)(struct turn_end *t));
/* Does the next turn have work already: completions, messages, fibers that are ready? Then fn may ask for its end,
 * too, without anybody sleeping in between. */
bool worker_goes_on(void);

/* Timers on the calling worker's wheel (1 ms ticks): fn runs on the loop at or after the deadline. */
struct timer {
    struct list link;
    int64_t deadline_ns;
    void (*fn)(struct timer *t);
};
void timer_set(struct timer *t, int64_t deadline_ns, void (*fn)(struct timer *t));
void timer_clear(struct timer *t); /* harmless when not set (zero-initialised) */

#endif
