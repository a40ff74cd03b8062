/* stream: the two buffers and the layers. What ends a line or a message is in stream_line.c. */
#include "io/net/stream.h"

#include <poll.h>
#include <stdarg.h>
#include "io/base/buf.h"
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/mem.h"
#include "io/fiber/fiber.h"
#include "io/net/stream_in.h"
#include "io/ring/ring.h"

enum {
    OUT_FULL = 16 * 1024,   /* what may wait before it is sent unasked */
    OUT_KEEP = 1024,        /* an idle session's output buffer is not larger */
    SLICE_MAX = 256 * 1024, /* a moving deadline is for this many bytes of output */
    PIECES_MAX = 16,        /* iovecs of one system call */
    REST_AFTER_MS = 1000,
    DRIP_MAX = 64, /* a peer that sends more at a time does not send byte by byte */
};

struct stream {
    struct stream_layer socket; /* the lowest layer, unless stream_new_layer gave one */
    struct stream_layer *top;
    int fd; /* -1 over a foreign layer */
    int64_t idle_ns, rest_ns;
    void (*rest)(void *arg);
    void *rest_arg;
    bool line_rested; /* a wait for the rest of the line that begins in `in` */
    struct stream_in in;
    struct buf out;
    struct buf leaving; /* what `sending` is about */
    struct io_sending sending;
    int64_t sending_deadline_ns;
};

static struct stream *of_socket(struct stream_layer *l)
{
    return (struct stream *)(void *)((char *)l - offsetof(struct stream, socket));
}

static struct err *socket_read(struct stream_layer *l, void *bytes, size_t n, int64_t deadline_ns,
                               size_t *n_out)
{
    size_t got = 0;
    struct err *e = io_recv(of_socket(l)->fd, bytes, n, deadline_ns, &got);
    if (e)
        return e;
    if (got == 0)
        return err_new(ERR_CLOSED, 0, "lost connection");
    *n_out = got;
    return NULL;
}

static struct err *socket_writev(struct stream_layer *l, struct iovec *iov, int iovs,
                                 int64_t deadline_ns)
{
    int fd = of_socket(l)->fd;
    if (iovs == 1)
        return io_send(fd, iov[0].iov_base, iov[0].iov_len, deadline_ns);
    return io_sendv(fd, iov, iovs, deadline_ns);
}

static void socket_close(struct stream_layer *l)
{
    struct stream *s = of_socket(l);
    (void)io_close(s->fd); /* nobody is left to tell */
    s->fd = -1;
}

static const struct stream_layer_ops socket_ops = {socket_read, socket_writev, socket_close};

struct stream *stream_new(int fd)
{
    CHECK(fd >= 0);
    struct stream *s = MEM_NEW(struct stream);
    s->socket.ops = &socket_ops;
    s->top = &s->socket;
    s->fd = fd;
    s->rest_ns = REST_AFTER_MS * NS_PER_MS;
    return s;
}

struct stream *stream_new_layer(struct stream_layer *layer)
{
    CHECK(layer != NULL);
    struct stream *s = MEM_NEW(struct stream);
    s->top = layer;
    s->fd = -1;
    return s;
}

/* The flushed bytes are out, or lost with the connection. */
static struct err *sent(struct stream *s, int64_t deadline_ns)
{
    struct err *e = io_send_finish(&s->sending, deadline_ns);
    buf_reset(&s->leaving);
    return e;
}

void stream_free(struct stream *s)
{
    if (!s)
        return;
    (void)sent(s, s->sending_deadline_ns); /* nobody is left to tell */
    buf_fini(&s->leaving);
    s->top->ops->close(s->top);
    mem_free(s->in.bytes);
    buf_fini(&s->out);
    mem_free(s);
}

int stream_fd(const struct stream *s)
{
    return s->fd;
}

void stream_push(struct stream *s, struct stream_layer *layer)
{
    s->in.at = s->in.end = 0;
    layer->under = s->top;
    s->top = layer;
}

void stream_set_idle(struct stream *s, int64_t idle_s)
{
    s->idle_ns = idle_s * NS_PER_S;
}

void stream_set_rest(struct stream *s, int64_t after_ms, void (*fn)(void *arg), void *arg)
{
    s->rest_ns = after_ms * NS_PER_MS;
    s->rest = fn;
    s->rest_arg = arg;
}

/* --- input */

struct stream_in *stream_in(struct stream *s)
{
    return &s->in;
}

size_t stream_pending(const struct stream *s)
{
    return s->in.end - s->in.at;
}

