/* dist: the grammar, and that what is drawn follows it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/base/clock.h"
#include "io/base/rand.h"
#include "perf/load/dist.h"

static uint64_t seed;
static uint64_t next_random(void)
{
    seed += UINT64_C(0x9E3779B97F4A7C15); /* splitmix64 */
    uint64_t z = seed;
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static void one_value_with_its_unit(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum dist_unit unit;
        int64_t value;
    } rows[] = {
        {"512", DIST_SIZE, 512},
        {"10k", DIST_SIZE, 10240},
        {"1.5M", DIST_SIZE, 1572864},
        {"2g", DIST_SIZE, INT64_C(2) << 30},
        {"3", DIST_TIME_NS, 3 * NS_PER_S},
        {"250ms", DIST_TIME_NS, 250 * NS_PER_MS},
        {"0.5us", DIST_TIME_NS, 500},
        {"2m", DIST_TIME_NS, 120 * NS_PER_S},
        {"7", DIST_COUNT, 7},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t v = -1;
        assert_null(dist_value(str_of(rows[i].text), rows[i].unit, &v));
        assert_int_equal(v, rows[i].value);
        struct dist d;
        assert_null(dist_parse(str_of(rows[i].text), rows[i].unit, &d));
        assert_int_equal(dist_draw(&d), rows[i].value);
        assert_int_equal(dist_highest(&d), rows[i].value);
    }
}

static void texts_that_mean_nothing_are_errors(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum dist_unit unit;
    } rows[] = {
        {"", DIST_SIZE},          {"k", DIST_SIZE},       {"10q", DIST_SIZE},
        {"1.2.3", DIST_SIZE},     {"10ms", DIST_SIZE},    {"5k", DIST_TIME_NS},
        {"20k-10k", DIST_SIZE},   {"1k:", DIST_SIZE},     {"1k:0", DIST_SIZE},
        {"1k:5,2k", DIST_SIZE},   {"-5", DIST_COUNT},     {"lognormal:10k", DIST_SIZE},
        {"lognormal:,1", DIST_SIZE}, {"exp:", DIST_TIME_NS}, {"9999999999g", DIST_SIZE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dist d = {.low = 77};
        struct err *e = dist_parse(str_of(rows[i].text), rows[i].unit, &d);
        if (!e)
            fail_msg("\"%s\" was accepted", rows[i].text);
        assert_int_equal(e->kind, ERR_SYNTAX);
        assert_int_equal(d.low, 77);
    }
}

static void a_range_is_even_and_holds_its_ends(void **state)
{
    (void)state;
    struct dist d;
    int seen[4] = {0};
    assert_null(dist_parse(STR("3-6"), DIST_COUNT, &d));
    assert_int_equal(dist_highest(&d), 6);
    for (int i = 0; i < 40000; i++) {
        int64_t v = dist_draw(&d);
        assert_in_range(v, 3, 6);
        seen[v - 3]++;
    }
    for (int i = 0; i < 4; i++)
        assert_in_range(seen[i], 9500, 10500);
}

static void a_list_follows_its_weights(void **state)
{
    (void)state;
    struct dist d;
    int seen[3] = {0};
    assert_null(dist_parse(STR("1k:6,2k:3,100k:1"), DIST_SIZE, &d));
    assert_int_equal(dist_highest(&d), 102400);
    for (int i = 0; i < 100000; i++) {
        int64_t v = dist_draw(&d);
        seen[v == 1024 ? 0 : v == 2048 ? 1 : 2]++;
        assert_true(v == 1024 || v == 2048 || v == 102400);
    }
    assert_in_range(seen[0], 59000, 61000);
    assert_in_range(seen[1], 29000, 31000);
    assert_in_range(seen[2], 9500, 10500);
}

static void exp_has_its_mean(void **state)
{
    (void)state;
    struct dist d;
    double sum = 0;
    assert_null(dist_parse(STR("exp:10ms"), DIST_TIME_NS, &d));
    for (int i = 0; i < 100000; i++) {
        int64_t v = dist_draw(&d);
        assert_true(v >= 0 && v <= dist_highest(&d));
        sum += (double)v;
    }
    assert_in_range((int64_t)(sum / 100000), 9800000, 10200000);
}

static void lognormal_has_its_median_and_end(void **state)
{
    (void)state;
    struct dist d;
    int below = 0, near = 0;
    assert_null(dist_parse(STR("lognormal:10k,1,50k"), DIST_SIZE, &d));
    assert_int_equal(dist_highest(&d), 51200);
    for (int i = 0; i < 100000; i++) {
        int64_t v = dist_draw(&d);
        assert_true(v >= 0 && v <= 51200);
        below += v < 10240;
        near += v > 3767 && v < 27833; /* a factor of e around 10240 */
    }
    assert_in_range(below, 49000, 51000);
    assert_in_range(near, 67000, 69500); /* 68.3 % within one sigma */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_value_with_its_unit),
        cmocka_unit_test(texts_that_mean_nothing_are_errors),
        cmocka_unit_test(a_range_is_even_and_holds_its_ends),
        cmocka_unit_test(a_list_follows_its_weights),
        cmocka_unit_test(exp_has_its_mean),
        cmocka_unit_test(lognormal_has_its_median_and_end),
    };
    rand_replace(next_random);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
