#include "io/base/mem.h"

#include <stdlib.h>
#include <string.h>

#include "io/base/check.h"

/* jemalloc, when linked, replaces malloc itself, so that the allocations of libraries go to it too. Programs
 * without it (unit tests) have no mallctl. */
#ifdef RP_JEMALLOC
#pragma weak mallctl
#include <jemalloc/jemalloc.h>

/* A message is made on a worker and freed on the scheduler's thread: threads keep more of what they free
 * (200 blocks of 16 KiB at most), or each message goes through the locks of an arena. */
#if JEMALLOC_VERSION_MAJOR > 5 || (JEMALLOC_VERSION_MAJOR == 5 && JEMALLOC_VERSION_MINOR >= 3)
const char *malloc_conf = "tcache_nslots_large:200,tcache_nslots_small_max:400";
#endif

void mem_serve(void)
{
    bool on = true;
    if (mallctl)
        (void)mallctl("background_thread", NULL, NULL, &on, sizeof on); /* else memory goes back later */
}
#else
void mem_serve(void)
{
}
#endif

void *mem_alloc(size_t size)
{
    void *ptr = malloc(size ? size : 1);
    if (!ptr)
        check_failed(__FILE__, __LINE__, "out of memory");
    return ptr;
}

void *mem_zalloc(size_t size)
{
    void *ptr = calloc(1, size ? size : 1);
    if (!ptr)
        check_failed(__FILE__, __LINE__, "out of memory");
    return ptr;
}

void *mem_realloc(void *ptr, size_t size)
{
    void *moved = realloc(ptr, size ? size : 1);
    if (!moved)
        check_failed(__FILE__, __LINE__, "out of memory");
    return moved;
}

void mem_free(void *ptr)
{
    free(ptr);
}

char *mem_strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = mem_alloc(size);
    memcpy(copy, text, size);
    return copy;
}

void *mem_try(size_t size)
{
    return malloc(size ? size : 1);
}
