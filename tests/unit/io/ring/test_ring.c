/* the calls that park a fiber, and the callbacks without one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "io/base/mem.h"
#include "io/base/metric.h"
#include "io/fiber/wait.h"
#include "io/fiber/worker.h"
#include "io/ring/ring.h"

#define OK(e)                                                                                      \
    do {                                                                                           \
        struct err *ok_ = (e);                                                                     \
        if (ok_ != NULL)                                                                           \
            fail_msg("%s", ok_->text);                                                             \
    } while (0)
#define KIND(e, k)                                                                                 \
    do {                                                                                           \
        struct err *e_ = (e);                                                                      \
        assert_non_null(e_);                                                                       \
        assert_int_equal(e_->kind, k);                                                             \
    } while (0)
static void in_fiber(void (*body)(void *))
{
    OK(worker_run_here(NULL, body, NULL));
}
#define ROW(name)                                                                                  \
    static void name##_body(void *arg);                                                            \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        in_fiber(name##_body);                                                                     \
    }                                                                                              \
    static void name##_body(void *arg)

static void io_uring_is_allowed_here(void **state)
{
    (void)state;
    OK(ring_probe());
}

/* A container whose seccomp profile answers io_uring_setup with this number. */
static int probe_where_io_uring_answers(unsigned number, enum err_kind kind, const char *says)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | number),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = 4, .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
        return 2;
    struct worker *w;
    struct worker_options o = {.name = "refused", .cpu = -1};
    struct err *e = ring_probe();
    if (e == NULL || e->kind != kind || strstr(e->text, says) == NULL || strchr(e->text, '\n'))
        return 3;
    e = worker_start(&o, NULL, NULL, &w);
    return e != NULL && e->kind == kind && strstr(e->text, "refused") ? 0 : 4;
}
static void io_uring_refused_is_one_clear_line(void **state)
{
    static const struct {
        unsigned number;
        enum err_kind kind;
        const char *says;
    } rows[] = {
        {EPERM, ERR_REFUSED, "seccomp"},
        {ENOSYS, ERR_REFUSED, "kernel.io_uring_disabled"},
        {EINVAL, ERR_UNSUPPORTED, "Linux 6.1"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int status;
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            _exit(probe_where_io_uring_answers(rows[i].number, rows[i].kind, rows[i].says));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

static void sockets(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}
static int listener(struct sockaddr_in *sa)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof *sa;
    *sa = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fd, (struct sockaddr *)sa, sizeof *sa), 0);
    assert_int_equal(listen(fd, 64), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)sa, &len), 0);
    return fd;
}

static void send_hello(void *arg)
{
    OK(io_send(*(int *)arg, "hello", 5, clock_in_s(60)));
}
ROW(recv_waits_for_bytes_and_gives_what_is_there)
{
    (void)arg;
    int fds[2];
    char bytes[16];
    size_t n;
    sockets(fds);
    fiber_spawn("send", send_hello, &fds[1]);
    OK(io_recv(fds[0], bytes, sizeof bytes, clock_in_s(60), &n));
    assert_int_equal(n, 5);
    assert_memory_equal(bytes, "hello", 5);
    OK(io_close(fds[1]));
    OK(io_recv(fds[0], bytes, sizeof bytes, clock_in_s(60), &n));
    assert_int_equal(n, 0);
    KIND(io_send(fds[0], "x", 1, DEADLINE_NEVER), ERR_CLOSED);
    OK(io_close(fds[0]));
    KIND(io_close(fds[0]), ERR_IO);
}

ROW(recv_ends_at_its_deadline_and_takes_no_bytes_later)
{
    (void)arg;
    int fds[2];
    char bytes[8] = "kept";
    size_t n;
    sockets(fds);
    int64_t deadline = clock_in_ms(5);
    KIND(io_recv(fds[0], bytes, sizeof bytes, deadline, &n), ERR_TIMEOUT);
    assert_true(clock_mono_ns() >= deadline);
    send_hello(&fds[1]);
    fiber_yield();
    assert_string_equal(bytes, "kept");
    /* A deadline that has passed wins over bytes that are there: else a trickle never times out. */
    KIND(io_recv(fds[0], bytes, sizeof bytes, deadline, &n), ERR_TIMEOUT);
    OK(io_recv(fds[0], bytes, sizeof bytes, clock_in_s(60), &n));
    assert_int_equal(n, 5);
    OK(io_close(fds[0]));
    OK(io_close(fds[1]));
}

