/* mbox: messages behind one another in one file, under the locks of virtual_mailbox_lock. What fails is cut off again. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/virtual/private.h"
#include "io/base/clock.h"
#include "io/fiber/fiber.h"
#include "io/fiber/offload.h"
#include "io/file/file.h"
#include "io/ring/ring.h"

struct locks {
    bool dotlock, fcntl, flock;
    int64_t deadline_ns;
};

static struct locks wanted_locks(const struct params *p)
{
    struct locks l = {.deadline_ns = clock_in_s(p->deliver_lock_attempts * p->deliver_lock_delay)};
    struct str rest = str_of(p->virtual_mailbox_lock), word;
    while (str_token(&rest, ", \t\r\n", &word)) {
        l.dotlock |= str_eq(word, STR("dotlock"));
        l.fcntl |= str_eq(word, STR("fcntl"));
        l.flock |= str_eq(word, STR("flock"));
    }
    return l;
}

static bool failed(const struct mailbox *m, struct failure *why, const struct err *e, const char *what)
{
    failure_set(why, m->arena, false, "4.2.0", e, "delivery failed to mailbox %s: %s", m->path, what);
    return false;
}

static bool dot_lock(const struct mailbox *m, int64_t deadline_ns, struct failure *why)
{
    struct err *e = file_dotlock(m->path, m->svc->params->stale_lock_time, deadline_ns);
    if (!e)
        return true;
    if (e->kind == ERR_TIMEOUT)
        e = err_errno(EEXIST, "lock");
    failure_set(why, m->arena, false, "4.2.0", e,
                "delivery failed to mailbox %s: unable to create lock file %s.lock", m->path, m->path);
    return false;
}

/* An existing file that is a plain one of the recipient's, or a new one. */
static bool open_file(const struct mailbox *m, struct failure *why, int *fd_out, bool *made_out)
{
    struct stat st;
    int fd;
    /* O_NONBLOCK: a pipe without a reader is an error and not a wait. */
    int flags = O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
    *made_out = false;
    struct err *e = io_openat(AT_FDCWD, m->path, flags, 0, &fd);
    if (e && e->code == ENOENT) {
        e = io_openat(AT_FDCWD, m->path, flags | O_CREAT | O_EXCL, 0600, &fd);
        *made_out = e == NULL;
    }
    if (e && e->code == ELOOP)
        return failed(m, why, NULL, "file is a symbolic link");
    if (e)
        return failed(m, why, e, "cannot open file");
    if (fstat(fd, &st) < 0)
        failed(m, why, err_errno(errno, "fstat"), "fstat");
    else if (!S_ISREG(st.st_mode))
        failed(m, why, NULL, "file is not a regular file");
    else if (st.st_nlink > 1)
        failed(m, why, NULL, arena_printf(m->arena, "file has %lu hard links",
                                          (unsigned long)st.st_nlink).ptr);
    else if (st.st_uid != m->uid && m->svc->params->strict_mailbox_ownership)
        failed(m, why, NULL, arena_printf(m->arena, "destination %s is not owned by recipient", m->path).ptr);
    else {
        *fd_out = fd;
        return true;
    }
    (void)io_close(fd);
    return false;
}

struct cut {
    int fd;
    off_t size;
};

static void cut_main(void *arg)
{
    const struct cut *c = arg;
    if (ftruncate(c->fd, c->size) == 0)
        (void)fdatasync(c->fd);
}

static struct err *sync_folder(const struct mailbox *m)
{
    ssize_t slash = str_rindex(str_of(m->path), '/');
    return file_sync_dir(slash > 0 ? arena_cstr(m->arena, str_head(str_of(m->path), (size_t)slash)) : "/");
}

static bool append(const struct mailbox *m, int fd, bool made, const struct locks *l, struct failure *why)
{
    struct err *e = l->fcntl ? file_lock(fd, FILE_LOCK_FCNTL, l->deadline_ns) : NULL;
    if (!e && l->flock)
        e = file_lock(fd, FILE_LOCK_FLOCK, l->deadline_ns);
    if (e)
        return failed(m, why, e, "unable to lock for exclusive access");
    struct stat st;
    if (fstat(fd, &st) < 0)
        return failed(m, why, err_errno(errno, "fstat"), "fstat");
    const char *prefix = arena_printf(m->arena, "delivery failed to mailbox %s", m->path).ptr;
    bool ok = letter_write(m, LETTER_MBOX, fd, (uint64_t)st.st_size, why, prefix);
    if (ok && made && (e = sync_folder(m)) != NULL)
        ok = failed(m, why, e, "error writing message");
    if (!ok) {
        struct cut cut = {fd, st.st_size};
        offload(cut_main, &cut);
    }
    return ok;
}

bool mbox_deliver(const struct mailbox *m, struct failure *why)
{
    struct locks l = wanted_locks(m->svc->params);
    int fd;
    bool made;
    if (l.dotlock && !dot_lock(m, l.deadline_ns, why))
        return false;
    bool ok = open_file(m, why, &fd, &made);
    if (ok) {
        ok = append(m, fd, made, &l, why);
        (void)io_close(fd); /* ends the other locks */
    }
    if (l.dotlock)
        file_dotunlock(m->path);
    return ok;
}
