/* Locks other programs honour too: fcntl and flock on a descriptor, and name.lock beside a mailbox.
 * None of them can be waited for with a deadline, so they are tried, and tried again. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "io/base/clock.h"
#include "io/fiber/fiber.h"
#include "io/file/file.h"

enum { RETRY_MS_FIRST = 2, RETRY_MS_MAX = 250 };

/* Yields (or sleeps) a little longer each time. ERR_TIMEOUT when the deadline is here. */
static struct err *wait_a_little(int64_t *wait_ms, int64_t deadline_ns)
{
    int64_t now = clock_mono_ns();
    if (now >= deadline_ns)
        return err_new(ERR_TIMEOUT, ETIMEDOUT, "locked by someone else");
    int64_t until = now + *wait_ms * NS_PER_MS;
    if (until > deadline_ns)
        until = deadline_ns;
    *wait_ms = *wait_ms * 2 < RETRY_MS_MAX ? *wait_ms * 2 : RETRY_MS_MAX;
    if (fiber_self())
        return fiber_sleep_until(until);
    usleep((useconds_t)((until - now) / NS_PER_US));
    return NULL;
}

/* An fcntl lock belongs to the open file (OFD), not to the process: two fibers exclude each other,
 * and closing another descriptor of the file does not drop it. Classic fcntl locks of other programs
 * conflict with it as they should. */
static int try_lock(int fd, enum file_lock how)
{
    if (how == FILE_LOCK_FLOCK)
        return flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_SETLK, &whole) == 0 ? 0 : errno;
}

struct err *file_lock(int fd, enum file_lock how, int64_t deadline_ns)
{
    int64_t wait_ms = RETRY_MS_FIRST;
    for (;;) {
        int number = try_lock(fd, how);
        if (number == 0)
            return NULL;
        if (number != EWOULDBLOCK && number != EACCES && number != EINTR)
            return err_errno(number, "lock");
        struct err *e = wait_a_little(&wait_ms, deadline_ns);
        if (e)
            return e;
    }
}

static bool lock_name(const char *path, char *out, size_t size)
{
    int n = snprintf(out, size, "%s.lock", path);
    return n > 0 && (size_t)n < size;
}

static bool is_stale(const char *lock, int64_t stale_s)
{
    struct stat st;
    return lstat(lock, &st) == 0 && st.st_mtim.tv_sec + stale_s < clock_wall_us() / US_PER_S;
}

struct err *file_dotlock(const char *path, int64_t stale_s, int64_t deadline_ns)
{
    char lock[1024];
    if (!lock_name(path, lock, sizeof(lock)))
        return err_errno(ENAMETOOLONG, "lock %s", path);
    int64_t wait_ms = RETRY_MS_FIRST;
    for (;;) {
        int fd = open(lock, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0);
        if (fd >= 0) {
            close(fd);
            return NULL;
        }
        if (errno != EEXIST)
            return err_errno(errno, "create %s", lock);
        if (stale_s > 0 && is_stale(lock, stale_s) && unlink(lock) == 0)
            continue;
        struct err *e = wait_a_little(&wait_ms, deadline_ns);
        if (e)
            return err_in(e, "create %s", lock);
    }
}

void file_dotunlock(const char *path)
{
    char lock[1024];
    if (lock_name(path, lock, sizeof(lock)))
        (void)unlink(lock);
}
