/* posix_sim: the system calls that the program makes beside the ring, led to the disk in memory by
 * the linker (--wrap). What is not below SIM_ROOT goes to the real system. */
#include "disk_sim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "dice.h"

#define SIM_FREE_BYTES ((uint64_t)64 << 20)

static bool ours_path(const char *path)
{
    return strncmp(path, SIM_ROOT, strlen(SIM_ROOT)) == 0;
}

static bool ours(int dir_fd, const char *path)
{
    return ours_path(path) || (dir_fd >= SIM_FD && path[0] != '/');
}

static int give(ssize_t rc)
{
    if (rc >= 0)
        return (int)rc;
    errno = (int)-rc;
    return -1;
}

/* The mode is there only when a file may be made. */
#define MODE_OF(flags, mode)                                                                       \
    do {                                                                                           \
        va_list list_;                                                                             \
        va_start(list_, flags);                                                                    \
        if ((flags) & (O_CREAT | O_TMPFILE))                                                       \
            (mode) = va_arg(list_, mode_t);                                                        \
        va_end(list_);                                                                             \
    } while (0)

int __real_openat(int dir_fd, const char *path, int flags, ...);
int __wrap_openat(int dir_fd, const char *path, int flags, ...);
int __wrap_openat(int dir_fd, const char *path, int flags, ...)
{
    mode_t mode = 0;
    MODE_OF(flags, mode);
    return ours(dir_fd, path) ? give(disk_open(dir_fd, path, flags))
                              : __real_openat(dir_fd, path, flags, mode);
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    MODE_OF(flags, mode);
    return ours_path(path) ? give(disk_open(-1, path, flags)) : __real_open(path, flags, mode);
}

int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
    return fd >= SIM_FD ? give(disk_close(fd)) : __real_close(fd);
}

int __real_dup(int fd);
int __wrap_dup(int fd);
int __wrap_dup(int fd)
{
    return fd >= SIM_FD ? give(disk_dup(fd)) : __real_dup(fd);
}

ssize_t __real_pread(int fd, void *to, size_t n, off_t at);
ssize_t __wrap_pread(int fd, void *to, size_t n, off_t at);
ssize_t __wrap_pread(int fd, void *to, size_t n, off_t at)
{
    return fd >= SIM_FD ? give(disk_read(fd, to, n, (uint64_t)at)) : __real_pread(fd, to, n, at);
}

ssize_t __real_pwrite(int fd, const void *from, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *from, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *from, size_t n, off_t at)
{
    if (fd < SIM_FD)
        return __real_pwrite(fd, from, n, at);
    struct disk_write *w = disk_write_begin(fd, from, n, (uint64_t)at);
    return give(disk_write_end(w, sim_fault_now(FAULT_CHANGE)));
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    return fd >= SIM_FD ? give(disk_fsync(fd)) : __real_fsync(fd);
}

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
    return fd >= SIM_FD ? give(disk_fsync(fd)) : __real_fdatasync(fd);
}

int __real_fallocate(int fd, int mode, off_t at, off_t n);
int __wrap_fallocate(int fd, int mode, off_t at, off_t n);
int __wrap_fallocate(int fd, int mode, off_t at, off_t n)
{
    return fd >= SIM_FD ? give(disk_size(fd, (uint64_t)(at + n), true))
                        : __real_fallocate(fd, mode, at, n);
}

int __real_ftruncate(int fd, off_t size);
int __wrap_ftruncate(int fd, off_t size);
int __wrap_ftruncate(int fd, off_t size)
{
    return fd >= SIM_FD ? give(disk_size(fd, (uint64_t)size, false)) : __real_ftruncate(fd, size);
}

int __real_unlinkat(int dir_fd, const char *path, int flags);
int __wrap_unlinkat(int dir_fd, const char *path, int flags);
int __wrap_unlinkat(int dir_fd, const char *path, int flags)
{
    return ours(dir_fd, path) ? give(disk_unlink(dir_fd, path, flags & AT_REMOVEDIR))
                              : __real_unlinkat(dir_fd, path, flags);
}

