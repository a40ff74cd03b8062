/* arena: memory by lifetime (session, message, command). Chunks from mem; one free for all of it.
 * One owner at a time; not locked. Memory is aligned to 16 and not zeroed unless said. */
#ifndef IO_BASE_ARENA_H
#define IO_BASE_ARENA_H

#include "io/base/str.h"

struct arena;

/* limit_bytes bounds what arena_try gives (0 = no bound); arena_alloc is for bounded sizes and
 * never fails. first_chunk_bytes 0 = 1 KiB; the first chunk is taken at the first use. */
struct arena *arena_new(size_t first_chunk_bytes, size_t limit_bytes);
void arena_free(struct arena *a);
/* Everything allocated is gone; one chunk is kept for reuse. */
void arena_reset(struct arena *a);
/* The chunk that a reset keeps is given back if nothing is in it: before a long wait. */
void arena_shrink(struct arena *a);
void *arena_alloc(struct arena *a, size_t size);
void *arena_zalloc(struct arena *a, size_t size);
void *arena_try(struct arena *a, size_t size); /* NULL beyond the limit */
size_t arena_used(const struct arena *a);      /* bytes handed out since the last reset */
/* Copies; NUL-terminated beyond the view's end. */
struct str arena_str(struct arena *a, struct str s);
char *arena_cstr(struct arena *a, struct str s);
struct str arena_printf(struct arena *a, const char *fmt, ...) PRINTF(2, 3);
/* Lower-case ASCII copy. */
struct str arena_lower(struct arena *a, struct str s);

#define ARENA_NEW(a, type) ((type *)arena_zalloc((a), sizeof(type)))

#endif
