/* hist: a histogram of times in nanoseconds with a relative error under 1 % (log-linear buckets, as
 * Gil Tene's HdrHistogram; Debian 12 has that library for Go and Java only). Values up to 2^43 ns
 * (2.4 hours), larger ones count as that. One writer; merge after the writers have ended. */
#ifndef PERF_LOAD_HIST_H
#define PERF_LOAD_HIST_H

#include <stddef.h>
#include <stdint.h>

enum {
    HIST_SUB_BITS = 7, /* 128 linear steps for each power of two */
    HIST_TOP_BITS = 43,
    HIST_BUCKETS = (HIST_TOP_BITS - HIST_SUB_BITS + 1) << HIST_SUB_BITS,
};

struct hist {
    uint64_t count;
    int64_t min, max; /* exact; 0 when count is 0 */
    double sum;
    uint64_t buckets[HIST_BUCKETS];
};

void hist_add(struct hist *h, int64_t ns); /* negative counts as 0 */
void hist_merge(struct hist *into, const struct hist *from);
/* The value that `share` (0..1) of all values do not exceed, as the upper end of its bucket, never
 * above max. 0 when empty. */
int64_t hist_at(const struct hist *h, double share);
double hist_mean(const struct hist *h);

/* The seams, for tests: which bucket, and the largest value in one. */
size_t hist_bucket(int64_t ns);
int64_t hist_bucket_top(size_t bucket);

#endif
