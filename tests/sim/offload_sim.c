/* offload_sim: in the place of io/fiber/offload_thread.c. There is one thread, so what is asked for is done in one go at a
 * moment of the dice's choice; others run before and after. */
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/fiber/fiber.h"
#include "io/fiber/offload.h"
#include "dice.h"

enum { REST_MS = 3 };

struct offload_thread {
    const char *name;
};

struct err *offload_thread_start(const char *name, struct offload_thread **out)
{
    static struct offload_thread only;
    only.name = name;
    *out = &only;
    return NULL;
}

void offload_thread_stop(struct offload_thread *t)
{
    (void)t;
}

static void rest(void)
{
    int64_t ns = (int64_t)sim_below((uint64_t)REST_MS * (uint64_t)NS_PER_MS + 1);
    if (sim_below(2) == 0)
        return;
    struct err *e = fiber_sleep_until(clock_mono_ns() + ns);
    CHECK(e == NULL);
}

void offload_to(struct offload_thread *t, void (*fn)(void *arg), void *arg)
{
    (void)t;
    if (fiber_self() == NULL) {
        fn(arg);
        return;
    }
    fiber_shield_begin();
    rest();
    fn(arg);
    rest();
    fiber_shield_end();
}