struct canceling {
    int fd;
    bool done;
};
static void recv_until_canceled(void *arg)
{
    struct canceling *c = arg;
    char bytes[8];
    size_t n;
    KIND(io_recv(c->fd, bytes, sizeof bytes, clock_in_s(3600), &n), ERR_CANCELED);
    c->done = true;
}
ROW(cancellation_ends_a_recv)
{
    (void)arg;
    int fds[2];
    sockets(fds);
    struct canceling c = {.fd = fds[0]};
    struct fiber *f = fiber_spawn("recv", recv_until_canceled, &c);
    OK(fiber_sleep_until(clock_in_ms(2)));
    fiber_cancel(f);
    while (!c.done)
        fiber_yield();
    OK(io_close(fds[0]));
    OK(io_close(fds[1]));
}

enum { BULK = 1 << 22 };
static void send_bulk(void *arg)
{
    int fd = *(int *)arg;
    char *bytes = mem_alloc(BULK);
    for (size_t i = 0; i < BULK; i++)
        bytes[i] = (char)(i * 7);
    OK(io_send(fd, bytes, BULK / 2, clock_in_s(60)));
    struct iovec iov[4] = {{bytes + BULK / 2, 0},
                           {bytes + BULK / 2, 1},
                           {bytes + BULK / 2 + 1, BULK / 4},
                           {bytes + BULK / 2 + 1 + BULK / 4, BULK / 4 - 1}};
    OK(io_sendv(fd, iov, 4, clock_in_s(60)));
    mem_free(bytes);
    OK(io_close(fd));
}
ROW(send_and_sendv_send_all_of_it)
{
    (void)arg;
    int fds[2];
    char *bytes = mem_alloc(BULK);
    size_t n, got = 0;
    sockets(fds);
    fiber_spawn("bulk", send_bulk, &fds[1]);
    do {
        OK(io_recv(fds[0], bytes + got, BULK - got, clock_in_s(60), &n));
        got += n;
    } while (n > 0 && got < BULK);
    assert_int_equal(got, BULK);
    for (size_t i = 0; i < BULK; i++)
        assert_true(bytes[i] == (char)(i * 7));
    mem_free(bytes);
    OK(io_close(fds[0]));
}
ROW(send_to_a_peer_that_does_not_read_times_out)
{
    (void)arg;
    int fds[2];
    sockets(fds);
    char *bytes = mem_zalloc(BULK);
    KIND(io_send(fds[0], bytes, BULK, clock_in_ms(5)), ERR_TIMEOUT);
    mem_free(bytes);
    OK(io_close(fds[0]));
    OK(io_close(fds[1]));
}
ROW(a_socket_in_non_blocking_mode_waits_all_the_same)
{
    (void)arg;
    int fds[2];
    char bytes[8];
    size_t n;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    fiber_spawn("send", send_hello, &fds[1]);
    OK(io_recv(fds[0], bytes, sizeof bytes, clock_in_s(60), &n));
    assert_int_equal(n, 5);
    OK(io_close(fds[0]));
    OK(io_close(fds[1]));
    int pipes[2];
    assert_int_equal(pipe2(pipes, O_NONBLOCK), 0);
    OK(io_pwrite(pipes[1], "abc", 3, IO_STREAM));
    OK(io_pread(pipes[0], bytes, sizeof bytes, IO_STREAM, &n));
    assert_int_equal(n, 3);
    OK(io_close(pipes[1]));
    OK(io_pread(pipes[0], bytes, sizeof bytes, IO_STREAM, &n));
    assert_int_equal(n, 0);
    OK(io_close(pipes[0]));
}

#if defined(__SANITIZE_ADDRESS__)
static void recv_beyond_its_buffer(void *arg)
{
    int *fds = arg;
    char *bytes = mem_alloc(8);
    size_t n;
    assert_non_null(freopen("/dev/null", "w", stderr));
    (void)!io_recv(fds[0], bytes, 9, clock_in_ms(1), &n);
}
/* The tool itself cannot see what the kernel writes through a ring. */
static void a_buffer_that_is_too_short_is_caught_before_the_kernel_writes(void **state)
{
    (void)state;
    int fds[2], status;
    sockets(fds);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)!worker_run_here(NULL, recv_beyond_its_buffer, fds);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
    close(fds[0]);
    close(fds[1]);
}
#endif

