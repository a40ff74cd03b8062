/* buf: growable bytes on the heap. Zero-initialised is empty and ready: struct buf b = {0}.
 * ptr is NUL-terminated after every call that appends (the NUL is not counted in len). */
#ifndef IO_BASE_BUF_H
#define IO_BASE_BUF_H

#include <stdarg.h>
#include "io/base/str.h"

struct buf {
    char *ptr;
    size_t len, cap;
};

void buf_fini(struct buf *b);
static inline void buf_reset(struct buf *b)
{
    b->len = 0;
}
static inline struct str buf_str(const struct buf *b)
{
    return str_make(b->ptr ? b->ptr : "", b->len);
}
char *buf_grow(struct buf *b, size_t n);
/* Room for n more bytes; returns where they go. The caller adds to len. */
static inline char *buf_reserve(struct buf *b, size_t n)
{
    return n < b->cap - b->len ? b->ptr + b->len : buf_grow(b, n); /* one more, for the NUL */
}
void buf_add(struct buf *b, const void *bytes, size_t n);
void buf_add_str(struct buf *b, struct str s);
void buf_add_c(struct buf *b, const char *text);
static inline void buf_add_char(struct buf *b, char c)
{
    char *at = buf_reserve(b, 1);
    at[0] = c;
    at[1] = '\0';
    b->len++;
}
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF(2, 3);
void buf_vprintf(struct buf *b, const char *fmt, va_list ap) PRINTF(2, 0);
/* Numbers in little-endian, for formats. */
void buf_add_u8(struct buf *b, uint8_t v);
void buf_add_u16(struct buf *b, uint16_t v);
void buf_add_u32(struct buf *b, uint32_t v);
void buf_add_u64(struct buf *b, uint64_t v);
/* u32 length, then the bytes. */
void buf_add_lstr(struct buf *b, struct str s);

/* Reading what the above wrote. A read past the end sets `bad` and gives zeros / empty views. */
struct rd {
    const char *ptr, *end;
    bool bad;
};
static inline struct rd rd_of(struct str s)
{
    return (struct rd){s.ptr, s.ptr + s.len, false};
}
uint8_t rd_u8(struct rd *r);
uint16_t rd_u16(struct rd *r);
uint32_t rd_u32(struct rd *r);
uint64_t rd_u64(struct rd *r);
struct str rd_lstr(struct rd *r); /* borrowed from the bytes being read */

#endif
