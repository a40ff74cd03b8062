/* postqueue: for sendmail -bp, -q, -qI, -qR, which are postqueue(1) by another name. Exit statuses. */
#ifndef CORE_CMD_POSTQUEUE_H
#define CORE_CMD_POSTQUEUE_H

#include "core/config/snapshot.h"

enum { POSTQUEUE_FAILED = 69 }; /* EX_UNAVAILABLE, whatever it was */

int postqueue_list(const struct snapshot *s, bool json);
int postqueue_flush_all(const struct snapshot *s);
int postqueue_flush_id(const struct snapshot *s, const char *id);
int postqueue_flush_site(const struct snapshot *s, const char *site);

/* What goes beyond Postfix. what: postqueue --help has it. */
int postqueue_why(const struct snapshot *s, const char *what, bool json);
int postqueue_suspend(const struct snapshot *s, const char *what, bool on);
int postqueue_suspended(const struct snapshot *s, bool json);

#endif
