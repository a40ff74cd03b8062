#include "io/ring/ring.h"

#include <liburing.h>
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/mem.h"
#include "io/base/metric.h"
#include "io/fiber/memcheck.h"
#include "io/ring/private.h"

/* user_data is the address of a ring_op, which is aligned; the low bits tell the rest apart. */
enum {
    UD_NOTHING = 0,   /* nobody cares: a cancel's own completion */
    UD_WOKEN = 1,     /* another ring's MSG_RING */
    UD_WAKE_SENT = 2, /* in the low two bits: ours failed; the target's fd stands above them */
    UD_TAGS = 3,
};

struct ring {
    struct io_uring uring;
    size_t pending; /* one-shot operations without their completion */
    bool turning;
};

static _Thread_local struct ring *thread_ring;

struct ring *ring_of_worker(void)
{
    return thread_ring;
}

void ring_bind_thread(struct ring *r)
{
    thread_ring = r;
}

int ring_fd(const struct ring *r)
{
    return r->uring.ring_fd;
}

size_t ring_pending(const struct ring *r)
{
    return r->pending;
}

#define ENTRIES_LEAST 64U

static struct err *err_setup(int number)
{
    switch (number) {
    case EPERM:
    case EACCES:
    case ENOSYS:
        return err_new(
            ERR_REFUSED, number,
            "io_uring is refused on this system (%s): allow the io_uring system calls in "
            "the seccomp profile of the container or service, and set sysctl "
            "kernel.io_uring_disabled=0",
            strerrorname_np(number));
    case ENOMEM: /* newer kernels count rings, for a user who has no CAP_IPC_LOCK: 13 to 200 KiB each */
        return err_new(ERR_NOMEM, number,
                       "set up io_uring: Cannot allocate memory: if there is enough, raise the limit of "
                       "locked memory (LimitMEMLOCK= of the service, ulimit -l)");
    case EINVAL:
        return err_new(ERR_UNSUPPORTED, number,
                       "io_uring of this kernel is too old: Linux 6.1 or later is needed");
    default:
        return err_errno(number, "set up io_uring");
    }
}

/* A ring that is refused for its memory is asked for at half the size: it enters the kernel more often, that is
 * all. Newer kernels count rings against the user's locked memory, 8 MiB unless raised. */
static struct err *ring_setup(unsigned entries, struct io_uring *out)
{
    /* A turn of the loop may complete far more than it submits; completions beyond the ring are
     * kept by the kernel, but slower. TASKRUN_FLAG tells without a system call that completions
     * wait to be collected. */
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
        .cq_entries = entries * 8,
    };
    struct io_uring_params asked = params;
    int rc = io_uring_queue_init_params(entries, out, &params);
    while (rc == -ENOMEM && entries > ENTRIES_LEAST) {
        entries /= 2;
        params = asked;
        params.cq_entries = entries * 8;
        rc = io_uring_queue_init_params(entries, out, &params);
    }
    return rc != 0 ? err_setup(-rc) : NULL;
}

static const unsigned char ops_needed[] = {
    IORING_OP_RECV,     IORING_OP_SEND,     IORING_OP_SENDMSG,   IORING_OP_CONNECT,
    IORING_OP_ACCEPT,   IORING_OP_POLL_ADD, IORING_OP_READ,      IORING_OP_WRITE,
    IORING_OP_OPENAT,   IORING_OP_FSYNC,    IORING_OP_FALLOCATE, IORING_OP_RENAMEAT,
    IORING_OP_UNLINKAT, IORING_OP_CLOSE,    IORING_OP_MSG_RING,  IORING_OP_ASYNC_CANCEL,
};

struct err *ring_probe(void)
{
    struct io_uring uring;
    struct err *e = ring_setup(8, &uring);
    if (e != NULL)
        return e;
    struct io_uring_probe *probe = io_uring_get_probe_ring(&uring);
    if (probe == NULL)
        e = err_errno(ENOMEM, "probe io_uring");
    for (size_t i = 0; e == NULL && i < sizeof ops_needed; i++) {
        if (!io_uring_opcode_supported(probe, ops_needed[i]))
            e = err_new(ERR_UNSUPPORTED, 0,
                        "io_uring of this kernel lacks operation %d: Linux 6.1 or later is needed",
                        ops_needed[i]);
    }
    io_uring_free_probe(probe);
    io_uring_queue_exit(&uring);
    return e;
}

