#include "io/base/buf.h"

#include <endian.h>

#include "io/base/check.h"
#include "io/base/format.h"
#include "io/base/mem.h"

#define BUF_FIRST_BYTES 64U

void buf_fini(struct buf *b)
{
    mem_free(b->ptr);
    *b = (struct buf){0};
}

char *buf_grow(struct buf *b, size_t n)
{
    size_t need;
    /* One more than asked, for the NUL. */
    if (__builtin_add_overflow(b->len, n, &need) || __builtin_add_overflow(need, 1U, &need))
        check_failed(__FILE__, __LINE__, "buffer size overflow");
    if (need > b->cap) {
        size_t cap = b->cap ? b->cap : BUF_FIRST_BYTES;
        while (cap < need)
            cap = cap > SIZE_MAX / 2 ? need : cap * 2;
        b->ptr = mem_realloc(b->ptr, cap);
        b->cap = cap;
    }
    return b->ptr + b->len;
}

void buf_add(struct buf *b, const void *bytes, size_t n)
{
    char *at = buf_reserve(b, n);
    if (n)
        memcpy(at, bytes, n);
    at[n] = '\0';
    b->len += n;
}

void buf_add_str(struct buf *b, struct str s)
{
    buf_add(b, s.ptr, s.len);
}

void buf_add_c(struct buf *b, const char *text)
{
    buf_add(b, text, strlen(text));
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    char *at = buf_reserve(b, BUF_FIRST_BYTES);
    size_t room = b->cap - b->len;
    size_t n = text_format(at, room, fmt, ap);
    if (n >= room) {
        at = buf_reserve(b, n);
        (void)text_format(at, n + 1, fmt, again);
    }
    va_end(again);
    b->len += n;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(b, fmt, ap);
    va_end(ap);
}

/* Little-endian whatever the machine is. */
static inline void add_le(struct buf *b, uint64_t v, size_t n)
{
    char *at = buf_reserve(b, n);
    v = htole64(v);
    memcpy(at, &v, n);
    at[n] = '\0';
    b->len += n;
}

void buf_add_u8(struct buf *b, uint8_t v)
{
    add_le(b, v, 1);
}

void buf_add_u16(struct buf *b, uint16_t v)
{
    add_le(b, v, 2);
}

void buf_add_u32(struct buf *b, uint32_t v)
{
    add_le(b, v, 4);
}

void buf_add_u64(struct buf *b, uint64_t v)
{
    add_le(b, v, 8);
}

void buf_add_lstr(struct buf *b, struct str s)
{
    CHECK(s.len <= UINT32_MAX);
    buf_add_u32(b, (uint32_t)s.len);
    buf_add_str(b, s);
}

/* Bytes into *to, which stays as it is when there are not so many. */
static inline void read_bytes(struct rd *r, void *to, size_t n)
{
    if (r->bad || (size_t)(r->end - r->ptr) < n) {
        r->bad = true;
        return;
    }
    memcpy(to, r->ptr, n);
    r->ptr += n;
}

uint8_t rd_u8(struct rd *r)
{
    uint8_t v = 0;
    read_bytes(r, &v, sizeof(v));
    return v;
}

uint16_t rd_u16(struct rd *r)
{
    uint16_t v = 0;
    read_bytes(r, &v, sizeof(v));
    return le16toh(v);
}

uint32_t rd_u32(struct rd *r)
{
    uint32_t v = 0;
    read_bytes(r, &v, sizeof(v));
    return le32toh(v);
}

uint64_t rd_u64(struct rd *r)
{
    uint64_t v = 0;
    read_bytes(r, &v, sizeof(v));
    return le64toh(v);
}

struct str rd_lstr(struct rd *r)
{
    size_t n = rd_u32(r);
    if (r->bad || (size_t)(r->end - r->ptr) < n) {
        r->bad = true;
        return STR("");
    }
    struct str s = str_make(r->ptr, n);
    r->ptr += n;
    return s;
}
