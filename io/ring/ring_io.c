/* What fibers call: start, park, and on a deadline or cancellation ask the kernel to give up and
 * wait until it did, so that buffers on the fiber's stack stay valid. Outside fibers the plain
 * blocking system call. */
#include "io/ring/ring.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>
#include "io/base/check.h"
#include "io/base/list.h"
#include "io/fiber/fiber.h"
#include "io/fiber/memcheck.h"
#include "io/ring/private.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif

struct io_op {
    struct ring_op op;
    struct fiber *fiber;
    int res;
    bool done;
};

static void io_op_done(struct ring_op *op, int res, bool more)
{
    struct io_op *self = CONTAINER(op, struct io_op, op);
    (void)more;
    self->res = res;
    self->done = true;
    fiber_wake(self->fiber);
}

/* Gives the result as io_uring does, or how the wait ended before it came. A result that arrives
 * together with the deadline counts: its bytes are taken from the socket already. */
static enum fiber_end io_run_quietly(const struct ring_call *call, int64_t deadline_ns, int *res_out)
{
    if (fiber_canceled())
        return FIBER_CANCELED;
    if (deadline_ns != DEADLINE_NEVER && clock_past(deadline_ns))
        return FIBER_LATE;
    struct io_op self = {.op.done = io_op_done, .fiber = fiber_self()};
    enum fiber_end end = FIBER_WOKEN;
    ring_start(&self.op, call);
    while (!self.done && end == FIBER_WOKEN)
        end = fiber_park_quietly(deadline_ns);
    if (!self.done) {
        ring_cancel(&self.op);
        fiber_shield_begin();
        while (!self.done) {
            struct err *none = fiber_park(DEADLINE_NEVER);
            CHECK(none == NULL);
        }
        fiber_shield_end();
    }
    if (end != FIBER_WOKEN && (self.res == -ECANCELED || self.res == -EINTR))
        return end;
    *res_out = self.res;
    return FIBER_WOKEN;
}

static struct err *io_run(const struct ring_call *call, int64_t deadline_ns, int *res_out)
{
    return fiber_end_error(io_run_quietly(call, deadline_ns, res_out));
}

/* A descriptor in non-blocking mode makes the kernel answer EAGAIN instead of waiting. */
static struct err *io_run_ready(const struct ring_call *call, unsigned events, int64_t deadline_ns,
                                int *res_out)
{
    for (;;) {
        struct err *e = io_run(call, deadline_ns, res_out);
        if (e != NULL || (*res_out != -EAGAIN && *res_out != -EINTR))
            return e;
        struct ring_call poll = {.code = RING_POLL, .fd = call->fd, .flags = events};
        int ignored;
        e = io_run(&poll, deadline_ns, &ignored);
        if (e != NULL)
            return e;
    }
}

/* The same without a fiber, in the calling thread. The macro repeats what a signal interrupted. */
#define PLAIN(call)                                                                                \
    ({                                                                                             \
        ssize_t rc_;                                                                               \
        do                                                                                         \
            rc_ = (call);                                                                          \
        while (rc_ < 0 && errno == EINTR);                                                         \
        rc_ < 0 ? -errno : (int)rc_;                                                               \
    })

static size_t io_part(size_t n)
{
    return n < (1U << 30) ? n : 1U << 30;
}

struct err *io_recv(int fd, void *bytes, size_t n, int64_t deadline_ns, size_t *n_out)
{
    int res;
    if (fiber_self() == NULL) {
        res = PLAIN(recv(fd, bytes, io_part(n), 0));
    } else {
        memcheck_lend(bytes, n);
        struct ring_call call = {.code = RING_RECV, .fd = fd, .ptr = bytes, .n = n};
        struct err *e = io_run_ready(&call, POLLIN, deadline_ns, &res);
        if (e != NULL)
            return err_in(e, "recv");
    }
    if (res < 0)
        return err_errno(-res, "recv");
    memcheck_filled(bytes, (size_t)res);
    *n_out = (size_t)res;
    return NULL;
}

