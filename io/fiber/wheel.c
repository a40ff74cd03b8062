#include "io/fiber/wheel.h"

#include "io/base/clock.h"

/* A top-level slot is shared by laps; staying under 63 slots ahead keeps them apart. */
#define WHEEL_SPAN (UINT64_C(62) << (WHEEL_BITS * (WHEEL_LEVELS - 1)))

static uint64_t tick_at_or_after(int64_t ns)
{
    if (ns <= 0)
        return 0;
    return ((uint64_t)ns + (uint64_t)NS_PER_MS - 1) / (uint64_t)NS_PER_MS;
}

void wheel_init(struct wheel *w, int64_t now_ns)
{
    w->elapsed = (uint64_t)now_ns / (uint64_t)NS_PER_MS;
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        w->occupied[level] = 0;
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++)
            list_init(&w->slots[level][slot]);
    }
}

static void wheel_put(struct wheel *w, struct timer *t, uint64_t tick)
{
    if (tick - w->elapsed > WHEEL_SPAN)
        tick = w->elapsed + WHEEL_SPAN;
    uint64_t differs = (w->elapsed ^ tick) | (WHEEL_SLOTS - 1);
    unsigned level = (63U - (unsigned)__builtin_clzll(differs)) / WHEEL_BITS;
    if (level >= WHEEL_LEVELS)
        level = WHEEL_LEVELS - 1;
    unsigned slot = (unsigned)(tick >> (WHEEL_BITS * level)) % WHEEL_SLOTS;
    w->occupied[level] |= UINT64_C(1) << slot;
    list_push_back(&w->slots[level][slot], &t->link);
}

void wheel_set(struct wheel *w, struct timer *t)
{
    uint64_t tick = tick_at_or_after(t->deadline_ns);
    /* A deadline in the past fires at the next tick, so that a timer which sets itself again cannot
     * hold the loop. */
    wheel_put(w, t, tick > w->elapsed ? tick : w->elapsed + 1);
}

struct wheel_at {
    unsigned level, slot;
    uint64_t tick;
};

static bool wheel_find(struct wheel *w, struct wheel_at *out)
{
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        unsigned shift = WHEEL_BITS * level;
        unsigned now_slot = (unsigned)(w->elapsed >> shift) % WHEEL_SLOTS;
        while (w->occupied[level] != 0) {
            uint64_t bits = w->occupied[level];
            uint64_t turned = bits >> now_slot;
            if (now_slot != 0)
                turned |= bits << (WHEEL_SLOTS - now_slot);
            unsigned slot = ((unsigned)__builtin_ctzll(turned) + now_slot) % WHEEL_SLOTS;
            if (list_empty(&w->slots[level][slot])) {
                w->occupied[level] &= ~(UINT64_C(1) << slot);
                continue;
            }
            uint64_t lap = UINT64_C(1) << (shift + WHEEL_BITS);
            uint64_t tick = (w->elapsed & ~(lap - 1)) + ((uint64_t)slot << shift);
            if (tick <= w->elapsed) /* the top level's next lap */
                tick += lap;
            *out = (struct wheel_at){level, slot, tick};
            return true;
        }
    }
    return false;
}

void wheel_advance(struct wheel *w, int64_t now_ns)
{
    uint64_t now = (uint64_t)now_ns / (uint64_t)NS_PER_MS;
    struct wheel_at at;
    if (now <= w->elapsed)
        return;
    while (wheel_find(w, &at) && at.tick <= now) {
        struct list due;
        w->elapsed = at.tick;
        list_init(&due);
        list_add_before(&w->slots[at.level][at.slot], &due);
        list_remove(&w->slots[at.level][at.slot]); /* `due` is the head of that ring now */
        w->occupied[at.level] &= ~(UINT64_C(1) << at.slot);
        for (struct list *node; (node = list_pop_front(&due)) != NULL;) {
            struct timer *t = CONTAINER(node, struct timer, link);
            uint64_t tick = tick_at_or_after(t->deadline_ns);
            if (tick > w->elapsed && at.level > 0)
                wheel_put(w, t, tick);
            else
                t->fn(t);
        }
    }
    w->elapsed = now;
}

int64_t wheel_next_ns(struct wheel *w)
{
    struct wheel_at at;
    if (!wheel_find(w, &at))
        return DEADLINE_NEVER;
    return (int64_t)at.tick * NS_PER_MS;
}
