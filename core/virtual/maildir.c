/* maildir: one file a message: written to tmp/, synced, renamed into new/, and the folder synced, so that a reader sees
 * a whole message or none, and a message that was seen stays. */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "core/virtual/private.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/fiber/fiber.h"
#include "io/fiber/offload.h"
#include "io/file/file.h"
#include "io/ring/ring.h"

#define PREFIX "maildir delivery failed"

struct folders {
    const struct mailbox *m;
    int code; /* errno, 0 = made */
    char text[256];
};

static void keep(struct folders *f, struct err *e)
{
    if (!e || f->code)
        return;
    f->code = e->code ? e->code : EIO;
    str_copy(f->text, sizeof(f->text), str_of(e->text));
}

/* What a new maildir hangs on must outlast a power cut too: each folder on the way down is synced. */
static void make_folders(void *arg)
{
    static const char *const parts[] = {"tmp", "new", "cur"};
    struct folders *f = arg;
    struct str path = str_of(f->m->path);
    size_t base = strlen(f->m->svc->params->virtual_mailbox_base);
    for (size_t i = 0; i < 3; i++)
        keep(f, file_mkdirs(arena_printf(f->m->arena, "%s%s", f->m->path, parts[i]).ptr, 0700));
    for (size_t i = path.len; i > 1 && i >= base && !f->code; i--)
        if (path.ptr[i - 1] == '/')
            keep(f, file_sync_dir(arena_cstr(f->m->arena, str_head(path, i))));
}

static void explain(const struct mailbox *m, const struct err *e, const char *tmp)
{
    if (e->code != EACCES)
        return;
    log_warning(m->svc->log_tag, "maildir access problem for UID/GID=%lu/%lu: create maildir file %s: %s",
                (unsigned long)m->uid, (unsigned long)m->gid, tmp, strerrordesc_np(e->code));
    log_warning(m->svc->log_tag, "perhaps you need to create the maildirs in advance");
}

static bool create(const struct mailbox *m, const char *tmp, struct failure *why, int *fd_out)
{
    int flags = O_WRONLY | O_CREAT | O_EXCL;
    struct err *e = io_openat(AT_FDCWD, tmp, flags, 0600, fd_out);
    if (e && e->code == ENOENT) {
        struct folders f = {.m = m};
        offload(make_folders, &f);
        e = f.code ? err_errno(f.code, "make folders") : io_openat(AT_FDCWD, tmp, flags, 0600, fd_out);
    }
    if (!e)
        return true;
    bool quota = e->code == EDQUOT;
    failure_set(why, m->arena, quota, quota ? "5.2.2" : "4.2.0", e, PREFIX ": create maildir file %s", tmp);
    explain(m, e, tmp);
    return false;
}

/* The name in new/: device and inode make it one of a kind (maildir(5)). */
static bool publish(const struct mailbox *m, int fd, const char *tmp, const char *host, struct failure *why)
{
    struct stat st;
    int64_t now = clock_wall_us();
    if (fstat(fd, &st) < 0) {
        failure_set(why, m->arena, false, "4.2.0", err_errno(errno, "fstat"), PREFIX ": fstat");
        return false;
    }
    struct str name = arena_printf(m->arena, "%snew/%lld.V%lxI%lxM%lld.%s", m->path,
                                   (long long)(now / US_PER_S), (unsigned long)st.st_dev,
                                   (unsigned long)st.st_ino, (long long)(now % US_PER_S), host);
    struct err *e = io_renameat(AT_FDCWD, tmp, AT_FDCWD, name.ptr);
    if (e) {
        failure_set(why, m->arena, false, "4.2.0", e, PREFIX ": link to %s", name.ptr);
        return false;
    }
    e = file_sync_dir(arena_printf(m->arena, "%snew", m->path).ptr);
    if (!e)
        return true;
    failure_set(why, m->arena, false, "4.3.0", e, PREFIX ": error writing message");
    (void)io_unlinkat(AT_FDCWD, name.ptr, 0);
    return false;
}

bool maildir_deliver(const struct mailbox *m, struct failure *why)
{
    static atomic_uint serial;
    char host[HOST_MAX];
    int fd;
    if (gethostname(host, sizeof(host)) < 0)
        str_copy(host, sizeof(host), str_of(m->svc->params->myhostname));
    host[sizeof(host) - 1] = '\0';
    for (char *p = host; *p; p++)
        if (*p == '/' || *p == ':')
            *p = '_';
    const char *tmp = arena_printf(m->arena, "%stmp/%lld.P%ldQ%u.%s", m->path,
                                   (long long)(clock_wall_us() / US_PER_S), (long)getpid(),
                                   atomic_fetch_add(&serial, 1), host).ptr;
    if (!create(m, tmp, why, &fd))
        return false;
    bool ok = letter_write(m, LETTER_MAILDIR, fd, 0, why, PREFIX) && publish(m, fd, tmp, host, why);
    (void)io_close(fd);
    if (!ok) {
        fiber_shield_begin();
        (void)io_unlinkat(AT_FDCWD, tmp, 0);
        fiber_shield_end();
    }
    return ok;
}
