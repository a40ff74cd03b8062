#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/base/param.h"

static void times(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        char unit;
        int64_t want; /* -1 = refused */
    } rows[] = {
        {"300s", 's', 300},
        {"5m", 's', 300},
        {" 5m ", 's', 300},
        {"7", 'd', 604800},
        {"7d", 's', 604800},
        {"1w", 's', 604800},
        {"0", 's', 0},
        {"+5s", 's', 5},
        {"2h", 's', 7200},
        {"5min", 's', 300},
        {"2147483647", 's', INT32_MAX},
        {"5x", 's', -1},
        {"x", 's', -1},
        {"", 's', -1},
        {"-1", 's', -1},
        {"5 m", 's', -1},
        {"5M", 's', -1},
        {"0x10", 's', -1},
        {"1.5h", 's', -1},
        {"4000w", 's', -1},
        {"2147483648", 's', -1},
        {"+", 's', -1},
        {"300000000000000000000", 's', -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t got = -1;
        struct err *e = param_time("max_idle", str_of(rows[i].text), rows[i].unit, &got);
        if (got != rows[i].want || (e != NULL) != (rows[i].want < 0))
            fail_msg("%s gives %lld", rows[i].text, (long long)got);
    }
    int64_t got;
    assert_string_equal(param_time("max_idle", STR("5x"), 's', &got)->text,
                        "parameter max_idle: bad time value or unit: 5x");
    assert_int_equal(param_time_unit("5d"), 'd');
    assert_int_equal(param_time_unit("${stress?{10}:{300}}s"), 's');
    assert_int_equal(param_time_unit("0"), 's');
    assert_int_equal(param_time_unit("$maximal_queue_lifetime"), 's');
    assert_int_equal(param_time_unit(""), 's');
}

static void numbers_and_booleans(void **state)
{
    (void)state;
    int64_t n = 0;
    bool yes = false;
    assert_null(param_int("x", STR(" 010 "), &n));
    assert_int_equal(n, 10);
    assert_null(param_int("x", STR("+5"), &n));
    assert_null(param_int("x", STR("-3"), &n));
    assert_int_equal(n, -3);
    static const char *bad[] = {"", "abc", "5 6", "10k", "99999999999", "+-5", "+", "0x1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_non_null(param_int("x", str_of(bad[i]), &n));
    assert_int_equal(n, -3);
    assert_string_equal(param_int("default_process_limit", STR("abc"), &n)->text,
                        "bad numerical configuration: default_process_limit = abc");
    assert_null(param_size("x", STR("99999999999"), &n));
    assert_int_equal(n, INT64_C(99999999999));
    assert_null(param_bool("x", STR("YES"), &yes));
    assert_true(yes);
    assert_null(param_bool("x", STR(" no "), &yes));
    assert_false(yes);
    assert_string_equal(param_bool("soft_bounce", STR("maybe"), &yes)->text,
                        "bad boolean configuration: soft_bounce = maybe");
    assert_non_null(param_bool("x", STR(""), &yes));
}

static void ranges(void **state)
{
    (void)state;
    assert_null(param_range("x", PARAM_INT, -5, "", ""));
    assert_null(param_range("x", PARAM_INT, 1, "1", "1"));
    assert_null(param_range("x", PARAM_TIME, 8640000, "0s", "100d"));
    assert_string_equal(param_range("default_process_limit", PARAM_INT, 0, "1", "")->text,
                        "invalid default_process_limit parameter value 0 < 1");
    assert_string_equal(param_range("x", PARAM_SIZE, 11, "1", "10")->text,
                        "invalid x parameter value 11 > 10");
    assert_string_equal(param_range("max_idle", PARAM_TIME, 0, "1s", "")->text,
                        "invalid max_idle: 0 (min 1)");
    assert_string_equal(
        param_range("maximal_queue_lifetime", PARAM_TIME, 8640001, "", "100d")->text,
        "invalid maximal_queue_lifetime: 8640001 (max 8640000)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times),
        cmocka_unit_test(numbers_and_booleans),
        cmocka_unit_test(ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
