/* source: what the parts of smtp_source share. One struct load for the process; one struct gang a
 * worker thread, which alone writes it; one fiber a session. */
#ifndef PERF_LOAD_SOURCE_H
#define PERF_LOAD_SOURCE_H

#include <stdatomic.h>
#include "io/fiber/wait.h"
#include "io/fiber/worker.h"
#include "io/net/addr.h"
#include "perf/load/dist.h"
#include "perf/load/hist.h"
#include "perf/load/lines.h"
#include "perf/load/pattern.h"

#define SOURCE_BODY_LINE 78 /* with its CR LF */

/* Stages a reply or a failure belongs to. */
enum stage {
    STAGE_CONNECT,
    STAGE_BANNER,
    STAGE_HELO,
    STAGE_MAIL,
    STAGE_RCPT,
    STAGE_DATA,
    STAGE_DOT,
    STAGE_COUNT,
};
extern const char *const stage_names[STAGE_COUNT];

/* How long: each stage of the dialogue, the message as a whole, and how late we were ourselves. */
enum {
    TIME_CONTENT = STAGE_COUNT, /* DATA to the reply to the content */
    TIME_MESSAGE, /* from the intended (open loop) or true start to the last reply */
    TIME_LAG,                   /* open loop: from the intended start until a session took it */
    TIME_COUNT,
};

struct tally {
    atomic_uint_fast64_t sent, rcpts, bytes; /* accepted: messages, their recipients, content */
    atomic_uint_fast64_t failed;                  /* messages that were not accepted in the end */
    atomic_uint_fast64_t rcpts_refused;
    atomic_uint_fast64_t refused[STAGE_COUNT][2]; /* attempts refused: 4xx, 5xx (and other) */
    atomic_uint_fast64_t broken[STAGE_COUNT];     /* no reply: not reached, lost, timed out, garbage */
    atomic_uint_fast64_t connections;
    atomic_uint_fast64_t stale; /* reused ones the server had closed meanwhile: no failure */
    atomic_uint_fast64_t open;  /* now */
};

struct load {
    /* options */
    struct addr *targets, *binds;
    size_t target_count, bind_count;
    struct pattern from, to;
    struct dist size, rcpts;
    uint64_t sessions, messages, reuse, threads; /* messages, reuse: 0 = no end */
    double rate;                                 /* messages/s; 0 = closed loop */
    int64_t timeout_ns, retry_ns, seconds;
    bool poisson, pipelining, retry, stamps;
    const char *helo;
    int acked_fd;

    uint32_t run; /* stands in each id: ids of several runs differ */
    const char *body_end; /* any number of bytes before it up to body_max is a body that ends a line */
    size_t body_max;      /* "." CR LF stands behind body_end */
    _Atomic int64_t left; /* messages not yet taken, when they are counted */
    atomic_uint_fast64_t next_id, next_target;
    atomic_bool stop;
    atomic_size_t sessions_live;
    struct gang *gangs;
};

/* A message to be sent. */
struct job {
    int64_t start_ns;
};

struct gang {
    struct load *load;
    size_t number;
    struct worker *worker;
    struct tally tally;
    struct hist times[TIME_COUNT];
    struct lines acked;
    struct fiber *acked_fiber;
    char last_trouble[STAGE_COUNT][128]; /* an example each */

    /* open loop: intended starts, oldest first */
    int64_t *due;
    size_t due_at, due_count, due_cap;
    struct list idle; /* sessions that wait for one */
    bool no_more;     /* arrivals have ended */
};

static inline void tally_add(atomic_uint_fast64_t *counter, uint64_t n)
{
    /* One writer: no locked instruction is needed. */
    uint64_t v = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, v + n, memory_order_relaxed);
}

/* pace.c: the next message for a session; false: there is none any more. Yields in the open loop. */
bool pace_take(struct gang *g, struct job *out);
/* Open loop: the worker's fiber that makes arrivals. */
void pace_arrivals(void *arg);

/* source_session.c: a session's fiber; arg is the struct gang. */
void source_session(void *arg);

#endif