int __real_unlink(const char *path);
int __wrap_unlink(const char *path);
int __wrap_unlink(const char *path)
{
    return ours_path(path) ? give(disk_unlink(-1, path, false)) : __real_unlink(path);
}

int __real_renameat(int from_dir, const char *from, int to_dir, const char *to);
int __wrap_renameat(int from_dir, const char *from, int to_dir, const char *to);
int __wrap_renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    return ours(from_dir, from) ? give(disk_rename(from_dir, from, to_dir, to))
                                : __real_renameat(from_dir, from, to_dir, to);
}

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to)
{
    return ours_path(from) ? give(disk_rename(-1, from, -1, to)) : __real_rename(from, to);
}

int __real_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode)
{
    if (!ours_path(path))
        return __real_mkdir(path, mode);
    if (strcmp(path, SIM_ROOT) == 0)
        return give(-EEXIST);
    return give(disk_mkdir(path));
}

/* --- what is asked about files */

static int fill_stat(int rc, const struct disk_stat *from, struct stat *out)
{
    if (rc == 0) {
        memset(out, 0, sizeof *out);
        out->st_mode = from->is_dir ? S_IFDIR | 0700 : S_IFREG | 0600;
        out->st_size = (off_t)from->size;
        out->st_ino = from->ino;
        out->st_mtime = from->mtime_s;
        out->st_nlink = 1;
    }
    return give(rc);
}

int __real_stat(const char *path, struct stat *out);
int __wrap_stat(const char *path, struct stat *out);
int __wrap_stat(const char *path, struct stat *out)
{
    struct disk_stat st;
    return ours_path(path) ? fill_stat(disk_stat(-1, path, &st), &st, out) : __real_stat(path, out);
}

int __real_fstat(int fd, struct stat *out);
int __wrap_fstat(int fd, struct stat *out);
int __wrap_fstat(int fd, struct stat *out)
{
    struct disk_stat st;
    return fd >= SIM_FD ? fill_stat(disk_fstat(fd, &st), &st, out) : __real_fstat(fd, out);
}

int __real_fstatat(int dir_fd, const char *path, struct stat *out, int flags);
int __wrap_fstatat(int dir_fd, const char *path, struct stat *out, int flags);
int __wrap_fstatat(int dir_fd, const char *path, struct stat *out, int flags)
{
    struct disk_stat st;
    return ours(dir_fd, path) ? fill_stat(disk_stat(dir_fd, path, &st), &st, out)
                              : __real_fstatat(dir_fd, path, out, flags);
}

/* Some files want direct writes in whole blocks, others in sectors. */
int __real_statx(int fd, const char *path, int flags, unsigned mask, struct statx *out);
int __wrap_statx(int fd, const char *path, int flags, unsigned mask, struct statx *out);
int __wrap_statx(int fd, const char *path, int flags, unsigned mask, struct statx *out)
{
    struct disk_stat st;
    if (fd < SIM_FD)
        return __real_statx(fd, path, flags, mask, out);
    memset(out, 0, sizeof *out);
    int rc = give(disk_fstat(fd, &st));
    out->stx_mask = rc == 0 ? STATX_DIOALIGN : 0;
    out->stx_dio_mem_align = 512;
    out->stx_dio_offset_align = st.ino % 3 == 0 ? 4096 : 512;
    return rc;
}

int __real_statvfs(const char *path, struct statvfs *out);
int __wrap_statvfs(const char *path, struct statvfs *out);
int __wrap_statvfs(const char *path, struct statvfs *out)
{
    if (!ours_path(path))
        return __real_statvfs(path, out);
    memset(out, 0, sizeof *out);
    out->f_bsize = out->f_frsize = 4096;
    out->f_blocks = out->f_bfree = out->f_bavail = SIM_FREE_BYTES / 4096;
    return 0;
}

