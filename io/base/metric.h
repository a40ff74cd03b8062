/* metric: counters, per thread, summed on read. A unit stands in every name. Any thread. */
#ifndef IO_BASE_METRIC_H
#define IO_BASE_METRIC_H

#include <stdint.h>

#define METRIC(name, doc) METRIC_##name,
enum metric {
#include "io/base/metrics.def"
    METRIC_COUNT
};
#undef METRIC

void metric_add(enum metric m, int64_t n);
int64_t metric_sum(enum metric m);
const char *metric_name(enum metric m);
const char *metric_doc(enum metric m);

#endif