struct connecting {
    struct sockaddr_in sa;
    int fd;
};
static void connect_it(void *arg)
{
    struct connecting *c = arg;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    OK(io_connect(c->fd, (struct sockaddr *)&c->sa, sizeof c->sa, clock_in_s(60)));
}
ROW(connect_and_accept_meet)
{
    (void)arg;
    struct connecting c = {0};
    int fd = listener(&c.sa), peer_fd;
    struct sockaddr_storage peer;
    KIND(io_accept(fd, &peer, clock_in_ms(2), &peer_fd), ERR_TIMEOUT);
    fiber_spawn("connect", connect_it, &c);
    OK(io_accept(fd, &peer, clock_in_s(60), &peer_fd));
    assert_int_equal(peer.ss_family, AF_INET);
    assert_true(fcntl(peer_fd, F_GETFD) & FD_CLOEXEC);
    OK(io_close(peer_fd));
    while (fiber_census().live > 1)
        fiber_yield();
    OK(io_close(c.fd));
    OK(io_close(fd));
    int again = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct err *e = io_connect(again, (struct sockaddr *)&c.sa, sizeof c.sa, clock_in_s(60));
    KIND(e, ERR_IO);
    assert_int_equal(e->code, ECONNREFUSED);
    OK(io_close(again));
}
ROW(poll_tells_what_is_ready)
{
    (void)arg;
    int fds[2];
    unsigned revents;
    sockets(fds);
    KIND(io_poll(fds[0], POLLIN, clock_in_ms(2), &revents), ERR_TIMEOUT);
    OK(io_poll(fds[0], POLLOUT, clock_in_s(60), &revents));
    assert_int_equal(revents, POLLOUT);
    OK(io_close(fds[0]));
    OK(io_close(fds[1]));
}

/* The same rows in a fiber and without one. */
static void files(void)
{
    char dir[] = "/tmp/ringpost-test-XXXXXX", path[64], bytes[64];
    assert_non_null(mkdtemp(dir));
    int dir_fd, fd;
    size_t n;
    OK(io_openat(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0, &dir_fd));
    OK(io_openat(dir_fd, "a", O_RDWR | O_CREAT | O_EXCL, 0600, &fd));
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    OK(io_pwrite(fd, "0123456789", 10, 0));
    OK(io_pwrite(fd, "end", 3, 20));
    OK(io_pread(fd, bytes, 5, 5, &n));
    assert_int_equal(n, 5);
    assert_memory_equal(bytes, "56789", 5);
    OK(io_pread(fd, bytes, sizeof bytes, 18, &n)); /* short at the end */
    assert_int_equal(n, 5);
    assert_memory_equal(bytes, "\0\0end", 5);
    OK(io_pread(fd, bytes, sizeof bytes, 1000, &n));
    assert_int_equal(n, 0);
    OK(io_fsync(fd, true));
    OK(io_fsync(fd, false));
    OK(io_fallocate(fd, 0, 8192));
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 8192);
    OK(io_renameat(dir_fd, "a", dir_fd, "b"));
    KIND(io_unlinkat(dir_fd, "a", 0), ERR_NOTFOUND);
    KIND(io_openat(dir_fd, "a", O_RDONLY, 0, &fd), ERR_NOTFOUND);
    OK(io_unlinkat(dir_fd, "b", 0));
    OK(io_close(fd));
    OK(io_close(dir_fd));
    snprintf(path, sizeof path, "%s", dir);
    OK(io_unlinkat(AT_FDCWD, path, AT_REMOVEDIR));
}
ROW(files_are_written_read_and_renamed_in_a_fiber)
{
    (void)arg;
    files();
}
static void files_and_sockets_work_without_a_fiber(void **state)
{
    (void)state;
    files();
    int fds[2];
    char bytes[8];
    size_t n;
    unsigned revents;
    sockets(fds);
    OK(io_send(fds[1], "hello", 5, DEADLINE_NEVER));
    OK(io_poll(fds[0], POLLIN, DEADLINE_NEVER, &revents));
    OK(io_recv(fds[0], bytes, sizeof bytes, DEADLINE_NEVER, &n));
    assert_int_equal(n, 5);
    struct iovec iov[2] = {{"he", 2}, {"llo", 3}};
    OK(io_sendv(fds[1], iov, 2, DEADLINE_NEVER));
    OK(io_close(fds[1]));
    OK(io_recv(fds[0], bytes, sizeof bytes, DEADLINE_NEVER, &n));
    assert_int_equal(n, 5);
    OK(io_close(fds[0]));
}

/* --- callbacks --- */

