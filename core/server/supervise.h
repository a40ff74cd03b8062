/* supervise: the supervisor process (master(8)'s privileges): owns the pid file and the listening sockets,
 * starts the engine, starts it again when it dies, passes signals on. Single-threaded but for its
 * logger; reads no network. */
#ifndef CORE_SERVER_SUPERVISE_H
#define CORE_SERVER_SUPERVISE_H

#include "core/config/snapshot.h"

/* Runs until stopped: exit status. Takes the snapshot's reference. ready_fd: gets "" when mail is
 * served or the reason why not (then closed); -1 = nobody asks. */
int supervise(struct snapshot *s, int ready_fd);

/* Make queue directory and what is in it, with owners when root. Names the path on error. */
struct err *supervise_make_dirs(const struct snapshot *s) MUST_USE;
/* Path of the pid file; arena memory. */
const char *supervise_pid_path(const struct snapshot *s, struct arena *a);

#endif