struct err *io_recv_soon(int fd, void *bytes, size_t n, int64_t until_ns, size_t *n_out,
                         bool *late_out)
{
    int res;
    CHECK(fiber_self() != NULL);
    memcheck_lend(bytes, n);
    struct ring_call call = {.code = RING_RECV, .fd = fd, .ptr = bytes, .n = n};
    enum fiber_end end = io_run_quietly(&call, until_ns, &res);
    if (end == FIBER_CANCELED)
        return err_in(fiber_end_error(end), "recv");
    *late_out = end == FIBER_LATE || res == -EAGAIN || res == -EINTR;
    if (*late_out)
        return NULL;
    if (res < 0)
        return err_errno(-res, "recv");
    memcheck_filled(bytes, (size_t)res);
    *n_out = (size_t)res;
    return NULL;
}

struct err *io_send(int fd, const void *bytes, size_t n, int64_t deadline_ns)
{
    const char *at = bytes;
    while (n > 0) {
        int res;
        if (fiber_self() == NULL) {
            res = PLAIN(send(fd, at, io_part(n), MSG_NOSIGNAL));
        } else {
            /* MSG_WAITALL: the kernel goes on after a short send by itself. */
            memcheck_lend(at, n);
            struct ring_call call = {.code = RING_SEND,
                                     .fd = fd,
                                     .ptr = at,
                                     .n = n,
                                     .flags = MSG_NOSIGNAL | MSG_WAITALL};
            struct err *e = io_run_ready(&call, POLLOUT, deadline_ns, &res);
            if (e != NULL)
                return err_in(e, "send");
        }
        if (res < 0)
            return err_errno(-res, "send");
        at += res;
        n -= (size_t)res;
    }
    return NULL;
}

static void sending_done(struct ring_op *op, int res, bool more)
{
    struct io_sending *h = CONTAINER(op, struct io_sending, op);
    (void)more;
    h->res = res;
    h->running = false;
    if (h->waiter != NULL)
        fiber_wake(h->waiter);
}

void io_send_begin(struct io_sending *h, int fd, const void *bytes, size_t n)
{
    CHECK(!h->running && fiber_self() != NULL);
    *h = (struct io_sending){.op.done = sending_done, .at = bytes, .n = n, .fd = fd, .running = true};
    memcheck_lend(bytes, n);
    struct ring_call call = {.code = RING_SEND,
                             .fd = fd,
                             .ptr = bytes,
                             .n = io_part(n),
                             .flags = MSG_NOSIGNAL | MSG_WAITALL};
    ring_start(&h->op, &call);
}

/* The kernel is done with the bytes when this returns, however it ends. */
static struct err *sending_wait(struct io_sending *h, int64_t deadline_ns)
{
    struct err *e = NULL;
    h->waiter = fiber_self();
    while (h->running && e == NULL)
        e = fiber_park(deadline_ns);
    if (h->running) {
        ring_cancel(&h->op);
        fiber_shield_begin();
        while (h->running) {
            struct err *none = fiber_park(DEADLINE_NEVER);
            CHECK(none == NULL);
        }
        fiber_shield_end();
    }
    return e;
}

struct err *io_send_finish(struct io_sending *h, int64_t deadline_ns)
{
    if (h->n == 0)
        return NULL;
    struct err *e = h->running ? sending_wait(h, deadline_ns) : NULL;
    size_t left = h->n;
    int res = h->res;
    h->n = 0;
    if (e != NULL && (res == -ECANCELED || res == -EINTR))
        return err_in(e, "send");
    if (res == -EAGAIN || res == -EINTR)
        res = 0;
    if (res < 0)
        return err_errno(-res, "send");
    return (size_t)res < left ? io_send(h->fd, h->at + res, left - (size_t)res, deadline_ns) : NULL;
}

static void iov_eat(struct iovec **iov, int *iovs, size_t n)
{
    while (*iovs > 0 && n >= (*iov)->iov_len) {
        n -= (*iov)->iov_len;
        ++*iov;
        --*iovs;
    }
    if (*iovs > 0) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + n;
        (*iov)->iov_len -= n;
    }
}

struct err *io_sendv(int fd, struct iovec *iov, int iovs, int64_t deadline_ns)
{
    iov_eat(&iov, &iovs, 0);
    for (int i = 0; i < iovs; i++)
        memcheck_lend(iov[i].iov_base, iov[i].iov_len);
    while (iovs > 0) {
        int res, count = iovs < 1024 ? iovs : 1024; /* UIO_MAXIOV */
        struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)count};
        if (fiber_self() == NULL) {
            res = PLAIN(sendmsg(fd, &msg, MSG_NOSIGNAL));
        } else {
            struct ring_call call = {
                .code = RING_SENDMSG, .fd = fd, .ptr = &msg, .flags = MSG_NOSIGNAL | MSG_WAITALL};
            struct err *e = io_run_ready(&call, POLLOUT, deadline_ns, &res);
            if (e != NULL)
                return err_in(e, "send");
        }
        if (res < 0)
            return err_errno(-res, "send");
        iov_eat(&iov, &iovs, (size_t)res);
    }
    return NULL;
}

