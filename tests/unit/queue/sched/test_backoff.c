#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "io/base/clock.h"
#include "queue/sched/backoff.h"

#define S US_PER_S

/* Spec QMGR-01: with 1000 s and 4000 s the waits are about 1000, 2000, 4000, 4000. */
static void waits_double_between_the_bounds(void **state)
{
    (void)state;
    struct sched_options o = {.minimal_backoff_s = 1000, .maximal_backoff_s = 4000};
    static const struct {
        int64_t age_s, wait_s;
    } rows[] = {{0, 1000}, {10, 1000}, {1000, 1000}, {2000, 2000}, {4000, 4000}, {9000, 4000}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t now = 5000000 * S + rows[i].age_s * S;
        assert_int_equal(backoff_next_us(&o, 5000000 * S, now, i * 7919) - now, rows[i].wait_s * S);
    }
}

/* Whatever the dice say: within the bounds, not further than so many percent, and not all at once. */
static void waits_are_spread(void **state)
{
    (void)state;
    static const struct {
        int64_t minimal_s, maximal_s, jitter, age_s, from_s, to_s;
    } rows[] = {
        {1000, 4000, 20, 2000, 1600, 2400}, {1000, 4000, 20, 0, 1000, 1200},
        {1000, 4000, 20, 9000, 3200, 4000}, {1000, 4000, 100, 2000, 1000, 4000},
        {1000, 4000, 0, 2000, 2000, 2000},  {300, 300, 20, 500, 300, 300},
        {4000, 1000, 20, 500, 1000, 1000},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct sched_options o = {.minimal_backoff_s = rows[i].minimal_s,
                                  .maximal_backoff_s = rows[i].maximal_s,
                                  .backoff_jitter = rows[i].jitter};
        int64_t now = 77 * S + rows[i].age_s * S, least = INT64_MAX, most = 0;
        for (uint64_t k = 0; k < 1000; k++) {
            int64_t wait = backoff_next_us(&o, 77 * S, now, k * UINT64_C(0x9e3779b97f4a7c15)) - now;
            least = wait < least ? wait : least;
            most = wait > most ? wait : most;
        }
        int64_t width = (rows[i].to_s - rows[i].from_s) * S;
        assert_in_range(least, rows[i].from_s * S, rows[i].from_s * S + width / 10);
        assert_in_range(most, rows[i].to_s * S - width / 10, rows[i].to_s * S);
    }
}

/* Spec QMGR-02. */
static void lifetimes(void **state)
{
    (void)state;
    struct sched_options o = {.maximal_lifetime_s = 100, .bounce_lifetime_s = 50};
    assert_false(backoff_expired(&o, false, 0, 99 * S));
    assert_true(backoff_expired(&o, false, 0, 100 * S));
    assert_false(backoff_expired(&o, true, 0, 49 * S));
    assert_true(backoff_expired(&o, true, 0, 50 * S));
    o.bounce_lifetime_s = 500; /* never longer than the other */
    assert_true(backoff_expired(&o, true, 0, 100 * S));
    o.maximal_lifetime_s = 0; /* one try */
    assert_true(backoff_expired(&o, false, 7 * S, 7 * S));
}

static void warnings(void **state)
{
    (void)state;
    struct sched_options o = {.delay_warning_s = 0};
    assert_false(backoff_warn_due(&o, 0, 1000 * S));
    o.delay_warning_s = 60;
    assert_false(backoff_warn_due(&o, 0, 59 * S));
    assert_true(backoff_warn_due(&o, 0, 60 * S));
}

/* With both at 300 s what is deferred a moment after a run is tried at the next, and its site, which died
 * with it, is ready for that. */
static void runs_look_ahead(void **state)
{
    (void)state;
    static const struct {
        int64_t minimal_s, dead_s;
    } rows[] = {{300, 299}, {2, 1}, {1, 1}, {0, 0}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct sched_options o = {.minimal_backoff_s = rows[i].minimal_s,
                                  .maximal_backoff_s = rows[i].minimal_s};
        assert_int_equal(backoff_dead_ns(&o), rows[i].dead_s * NS_PER_S);
    }
    struct sched_options o = {.minimal_backoff_s = 300, .maximal_backoff_s = 300, .backoff_jitter = 20};
    int64_t run = 1000 * S, next = run + 300 * S;
    assert_true(backoff_next_us(&o, 0, run + S, 0) <= backoff_run_until_us(next));
    assert_false(backoff_next_us(&o, 0, run + S + 1, 0) <= backoff_run_until_us(next));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_double_between_the_bounds),
        cmocka_unit_test(waits_are_spread),
        cmocka_unit_test(lifetimes),
        cmocka_unit_test(warnings),
        cmocka_unit_test(runs_look_ahead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
