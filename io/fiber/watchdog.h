/* watchdog: names the fiber that has not yielded in time. A plain thread looks at every worker's
 * turn counter; one that stands still while a fiber runs is logged once per stall:
 *
 *     warning: worker-0 has not yielded for 2000 ms in fiber "smtpd": ... */
#ifndef IO_FIBER_WATCHDOG_H
#define IO_FIBER_WATCHDOG_H

#include "io/base/err.h"

/* stall_ns 0 = 2 s. Once per process; stop before the last worker_join or after, as you like. */
struct err *watchdog_start(int64_t stall_ns) MUST_USE;
void watchdog_stop(void);
uint64_t watchdog_stalls(void); /* stalls seen since the start of the process */

#endif
