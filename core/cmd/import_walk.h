/* import_walk: the folders of a Postfix queue directory and who owns it. It is only looked at: no file is written, moved or
 * locked but pid/master.pid, which is locked as Postfix does so that it cannot start meanwhile. */
#ifndef CORE_CMD_IMPORT_WALK_H
#define CORE_CMD_IMPORT_WALK_H

#include <sys/stat.h>

#include "io/base/err.h"

struct import_dir {
    const char *path;
    int fd;
    int pid_fd;  /* locked; -1 = there is no pid file */
    pid_t holder; /* 0, or a process that locked it in Ringpost's way */
    uid_t owner; /* of the queues */
};

/* ERR_REFUSED: a Postfix runs on it. */
struct err *import_dir_open(const char *path, struct import_dir *out) MUST_USE;
void import_dir_close(struct import_dir *d);

/* Opens for reading, leaving the time of the last access as it is where that is allowed. */
struct err *import_open_file(int dir_fd, const char *name, int flags, int *fd_out) MUST_USE;

struct import_entry {
    const char *queue; /* "deferred" */
    const char *path;  /* "deferred/0/4/04999A720B6" */
    const char *name;
    int dir_fd;        /* of the folder it is in */
    struct stat st;
};
/* Calls each(ctx, entry) for everything in the queue's folders that is no folder, until it returns false: *stopped_out.
 * A queue that is not there is empty. */
struct err *import_walk(const struct import_dir *d, const char *queue, bool (*each)(void *ctx, const struct import_entry *e),
                        void *ctx, bool *stopped_out) MUST_USE;

#endif
