#include "core/server/wire.h"

#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/ring/ring.h"

#define WIRE_TIMEOUT_S 300

enum { HEAD = 4, READ_AT_ONCE = 65536 };

size_t wire_more(struct buf *b, enum wire_verb verb)
{
    size_t begun = b->len;
    buf_add_u32(b, 0);
    buf_add_u8(b, (uint8_t)verb);
    return begun;
}

void wire_ended(struct buf *b, size_t begun)
{
    size_t n = b->len - begun - HEAD;
    CHECK(b->len >= begun + HEAD + 1 && n <= WIRE_FRAME_MAX);
    for (int i = 0; i < HEAD; i++)
        b->ptr[begun + i] = (char)(n >> (8 * i));
}

struct err *wire_flush(int fd, struct buf *b)
{
    struct err *e = b->len > 0 ? io_send(fd, b->ptr, b->len, clock_in_s(WIRE_TIMEOUT_S)) : NULL;
    buf_reset(b);
    return e;
}

void wire_begin(struct buf *b, enum wire_verb verb)
{
    buf_reset(b);
    (void)wire_more(b, verb);
}

struct err *wire_send(int fd, struct buf *b)
{
    wire_ended(b, 0);
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

/* So many bytes are there, from in->at on. */
static struct err *fill(int fd, struct wire_in *in, size_t want)
{
    struct buf *b = &in->bytes;
    if (b->len - in->at >= want)
        return NULL;
    if (in->at > 0) {
        b->len -= in->at;
        memmove(b->ptr, b->ptr + in->at, b->len);
        in->at = 0;
    }
    while (b->len < want) {
        size_t got, room = want - b->len > READ_AT_ONCE ? want - b->len : READ_AT_ONCE;
        struct err *e = io_recv(fd, buf_reserve(b, room), room, clock_in_s(WIRE_TIMEOUT_S), &got);
        if (e)
            return e;
        if (got == 0)
            return err_new(ERR_CLOSED, 0, "connection closed");
        b->len += got;
    }
    return NULL;
}

struct err *wire_next(int fd, struct wire_in *in, struct str *body_out, enum wire_verb *verb_out)
{
    struct err *e = fill(fd, in, HEAD);
    if (e)
        return e;
    struct rd r = rd_of(str_make(in->bytes.ptr + in->at, HEAD));
    uint32_t n = rd_u32(&r);
    if (n < 1 || n > WIRE_FRAME_MAX)
        return err_new(ERR_PROTOCOL, 0, "bad frame length %u", n);
    e = fill(fd, in, HEAD + (size_t)n);
    if (e)
        return e;
    const char *frame = in->bytes.ptr + in->at + HEAD;
    *verb_out = (enum wire_verb)frame[0];
    *body_out = str_make(frame + 1, n - 1);
    in->at += HEAD + n;
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
