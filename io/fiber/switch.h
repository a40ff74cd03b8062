/* switch: Boost.Context's fcontext behind three functions, with every switch announced to ASan, TSan
 * and valgrind. For io/fiber only: a context is the loop of a worker or one fiber.
 *
 * The order of announcements is the tools' (ASan: start before the jump, finish after it, NULL in
 * place of the fake stack on the last way out; TSan: switch right before the jump). */
#ifndef IO_FIBER_SWITCH_H
#define IO_FIBER_SWITCH_H

#include <stdbool.h>
#include <stddef.h>

struct context {
    void *fctx;
    struct context *going_to; /* for the one switched to, which looks here */
    const void *stack_base; /* lowest byte; learned at the first switch for a thread's own stack */
    size_t stack_size;
    void *asan_fake_stack;
    void *tsan_fiber;
    unsigned valgrind_id;
    void (*entry)(struct context *self);
};

/* The calling thread's own stack. */
void context_init_thread(struct context *c);
/* A context that will call entry(c) on this stack. entry must leave by context_switch(…, dies). */
void context_init_stack(struct context *c, void *stack_base, size_t stack_size,
                        void (*entry)(struct context *self));
/* After the last switch out of it. */
void context_fini_stack(struct context *c);
/* Leave `from`, the running context, for `to`. Returns when somebody switches back. */
void context_switch(struct context *from, struct context *to, bool from_dies);

#endif
