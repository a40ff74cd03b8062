#include "core/cmd/import_walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { DEPTH_MAX = 16, PATH_LENGTH_MAX = 512 }; /* hash_queue_depth ends there, too */

struct err *import_open_file(int dir_fd, const char *name, int flags, int *fd_out)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOATIME | flags);
    if (fd < 0 && errno == EPERM) /* not ours: the time is changed */
        fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | flags);
    if (fd < 0)
        return err_errno(errno, "open %s", name);
    *fd_out = fd;
    return NULL;
}

/* --- who is at work in it */

/* The kernel's list, for those who may not open the file. */
static bool listed_as_locked(const struct stat *st)
{
    char line[256], want[64];
    bool found = false;
    FILE *f = fopen("/proc/locks", "re");
    if (!f)
        return false;
    snprintf(want, sizeof(want), " %02x:%02x:%llu ", major(st->st_dev), minor(st->st_dev),
             (unsigned long long)st->st_ino);
    while (!found && fgets(line, sizeof(line), f))
        found = strstr(line, want) != NULL;
    fclose(f);
    return found;
}

static struct err *running(const char *path)
{
    return err_new(ERR_REFUSED, EBUSY, "Postfix is running on %s: stop it first (postfix stop)", path);
}

static struct err *lock_pid_file(struct import_dir *d)
{
    static const char name[] = "pid/master.pid";
    struct stat st;
    if (fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? NULL : err_errno(errno, "%s/%s", d->path, name);
    d->pid_fd = openat(d->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (d->pid_fd < 0)
        return listed_as_locked(&st) ? running(d->path) : NULL;
    if (flock(d->pid_fd, LOCK_EX | LOCK_NB) == 0) {
        struct flock theirs = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        if (fcntl(d->pid_fd, F_GETLK, &theirs) == 0 && theirs.l_type != F_UNLCK)
            d->holder = theirs.l_pid;
        return NULL;
    }
    return errno == EWOULDBLOCK ? running(d->path) : err_errno(errno, "lock %s/%s", d->path, name);
}

struct err *import_dir_open(const char *path, struct import_dir *out)
{
    static const char *const queues[] = {"deferred", "active", "incoming", "hold"};
    struct import_dir d = {.path = path, .fd = -1, .pid_fd = -1};
    struct stat st;
    bool found = false;
    d.fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d.fd < 0)
        return err_errno(errno, "%s", path);
    for (size_t i = 0; !found && i < sizeof(queues) / sizeof(queues[0]); i++)
        if ((found = fstatat(d.fd, queues[i], &st, 0) == 0 && S_ISDIR(st.st_mode)))
            d.owner = st.st_uid;
    struct err *e = found ? lock_pid_file(&d)
                          : err_new(ERR_NOTFOUND, 0, "%s is not a Postfix queue directory: it has no incoming, active, "
                                                     "deferred or hold",
                                    path);
    if (e)
        import_dir_close(&d);
    else
        *out = d;
    return e;
}

void import_dir_close(struct import_dir *d)
{
    if (d->pid_fd >= 0)
        close(d->pid_fd);
    close(d->fd);
}

/* --- walking */

struct walk {
    struct import_entry entry;
    char path[PATH_LENGTH_MAX];
    bool (*each)(void *ctx, const struct import_entry *e);
    void *ctx;
    bool stopped;
};

static struct err *walk_folder(struct walk *w, int dir_fd, size_t path_len, unsigned depth);

static struct err *walk_name(struct walk *w, int dir_fd, size_t path_len, unsigned depth, const char *name)
{
    size_t len = strlen(name);
    if (path_len + 1 + len >= sizeof(w->path))
        return err_new(ERR_LIMIT, 0, "%s: the name %.40s is too long", w->path, name);
    w->path[path_len] = '/';
    memcpy(w->path + path_len + 1, name, len + 1);
    if (fstatat(dir_fd, name, &w->entry.st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(errno, "%s", w->path);
    if (S_ISDIR(w->entry.st.st_mode)) {
        int fd;
        if (depth >= DEPTH_MAX)
            return err_new(ERR_LIMIT, 0, "%s: folders are too deep", w->path);
        struct err *e = import_open_file(dir_fd, name, O_DIRECTORY, &fd);
        return e ? err_in(e, "%s", w->path) : walk_folder(w, fd, path_len + 1 + len, depth + 1);
    }
    w->entry.name = w->path + path_len + 1;
    w->entry.dir_fd = dir_fd;
    w->stopped = !w->each(w->ctx, &w->entry);
    return NULL;
}

/* Takes dir_fd. */
static struct err *walk_folder(struct walk *w, int dir_fd, size_t path_len, unsigned depth)
{
    DIR *dir = fdopendir(dir_fd);
    if (!dir) {
        struct err *e = err_errno(errno, "%s", w->path);
        close(dir_fd);
        return e;
    }
    struct err *e = NULL;
    while (!e && !w->stopped) {
        errno = 0;
        const struct dirent *de = readdir(dir);
        if (!de && errno != 0)
            e = err_errno(errno, "read folder %.*s", (int)path_len, w->path);
        if (!de)
            break;
        if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
            e = walk_name(w, dir_fd, path_len, depth, de->d_name);
    }
    closedir(dir);
    return e;
}

struct err *import_walk(const struct import_dir *d, const char *queue, bool (*each)(void *ctx, const struct import_entry *e),
                        void *ctx, bool *stopped_out)
{
    struct walk w = {.each = each, .ctx = ctx};
    *stopped_out = false;
    int fd = openat(d->fd, queue, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* it may be a link to another disk */
    if (fd < 0)
        return errno == ENOENT ? NULL : err_errno(errno, "open %s/%s", d->path, queue);
    w.entry.queue = queue;
    w.entry.path = w.path;
    size_t len = (size_t)snprintf(w.path, sizeof(w.path), "%s", queue);
    struct err *e = walk_folder(&w, fd, len, 0);
    *stopped_out = w.stopped;
    return e ? err_in(e, "%s", d->path) : NULL;
}
