/* feedback: the concurrency window of one destination (SCHEDULER_README, "concurrency scheduling").
 * Pure: numbers in, numbers out; tests are tables.
 *
 *     OPEN --cohorts of failures reach the limit--> DEAD --feedback_revive (after a wait)--> PROBING
 *     PROBING --success--> OPEN at the initial concurrency;  --failure--> DEAD
 *
 * Beyond Postfix: a site that refuses a delivery while others are under way has shown how many it takes.
 * That number is its ceiling; it is raised by one after a cohort of successes, and each time that was
 * too much after twice as many. Without it a fast sender learns the limit anew every few deliveries, and
 * each lesson is a message that is deferred. */
#ifndef QUEUE_SCHED_FEEDBACK_H
#define QUEUE_SCHED_FEEDBACK_H

#include "queue/sched/sched.h"

struct window {
    int64_t size;            /* deliveries allowed at once; 0 = the site is dead */
    double success, failure; /* feedback towards the next step up; what is left before the next one down */
    bool probing;            /* size 1, until it is known whether the site is back */
    double fail_cohorts;     /* pseudo-cohorts of failures since the last success */
    int64_t ceiling;         /* what it is known to take; 0 = nothing is known */
    int64_t hold;            /* so many successes until the ceiling is raised */
    int64_t patience, rises; /* cohorts of a hold; raised so often since it was last too much */
};

void feedback_init(struct window *w, const struct sched_transport *t);
/* A delivery went well while `busy` were running (this one included). */
void feedback_success(struct window *w, const struct sched_transport *t, int64_t busy);
/* The site could not be reached or refused service while so many others were under way. True when that
 * makes it dead. */
bool feedback_failure(struct window *w, const struct sched_transport *t, int64_t others);
/* Deliveries allowed at once: the window, below the ceiling. */
int64_t feedback_limit(const struct window *w);
/* The wait of a dead site is over: one probe may go. */
void feedback_revive(struct window *w);

#endif
