#include "io/fiber/fiber.h"

#include "io/base/check.h"
#include "io/fiber/private.h"

static struct fiber *fiber_running(void)
{
    struct worker *w = worker_self();
    return w != NULL ? w->current : NULL;
}

struct fiber *fiber_self(void)
{
    return fiber_running();
}

const char *fiber_entry(const struct fiber *f)
{
    CHECK_MAGIC(f, FIBER_MAGIC);
    return f->entry;
}

/* The first function on a fiber's stack. */
static void fiber_main(struct context *self)
{
    struct fiber *f = CONTAINER(self, struct fiber, context);
    f->fn(f->arg);
    CHECK(f->no_yields == 0 && f->shields == 0);
    f->state = FIBER_ENDED;
    context_switch(&f->context, &f->worker->loop, true);
}

struct fiber *fiber_new(struct worker *w, const char *entry, void (*fn)(void *arg), void *arg)
{
    size_t live = atomic_load_explicit(&w->live, memory_order_relaxed);
    if (live >= w->fibers_max)
        return NULL;
    void *stack = stack_take(&w->stacks);
    if (stack == NULL)
        return NULL;
    size_t usable = (stack_size_bytes - sizeof(struct fiber)) & ~(size_t)63;
    struct fiber *f = (struct fiber *)(void *)((char *)stack + usable);
    *f = (struct fiber){
        .magic = FIBER_MAGIC,
        .state = FIBER_READY,
        .canceled = w->state == WORKER_DRAINING,
        .worker = w,
        .entry = entry,
        .fn = fn,
        .arg = arg,
        .stack = stack,
    };
    context_init_stack(&f->context, stack, usable, fiber_main);
    list_push_back(&w->fibers, &f->all_link);
    list_push_back(&w->ready, &f->run_link);
    live++;
    atomic_store_explicit(&w->live, live, memory_order_relaxed);
    if (live > w->peak)
        w->peak = live;
    return f;
}

struct fiber *fiber_spawn(const char *entry, void (*fn)(void *arg), void *arg)
{
    struct worker *w = worker_self();
    CHECK(w != NULL);
    return fiber_new(w, entry, fn, arg);
}

static void fiber_free(struct fiber *f)
{
    struct worker *w = f->worker;
    list_remove(&f->all_link);
    context_fini_stack(&f->context);
    err_reserve_free(f->errors);
    f->magic = 0;
    size_t live = atomic_load_explicit(&w->live, memory_order_relaxed);
    atomic_store_explicit(&w->live, live - 1, memory_order_relaxed);
    stack_give(&w->stacks, f->stack);
}

void fiber_run(struct worker *w, struct fiber *f)
{
    CHECK_MAGIC(f, FIBER_MAGIC);
    CHECK(f->state == FIBER_READY && w->current == NULL);
    struct err_reserve **slot = err_reserve_slot(), *of_loop = *slot;
    f->state = FIBER_RUNNING;
    w->current = f;
    /* Release: the watchdog reads the name with it. */
    atomic_store_explicit(&w->running, f->entry, memory_order_release);
    *slot = f->errors;
    context_switch(&w->loop, &f->context, false);
    f->errors = *slot;
    *slot = of_loop;
    w->current = NULL;
    if (f->state == FIBER_ENDED)
        fiber_free(f);
}

/* --- waiting --- */

static void fiber_make_ready(struct fiber *f)
{
    f->state = FIBER_READY;
    list_push_back(&f->worker->ready, &f->run_link);
}

static void fiber_leave(struct fiber *f)
{
    CHECK(f->no_yields == 0);
    context_switch(&f->context, &f->worker->loop, false);
}

static bool fiber_cancel_seen(const struct fiber *f)
{
    return f->canceled && f->shields == 0;
}

static void park_deadline(struct timer *t)
{
    struct fiber *f = CONTAINER(t, struct fiber, timer);
    if (f->state == FIBER_PARKED)
        fiber_make_ready(f);
}

enum fiber_end fiber_park_quietly(int64_t deadline_ns)
{
    struct fiber *f = fiber_running();
    CHECK(f != NULL && f->no_yields == 0);
    if (fiber_cancel_seen(f))
        return FIBER_CANCELED;
    if (f->woken) {
        f->woken = false;
        return FIBER_WOKEN;
    }
    if (deadline_ns != DEADLINE_NEVER) {
        if (clock_past(deadline_ns))
            return FIBER_LATE;
        timer_set(&f->timer, deadline_ns, park_deadline);
    }
    f->state = FIBER_PARKED;
    fiber_leave(f);
    if (deadline_ns != DEADLINE_NEVER)
        timer_clear(&f->timer);
    bool woken = f->woken;
    f->woken = false;
    if (fiber_cancel_seen(f))
        return FIBER_CANCELED;
    return woken ? FIBER_WOKEN : FIBER_LATE;
}

struct err *fiber_end_error(enum fiber_end end)
{
    if (end == FIBER_WOKEN)
        return NULL;
    if (end == FIBER_CANCELED)
        return err_new(ERR_CANCELED, ECANCELED, "canceled");
    return err_new(ERR_TIMEOUT, ETIMEDOUT, "timed out");
}

struct err *fiber_park(int64_t deadline_ns)
{
    return fiber_end_error(fiber_park_quietly(deadline_ns));
}

void fiber_wake(struct fiber *f)
{
    CHECK_MAGIC(f, FIBER_MAGIC);
    CHECK(f->worker == worker_self());
    f->woken = true;
    if (f->state == FIBER_PARKED)
        fiber_make_ready(f);
}

void fiber_yield(void)
{
    struct fiber *f = fiber_running();
    CHECK(f != NULL && f->no_yields == 0);
    fiber_make_ready(f);
    fiber_leave(f);
}

struct err *fiber_sleep_until(int64_t deadline_ns)
{
    for (;;) {
        struct err *e = fiber_park(deadline_ns);
        if (e != NULL)
            return e->kind == ERR_TIMEOUT ? NULL : e;
    }
}

/* --- cancellation --- */

void fiber_cancel(struct fiber *f)
{
    CHECK_MAGIC(f, FIBER_MAGIC);
    CHECK(f->worker == worker_self());
    f->canceled = true;
    if (f->state == FIBER_PARKED && f->shields == 0)
        fiber_make_ready(f);
}

bool fiber_canceled(void)
{
    struct fiber *f = fiber_running();
    return f != NULL && fiber_cancel_seen(f);
}

void fiber_shield_begin(void)
{
    struct fiber *f = fiber_running();
    if (f != NULL)
        f->shields++;
}

void fiber_shield_end(void)
{
    struct fiber *f = fiber_running();
    if (f != NULL) {
        CHECK(f->shields > 0);
        f->shields--;
    }
}

/* Outside fibers there is nothing to yield to. */
void fiber_no_yield_begin(void)
{
    struct fiber *f = fiber_running();
    if (f != NULL)
        f->no_yields++;
}

void fiber_no_yield_end(void)
{
    struct fiber *f = fiber_running();
    if (f != NULL) {
        CHECK(f->no_yields > 0);
        f->no_yields--;
    }
}

void fiber_trim_stack(void)
{
    struct fiber *f = fiber_running();
    if (f != NULL)
        stack_trim(f->stack, __builtin_frame_address(0));
}

struct fiber_census fiber_census(void)
{
    struct worker *w = worker_self();
    CHECK(w != NULL);
    return (struct fiber_census){
        .live = atomic_load_explicit(&w->live, memory_order_relaxed),
        .stacks_pooled = w->stacks.count,
        .peak = w->peak,
        .stack_high_water_bytes = w->stacks.high_water_bytes,
    };
}
