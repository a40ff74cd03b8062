#include "io/base/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>

#include "io/base/check.h"
#include "io/base/format.h"
#include "io/base/mem.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define POISON(ptr, size)   ASAN_POISON_MEMORY_REGION((ptr), (size))
#define UNPOISON(ptr, size) ASAN_UNPOISON_MEMORY_REGION((ptr), (size))
/* A gap after each block, so that an overrun hits poison. */
#define GAP 16U
#else
#define POISON(ptr, size)   ((void)(ptr), (void)(size))
#define UNPOISON(ptr, size) ((void)(ptr), (void)(size))
#define GAP                 0U
#endif

#define ALIGN             16U
#define FIRST_CHUNK_BYTES 1024U
#define CHUNK_BYTES_MAX   (64U * 1024U)
/* What a reset may keep: an idle session should hold little. */
#define KEEP_BYTES_MAX 4096U

struct chunk {
    struct chunk *next;
    size_t size; /* bytes of data */
    size_t used;
    alignas(ALIGN) char data[];
};

struct arena {
    struct chunk *chunks; /* the first is the one being filled */
    size_t first_bytes, next_bytes;
    size_t used, limit;
};

struct arena *arena_new(size_t first_chunk_bytes, size_t limit_bytes)
{
    struct arena *a = MEM_NEW(struct arena);
    a->first_bytes = first_chunk_bytes ? first_chunk_bytes : FIRST_CHUNK_BYTES;
    a->next_bytes = a->first_bytes;
    a->limit = limit_bytes;
    return a;
}

static void chunk_free(struct chunk *c)
{
    UNPOISON(c->data, c->size);
    mem_free(c);
}

void arena_free(struct arena *a)
{
    if (!a)
        return;
    while (a->chunks) {
        struct chunk *c = a->chunks;
        a->chunks = c->next;
        chunk_free(c);
    }
    mem_free(a);
}

void arena_reset(struct arena *a)
{
    size_t keep_max = a->first_bytes > KEEP_BYTES_MAX ? a->first_bytes : KEEP_BYTES_MAX;
    struct chunk *kept = NULL, *next;
    for (struct chunk *c = a->chunks; c; c = next) {
        next = c->next;
        if (c->size <= keep_max && (!kept || c->size > kept->size)) {
            if (kept)
                chunk_free(kept);
            kept = c;
        } else {
            chunk_free(c);
        }
    }
    a->chunks = kept;
    a->used = 0;
    a->next_bytes = a->first_bytes;
    if (kept) {
        kept->next = NULL;
        kept->used = 0;
        POISON(kept->data, kept->size);
        a->next_bytes = kept->size * 2;
    }
}

void arena_shrink(struct arena *a)
{
    if (a->used > 0 || !a->chunks)
        return;
    chunk_free(a->chunks);
    a->chunks = NULL;
    a->next_bytes = a->first_bytes;
}

static struct chunk *chunk_add(struct arena *a, size_t need)
{
    size_t size = need > a->next_bytes ? need : a->next_bytes;
    struct chunk *c = mem_try(sizeof *c + size);
    if (!c)
        return NULL;
    c->size = size;
    c->used = 0;
    POISON(c->data, size);
    if (a->chunks && need > a->next_bytes) {
        /* A block larger than a chunk stands alone, behind the one being filled. */
        c->next = a->chunks->next;
        a->chunks->next = c;
        return c;
    }
    c->next = a->chunks;
    a->chunks = c;
    if (a->next_bytes < CHUNK_BYTES_MAX)
        a->next_bytes *= 2;
    return c;
}

static void *take(struct arena *a, size_t size)
{
    size_t need;
    if (__builtin_add_overflow(size, (size_t)(ALIGN - 1 + GAP), &need) ||
        need > SIZE_MAX - sizeof(struct chunk))
        return NULL;
    need &= ~(size_t)(ALIGN - 1);
    struct chunk *c = a->chunks;
    if (!c || c->size - c->used < need) {
        c = chunk_add(a, need);
        if (!c)
            return NULL;
    }
    void *ptr = c->data + c->used;
    c->used += need;
    a->used += size;
    UNPOISON(ptr, size);
    return ptr;
}

void *arena_alloc(struct arena *a, size_t size)
{
    void *ptr = take(a, size ? size : 1);
    if (!ptr)
        check_failed(__FILE__, __LINE__, "out of memory");
    return ptr;
}

void *arena_zalloc(struct arena *a, size_t size)
{
    return memset(arena_alloc(a, size), 0, size);
}

void *arena_try(struct arena *a, size_t size)
{
    if (a->limit && (size > a->limit || a->used > a->limit - size))
        return NULL;
    return take(a, size ? size : 1);
}

size_t arena_used(const struct arena *a)
{
    return a->used;
}

char *arena_cstr(struct arena *a, struct str s)
{
    CHECK(s.len < SIZE_MAX);
    char *copy = arena_alloc(a, s.len + 1);
    if (s.len)
        memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    return copy;
}

struct str arena_str(struct arena *a, struct str s)
{
    return str_make(arena_cstr(a, s), s.len);
}

struct str arena_printf(struct arena *a, const char *fmt, ...)
{
    char small[256];
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    size_t n = text_format(small, sizeof small, fmt, ap);
    char *text = arena_alloc(a, n + 1);
    if (n < sizeof small)
        memcpy(text, small, n + 1);
    else
        (void)text_format(text, n + 1, fmt, again);
    va_end(again);
    va_end(ap);
    return str_make(text, n);
}

struct str arena_lower(struct arena *a, struct str s)
{
    char *copy = arena_cstr(a, s);
    for (size_t i = 0; i < s.len; i++)
        copy[i] = str_lower_char(copy[i]);
    return str_make(copy, s.len);
}
