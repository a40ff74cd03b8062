/* What stands between ring_io.c (fibers, no liburing) and the world under it (ring_uring.c, or a
 * simulator): one description of a call, one way to start it. */
#ifndef IO_RING_PRIVATE_H
#define IO_RING_PRIVATE_H

#include "io/ring/ring.h"

enum ring_code {
    RING_RECV,
    RING_SENDMSG,
    RING_SEND,
    RING_CONNECT,
    RING_ACCEPT,
    RING_ACCEPT_MULTISHOT,
    RING_POLL,
    RING_READ,
    RING_WRITE,
    RING_OPENAT,
    RING_FSYNC,
    RING_FALLOCATE,
    RING_RENAMEAT,
    RING_UNLINKAT,
    RING_CLOSE,
};

struct ring_call {
    enum ring_code code;
    int fd;          /* or directory */
    int fd2;         /* RENAMEAT: second directory */
    const void *ptr; /* buffer, address, path, msghdr */
    const void *ptr2;
    size_t n;
    uint64_t at;
    unsigned flags; /* MSG_, O_, AT_, POLL; FSYNC: data only */
    mode_t mode;
    bool background; /* as in struct ring_op */
};

/* Queue it on the calling thread's ring; the kernel sees it with the next ring_turn. */
void ring_start(struct ring_op *op, const struct ring_call *call);

#endif
