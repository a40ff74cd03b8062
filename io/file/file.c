#include "io/file/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "io/base/buf.h"
#include "io/base/clock.h"
#include "io/base/mem.h"
#include "io/fiber/offload.h"
#include "io/ring/ring.h"

/* --- whole files */

static struct err *read_all(struct arena *a, const char *path, int fd, size_t max, struct str *out)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return err_errno(errno, "stat %s", path);
    /* One byte more than it says, so that the end is seen; pipes and /proc say 0. */
    size_t guess = st.st_size > 0 ? (size_t)st.st_size : 4095;
    struct buf b = {0};
    struct err *e = NULL;
    size_t got = 1;
    buf_reserve(&b, (guess < max ? guess : max) + 1);
    while (!e && got > 0) {
        size_t room = b.cap - b.len > 4096 ? b.cap - b.len - 1 : 4096;
        e = io_pread(fd, buf_reserve(&b, room), room, b.len, &got);
        if (e) {
            err_in(e, "read %s", path);
            break;
        }
        b.len += got;
        if (b.len > max)
            e = err_new(ERR_LIMIT, 0, "%s: more than %zu bytes", path, max);
    }
    if (!e)
        *out = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return e;
}

struct err *file_read(struct arena *a, const char *path, size_t max, struct str *out)
{
    int fd = -1;
    struct err *e = io_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOCTTY, 0, &fd);
    if (e)
        return err_in(e, "open %s", path);
    e = read_all(a, path, fd, max, out);
    (void)io_close(fd); /* only read */
    return e;
}

/* The folder part of path into folder_out; "." when there is none. */
static bool folder_of(const char *path, char *folder_out, size_t size)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    struct str folder = !slash ? STR(".") : n == 0 ? STR("/") : str_make(path, n);
    if (folder.len >= size)
        return false;
    str_copy(folder_out, size, folder);
    return true;
}

static struct err *write_synced(const char *path, struct str bytes, mode_t mode)
{
    int fd = -1;
    struct err *e = io_openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode, &fd);
    if (e)
        return e;
    if (fchmod(fd, mode) != 0)
        e = err_errno(errno, "chmod"); /* the umask has no say here */
    if (!e)
        e = io_pwrite(fd, bytes.ptr, bytes.len, 0);
    if (!e)
        e = io_fsync(fd, false);
    struct err *closed = io_close(fd);
    return e ? e : closed;
}

struct err *file_replace(const char *path, struct str bytes, mode_t mode)
{
    static _Atomic unsigned serial;
    char aside[4096 / 2], folder[4096 / 4];
    int n = snprintf(aside, sizeof(aside), "%s.%ld-%u.tmp", path, (long)getpid(), serial++);
    if (n < 0 || (size_t)n >= sizeof(aside) || !folder_of(path, folder, sizeof(folder)))
        return err_errno(ENAMETOOLONG, "write %s", path);
    struct err *e = write_synced(aside, bytes, mode);
    if (!e)
        e = io_renameat(AT_FDCWD, aside, AT_FDCWD, path);
    if (e) {
        (void)unlink(aside);
        return err_in(e, "write %s", path);
    }
    return file_sync_dir(folder);
}

struct err *file_sync_dir(const char *path)
{
    int fd = -1;
    struct err *e = io_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, &fd);
    if (!e) {
        e = io_fsync(fd, false);
        (void)io_close(fd);
    }
    return e ? err_in(e, "sync folder %s", path) : NULL;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

struct err *file_mkdirs(const char *path, mode_t mode)
{
    char part[1024];
    size_t n = strlen(path);
    if (n >= sizeof(part))
        return err_errno(ENAMETOOLONG, "make folder %s", path);
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        str_copy(part, sizeof(part), str_make(path, i));
        if (mkdir(part, mode) == 0)
            continue;
        int number = errno; /* before stat has its own */
        if (!is_folder(part))
            return err_errno(number == EEXIST ? ENOTDIR : number, "make folder %s", part);
    }
    return NULL;
}

struct space {
    const char *path;
    struct statvfs fs;
    int number; /* errno */
};

static void ask_space(void *arg)
{
    struct space *s = arg;
    s->number = statvfs(s->path, &s->fs) == 0 ? 0 : errno;
}

size_t file_direct_unit(int fd)
{
    struct statx x = {0};
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &x) != 0 || (x.stx_mask & STATX_DIOALIGN) == 0)
        return 0;
    return x.stx_dio_offset_align;
}

struct err *file_free_space(const char *path, uint64_t *bytes_out)
{
    struct space s = {.path = path};
    offload(ask_space, &s); /* a network file system may take its time */
    if (s.number != 0)
        return err_errno(s.number, "free space of %s", path);
    *bytes_out = (uint64_t)s.fs.f_bavail * s.fs.f_frsize;
    return NULL;
}
