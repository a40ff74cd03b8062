/* memcheck: tells the checking tools what they cannot see, for the kernel reads and writes our
 * buffers through the ring without a system call they know. Nothing outside checking builds. */
#ifndef IO_FIBER_MEMCHECK_H
#define IO_FIBER_MEMCHECK_H

#include <stddef.h>
#include "io/base/check.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#define MEMCHECK_POISONED(ptr, n) __asan_region_is_poisoned((void *)(ptr), (n))
#else
#define MEMCHECK_POISONED(ptr, n) NULL
#endif
#ifdef RP_VALGRIND
#include <valgrind/memcheck.h>
#endif

/* The kernel is about to read or write these bytes: they must be ours and alive. */
static inline void memcheck_lend(const void *ptr, size_t n)
{
    CHECK(MEMCHECK_POISONED(ptr, n) == NULL);
    (void)ptr;
    (void)n;
}

/* The kernel has written these bytes. */
static inline void memcheck_filled(void *ptr, size_t n)
{
#ifdef RP_VALGRIND
    (void)VALGRIND_MAKE_MEM_DEFINED(ptr, n);
#endif
    (void)ptr;
    (void)n;
}

#endif
