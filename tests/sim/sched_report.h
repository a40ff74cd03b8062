/* sched_report: what sim.sched saw of one seed, as figures and charts in a folder (--report DIR). It
 * looks on: with it or without it the same is checked. */
#ifndef SIM_SCHED_REPORT_H
#define SIM_SCHED_REPORT_H

#include "sched_model.h"

void report_begin(const char *dir); /* NULL: nothing is kept, nothing is written */
/* An attempt begins: the window of its destination, and how many are out there. */
void report_attempt(const struct site *s, const struct request *r);
/* A letter arrives. */
void report_arrival(const struct site *s, int64_t sent_ns);
/* One of the burst is tried again, so long after it came. */
void report_retry(int64_t after_ns);
/* Every so often: what is out and what is in memory. */
void report_sample(uint64_t active);
/* False: it cannot be written, and stderr says why. */
bool report_write(int64_t end_ns);

#endif
