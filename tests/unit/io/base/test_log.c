#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "io/base/buf.h"
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/log_sink.h"
#include "io/base/metric.h"
#include "io/base/thread.h"

static char dir[64], file[96], other[96];
static struct buf got;

static struct str read_file(const char *path)
{
    buf_reset(&got);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    for (;;) {
        ssize_t n = read(fd, buf_reserve(&got, 65536), 65536);
        assert_true(n >= 0);
        if (n == 0)
            break;
        got.len += (size_t)n;
    }
    (void)close(fd);
    got.ptr[got.len] = '\0';
    return buf_str(&got);
}

static struct log_options options(void)
{
    return (struct log_options){
        .file = file, .syslog_name = "postfix", .host = "mx.example.com", .facility = LOG_MAIL};
}

static int64_t one_january_second(void)
{
    return (INT64_C(1704067199) + 86400 * 31) * US_PER_S; /* 31 January 2024 23:59:59 UTC */
}

static void lines_have_the_shape_of_postlogd(void **state)
{
    (void)state;
    char want[512];
    struct log_options o = options();
    clock_replace(NULL, one_january_second);
    assert_null(log_start(&o));
    log_info("smtpd", "connect from %s[%s]", "localhost", "127.0.0.1");
    log_warning("postfix/submission/smtpd", "hm");
    log_error("qmgr", "bad\tbyte \x80 \xc3\xa4\n");
    log_fatal("master", "x");
    log_stop();
    clock_replace(NULL, NULL);
    (void)snprintf(want, sizeof want,
                   "Jan 31 23:59:59 mx postfix/smtpd[%d]: connect from localhost[127.0.0.1]\n"
                   "Jan 31 23:59:59 mx postfix/submission/smtpd[%d]: warning: hm\n"
                   "Jan 31 23:59:59 mx postfix/qmgr[%d]: error: bad?byte ? \xc3\xa4?\n"
                   "Jan 31 23:59:59 mx postfix/master[%d]: fatal: x\n",
                   getpid(), getpid(), getpid(), getpid());
    assert_string_equal(read_file(file).ptr, want);
}

