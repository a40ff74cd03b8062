/* backoff: when a deferred message is tried again, and when it has been in the queue too long
 * (qmgr(8), spec QMGR-01, QMGR-02). Pure. */
#ifndef QUEUE_SCHED_BACKOFF_H
#define QUEUE_SCHED_BACKOFF_H

#include "queue/sched/sched.h"

/* The wait is the age of the message, but not less than minimal and not more than maximal backoff;
 * up to backoff_jitter percent of it more or less, also within these bounds, by chance (dice: any
 * number), so that what was deferred together does not come back together. */
int64_t backoff_next_us(const struct sched_options *o, int64_t arrival_us, int64_t now_us,
                        uint64_t dice);
/* A queue run takes what is due by then: within the next second too, as qmgr(8) does. Mail that was
 * deferred a moment after a run would else wait for the one after next where the shortest wait is as
 * long as queue_run_delay, which both are by default. */
int64_t backoff_run_until_us(int64_t now_us);
/* How long a site that is dead is left alone: until the first run that may bring its mail back. */
int64_t backoff_dead_ns(const struct sched_options *o);
/* Its lifetime is up. A lifetime of 0 means one try. */
bool backoff_expired(const struct sched_options *o, bool null_sender, int64_t arrival_us,
                     int64_t now_us);
/* A delay warning is due (delay_warning_time). */
bool backoff_warn_due(const struct sched_options *o, int64_t arrival_us, int64_t now_us);

#endif
