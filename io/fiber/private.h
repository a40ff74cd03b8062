/* What fiber.c, worker.c and watchdog.c share. Nobody else includes it. */
#ifndef IO_FIBER_PRIVATE_H
#define IO_FIBER_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include "io/fiber/fiber.h"
#include "io/fiber/stack.h"
#include "io/fiber/switch.h"
#include "io/fiber/wheel.h"
#include "io/fiber/worker.h"
#include "io/ring/ring.h"

#define FIBER_MAGIC  0xf1be0001U
#define WORKER_MAGIC 0x3047e401U

/*     READY --loop--> RUNNING --park--> PARKED --wake, deadline, cancel--> READY
 *                        |  \--yield--> READY
 *                        \--fn returns--> ENDED */
enum fiber_state { FIBER_READY, FIBER_RUNNING, FIBER_PARKED, FIBER_ENDED };

/* Lives in the top bytes of its own stack. */
struct fiber {
    uint32_t magic;
    enum fiber_state state;
    bool woken;    /* fiber_wake since the last park returned */
    bool canceled;
    unsigned shields, no_yields;
    struct worker *worker;
    const char *entry;
    void (*fn)(void *arg);
    void *arg;
    struct list run_link; /* in worker.ready while READY */
    struct list all_link; /* in worker.fibers */
    struct timer timer;
    struct err_reserve *errors;
    void *stack;
    struct context context;
};

enum worker_state { WORKER_NEW, WORKER_RUNNING, WORKER_DRAINING, WORKER_ENDED };

/* The watchdog's own notes on a worker; the worker does not touch them. */
enum { WATCH_PERIODS = 4 };
struct watch {
    uint64_t turns;
    unsigned periods; /* how often the same fiber was seen in the same turn */
};

struct worker {
    uint32_t magic;
    char name[16];
    size_t fibers_max;
    unsigned ring_entries;
    int cpu;
    bool ends_when_empty; /* worker_run_here, and any worker once it drains */
    enum worker_state state;

    struct ring *ring;
    struct context loop;
    struct fiber *current;
    struct list ready, fibers;
    struct list turn_ends;
    size_t peak;
    struct wheel wheel;
    struct stack_pool stacks;
    struct mbox_msg *spawns_first, **spawns_end; /* worker_spawn beyond the fiber limit */

    void (*init)(void *arg);
    void *init_arg;
    pthread_t thread;
    struct mbox_msg stop_msg;
    atomic_bool stop_asked;

    int wake_fd; /* eventfd for posters without a ring; kept open for life, see worker.c */
    uint64_t wake_count;
    struct ring_op wake_op;
    bool wake_armed;

    atomic_size_t live;
    atomic_uint_fast64_t turns;        /* for the watchdog */
    _Atomic(const char *) running;     /* entry of the fiber that runs */
    struct worker *registry_next;
    struct watch watch;

    char apart[64]; /* what other threads write stands on lines of its own */
    _Atomic(struct mbox_msg *) mailbox; /* newest first */
    atomic_int sleeping;
    atomic_int ring_fd;
};

/* fiber.c */
struct fiber *fiber_new(struct worker *w, const char *entry, void (*fn)(void *arg), void *arg);
void fiber_run(struct worker *w, struct fiber *f); /* from the loop; frees it when it ended */

/* worker.c: every worker ever made; husks of ended ones are used again. */
struct worker *worker_registry(void);

#endif