struct err *ring_new(unsigned entries, struct ring **out)
{
    struct ring *r = MEM_NEW(struct ring);
    struct err *e = ring_setup(entries, &r->uring);
    if (e != NULL) {
        mem_free(r);
        return e;
    }
    /* Spares the look-up of the descriptor at each enter; works without, too. */
    (void)io_uring_register_ring_fd(&r->uring);
    *out = r;
    return NULL;
}

void ring_free(struct ring *r)
{
    if (r == NULL)
        return;
    (void)io_uring_submit(&r->uring); /* wake-ups for others may be waiting there */
    io_uring_queue_exit(&r->uring);
    mem_free(r);
}

/* --- submitting --- */

static struct io_uring_sqe *ring_sqe(struct ring *r)
{
    struct io_uring_sqe *sqe;
    /* Full: hand it over now. Every failure but these is a bug of ours. */
    while ((sqe = io_uring_get_sqe(&r->uring)) == NULL) {
        int rc = io_uring_submit(&r->uring);
        metric_add(METRIC_ring_enters, 1);
        CHECK(rc >= 0 || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
    }
    return sqe;
}

static unsigned io_length(size_t n)
{
    return n < (1U << 30) ? (unsigned)n : 1U << 30; /* callers loop over short results */
}

static void prep(struct io_uring_sqe *sqe, const struct ring_call *c)
{
    void *ptr = (void *)(uintptr_t)c->ptr;
    switch (c->code) {
    case RING_RECV:
        io_uring_prep_recv(sqe, c->fd, ptr, io_length(c->n), (int)c->flags);
        return;
    case RING_SEND:
        io_uring_prep_send(sqe, c->fd, ptr, io_length(c->n), (int)c->flags);
        return;
    case RING_SENDMSG:
        io_uring_prep_sendmsg(sqe, c->fd, ptr, c->flags);
        return;
    case RING_CONNECT:
        io_uring_prep_connect(sqe, c->fd, ptr, (socklen_t)c->n);
        return;
    case RING_ACCEPT:
        io_uring_prep_accept(sqe, c->fd, ptr, (socklen_t *)(uintptr_t)c->ptr2, SOCK_CLOEXEC);
        return;
    case RING_ACCEPT_MULTISHOT:
        io_uring_prep_multishot_accept(sqe, c->fd, NULL, NULL, SOCK_CLOEXEC);
        return;
    case RING_POLL:
        io_uring_prep_poll_add(sqe, c->fd, c->flags);
        return;
    case RING_READ:
        io_uring_prep_read(sqe, c->fd, ptr, io_length(c->n), c->at);
        return;
    case RING_WRITE:
        io_uring_prep_write(sqe, c->fd, ptr, io_length(c->n), c->at);
        return;
    case RING_OPENAT:
        io_uring_prep_openat(sqe, c->fd, ptr, (int)c->flags, c->mode);
        return;
    case RING_FSYNC:
        io_uring_prep_fsync(sqe, c->fd, c->flags != 0 ? IORING_FSYNC_DATASYNC : 0);
        return;
    case RING_FALLOCATE:
        io_uring_prep_fallocate(sqe, c->fd, 0, (off_t)c->at, (off_t)c->n);
        return;
    case RING_RENAMEAT:
        io_uring_prep_renameat(sqe, c->fd, ptr, c->fd2, c->ptr2, 0);
        return;
    case RING_UNLINKAT:
        io_uring_prep_unlinkat(sqe, c->fd, ptr, (int)c->flags);
        return;
    case RING_CLOSE:
        io_uring_prep_close(sqe, c->fd);
        return;
    }
    UNREACHABLE();
}

static void ring_queue(struct ring *r, struct ring_op *op, const struct ring_call *call)
{
    struct io_uring_sqe *sqe = ring_sqe(r);
    prep(sqe, call);
    io_uring_sqe_set_data(sqe, op);
}

void ring_start(struct ring_op *op, const struct ring_call *call)
{
    struct ring *r = thread_ring;
    CHECK(r != NULL && ((uintptr_t)op & UD_TAGS) == 0);
    op->background = call->background;
    if (!op->background)
        r->pending++;
    ring_queue(r, op, call);
}

void ring_cancel(struct ring_op *op)
{
    struct io_uring_sqe *sqe = ring_sqe(thread_ring);
    io_uring_prep_cancel(sqe, op, 0);
    io_uring_sqe_set_data64(sqe, UD_NOTHING);
}

void ring_pwrite(struct ring_op *op, int fd, const void *bytes, size_t n, uint64_t at)
{
    memcheck_lend(bytes, n);
    ring_start(op,
               &(struct ring_call){.code = RING_WRITE, .fd = fd, .ptr = bytes, .n = n, .at = at});
}

void ring_fsync(struct ring_op *op, int fd, bool data_only)
{
    ring_start(op, &(struct ring_call){.code = RING_FSYNC, .fd = fd, .flags = data_only});
}

void ring_accept_multishot(struct ring_op *op, int listen_fd)
{
    ring_start(op, &(struct ring_call){
                       .code = RING_ACCEPT_MULTISHOT, .fd = listen_fd, .background = true});
}

void ring_wake(struct ring *self, int target_ring_fd)
{
    struct io_uring_sqe *sqe = ring_sqe(self);
    /* The flags of the message must be 0 for a DEFER_TASKRUN target. */
    io_uring_prep_msg_ring(sqe, target_ring_fd, 0, UD_WOKEN, 0);
    io_uring_sqe_set_flags(sqe, IOSQE_CQE_SKIP_SUCCESS);
    io_uring_sqe_set_data64(sqe, ((uint64_t)(unsigned)target_ring_fd << 2) | UD_WAKE_SENT);
}

/* --- completing --- */

/* A wake-up that failed for want of memory is sent again; a target that is gone needs none. */
static void wake_failed(struct ring *r, uint64_t data, int res)
{
    if (res == -ENOMEM || res == -EOVERFLOW || res == -EAGAIN)
        ring_wake(r, (int)(data >> 2));
}

static void ring_complete(struct ring *r, const struct io_uring_cqe *cqe)
{
    uint64_t data = cqe->user_data;
    if (data == UD_NOTHING || data == UD_WOKEN)
        return;
    if ((data & UD_TAGS) == UD_WAKE_SENT) {
        wake_failed(r, data, cqe->res);
        return;
    }
    struct ring_op *op = io_uring_cqe_get_data(cqe);
    bool more = (cqe->flags & IORING_CQE_F_MORE) != 0;
    if (!more && !op->background)
        r->pending--;
    op->done(op, cqe->res, more);
}

static void ring_reap(struct ring *r)
{
    struct io_uring_cqe *cqe;
    unsigned head, seen = 0;
    io_uring_for_each_cqe(&r->uring, head, cqe)
    {
        ring_complete(r, cqe);
        seen++;
    }
    io_uring_cq_advance(&r->uring, seen);
}

static bool completions_wait(const struct ring *r)
{
    unsigned flags = __atomic_load_n(r->uring.sq.kflags, __ATOMIC_ACQUIRE);
    return (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

bool ring_has_more(const struct ring *r)
{
    return io_uring_cq_ready(&r->uring) > 0 || completions_wait(r);
}

static bool ring_wants_enter(const struct ring *r)
{
    return io_uring_sq_ready(&r->uring) > 0 || completions_wait(r);
}

void ring_turn(struct ring *r, int64_t until_ns)
{
    int rc = 0;
    CHECK(!r->turning);
    r->turning = true;
    int64_t wait_ns = 0;
    if (until_ns > 0 && io_uring_cq_ready(&r->uring) == 0)
        wait_ns = until_ns == DEADLINE_NEVER ? DEADLINE_NEVER : until_ns - clock_mono_ns();
    if (wait_ns > 0) {
        struct __kernel_timespec ts = {.tv_sec = wait_ns / NS_PER_S, .tv_nsec = wait_ns % NS_PER_S};
        struct io_uring_cqe *cqe;
        rc = io_uring_submit_and_wait_timeout(&r->uring, &cqe, 1,
                                              wait_ns == DEADLINE_NEVER ? NULL : &ts, NULL);
        metric_add(METRIC_ring_enters, 1);
    } else if (ring_wants_enter(r)) {
        rc = io_uring_submit_and_get_events(&r->uring);
        metric_add(METRIC_ring_enters, 1);
    }
    CHECK(rc >= 0 || rc == -ETIME || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
    ring_reap(r);
    r->turning = false;
}
