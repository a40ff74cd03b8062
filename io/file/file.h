/* file: whole-file helpers and locks. Inside a fiber they go through the ring or the offload pool
 * and yield; outside they block. */
#ifndef IO_FILE_FILE_H
#define IO_FILE_FILE_H

#include "io/base/arena.h"
#include "io/base/err.h"

/* Whole file into the arena, at most max bytes (ERR_LIMIT). */
struct err *file_read(struct arena *a, const char *path, size_t max, struct str *out) MUST_USE;
/* Write aside, sync, rename over: old or new, never a mix. */
struct err *file_replace(const char *path, struct str bytes, mode_t mode) MUST_USE;
struct err *file_mkdirs(const char *path, mode_t mode) MUST_USE; /* mkdir -p */
/* fcntl or flock (virtual_mailbox_lock, mailbox_delivery_lock(5)): exclusive, tried until the deadline. */
enum file_lock { FILE_LOCK_FCNTL, FILE_LOCK_FLOCK };
struct err *file_lock(int fd, enum file_lock how, int64_t deadline_ns) MUST_USE;
/* path.lock with O_EXCL; a stale one older than stale_s is removed. */
struct err *file_dotlock(const char *path, int64_t stale_s, int64_t deadline_ns) MUST_USE;
void file_dotunlock(const char *path);
/* Sync a directory so that names in it last. */
struct err *file_sync_dir(const char *path) MUST_USE;
/* Direct writes to it (O_DIRECT) begin and end at multiples of this; 0 = the file system does not say. */
size_t file_direct_unit(int fd);
/* Free bytes for us on the file system of path. */
struct err *file_free_space(const char *path, uint64_t *bytes_out) MUST_USE;

#endif