struct err *io_connect(int fd, const struct sockaddr *sa, socklen_t sa_len, int64_t deadline_ns)
{
    int res;
    if (fiber_self() == NULL) {
        res = PLAIN(connect(fd, sa, sa_len));
    } else {
        struct ring_call call = {.code = RING_CONNECT, .fd = fd, .ptr = sa, .n = sa_len};
        struct err *e = io_run(&call, deadline_ns, &res);
        if (e != NULL)
            return err_in(e, "connect");
    }
    return res < 0 ? err_errno(-res, "connect") : NULL;
}

struct err *io_accept(int fd, struct sockaddr_storage *peer_out, int64_t deadline_ns, int *fd_out)
{
    struct sockaddr_storage peer = {0};
    socklen_t len = sizeof peer;
    struct ring_call call = {.code = RING_ACCEPT, .fd = fd, .ptr = &peer, .ptr2 = &len};
    int res;
    CHECK(fiber_self() != NULL);
    struct err *e = io_run_ready(&call, POLLIN, deadline_ns, &res);
    if (e != NULL)
        return err_in(e, "accept");
    if (res < 0)
        return err_errno(-res, "accept");
    memcheck_filled(&peer, sizeof peer);
    if (peer_out != NULL)
        *peer_out = peer;
    *fd_out = res;
    return NULL;
}

static int plain_poll(int fd, unsigned events)
{
    struct pollfd p = {.fd = fd, .events = (short)events};
    int res = PLAIN(poll(&p, 1, -1));
    return res < 0 ? res : p.revents;
}

struct err *io_poll(int fd, unsigned events, int64_t deadline_ns, unsigned *revents_out)
{
    int res;
    if (fiber_self() == NULL) {
        res = plain_poll(fd, events);
    } else {
        struct ring_call call = {.code = RING_POLL, .fd = fd, .flags = events};
        struct err *e = io_run(&call, deadline_ns, &res);
        if (e != NULL)
            return err_in(e, "poll");
    }
    if (res < 0)
        return err_errno(-res, "poll");
    *revents_out = (unsigned)res;
    return NULL;
}

/* --- files: no deadlines, a disk answers or the machine is broken --- */

static int plain_pread(int fd, void *bytes, size_t n, uint64_t at)
{
    return at == IO_STREAM ? PLAIN(read(fd, bytes, n)) : PLAIN(pread(fd, bytes, n, (off_t)at));
}

static int plain_pwrite(int fd, const void *bytes, size_t n, uint64_t at)
{
    return at == IO_STREAM ? PLAIN(write(fd, bytes, n)) : PLAIN(pwrite(fd, bytes, n, (off_t)at));
}

struct err *io_pread(int fd, void *bytes, size_t n, uint64_t at, size_t *n_out)
{
    size_t got = 0;
    memcheck_lend(bytes, n);
    while (got < n) {
        uint64_t from = at == IO_STREAM ? at : at + got;
        char *to = (char *)bytes + got;
        int res;
        if (fiber_self() == NULL) {
            res = plain_pread(fd, to, io_part(n - got), from);
        } else {
            struct ring_call call = {
                .code = RING_READ, .fd = fd, .ptr = to, .n = n - got, .at = from};
            struct err *e = io_run_ready(&call, POLLIN, DEADLINE_NEVER, &res);
            if (e != NULL)
                return err_in(e, "read");
        }
        if (res < 0)
            return err_errno(-res, "read");
        memcheck_filled(to, (size_t)res);
        got += (size_t)res;
        if (res == 0 || at == IO_STREAM)
            break;
    }
    *n_out = got;
    return NULL;
}

