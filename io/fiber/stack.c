#include "io/fiber/stack.h"

#include <stdint.h>
#include <sys/mman.h>
#include "io/base/check.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define STACK_SIZE     (512 * 1024)
#define STACK_CHECKING 1
#else
#define STACK_SIZE (256 * 1024)
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define STACK_CHECKING 1
#endif

enum {
    PAGE = 4096,
    GUARD = PAGE,
    POOL_MAX = 512, /* more are unmapped */
    POOL_WARM = 64, /* more are pooled without their pages */
    TRIM_MARGIN = 512, /* the frames of the calls that trim lie under sp */
};

/* Linux 6.13: a guard page inside a mapping. One made with mprotect cuts the mapping in two, and
 * vm.max_map_count allows 65,530 of them; so made, stacks side by side are one. */
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

const size_t stack_size_bytes = STACK_SIZE;

/* A pooled stack holds its link in its top bytes, the page that every user touches anyway. */
struct pooled {
    struct pooled *next;
    void *base;
};

static struct pooled *pooled_of(void *base)
{
    return (struct pooled *)(void *)((char *)base + STACK_SIZE - sizeof(struct pooled));
}

void *stack_take(struct stack_pool *p)
{
    struct pooled *s = p->free;
    if (s != NULL) {
        p->free = s->next;
        p->count--;
        return s->base;
    }
    char *map = mmap(NULL, STACK_SIZE + GUARD, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    if (madvise(map, GUARD, MADV_GUARD_INSTALL) != 0 && mprotect(map, GUARD, PROT_NONE) != 0) {
        munmap(map, STACK_SIZE + GUARD);
        return NULL;
    }
    return map + GUARD;
}

#ifdef STACK_CHECKING
/* Fresh pages are zero, so the lowest byte that is not tells how deep the stack ever went. */
__attribute__((no_sanitize("address"), no_sanitize("thread"))) static size_t depth_of(void *base)
{
    const volatile uint64_t *word = base;
    size_t words = STACK_SIZE / sizeof(uint64_t), at = 0;
    while (at < words && word[at] == 0)
        at++;
    return (words - at) * sizeof(uint64_t);
}
#endif

void stack_give(struct stack_pool *p, void *base)
{
#ifdef STACK_CHECKING
    size_t depth = depth_of(base);
    if (depth > p->high_water_bytes)
        p->high_water_bytes = depth;
#endif
    if (p->count >= POOL_MAX) {
        munmap((char *)base - GUARD, STACK_SIZE + GUARD);
        return;
    }
    if (p->count >= POOL_WARM)
        madvise(base, STACK_SIZE - PAGE, MADV_DONTNEED);
    struct pooled *s = pooled_of(base);
    s->next = p->free;
    s->base = base;
    p->free = s;
    p->count++;
}

void stack_pool_fini(struct stack_pool *p)
{
    while (p->free != NULL) {
        struct pooled *s = p->free;
        p->free = s->next;
        munmap((char *)s->base - GUARD, STACK_SIZE + GUARD);
    }
    p->count = 0;
}

void stack_trim(void *base, const void *sp)
{
#ifndef STACK_CHECKING
    uintptr_t low = (uintptr_t)base, high = (uintptr_t)sp;
    CHECK(high > low && high <= low + STACK_SIZE);
    high = (high - TRIM_MARGIN) & ~(uintptr_t)(PAGE - 1);
    if (high > low)
        madvise(base, high - low, MADV_DONTNEED);
#else
    (void)base;
    (void)sp;
#endif
}
