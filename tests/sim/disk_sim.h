/* disk_sim: a disk in memory that may forget. One disk is current; posix_sim.c, ring_sim.c and
 * kv_sim.c act on it. Nothing here is real: paths below SIM_ROOT and descriptors from SIM_FD on.
 *
 * What is there twice: `live` is what a running program sees, `durable` what a power cut leaves for
 * sure. Between them stand the pending effects, in order: writes, sizes and names that were not
 * synced. disk_crash() decides the fate of each by itself: lost, kept, or (writes) torn in units of
 * 512 bytes or 4 KiB, any of which may be there. So unsynced writes come in any order. */
#ifndef SIM_DISK_SIM_H
#define SIM_DISK_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SIM_ROOT "/simdisk"
enum { SIM_FD = 1 << 20, SIM_NAME_MAX = 64, SIM_ROOT_INO = 1 };

struct disk;
struct kv_image; /* kv_sim.c */

/* --- disks */
struct disk *disk_new(void);
struct disk *disk_copy(const struct disk *d); /* as it is, pending effects too; shares pages */
void disk_free(struct disk *d);
/* After a power cut: durable, and of what is pending what the dice leave. A new disk without
 * pending effects or open files. */
struct disk *disk_crash(const struct disk *d);
void disk_use(struct disk *d); /* the current one; descriptors of the one before are gone */
struct disk *disk_current(void);
/* A file that a synced write failed on keeps nothing more that is written to it, until the program
 * starts anew. */
void disk_new_process(void);

/* --- what a program does; results as the system calls, errors as -errno */
int disk_open(int dir_fd, const char *path, int flags);
int disk_close(int fd);
ssize_t disk_read(int fd, void *to, size_t n, uint64_t at);
/* A write in two steps: what was begun and not ended is pending. */
struct disk_write;
struct disk_write *disk_write_begin(int fd, const void *from, size_t n, uint64_t at);
ssize_t disk_write_end(struct disk_write *w, int fail); /* fail: errno, or 0 */
int disk_fsync(int fd);
int disk_size(int fd, uint64_t size, bool only_grow);
int disk_unlink(int dir_fd, const char *path, bool directory);
int disk_rename(int from_dir, const char *from, int to_dir, const char *to);
int disk_mkdir(const char *path);
struct disk_stat {
    bool is_dir;
    uint64_t ino, size;
    int64_t mtime_s;
};
int disk_stat(int dir_fd, const char *path, struct disk_stat *out);
int disk_fstat(int fd, struct disk_stat *out);
/* Name number `at` of the folder; false: no more. */
bool disk_name(int fd, size_t at, char out[SIM_NAME_MAX]);
int disk_dup(int fd);
bool disk_dsync(int fd);

/* These bytes of a file cannot be read until they are written to. False: there is no such file. */
bool disk_unreadable(const char *path, uint64_t at, uint64_t n);
void disk_repair(void); /* all can be read again */

/* The database that lies in this file; kept by the disk, counted by kv_image_ref/unref. */
struct kv_image *disk_kv(const char *path);
void disk_kv_set(const char *path, struct kv_image *image);
struct kv_image *kv_image_ref(struct kv_image *image);
void kv_image_unref(struct kv_image *image);

#endif
