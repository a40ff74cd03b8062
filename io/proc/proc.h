/* proc: processes and identities: children, signals, pid file, dropping privileges. Supervisor and
 * commands; nothing yields unless it says so. */
#ifndef IO_PROC_PROC_H
#define IO_PROC_PROC_H

#include "io/base/err.h"

/* Become that user for good (setgroups, setgid, setuid, checked). */
struct err *proc_become(const char *user) MUST_USE;
/* The pid file, locked (fcntl) for the life of the process; ERR_REFUSED with the holder's pid in
 * err->code when another one holds it. fd stays open. */
struct err *proc_pidfile_lock(const char *path, int *fd_out) MUST_USE;
struct err *proc_pidfile_write(int fd) MUST_USE;
/* pid of the holder, 0 = nobody. */
struct err *proc_pidfile_holder(const char *path, int64_t *pid_out) MUST_USE;
/* A signalfd for these (blocked in this thread and those it starts). Zero-terminated list. */
struct err *proc_signal_fd(const int *signals, int *fd_out) MUST_USE;
/* Raise RLIMIT_NOFILE to its hard limit. */
void proc_raise_limits(void);
/* Lift RLIMIT_MEMLOCK (root) or raise it to its hard limit: Linux counts a ring, 200 KiB, as locked memory of its
 * user, and 8 MiB, the usual limit, are 40 of them. For a process that runs nobody else's programs. */
void proc_raise_locked_memory(void);

#endif
