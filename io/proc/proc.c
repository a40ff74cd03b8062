#include "io/proc/proc.h"

#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- identity */

static bool is_for_good(const struct passwd *pw)
{
    uid_t real, effective, saved;
    gid_t g_real, g_effective, g_saved;
    if (getresuid(&real, &effective, &saved) != 0 || getresgid(&g_real, &g_effective, &g_saved) != 0)
        return false;
    bool same = real == pw->pw_uid && effective == pw->pw_uid && saved == pw->pw_uid &&
                g_real == pw->pw_gid && g_effective == pw->pw_gid && g_saved == pw->pw_gid;
    /* The way back must be closed. */
    return same && (pw->pw_uid == 0 || setuid(0) != 0);
}

struct err *proc_become(const char *user)
{
    errno = 0;
    struct passwd *pw = getpwnam(user);
    if (!pw && errno != 0)
        return err_errno(errno, "look up user %s", user);
    if (!pw)
        return err_new(ERR_CONFIG, 0, "unknown user: %s", user);
    if (geteuid() != 0) {
        if (geteuid() == pw->pw_uid)
            return NULL; /* started as this user */
        return err_new(ERR_REFUSED, EPERM, "cannot become user %s: not started as root", user);
    }
    if (initgroups(user, pw->pw_gid) != 0)
        return err_errno(errno, "initgroups for user %s", user);
    if (setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) != 0)
        return err_errno(errno, "setgid for user %s", user);
    if (setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) != 0)
        return err_errno(errno, "setuid for user %s", user);
    if (!is_for_good(pw))
        return err_new(ERR_REFUSED, EPERM, "privileges of user %s did not take effect", user);
    return NULL;
}

/* --- the pid file. The lock tells whether someone is there; the text is for people and scripts. */

static struct flock whole_file(short type)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET};
}

struct err *proc_pidfile_lock(const char *path, int *fd_out)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(errno, "open lock file %s", path);
    struct flock mine = whole_file(F_WRLCK);
    if (fcntl(fd, F_SETLK, &mine) == 0) {
        *fd_out = fd;
        return NULL;
    }
    int number = errno;
    struct flock theirs = whole_file(F_WRLCK);
    bool asked = fcntl(fd, F_GETLK, &theirs) == 0 && theirs.l_type != F_UNLCK;
    close(fd);
    if (number != EACCES && number != EAGAIN)
        return err_errno(number, "lock %s", path);
    return err_new(ERR_REFUSED, asked ? theirs.l_pid : 0, "%s is locked by process %d", path,
                   asked ? (int)theirs.l_pid : 0);
}

struct err *proc_pidfile_write(int fd)
{
    char text[40];
    int n = snprintf(text, sizeof(text), "%32ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)n, 0) != n)
        return err_errno(errno, "write the pid file");
    return NULL;
}

struct err *proc_pidfile_holder(const char *path, int64_t *pid_out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        *pid_out = 0;
        return NULL;
    }
    if (fd < 0)
        return err_errno(errno, "open lock file %s", path);
    struct flock theirs = whole_file(F_WRLCK);
    int rc = fcntl(fd, F_GETLK, &theirs);
    int number = errno;
    close(fd);
    if (rc != 0)
        return err_errno(number, "lock state of %s", path);
    *pid_out = theirs.l_type == F_UNLCK ? 0 : theirs.l_pid;
    return NULL;
}

/* --- signals and limits */

struct err *proc_signal_fd(const int *signals, int *fd_out)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; signals[i] != 0; i++)
        sigaddset(&set, signals[i]);
    int number = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (number != 0)
        return err_errno(number, "block signals");
    /* Blocking mode: io_uring waits for it, and answers EAGAIN at once for non-blocking ones. */
    int fd = signalfd(-1, &set, SFD_CLOEXEC);
    if (fd < 0)
        return err_errno(errno, "signalfd");
    *fd_out = fd;
    return NULL;
}

static void raise_to_hard(int resource)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(resource, &limit); /* what there is bounds what is done */
}

void proc_raise_limits(void)
{
    raise_to_hard(RLIMIT_NOFILE);
}

void proc_raise_locked_memory(void)
{
    const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
    if (setrlimit(RLIMIT_MEMLOCK, &none) != 0)
        raise_to_hard(RLIMIT_MEMLOCK);
}
