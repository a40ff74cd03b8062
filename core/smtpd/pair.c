#include "core/smtpd/pair.h"

#include <poll.h>
#include "io/base/mem.h"
#include "io/ring/ring.h"

struct pair {
    struct stream_layer layer;
    int in_fd, out_fd;
};

static struct err *pair_read(struct stream_layer *l, void *bytes, size_t n, int64_t deadline_ns,
                             size_t *n_out)
{
    struct pair *p = (struct pair *)l;
    unsigned events;

    struct err *e = io_poll(p->in_fd, POLLIN, deadline_ns, &events);
    if (!e)
        e = io_pread(p->in_fd, bytes, n, IO_STREAM, n_out);
    if (!e && *n_out == 0)
        e = err_new(ERR_CLOSED, 0, "end of file");
    return e;
}

static struct err *pair_writev(struct stream_layer *l, struct iovec *iov, int iovs,
                               int64_t deadline_ns)
{
    struct pair *p = (struct pair *)l;

    (void)deadline_ns; /* the reader is the user's own program */
    for (int i = 0; i < iovs; i++) {
        struct err *e = iov[i].iov_len
                            ? io_pwrite(p->out_fd, iov[i].iov_base, iov[i].iov_len, IO_STREAM)
                            : NULL;
        if (e)
            return e;
    }
    return NULL;
}

static void pair_close(struct stream_layer *l)
{
    mem_free(l);
}

static const struct stream_layer_ops pair_ops = {pair_read, pair_writev, pair_close};

struct stream_layer *pair_layer_new(int in_fd, int out_fd)
{
    struct pair *p = mem_zalloc(sizeof *p);

    p->layer.ops = &pair_ops;
    p->in_fd = in_fd;
    p->out_fd = out_fd;
    return &p->layer;
}