struct str stream_peek(const struct stream *s)
{
    return str_make(s->in.bytes ? s->in.bytes + s->in.at : "", s->in.end - s->in.at);
}

static void in_resize(struct stream_in *in, size_t cap)
{
    size_t waiting = in->end - in->at;
    CHECK(cap >= waiting);
    char *bytes = mem_alloc(cap);
    if (waiting)
        memcpy(bytes, in->bytes + in->at, waiting);
    mem_free(in->bytes);
    in->bytes = bytes;
    in->cap = cap;
    in->at = 0;
    in->end = waiting;
}

static void make_room(struct stream_in *in, size_t cap_wanted)
{
    if (in->at == in->end)
        in->at = in->end = 0;
    if (in->cap < cap_wanted) {
        in_resize(in, cap_wanted);
    } else if (in->at > 0 && in->cap - in->end < in->cap / 2) {
        memmove(in->bytes, in->bytes + in->at, in->end - in->at);
        in->end -= in->at;
        in->at = 0;
    }
}

/* Nothing has come for a while, and nothing is held for it: the wait goes on without a buffer. */
static struct err *rest(struct stream *s, int64_t deadline_ns)
{
    unsigned events;
    if (!s->sending.running) {
        struct err *e = sent(s, deadline_ns);
        if (e)
            return e;
    }
    stream_shrink(s);
    if (s->rest)
        s->rest(s->rest_arg);
    fiber_trim_stack();
    return io_poll(s->fd, POLLIN, deadline_ns, &events);
}

static struct err *read_once(struct stream *s, int64_t deadline_ns, size_t *got_out)
{
    struct stream_in *in = &s->in;
    return s->top->ops->read(s->top, in->bytes + in->end, in->cap - in->end, deadline_ns, got_out);
}

/* read_once over a bare socket, patiently. A peer that sends a line byte by byte is rested for once in it: what
 * it has begun keeps its buffer anyway, and each byte costs one request of the ring. */
static struct err *read_or_rest(struct stream *s, size_t cap, int64_t deadline_ns, size_t *got_out)
{
    struct stream_in *in = &s->in;
    int64_t soon = clock_coarse_ns() + s->rest_ns;
    bool late = false;
    if (s->line_rested || soon >= deadline_ns)
        return read_once(s, deadline_ns, got_out);
    struct err *e = io_recv_soon(s->fd, in->bytes + in->end, in->cap - in->end, soon, got_out, &late);
    if (!e && !late && *got_out == 0)
        e = err_new(ERR_CLOSED, 0, "lost connection");
    if (e || !late)
        return e;
    e = rest(s, deadline_ns);
    if (e)
        return e;
    s->line_rested = in->at < in->end && in->end - in->at <= STREAM_IN_IDLE / 2;
    make_room(in, s->line_rested ? STREAM_IN_IDLE : cap);
    return read_once(s, deadline_ns, got_out);
}

struct err *stream_fill(struct stream *s, size_t cap_wanted, int64_t *deadline_ns)
{
    struct stream_in *in = &s->in;
    size_t waiting = in->end - in->at;
    s->line_rested = s->line_rested && waiting > 0 && waiting <= STREAM_IN_IDLE / 2;
    size_t cap = cap_wanted < STREAM_IN_IDLE || s->line_rested ? STREAM_IN_IDLE : cap_wanted;
    make_room(in, cap);
    CHECK(in->end < in->cap);
    size_t got = 0;
    struct err *e = s->top == &s->socket && fiber_self() ? read_or_rest(s, cap, *deadline_ns, &got)
                                                         : read_once(s, *deadline_ns, &got);
    if (e) {
        if (e->kind == ERR_CLOSED)
            in->at = in->end = 0; /* an unfinished line has no meaning */
        return e;
    }
    CHECK(got > 0 && got <= in->cap - in->end);
    in->end += got;
    in->filled = in->end == in->cap;
    s->line_rested = s->line_rested && got < DRIP_MAX;
    if (s->idle_ns > 0)
        *deadline_ns = clock_coarse_ns() + s->idle_ns;
    return NULL;
}

struct err *stream_more(struct stream *s, size_t room, int64_t deadline_ns)
{
    CHECK(room <= STREAM_IN_MAX && stream_pending(s) < room);
    return stream_fill(s, room, &deadline_ns);
}

struct err *stream_bytes(struct stream *s, size_t n, int64_t deadline_ns, struct str *out)
{
    CHECK(n > 0);
    struct stream_in *in = &s->in;
    if (in->at == in->end) {
        size_t cap = n < STREAM_IN_IDLE ? STREAM_IN_IDLE : n;
        struct err *e = stream_fill(s, cap > STREAM_IN_MAX ? STREAM_IN_MAX : cap, &deadline_ns);
        if (e)
            return e;
    }
    size_t have = in->end - in->at;
    *out = str_make(in->bytes + in->at, have < n ? have : n);
    in->at += out->len;
    return NULL;
}

