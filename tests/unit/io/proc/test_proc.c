/* proc: the pid file's lock, signals as a descriptor, becoming a user. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include "io/proc/proc.h"

/* Runs fn in a child: locks and identities are a process's. */
static int in_child(int (*fn)(const char *), const char *arg)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(fn(arg));
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 200;
}

static int is_held_by_parent(const char *path)
{
    int fd;
    int64_t pid = 0;
    struct err *e = proc_pidfile_lock(path, &fd);
    if (!e || e->kind != ERR_REFUSED || e->code != getppid())
        return 1;
    if (proc_pidfile_holder(path, &pid) || pid != getppid())
        return 2;
    return 0;
}

static int is_free(const char *path)
{
    int64_t pid = -1;
    return !proc_pidfile_holder(path, &pid) && pid == 0 ? 0 : 1;
}

static void the_pid_file_tells_who_runs(void **state)
{
    (void)state;
    char path[] = "/tmp/test_proc.XXXXXX", text[64] = "", want[64];
    int made = mkstemp(path), fd = -1;
    close(made);
    assert_int_equal(in_child(is_free, path), 0);
    assert_null(proc_pidfile_lock(path, &fd));
    assert_null(proc_pidfile_write(fd));
    assert_null(proc_pidfile_write(fd));
    assert_int_equal(in_child(is_held_by_parent, path), 0);
    assert_int_equal(pread(fd, text, sizeof(text) - 1, 0), 33);
    snprintf(want, sizeof(want), "%32d\n", (int)getpid());
    assert_string_equal(text, want);
    close(fd);
    assert_int_equal(in_child(is_free, path), 0);
    unlink(path);
    assert_int_equal(in_child(is_free, path), 0);
}

static void signals_come_as_bytes(void **state)
{
    (void)state;
    int fd = -1;
    struct signalfd_siginfo info;
    assert_null(proc_signal_fd((const int[]){SIGUSR1, SIGHUP, 0}, &fd));
    kill(getpid(), SIGHUP);
    assert_int_equal(read(fd, &info, sizeof(info)), sizeof(info));
    assert_int_equal(info.ssi_signo, SIGHUP);
    close(fd);
}

static void descriptors_up_to_the_hard_limit(void **state)
{
    (void)state;
    struct rlimit r;
    proc_raise_limits();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &r), 0);
    assert_true(r.rlim_cur == r.rlim_max);
}

static int become(const char *user)
{
    struct err *e = proc_become(user);
    if (e)
        return e->kind == ERR_CONFIG ? 1 : 2;
    return setuid(0) == 0 || getuid() == 0 ? 3 : 0;
}

static void there_is_no_way_back_from_a_user(void **state)
{
    (void)state;
    assert_int_equal(in_child(become, "no-such-user-here"), 1);
    if (geteuid() != 0)
        skip();
    assert_int_equal(in_child(become, "nobody"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_pid_file_tells_who_runs),
        cmocka_unit_test(signals_come_as_bytes),
        cmocka_unit_test(descriptors_up_to_the_hard_limit),
        cmocka_unit_test(there_is_no_way_back_from_a_user),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
