/* fiber: stackful fibers pinned to their worker (design §2). A session is one fiber written as
 * straight-line code; every wait below looks like a call, parks the fiber, and has an absolute
 * deadline. Switching is Boost.Context's fcontext; stacks are 256 KiB (512 KiB under ASan) mmap'd
 * with a guard page, pooled per worker, and given back to the kernel below the live part when long
 * parked. Switches are announced to ASan, TSan and valgrind.
 *
 * What linear code must remember: a yield is a door others walk through; errno does not survive it;
 * no lock and no LMDB transaction across it (NO_YIELD aborts); a fiber never leaves its worker.
 *
 * Cancellation: fiber_cancel makes the current and every later wait of that fiber return
 * ERR_CANCELED at once. Clean-up that must wait all the same runs inside fiber_shield_begin/end. */
#ifndef IO_FIBER_FIBER_H
#define IO_FIBER_FIBER_H

#include "io/base/clock.h"
#include "io/base/err.h"

struct fiber;
struct worker;

/* Start fn(arg) on the calling thread's worker. It runs when the caller yields or returns to the
 * loop. `entry` is a literal for the census. Handle is good until fn returns.
 * NULL when the worker's fiber limit (worker_options.fibers_max) is reached: refuse politely. */
struct fiber *fiber_spawn(const char *entry, void (*fn)(void *arg), void *arg);
struct fiber *fiber_self(void); /* NULL outside fibers */
const char *fiber_entry(const struct fiber *f);
/* Same worker only. Harmless when it is already canceled. */
void fiber_cancel(struct fiber *f);
bool fiber_canceled(void);
void fiber_shield_begin(void); /* nests */
void fiber_shield_end(void);
/* Let others run, come back at the end of the run queue. Yields. */
void fiber_yield(void);
/* Yields until then. ERR_CANCELED only. */
struct err *fiber_sleep_until(int64_t deadline_ns);

/* The raw pair under everything in wait.h. fiber_park yields until fiber_wake, the deadline
 * (ERR_TIMEOUT) or cancellation (ERR_CANCELED). Wake-ups may be early: callers loop on their
 * condition. fiber_wake: same worker; harmless when the fiber is not parked (remembered once). */
struct err *fiber_park(int64_t deadline_ns);
void fiber_wake(struct fiber *f);
/* fiber_park for those to whom a deadline that passes is nothing wrong: no error is made of it. */
enum fiber_end { FIBER_WOKEN, FIBER_LATE, FIBER_CANCELED };
enum fiber_end fiber_park_quietly(int64_t deadline_ns);
struct err *fiber_end_error(enum fiber_end end); /* what fiber_park says of it; NULL: woken */

/* Between these a park aborts (CHECK). Nests. */
void fiber_no_yield_begin(void);
void fiber_no_yield_end(void);
#define NO_YIELD_PASTE(a, b) a##b
#define NO_YIELD_NAME(line)  NO_YIELD_PASTE(no_yield_once_, line)
#define NO_YIELD                                                                                   \
    for (int NO_YIELD_NAME(__LINE__) = (fiber_no_yield_begin(), 1); NO_YIELD_NAME(__LINE__);       \
         NO_YIELD_NAME(__LINE__) = 0, fiber_no_yield_end())

/* Give the pages below the live part of this fiber's stack back to the kernel: after a deep call
 * (a TLS handshake) and before a long wait. Costs 1 to 8 us; streams do it when no byte has come
 * for a while (stream_set_rest). */
void fiber_trim_stack(void);

/* Census of this worker. */
struct fiber_census {
    size_t live, stacks_pooled, peak;
    size_t stack_high_water_bytes; /* 0 unless a checking build painted the stacks */
};
struct fiber_census fiber_census(void);

#endif