void stream_shrink(struct stream *s)
{
    struct stream_in *in = &s->in;
    size_t waiting = in->end - in->at;
    if (waiting == 0) {
        mem_free(in->bytes);
        *in = (struct stream_in){0};
    } else if (in->cap > STREAM_IN_IDLE && waiting <= STREAM_IN_IDLE) {
        in_resize(in, STREAM_IN_IDLE);
    }
    if (s->out.len == 0 && s->out.cap > OUT_KEEP)
        buf_fini(&s->out);
    if (s->leaving.len == 0)
        buf_fini(&s->leaving);
}

/* --- output */

/* A slice of at most SLICE_MAX bytes and PIECES_MAX pieces off *iov into slice_out. */
static int cut_slice(struct iovec **iov, int *iovs, struct iovec *slice_out)
{
    size_t room = SLICE_MAX;
    int n = 0;
    while (*iovs > 0 && n < PIECES_MAX && room > 0) {
        size_t take = (*iov)->iov_len < room ? (*iov)->iov_len : room;
        if (take > 0)
            slice_out[n++] = (struct iovec){(*iov)->iov_base, take};
        room -= take;
        (*iov)->iov_base = (char *)(*iov)->iov_base + take;
        (*iov)->iov_len -= take;
        if ((*iov)->iov_len == 0) {
            (*iov)++;
            (*iovs)--;
        }
    }
    return n;
}

static struct err *write_all(struct stream *s, struct iovec *iov, int iovs, int64_t deadline_ns)
{
    struct iovec slice[PIECES_MAX];
    while (iovs > 0) {
        int n = cut_slice(&iov, &iovs, slice);
        if (n == 0)
            continue;
        struct err *e = s->top->ops->writev(s->top, slice, n, deadline_ns);
        if (e)
            return e;
        if (s->idle_ns > 0 && iovs > 0)
            deadline_ns = clock_mono_ns() + s->idle_ns;
    }
    return NULL;
}

struct err *stream_putv(struct stream *s, struct iovec *iov, int iovs, int64_t deadline_ns)
{
    struct iovec all[PIECES_MAX];
    struct err *e = sent(s, deadline_ns);
    if (!e && s->out.len > 0 && iovs >= PIECES_MAX)
        e = stream_flush(s, deadline_ns);
    if (e)
        return e;
    if (s->out.len == 0)
        return write_all(s, iov, iovs, deadline_ns);
    all[0] = (struct iovec){s->out.ptr, s->out.len};
    for (int i = 0; i < iovs; i++)
        all[i + 1] = iov[i];
    e = write_all(s, all, iovs + 1, deadline_ns);
    /* After an error nobody knows how much the peer has: sending the rest later would be wrong. */
    buf_reset(&s->out);
    return e;
}

/* A flush comes before a read: over a bare socket the send is started and the fiber goes on to its read, so
 * that one system call does both. What becomes of it is seen by the next output, or by the read. */
struct err *stream_flush(struct stream *s, int64_t deadline_ns)
{
    if (s->out.len == 0)
        return NULL;
    if (s->top != &s->socket || !fiber_self())
        return stream_putv(s, NULL, 0, deadline_ns);
    struct err *e = sent(s, deadline_ns);
    if (e)
        return e;
    struct buf swap = s->leaving;
    s->leaving = s->out;
    s->out = swap;
    s->sending_deadline_ns = deadline_ns;
    io_send_begin(&s->sending, s->fd, s->leaving.ptr, s->leaving.len);
    return NULL;
}

struct err *stream_put(struct stream *s, struct str bytes, int64_t deadline_ns)
{
    if (bytes.len >= OUT_FULL) {
        struct iovec piece = {(void *)(uintptr_t)bytes.ptr, bytes.len};
        return stream_putv(s, &piece, 1, deadline_ns);
    }
    buf_add_str(&s->out, bytes);
    return s->out.len >= OUT_FULL ? stream_flush(s, deadline_ns) : NULL;
}

struct err *stream_printf(struct stream *s, int64_t deadline_ns, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&s->out, fmt, ap);
    va_end(ap);
    return s->out.len >= OUT_FULL ? stream_flush(s, deadline_ns) : NULL;
}

size_t stream_unsent(const struct stream *s)
{
    return s->out.len;
}
