/* feedback: the concurrency window of one destination (SCHEDULER_README, "concurrency scheduling").
 * Pure: numbers in, numbers out; tests are tables.
 *
 *     OPEN --cohorts of failures reach the limit--> DEAD --feedback_revive (after a wait)--> PROBING
 *     PROBING --success--> OPEN at the initial concurrency;  --failure--> DEAD
 */
#ifndef QUEUE_SCHED_FEEDBACK_H
#define QUEUE_SCHED_FEEDBACK_H

#include "queue/sched/sched.h"

struct window {
    int64_t size;            /* deliveries allowed at once; 0 = the site is dead */
    double success, failure; /* feedback towards the next step up; what is left before the next one down */
    bool probing;            /* size 1, until it is known whether the site is back */
    double fail_cohorts;     /* pseudo-cohorts of failures since the last success */
};

void feedback_init(struct window *w, const struct sched_transport *t);
/* A delivery went well while `busy` were running (this one included). */
void feedback_success(struct window *w, const struct sched_transport *t, int64_t busy);
/* The site could not be reached or refused service. True when that makes it dead. */
bool feedback_failure(struct window *w, const struct sched_transport *t);
/* The wait of a dead site is over: one probe may go. */
void feedback_revive(struct window *w);

#endif
