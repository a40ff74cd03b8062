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
        assert_int_equal(backoff_next_us(&o, 5000000 * S, now) - now, rows[i].wait_s * S);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_double_between_the_bounds),
        cmocka_unit_test(lifetimes),
        cmocka_unit_test(warnings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
