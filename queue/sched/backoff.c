#include "queue/sched/backoff.h"

#include "io/base/clock.h"

#define RUN_AHEAD_S 1

static int64_t clamp(int64_t n, int64_t least, int64_t most)
{
    if (n < least)
        n = least;
    return n > most ? most : n;
}

int64_t backoff_next_us(const struct sched_options *o, int64_t arrival_us, int64_t now_us,
                        uint64_t dice)
{
    int64_t least = o->minimal_backoff_s * US_PER_S, most = o->maximal_backoff_s * US_PER_S;
    int64_t wait = clamp(now_us - arrival_us, least, most);
    if (o->backoff_jitter <= 0 || most <= least)
        return now_us + wait;
    int64_t spread = wait / 100 * o->backoff_jitter;
    int64_t from = clamp(wait - spread, least, most), to = clamp(wait + spread, least, most);
    return now_us + from + (int64_t)(dice % (uint64_t)(to - from + 1));
}

int64_t backoff_run_until_us(int64_t now_us)
{
    return now_us + RUN_AHEAD_S * US_PER_S;
}

int64_t backoff_dead_ns(const struct sched_options *o)
{
    int64_t least = o->minimal_backoff_s;
    return (least > RUN_AHEAD_S ? least - RUN_AHEAD_S : least) * NS_PER_S;
}

bool backoff_expired(const struct sched_options *o, bool null_sender, int64_t arrival_us,
                     int64_t now_us)
{
    int64_t life_s = o->maximal_lifetime_s;
    if (null_sender && o->bounce_lifetime_s < life_s)
        life_s = o->bounce_lifetime_s;
    return now_us - arrival_us >= life_s * US_PER_S;
}

bool backoff_warn_due(const struct sched_options *o, int64_t arrival_us, int64_t now_us)
{
    if (o->delay_warning_s <= 0)
        return false;
    return now_us >= arrival_us + o->delay_warning_s * US_PER_S;
}
