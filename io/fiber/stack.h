/* stack: memory that fibers run on. 256 KiB (512 KiB under ASan, whose frames grow), mapped lazily
 * with a guard page under it, pooled per worker. For io/fiber only; one worker, no locks. */
#ifndef IO_FIBER_STACK_H
#define IO_FIBER_STACK_H

#include <stddef.h>

extern const size_t stack_size_bytes;

struct stack_pool {
    struct pooled *free;
    size_t count;
    size_t high_water_bytes; /* deepest use seen; 0 outside checking builds */
};

/* Lowest usable byte, or NULL when the kernel gives no more mappings (vm.max_map_count). */
void *stack_take(struct stack_pool *p);
void stack_give(struct stack_pool *p, void *base);
void stack_pool_fini(struct stack_pool *p);
/* Give the pages between base and sp back to the kernel. */
void stack_trim(void *base, const void *sp);

#endif