static void dates_match_the_calendar(void **state)
{
    (void)state;
    char text[16];
    static const struct {
        int64_t at;
        bool pad;
        const char *want;
    } rows[] = {
        {0, true, "Jan  1 00:00:00"},          {0, false, "Jan 01 00:00:00"},
        {951782400, true, "Feb 29 00:00:00"},  {1709251199, true, "Feb 29 23:59:59"},
        {1709251200, true, "Mar  1 00:00:00"}, {4107542399, true, "Feb 28 23:59:59"},
        {4107542400, true, "Mar  1 00:00:00"}, {-1, true, "Dec 31 23:59:59"},
        {1735689599, true, "Dec 31 23:59:59"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        log_date(rows[i].at, rows[i].pad, text);
        assert_string_equal(text, rows[i].want);
    }
}

#define THREADS 4
#define LINES   5000

static void *chatter(void *number)
{
    for (int i = 0; i < LINES; i++)
        log_info("t", "%d/%d", *(const int *)number, i);
    return NULL;
}

static void every_line_of_every_thread_arrives_in_its_order(void **state)
{
    (void)state;
    struct log_options o = options();
    pthread_t threads[THREADS];
    int numbers[THREADS], next[THREADS] = {0}, lines = 0;
    assert_null(log_start(&o));
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, chatter, &numbers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    log_stop();
    struct str rest = read_file(file), line;
    while (str_token(&rest, "\n", &line)) {
        struct str text = str_from(line, (size_t)str_rindex(line, ' ') + 1);
        uint64_t thread, n;
        ssize_t slash = str_index(text, '/');
        assert_true(str_u64(str_head(text, (size_t)slash), &thread));
        assert_true(str_u64(str_from(text, (size_t)slash + 1), &n));
        assert_int_equal(n, next[thread]++);
        lines++;
    }
    assert_int_equal(lines, THREADS * LINES);
}

enum { DROPPING_WAS_TOLD = -1, NOTHING_WAS_TOLD = -2 };

/* A thread and not a child: the logger may be inside of an allocator at the fork. */
static void *read_until_the_end(void *end)
{
    int *fd = end;
    char bytes[2048];
    struct buf all = {0};
    for (ssize_t n; (n = read(*fd, bytes, sizeof bytes)) > 0;)
        buf_add(&all, bytes, (size_t)n);
    (void)close(*fd);
    *fd = str_find(buf_str(&all), STR("log lines dropped")) >= 0 ? DROPPING_WAS_TOLD
                                                                : NOTHING_WAS_TOLD;
    buf_fini(&all);
    return NULL;
}

static void beyond_the_queue_lines_are_dropped_counted_and_told(void **state)
{
    (void)state;
    struct log_options o = options();
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    char pipe_name[64];
    /* A pipe nobody reads stops the logger; its end is opened by name. */
    (void)snprintf(pipe_name, sizeof pipe_name, "/proc/self/fd/%d", ends[1]);
    o.file = pipe_name;
    o.queue_max = 100;
    assert_null(log_start(&o));
    int64_t before = metric_sum(METRIC_log_dropped_lines);
    while (metric_sum(METRIC_log_dropped_lines) < before + 10)
        log_info("t", "%01000d", 1);
    (void)close(ends[1]);
    pthread_t reader; /* reads all, so that log_stop can end */
    assert_int_equal(pthread_create(&reader, NULL, read_until_the_end, &ends[0]), 0);
    log_stop();
    assert_int_equal(pthread_join(reader, NULL), 0);
    assert_int_equal(ends[0], DROPPING_WAS_TOLD);
}

static void reopen_follows_the_name(void **state)
{
    (void)state;
    struct log_options o = options();
    assert_null(log_start(&o));
    log_info("t", "before");
    log_stop();
    assert_null(log_start(NULL)); /* as before */
    assert_int_equal(rename(file, other), 0);
    log_reopen();
    log_info("t", "after");
    log_stop();
    assert_true(str_find(read_file(other), STR("before")) >= 0);
    assert_true(str_find(read_file(file), STR("after")) >= 0);
}

static void a_file_that_cannot_be_opened_is_an_error(void **state)
{
    (void)state;
    struct log_options o = options();
    o.file = "/nonexistent/mail.log";
    struct err *e = log_start(&o);
    assert_non_null(e);
    assert_string_equal(e->text, "open logfile '/nonexistent/mail.log': No such file or directory");
}

/* Runs `act` in a child whose stderr goes to a file; returns its wait status. */
static int in_child(void (*act)(void))
{
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 1; i < 32; i++)
            (void)signal(i, SIG_DFL); /* cmocka's own */
        int fd = open(other, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        (void)dup2(fd, STDERR_FILENO);
        act();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void say_something(void)
{
    log_warning("postfix/smtpd", "after fork");
}

static void after_a_fork_lines_go_to_stderr(void **state)
{
    (void)state;
    struct log_options o = options();
    assert_null(log_start(&o));
    log_info("t", "parent");
    assert_int_equal(in_child(say_something), 0);
    log_stop();
    assert_string_equal(read_file(other).ptr, "smtpd: warning: after fork\n");
    assert_true(str_find(read_file(file), STR("after fork")) < 0);
}

static void fill_up(void)
{
    struct log_options o = options();
    o.file = "/dev/full";
    if (log_start(&o))
        _exit(1);
    log_info("t", "one");
    log_info("t", "two");
    log_stop();
}

static void lines_that_cannot_be_written_go_to_stderr(void **state)
{
    (void)state;
    assert_int_equal(in_child(fill_up), 0);
    struct str text = read_file(other);
    assert_true(str_starts(text, STR("warning: write logfile '/dev/full': No space left")));
    assert_true(str_find(text, STR("t[")) > 0);
    assert_true(str_find(text, STR(": one\n")) > 0 && str_find(text, STR(": two\n")) > 0);
}

static void break_a_promise(void)
{
    struct log_options o = options();
    check_install_handlers();
    if (log_start(&o))
        _exit(1);
    for (int i = 0; i < 1000; i++)
        log_info("t", "line %d", i);
    CHECK(1 + 1 == 3);
}

static void a_failed_check_leaves_the_log_complete(void **state)
{
    (void)state;
    int status = in_child(break_a_promise);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    struct str text = read_file(file);
    ssize_t last = str_find(text, STR("line 999\n")), panic = str_find(text, STR("panic: "));
    assert_true(last > 0 && panic > last);
    assert_true(str_find(text, STR("1 + 1 == 3")) > panic);
    assert_true(str_find(text, STR("trace")) > panic);
    assert_true(str_find(read_file(other), STR("panic: ")) >= 0);
}

#if !defined(__SANITIZE_THREAD__)
static void touch_nothing(void)
{
    struct log_options o = options();
    check_install_handlers();
    if (log_start(&o))
        _exit(1);
    (void)raise(SIGSEGV);
}

static void *fall(void *arg)
{
    (void)raise(SIGSEGV);
    return arg;
}

static void touch_nothing_elsewhere(void)
{
    struct log_options o = options();
    pthread_t thread;
    check_install_handlers();
    if (log_start(&o) || thread_start(&thread, "other", fall, NULL) != 0)
        _exit(1);
    (void)pthread_join(thread, NULL);
}

static void a_crash_of_any_thread_is_told_and_keeps_its_signal(void **state)
{
    (void)state;
    static void (*const children[])(void) = {touch_nothing, touch_nothing_elsewhere};
    for (size_t i = 0; i < sizeof children / sizeof *children; i++) {
        (void)unlink(file);
        int status = in_child(children[i]);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGSEGV);
        assert_true(str_find(read_file(file), STR("panic: SIGSEGV")) > 0);
    }
}
#endif

static int fresh(void **state)
{
    (void)state;
    (void)unlink(file);
    (void)unlink(other);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    (void)setenv("TZ", "UTC", 1);
    (void)snprintf(dir, sizeof dir, "/tmp/test-log-XXXXXX");
    assert_non_null(mkdtemp(dir));
    (void)snprintf(file, sizeof file, "%s/mail.log", dir);
    (void)snprintf(other, sizeof other, "%s/other", dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)fresh(state);
    buf_fini(&got);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(dates_match_the_calendar, fresh),
        cmocka_unit_test_setup(lines_have_the_shape_of_postlogd, fresh),
        cmocka_unit_test_setup(every_line_of_every_thread_arrives_in_its_order, fresh),
        cmocka_unit_test_setup(beyond_the_queue_lines_are_dropped_counted_and_told, fresh),
        cmocka_unit_test_setup(reopen_follows_the_name, fresh),
        cmocka_unit_test_setup(a_file_that_cannot_be_opened_is_an_error, fresh),
        cmocka_unit_test_setup(after_a_fork_lines_go_to_stderr, fresh),
        cmocka_unit_test_setup(lines_that_cannot_be_written_go_to_stderr, fresh),
        cmocka_unit_test_setup(a_failed_check_leaves_the_log_complete, fresh),
#if !defined(__SANITIZE_THREAD__)
        cmocka_unit_test_setup(a_crash_of_any_thread_is_told_and_keeps_its_signal, fresh),
#endif
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
