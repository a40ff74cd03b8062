#include "io/base/clock.h"

#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

#define TICK_NS (20 * NS_PER_MS) /* two of the slowest kernel's */

static _Atomic(int64_t (*)(void)) mono_replaced;
static _Atomic(int64_t (*)(void)) wall_replaced;

static int64_t mono_of(clockid_t which)
{
    int64_t (*other)(void) = atomic_load_explicit(&mono_replaced, memory_order_relaxed);
    if (other)
        return other();
    struct timespec now;
    (void)clock_gettime(which, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t clock_mono_ns(void)
{
    return mono_of(CLOCK_MONOTONIC);
}

int64_t clock_coarse_ns(void)
{
    return mono_of(CLOCK_MONOTONIC_COARSE);
}

bool clock_past(int64_t deadline_ns)
{
    return deadline_ns < clock_coarse_ns() + TICK_NS && deadline_ns <= clock_mono_ns();
}

static int64_t wall_of(clockid_t which)
{
    int64_t (*other)(void) = atomic_load_explicit(&wall_replaced, memory_order_relaxed);
    if (other)
        return other();
    struct timespec now;
    (void)clock_gettime(which, &now);
    return now.tv_sec * US_PER_S + now.tv_nsec / NS_PER_US;
}

int64_t clock_wall_us(void)
{
    return wall_of(CLOCK_REALTIME);
}

int64_t clock_wall_s(void)
{
    return wall_of(CLOCK_REALTIME_COARSE) / US_PER_S;
}

void clock_replace(int64_t (*mono_ns)(void), int64_t (*wall_us)(void))
{
    atomic_store(&mono_replaced, mono_ns);
    atomic_store(&wall_replaced, wall_us);
}