struct acceptor {
    struct ring_op op;
    struct fiber *waiter;
    int accepted, last;
    bool ended;
};
static void accepted(struct ring_op *op, int res, bool more)
{
    struct acceptor *a = CONTAINER(op, struct acceptor, op);
    if (res >= 0) {
        a->accepted++;
        close(res);
    }
    a->last = res;
    a->ended = !more;
    fiber_wake(a->waiter);
}
ROW(multishot_accept_gives_every_connection_until_canceled)
{
    (void)arg;
    struct connecting c[10] = {0};
    int fd = listener(&c[0].sa);
    struct acceptor a = {.op.done = accepted, .waiter = fiber_self()};
    ring_accept_multishot(&a.op, fd);
    for (int i = 0; i < 10; i++) {
        c[i].sa = c[0].sa;
        fiber_spawn("connect", connect_it, &c[i]);
    }
    while (a.accepted < 10)
        OK(fiber_park(clock_in_s(60)));
    assert_false(a.ended);
    ring_cancel(&a.op);
    while (!a.ended)
        OK(fiber_park(clock_in_s(60)));
    assert_int_equal(a.last, -ECANCELED);
    while (fiber_census().live > 1)
        fiber_yield();
    for (int i = 0; i < 10; i++)
        OK(io_close(c[i].fd));
    OK(io_close(fd));
}

struct writing {
    struct ring_op write, sync;
    int fd, wrote, synced;
};
static void written(struct ring_op *op, int res, bool more)
{
    struct writing *w = CONTAINER(op, struct writing, write);
    (void)more;
    w->wrote = res;
    ring_fsync(&w->sync, w->fd, true);
}
static void synced(struct ring_op *op, int res, bool more)
{
    struct writing *w = CONTAINER(op, struct writing, sync);
    (void)more;
    w->synced = res + 1;
}
static void write_and_leave(void *arg)
{
    struct writing *w = arg;
    w->write.done = written;
    w->sync.done = synced;
    ring_pwrite(&w->write, w->fd, "record", 6, 0);
}
static void a_worker_ends_only_after_its_callback_writes(void **state)
{
    (void)state;
    FILE *file = tmpfile();
    assert_non_null(file);
    struct writing w = {.fd = fileno(file)};
    OK(worker_run_here(NULL, write_and_leave, &w));
    assert_int_equal(w.wrote, 6);
    assert_int_equal(w.synced, 1);
    fclose(file);
}

/* More operations in one turn than the ring has entries. */
static void pong(void *arg)
{
    int *fds = arg;
    char byte;
    size_t n;
    OK(io_recv(fds[0], &byte, 1, clock_in_s(60), &n));
    assert_int_equal(n, 1);
    OK(io_send(fds[0], &byte, 1, clock_in_s(60)));
    OK(io_close(fds[0]));
}
static void crowd(void *arg)
{
    (void)arg;
    enum { COUNT = 200 };
    int fds[COUNT][2];
    char byte;
    size_t n;
    for (int i = 0; i < COUNT; i++) {
        sockets(fds[i]);
        assert_non_null(fiber_spawn("pong", pong, fds[i]));
    }
    fiber_yield();
    for (int i = 0; i < COUNT; i++)
        OK(io_send(fds[i][1], "x", 1, clock_in_s(60)));
    for (int i = 0; i < COUNT; i++) {
        OK(io_recv(fds[i][1], &byte, 1, clock_in_s(60), &n));
        OK(io_close(fds[i][1]));
    }
}
static void a_small_ring_serves_a_crowd(void **state)
{
    (void)state;
    struct worker_options o = {.name = "small", .ring_entries = 8, .cpu = -1};
    OK(worker_run_here(&o, crowd, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(io_uring_is_allowed_here),
        cmocka_unit_test(io_uring_refused_is_one_clear_line),
        cmocka_unit_test(recv_waits_for_bytes_and_gives_what_is_there),
        cmocka_unit_test(recv_ends_at_its_deadline_and_takes_no_bytes_later),
        cmocka_unit_test(cancellation_ends_a_recv),
        cmocka_unit_test(send_and_sendv_send_all_of_it),
        cmocka_unit_test(send_to_a_peer_that_does_not_read_times_out),
        cmocka_unit_test(a_socket_in_non_blocking_mode_waits_all_the_same),
#if defined(__SANITIZE_ADDRESS__)
        cmocka_unit_test(a_buffer_that_is_too_short_is_caught_before_the_kernel_writes),
#endif
        cmocka_unit_test(connect_and_accept_meet),
        cmocka_unit_test(poll_tells_what_is_ready),
        cmocka_unit_test(files_are_written_read_and_renamed_in_a_fiber),
        cmocka_unit_test(files_and_sockets_work_without_a_fiber),
        cmocka_unit_test(multishot_accept_gives_every_connection_until_canceled),
        cmocka_unit_test(a_worker_ends_only_after_its_callback_writes),
        cmocka_unit_test(a_small_ring_serves_a_crowd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