struct err *io_pwrite(int fd, const void *bytes, size_t n, uint64_t at)
{
    size_t put = 0;
    memcheck_lend(bytes, n);
    while (put < n) {
        uint64_t to = at == IO_STREAM ? at : at + put;
        const char *from = (const char *)bytes + put;
        int res;
        if (fiber_self() == NULL) {
            res = plain_pwrite(fd, from, io_part(n - put), to);
        } else {
            struct ring_call call = {
                .code = RING_WRITE, .fd = fd, .ptr = from, .n = n - put, .at = to};
            struct err *e = io_run_ready(&call, POLLOUT, DEADLINE_NEVER, &res);
            if (e != NULL)
                return err_in(e, "write");
        }
        if (res < 0)
            return err_errno(-res, "write");
        if (res == 0)
            return err_errno(EIO, "write");
        put += (size_t)res;
    }
    return NULL;
}

/* One call that is done or not: without a fiber `plain`, a system call's result as io_uring's. */
#define IO_SIMPLE(plain, res, ...)                                                                 \
    (fiber_self() == NULL ? ((res) = PLAIN(plain), (struct err *)NULL)                             \
                          : io_run(&(struct ring_call){__VA_ARGS__}, DEADLINE_NEVER, &(res)))

struct err *io_openat(int dir_fd, const char *path, int flags, mode_t mode, int *fd_out)
{
    int res = 0;
    flags |= O_CLOEXEC;
    struct err *e = IO_SIMPLE(openat(dir_fd, path, flags, mode), res, .code = RING_OPENAT,
                              .fd = dir_fd, .ptr = path, .flags = (unsigned)flags, .mode = mode);
    if (e != NULL)
        return err_in(e, "open %s", path);
    if (res < 0)
        return err_errno(-res, "open %s", path);
    *fd_out = res;
    return NULL;
}

struct err *io_fsync(int fd, bool data_only)
{
    int res = 0;
    struct err *e = IO_SIMPLE(data_only ? fdatasync(fd) : fsync(fd), res, .code = RING_FSYNC,
                              .fd = fd, .flags = data_only);
    if (e != NULL)
        return err_in(e, "fsync");
    return res < 0 ? err_errno(-res, "fsync") : NULL;
}

struct err *io_fallocate(int fd, uint64_t at, uint64_t n)
{
    int res = 0;
    struct err *e = IO_SIMPLE(fallocate(fd, 0, (off_t)at, (off_t)n), res, .code = RING_FALLOCATE,
                              .fd = fd, .at = at, .n = n);
    if (e != NULL)
        return err_in(e, "fallocate");
    return res < 0 ? err_errno(-res, "fallocate") : NULL;
}

struct err *io_renameat(int dir_fd, const char *from, int to_dir_fd, const char *to)
{
    int res = 0;
    struct err *e = IO_SIMPLE(renameat(dir_fd, from, to_dir_fd, to), res, .code = RING_RENAMEAT,
                              .fd = dir_fd, .ptr = from, .fd2 = to_dir_fd, .ptr2 = to);
    if (e != NULL)
        return err_in(e, "rename %s to %s", from, to);
    return res < 0 ? err_errno(-res, "rename %s to %s", from, to) : NULL;
}

struct err *io_unlinkat(int dir_fd, const char *path, int flags)
{
    int res = 0;
    struct err *e = IO_SIMPLE(unlinkat(dir_fd, path, flags), res, .code = RING_UNLINKAT,
                              .fd = dir_fd, .ptr = path, .flags = (unsigned)flags);
    if (e != NULL)
        return err_in(e, "unlink %s", path);
    return res < 0 ? err_errno(-res, "unlink %s", path) : NULL;
}

/* TSan follows descriptors through the system calls it knows: one that the ring closed is to it still the
 * one it was when another thread is given its number. */
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
enum { CLOSE_IS_SEEN = 1 };
#else
enum { CLOSE_IS_SEEN = 0 };
#endif

struct err *io_close(int fd)
{
    int res = 0;
    /* After EINTR Linux has closed it all the same; a second try could hit a stranger. */
    if (fiber_self() == NULL || CLOSE_IS_SEEN) {
        res = close(fd) == 0 || errno == EINTR ? 0 : -errno;
    } else {
        fiber_shield_begin();
        struct err *e =
            io_run(&(struct ring_call){.code = RING_CLOSE, .fd = fd}, DEADLINE_NEVER, &res);
        fiber_shield_end();
        CHECK(e == NULL);
    }
    return res < 0 ? err_errno(-res, "close") : NULL;
}
