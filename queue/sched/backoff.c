#include "queue/sched/backoff.h"

#include "io/base/clock.h"

int64_t backoff_next_us(const struct sched_options *o, int64_t arrival_us, int64_t now_us)
{
    int64_t wait = now_us - arrival_us;
    if (wait < o->minimal_backoff_s * US_PER_S)
        wait = o->minimal_backoff_s * US_PER_S;
    if (wait > o->maximal_backoff_s * US_PER_S)
        wait = o->maximal_backoff_s * US_PER_S;
    return now_us + wait;
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
