/* check: postsuper -s: does the queue directory agree with itself, and what is to be done if not. */
#ifndef CORE_CMD_CHECK_H
#define CORE_CMD_CHECK_H

#include "core/config/snapshot.h"

/* Says what is wrong, and nothing else unless `verbose`. With the mail system down, damaged messages are moved to
 * the corrupt queue, and an index that does not fit the log is removed, so that the next start builds it
 * again; while it runs everything is only looked at. Exit status: 0 = nothing is wrong, or no longer. */
int check_run(const struct snapshot *s, bool verbose);

#endif
