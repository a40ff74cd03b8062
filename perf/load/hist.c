#include "perf/load/hist.h"

#include "io/base/check.h"

enum { STEPS = 1 << HIST_SUB_BITS };

/* Values below STEPS have a bucket each. A larger value v of b bits falls into the block of its
 * power of two, b - HIST_SUB_BITS, at the place its HIST_SUB_BITS bits after the first one give. */
size_t hist_bucket(int64_t ns)
{
    if (ns < STEPS)
        return ns < 0 ? 0 : (size_t)ns;
    if (ns >= INT64_C(1) << HIST_TOP_BITS)
        return HIST_BUCKETS - 1;
    int shift = 63 - __builtin_clzll((unsigned long long)ns) - HIST_SUB_BITS;
    return ((size_t)shift << HIST_SUB_BITS) + (size_t)(ns >> shift);
}

int64_t hist_bucket_top(size_t bucket)
{
    CHECK(bucket < HIST_BUCKETS);
    if (bucket < STEPS)
        return (int64_t)bucket;
    size_t shift = (bucket >> HIST_SUB_BITS) - 1;
    int64_t place = (int64_t)(bucket & (STEPS - 1)) + STEPS;
    return ((place + 1) << shift) - 1;
}

void hist_add(struct hist *h, int64_t ns)
{
    if (ns < 0)
        ns = 0;
    if (h->count == 0 || ns < h->min)
        h->min = ns;
    if (ns > h->max)
        h->max = ns;
    h->count++;
    h->sum += (double)ns;
    h->buckets[hist_bucket(ns)]++;
}

void hist_merge(struct hist *into, const struct hist *from)
{
    if (from->count == 0)
        return;
    if (into->count == 0 || from->min < into->min)
        into->min = from->min;
    if (from->max > into->max)
        into->max = from->max;
    into->count += from->count;
    into->sum += from->sum;
    for (size_t i = 0; i < HIST_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
}

int64_t hist_at(const struct hist *h, double share)
{
    if (h->count == 0)
        return 0;
    double wanted = share * (double)h->count;
    uint64_t seen = 0;
    for (size_t i = 0; i < HIST_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen > 0 && (double)seen >= wanted) {
            int64_t top = hist_bucket_top(i);
            return top < h->max ? top : h->max;
        }
    }
    return h->max;
}

double hist_mean(const struct hist *h)
{
    return h->count > 0 ? h->sum / (double)h->count : 0;
}
