/* clock: the two clocks, as a seam: a simulator or a test replaces both. Deadlines are absolute
 * nanoseconds of the monotonic clock; times in the queue and in headers are wall-clock. Any thread. */
#ifndef IO_BASE_CLOCK_H
#define IO_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define NS_PER_S  INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)
#define NS_PER_US INT64_C(1000)
#define US_PER_S  INT64_C(1000000)
#define DEADLINE_NEVER INT64_MAX

int64_t clock_mono_ns(void);
/* The same clock at the kernel's last tick, up to 10 ms ago, for an eighth of the price: for deadlines in seconds. */
int64_t clock_coarse_ns(void);
/* Has it passed? Exact, and cheap while it is far away. */
bool clock_past(int64_t deadline_ns);
int64_t clock_wall_us(void); /* since 1970-01-01 UTC */
int64_t clock_wall_s(void);  /* at the kernel's last tick: for log lines */
static inline int64_t clock_in_s(int64_t seconds)
{
    return clock_mono_ns() + seconds * NS_PER_S;
}
static inline int64_t clock_in_ms(int64_t ms)
{
    return clock_mono_ns() + ms * NS_PER_MS;
}
/* NULL puts the real one back. */
void clock_replace(int64_t (*mono_ns)(void), int64_t (*wall_us)(void));

#endif
