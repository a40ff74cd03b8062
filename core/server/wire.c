#include "core/server/wire.h"

#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/ring/ring.h"

#define WIRE_TIMEOUT_S 300

void wire_begin(struct buf *b, enum wire_verb verb)
{
    buf_reset(b);
    buf_add_u32(b, 0);
    buf_add_u8(b, (uint8_t)verb);
}

struct err *wire_send(int fd, struct buf *b)
{
    CHECK(b->len >= 5 && b->len - 4 <= WIRE_FRAME_MAX);
    uint32_t n = (uint32_t)(b->len - 4);
    for (int i = 0; i < 4; i++)
        b->ptr[i] = (char)(n >> (8 * i));
    return io_send(fd, b->ptr, b->len, clock_in_s(WIRE_TIMEOUT_S));
}

static struct err *read_all(int fd, char *to, size_t n)
{
    while (n > 0) {
        size_t got;
        struct err *e = io_recv(fd, to, n, clock_in_s(WIRE_TIMEOUT_S), &got);
        if (e)
            return e;
        if (got == 0)
            return err_new(ERR_CLOSED, 0, "connection closed");
        to += got;
        n -= got;
    }
    return NULL;
}

struct err *wire_recv(int fd, struct buf *b, enum wire_verb *verb_out)
{
    char head[4];
    struct err *e = read_all(fd, head, sizeof(head));
    if (e)
        return e;
    struct rd r = rd_of(str_make(head, sizeof(head)));
    uint32_t n = rd_u32(&r);
    if (n < 1 || n > WIRE_FRAME_MAX)
        return err_new(ERR_PROTOCOL, 0, "bad frame length %u", n);
    char verb;
    e = read_all(fd, &verb, 1);
    if (e)
        return e;
    buf_reset(b);
    e = read_all(fd, buf_reserve(b, n), n - 1);
    if (e)
        return e;
    b->len = n - 1;
    *verb_out = (enum wire_verb)verb;
    return NULL;
}

struct err *wire_send_end(int fd, struct buf *b, enum wire_status status, uint64_t count,
                          struct str text)
{
    wire_begin(b, WIRE_END);
    buf_add_u8(b, (uint8_t)status);
    buf_add_u64(b, count);
    buf_add_lstr(b, text);
    return wire_send(fd, b);
}
