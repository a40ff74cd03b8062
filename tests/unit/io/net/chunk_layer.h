/* chunk_layer: a stream layer over bytes in memory, cut where the test says; it records what it is
 * asked for. */
#ifndef TESTS_CHUNK_LAYER_H
#define TESTS_CHUNK_LAYER_H

#include "io/base/buf.h"
#include "io/net/stream.h"

struct chunk_layer {
    struct stream_layer layer;
    struct str in;
    size_t at;
    uint64_t cuts; /* bit i: a read ends before byte i + 1 */
    size_t step;   /* or: at most so many bytes a read; 0 = no bound */
    size_t reads, writes, closes, largest_room;
    int last_iovs;
    int64_t deadlines[16]; /* of the first reads and writes */
    size_t deadlines_n;
    struct err *fail_write;
    struct buf out;
};

static inline void chunk_note(struct chunk_layer *c, int64_t deadline_ns)
{
    if (c->deadlines_n < 16)
        c->deadlines[c->deadlines_n++] = deadline_ns;
}

static inline struct err *chunk_read(struct stream_layer *l, void *bytes, size_t n,
                                     int64_t deadline_ns, size_t *n_out)
{
    struct chunk_layer *c = (struct chunk_layer *)l;
    chunk_note(c, deadline_ns);
    c->reads++;
    if (n > c->largest_room)
        c->largest_room = n;
    if (c->at == c->in.len)
        return err_new(ERR_CLOSED, 0, "lost connection");
    size_t take = 0;
    while (c->at < c->in.len && take < n && (c->step == 0 || take < c->step)) {
        ((char *)bytes)[take++] = c->in.ptr[c->at++];
        if (c->at <= 64 && (c->cuts >> (c->at - 1) & 1))
            break;
    }
    *n_out = take;
    return NULL;
}

static inline struct err *chunk_writev(struct stream_layer *l, struct iovec *iov, int iovs,
                                       int64_t deadline_ns)
{
    struct chunk_layer *c = (struct chunk_layer *)l;
    chunk_note(c, deadline_ns);
    c->writes++;
    c->last_iovs = iovs;
    if (c->fail_write)
        return c->fail_write;
    for (int i = 0; i < iovs; i++)
        buf_add(&c->out, iov[i].iov_base, iov[i].iov_len);
    return NULL;
}

static inline void chunk_close(struct stream_layer *l)
{
    ((struct chunk_layer *)l)->closes++;
}

static const struct stream_layer_ops chunk_ops = {chunk_read, chunk_writev, chunk_close};

static inline struct chunk_layer chunk_of(struct str in)
{
    return (struct chunk_layer){.layer = {.ops = &chunk_ops}, .in = in};
}

#endif
