/* ring: THE SEAM between us and the kernel: submit, wait. ring_uring.c is real life (liburing,
 * SINGLE_ISSUER | DEFER_TASKRUN); tests/sim may put another world here, so nothing else includes
 * liburing. Lower half (ring_*) is for io/fiber/worker; upper half (io_*) is what fibers call. */
#ifndef IO_RING_RING_H
#define IO_RING_RING_H

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "io/base/err.h"

/* --- what fibers call: each yields, each ends by result, deadline (ERR_TIMEOUT), cancellation or
 * error. The buffers must stay in place until the call returns, which it does only after the kernel
 * is done with them. Outside a fiber (tools, start-up) all but accept do the plain blocking system
 * call and ignore the deadline. */
struct err *io_recv(int fd, void *bytes, size_t n, int64_t deadline_ns, size_t *n_out);
/* As io_recv, but until_ns may pass: then *late_out is true, and the caller waits with io_poll, which
 * needs no buffer. Fiber only. */
struct err *io_recv_soon(int fd, void *bytes, size_t n, int64_t until_ns, size_t *n_out,
                         bool *late_out);
/* Sends all of it. */
struct err *io_send(int fd, const void *bytes, size_t n, int64_t deadline_ns);
struct err *io_sendv(int fd, struct iovec *iov, int iovs, int64_t deadline_ns); /* all; eats iov */
struct err *io_connect(int fd, const struct sockaddr *sa, socklen_t sa_len, int64_t deadline_ns);
struct err *io_accept(int fd, struct sockaddr_storage *peer_out, int64_t deadline_ns, int *fd_out);
struct err *io_poll(int fd, unsigned events, int64_t deadline_ns, unsigned *revents_out);
/* at = IO_STREAM: a pipe or another thing without positions; then pread returns what is there. */
#define IO_STREAM UINT64_MAX
struct err *io_pread(int fd, void *bytes, size_t n, uint64_t at, size_t *n_out); /* short at EOF */
struct err *io_pwrite(int fd, const void *bytes, size_t n, uint64_t at);          /* all */
/* Adds O_CLOEXEC, as accept does. */
struct err *io_openat(int dir_fd, const char *path, int flags, mode_t mode, int *fd_out);
struct err *io_fsync(int fd, bool data_only);
struct err *io_fallocate(int fd, uint64_t at, uint64_t n);
struct err *io_renameat(int dir_fd, const char *from, int to_dir_fd, const char *to);
struct err *io_unlinkat(int dir_fd, const char *path, int flags);
struct err *io_close(int fd); /* never canceled */

struct ring_op {
    void (*done)(struct ring_op *op, int res, bool more); /* on the worker's loop; res as io_uring */
    bool background; /* the ring's: set when started; a worker's end does not wait for it */
};

/* A send that runs while its fiber goes on, usually to wait for the answer: one io_uring_enter for both.
 * Fiber only. The bytes and *h stay in place until io_send_finish, which must follow, on any path. */
struct fiber;
struct io_sending {
    struct ring_op op;
    struct fiber *waiter;
    const char *at;
    size_t n;
    int fd, res;
    bool running;
};
void io_send_begin(struct io_sending *h, int fd, const void *bytes, size_t n);
/* Waits for it, sends what was left over. Harmless when nothing was begun (zero-initialised). */
struct err *io_send_finish(struct io_sending *h, int64_t deadline_ns);

/* --- callbacks on the loop, without a fiber: the queue's log write and multishot accept. */
/* On the calling worker's ring. op and the buffers stay until done(…, more = false). */
void ring_pwrite(struct ring_op *op, int fd, const void *bytes, size_t n, uint64_t at);
void ring_fsync(struct ring_op *op, int fd, bool data_only);
void ring_accept_multishot(struct ring_op *op, int listen_fd); /* res = fd of each connection */
void ring_cancel(struct ring_op *op); /* done follows with -ECANCELED or its real result */

/* Can this process use io_uring as we need it? Else ERR_REFUSED or ERR_UNSUPPORTED with one clear
 * line that says what to do (sysctl kernel.io_uring_disabled, seccomp profile, Linux >= 6.1). */
struct err *ring_probe(void) MUST_USE;

/* --- for io/fiber/worker.c only. */
struct ring;
struct err *ring_new(unsigned entries, struct ring **out) MUST_USE; /* on its own thread */
void ring_free(struct ring *r);
/* Submit what is queued, wait until something completed or until the deadline, run the callbacks. */
void ring_turn(struct ring *r, int64_t until_ns);
bool ring_has_more(const struct ring *r); /* completions that no turn has seen */
int ring_fd(const struct ring *r);
size_t ring_pending(const struct ring *r); /* one-shot operations without their completion */
/* Wake another thread's ring: its ring_turn returns. From a thread that has a ring itself. */
void ring_wake(struct ring *self, int target_ring_fd);
struct ring *ring_of_worker(void); /* the calling thread's; NULL when none */
void ring_bind_thread(struct ring *r);

#endif
