/* mem: the heap. These never return NULL: a process that is out of memory in spite of its budgets
 * ends with a crash report and is started again (design §7). jemalloc, when linked, is under them.
 * Any thread; nothing yields. */
#ifndef IO_BASE_MEM_H
#define IO_BASE_MEM_H

#include <stddef.h>

void *mem_alloc(size_t size) __attribute__((malloc, alloc_size(1)));
void *mem_zalloc(size_t size) __attribute__((malloc, alloc_size(1))); /* zeroed */
void *mem_realloc(void *ptr, size_t size);
void mem_free(void *ptr); /* NULL is fine */
char *mem_strdup(const char *text);
/* Sizes an outsider chose: NULL when there is none. */
void *mem_try(size_t size);

/* This process lives long: pages that nobody uses any more go back to the kernel within half a minute, also while
 * nothing is allocated or freed (an idle server). Starts threads of jemalloc's own; nothing without it. */
void mem_serve(void);

#define MEM_NEW(type) ((type *)mem_zalloc(sizeof(type)))

#endif
