#include "io/fiber/switch.h"
#include "io/base/check.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define ANNOUNCE_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define ANNOUNCE_TSAN 1
#include <sanitizer/tsan_interface.h>
#endif
#ifdef RP_VALGRIND
#include <valgrind/valgrind.h>
#endif

/* Boost.Context's plain C symbols (libboost_context.a, three assembler objects). */
struct transfer {
    void *fctx;
    void *data;
};
void *make_fcontext(void *stack_top, size_t size, void (*fn)(struct transfer t));
struct transfer jump_fcontext(void *to, void *data);

static void announce_leave(struct context *from, struct context *to, bool from_dies)
{
#ifdef ANNOUNCE_ASAN
    __sanitizer_start_switch_fiber(from_dies ? NULL : &from->asan_fake_stack, to->stack_base,
                                   to->stack_size);
#endif
#ifdef ANNOUNCE_TSAN
    __tsan_switch_to_fiber(to->tsan_fiber, 0);
#endif
    (void)from;
    (void)to;
    (void)from_dies;
}

/* `self` runs again, or for the first time; `prev` is whom we come from. */
static void announce_arrive(struct context *self, struct context *prev)
{
#ifdef ANNOUNCE_ASAN
    const void *base = NULL;
    size_t size = 0;
    __sanitizer_finish_switch_fiber(self->asan_fake_stack, &base, &size);
    if (prev->stack_base == NULL) {
        prev->stack_base = base;
        prev->stack_size = size;
    }
#endif
    (void)self;
    (void)prev;
}

static void context_start(struct transfer t)
{
    struct context *prev = t.data;
    struct context *self = prev->going_to;
    prev->fctx = t.fctx;
    announce_arrive(self, prev);
    self->entry(self);
    UNREACHABLE();
}

void context_init_thread(struct context *c)
{
    *c = (struct context){0};
#ifdef ANNOUNCE_TSAN
    c->tsan_fiber = __tsan_get_current_fiber();
#endif
}

void context_init_stack(struct context *c, void *stack_base, size_t stack_size,
                        void (*entry)(struct context *self))
{
    *c = (struct context){.stack_base = stack_base, .stack_size = stack_size, .entry = entry};
#ifdef ANNOUNCE_ASAN
    /* The last user of this stack left its red zones behind. */
    __asan_unpoison_memory_region(stack_base, stack_size);
#endif
#ifdef ANNOUNCE_TSAN
    c->tsan_fiber = __tsan_create_fiber(0);
#endif
#ifdef RP_VALGRIND
    c->valgrind_id = VALGRIND_STACK_REGISTER(stack_base, (char *)stack_base + stack_size);
#endif
    c->fctx = make_fcontext((char *)stack_base + stack_size, stack_size, context_start);
}

void context_fini_stack(struct context *c)
{
#ifdef ANNOUNCE_ASAN
    /* Once unmapped, the addresses may become a ring, whose memory ASan does not see being mapped. */
    __asan_unpoison_memory_region(c->stack_base, c->stack_size);
#endif
#ifdef ANNOUNCE_TSAN
    __tsan_destroy_fiber(c->tsan_fiber);
#endif
#ifdef RP_VALGRIND
    VALGRIND_STACK_DEREGISTER(c->valgrind_id);
#endif
    c->fctx = NULL;
}

void context_switch(struct context *from, struct context *to, bool from_dies)
{
    /* Nothing of this frame is handed over: ASan unmaps the locals of one that dies as it leaves. */
    from->going_to = to;
    announce_leave(from, to, from_dies);
    struct transfer t = jump_fcontext(to->fctx, from);
    /* Back again. Whoever jumped here told us who it is and where it left off. */
    struct context *prev = t.data;
    prev->fctx = t.fctx;
    announce_arrive(from, prev);
}