int __real_fchmod(int fd, mode_t mode);
int __wrap_fchmod(int fd, mode_t mode);
int __wrap_fchmod(int fd, mode_t mode)
{
    return fd >= SIM_FD ? 0 : __real_fchmod(fd, mode);
}

int __real_fcntl(int fd, int what, ...);
int __wrap_fcntl(int fd, int what, ...);
int __wrap_fcntl(int fd, int what, ...)
{
    va_list list;
    va_start(list, what);
    void *arg = va_arg(list, void *);
    va_end(list);
    return fd >= SIM_FD ? 0 : __real_fcntl(fd, what, arg);
}

int __real_posix_fadvise(int fd, off_t at, off_t n, int how);
int __wrap_posix_fadvise(int fd, off_t at, off_t n, int how);
int __wrap_posix_fadvise(int fd, off_t at, off_t n, int how)
{
    return fd >= SIM_FD ? 0 : __real_posix_fadvise(fd, at, n, how);
}

/* --- folders. One kind of DIR has a mark at its front that no real one has. */

#define DIR_MARK 0x73696d6469722121U

struct sim_dir {
    uint64_t mark;
    int fd;
    size_t at, n;
    /* As they were when the walk began: who unlinks meanwhile skips none. */
    char (*names)[SIM_NAME_MAX];
    struct dirent entry;
};

static void names_take(struct sim_dir *d)
{
    char name[SIM_NAME_MAX];
    d->at = d->n = 0;
    while (disk_name(d->fd, d->n, name)) {
        d->names = realloc(d->names, (d->n + 1) * sizeof *d->names);
        memcpy(d->names[d->n++], name, SIM_NAME_MAX);
    }
}

static struct sim_dir *ours_dir(DIR *dir)
{
    struct sim_dir *d = (struct sim_dir *)(void *)dir;
    return d->mark == DIR_MARK ? d : NULL;
}

DIR *__real_fdopendir(int fd);
DIR *__wrap_fdopendir(int fd);
DIR *__wrap_fdopendir(int fd)
{
    if (fd < SIM_FD)
        return __real_fdopendir(fd);
    struct sim_dir *d = calloc(1, sizeof *d);
    d->mark = DIR_MARK;
    d->fd = fd;
    names_take(d);
    return (DIR *)(void *)d;
}

DIR *__real_opendir(const char *path);
DIR *__wrap_opendir(const char *path);
DIR *__wrap_opendir(const char *path)
{
    if (!ours_path(path))
        return __real_opendir(path);
    int fd = disk_open(-1, path, O_RDONLY | O_DIRECTORY);
    if (fd >= 0)
        return __wrap_fdopendir(fd);
    errno = -fd;
    return NULL;
}

struct dirent *__real_readdir(DIR *dir);
struct dirent *__wrap_readdir(DIR *dir);
struct dirent *__wrap_readdir(DIR *dir)
{
    struct sim_dir *d = ours_dir(dir);
    if (d == NULL)
        return __real_readdir(dir);
    if (d->at == d->n)
        return NULL;
    snprintf(d->entry.d_name, sizeof d->entry.d_name, "%s", d->names[d->at++]);
    return &d->entry;
}

void __real_rewinddir(DIR *dir);
void __wrap_rewinddir(DIR *dir);
void __wrap_rewinddir(DIR *dir)
{
    struct sim_dir *d = ours_dir(dir);
    if (d != NULL)
        names_take(d);
    else
        __real_rewinddir(dir);
}

int __real_closedir(DIR *dir);
int __wrap_closedir(DIR *dir);
int __wrap_closedir(DIR *dir)
{
    struct sim_dir *d = ours_dir(dir);
    if (d == NULL)
        return __real_closedir(dir);
    (void)disk_close(d->fd);
    free(d->names);
    free(d);
    return 0;
}
