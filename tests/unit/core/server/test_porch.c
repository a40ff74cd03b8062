/* porch: whoever knocks in numbers does not take the loop from those who are in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/server/porch.h"
#include "io/fiber/fiber.h"
#include "io/fiber/worker.h"

enum { CROWD = 250 };

static struct porch porch;
static struct guest {
    struct list link;
    int number;
} guests[CROWD];
static int begun, most_between, last_seen, next_number;

static void guest_main(void *arg)
{
    struct guest *g = arg;
    assert_int_equal(g->number, next_number++);
    fiber_yield();
}

static void guest_begins(struct list *link)
{
    begun++;
    assert_non_null(fiber_spawn("guest", guest_main, CONTAINER(link, struct guest, link)));
}

/* A session under way: how many began between two of its turns? */
static void under_way(void *arg)
{
    const int *until = arg;
    while (begun < *until) {
        if (begun - last_seen > most_between)
            most_between = begun - last_seen;
        last_seen = begun;
        fiber_yield();
    }
}

static void start_over(void)
{
    porch_init(&porch, guest_begins);
    begun = most_between = last_seen = next_number = 0;
    for (int i = 0; i < CROWD; i++)
        guests[i] = (struct guest){.number = i};
}

static void crowd(void *arg)
{
    (void)arg;
    int until = CROWD;
    start_over();
    assert_non_null(fiber_spawn("under way", under_way, &until));
    for (int i = 0; i < CROWD / 2; i++)
        porch_enter(&porch, &guests[i].link);
    assert_int_equal(begun, PORCH_PER_TURN); /* at once, but no more */
    for (int i = CROWD / 2; i < CROWD; i++) { /* and more come while those wait */
        porch_enter(&porch, &guests[i].link);
        if (i % 3 == 0)
            fiber_yield();
    }
    while (fiber_census().live > 1)
        fiber_yield();
    assert_int_equal(begun, CROWD);
    assert_int_equal(next_number, CROWD); /* in their order */
    assert_in_range(most_between, 1, PORCH_PER_TURN);
}

static void single(void *arg)
{
    (void)arg;
    start_over();
    for (int i = 0; i < 50; i++) {
        porch_enter(&porch, &guests[i].link);
        assert_int_equal(begun, i + 1); /* nobody waits for the next turn */
        while (fiber_census().live > 1)
            fiber_yield();
    }
    assert_false(porch.attended);
}

/* Without a fiber for the porter there is none for a guest either: whoever begins him decides. */
static int turned_away;
static void turn_away(struct list *link)
{
    (void)link;
    turned_away++;
}

static void nobody(void *arg)
{
    (void)arg;
    porch_init(&porch, turn_away);
    turned_away = 0;
    for (int i = 0; i < CROWD; i++)
        porch_enter(&porch, &guests[i].link);
    assert_int_equal(turned_away, CROWD);
    assert_true(list_empty(&porch.waiting));
}

static void run(void (*body)(void *), size_t fibers_max)
{
    struct worker_options o = {.name = "test", .cpu = -1, .fibers_max = fibers_max};
    struct err *e = worker_run_here(&o, body, NULL);
    if (e && (e->kind == ERR_REFUSED || e->kind == ERR_UNSUPPORTED))
        skip();
    assert_null(e);
}

static void a_crowd_begins_a_few_a_turn_and_in_order(void **state)
{
    (void)state;
    run(crowd, 0);
}

static void one_alone_begins_at_once(void **state)
{
    (void)state;
    run(single, 0);
}

static void without_a_fiber_nobody_waits(void **state)
{
    (void)state;
    run(nobody, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crowd_begins_a_few_a_turn_and_in_order),
        cmocka_unit_test(one_alone_begins_at_once),
        cmocka_unit_test(without_a_fiber_nobody_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
