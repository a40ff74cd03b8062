/* pattern: addresses from a counter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "perf/load/pattern.h"

static void a_counter_gives_an_address(void **state)
{
    struct arena *a = *state;
    static const struct {
        const char *pattern;
        uint64_t counter;
        const char *address;
    } rows[] = {
        {"fixed@example.org", 5, "fixed@example.org"},
        {"", 5, ""},
        {"user%d@example.org", 0, "user0@example.org"},
        {"user%d@example.org", UINT64_MAX, "user18446744073709551615@example.org"},
        {"u%{1-100}@dest%{1-1000}.test", 0, "u1@dest1.test"},
        {"u%{1-100}@dest%{1-1000}.test", 1, "u1@dest2.test"},
        {"u%{1-100}@dest%{1-1000}.test", 999, "u1@dest1000.test"},
        {"u%{1-100}@dest%{1-1000}.test", 1000, "u2@dest1.test"},
        {"u%{1-100}@dest%{1-1000}.test", 99999, "u100@dest1000.test"},
        {"u%{1-100}@dest%{1-1000}.test", 100000, "u1@dest1.test"},
        {"u%{8-8}%d", 12, "u812"},
        {"100%%@x", 3, "100%@x"},
        {"a}b@c", 3, "a}b@c"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct pattern p;
        struct buf b = {0};
        assert_null(pattern_parse(a, str_of(rows[i].pattern), &p));
        pattern_make(&p, rows[i].counter, &b);
        if (!str_eq(buf_str(&b), str_of(rows[i].address)))
            fail_msg("%s %llu: %s", rows[i].pattern, (unsigned long long)rows[i].counter, b.ptr);
        buf_fini(&b);
    }
}

static void what_is_no_pattern_is_an_error(void **state)
{
    struct arena *a = *state;
    static const char *const rows[] = {
        "%", "a%", "%x", "%{", "%{1-2", "%{}", "%{5}", "%{9-1}", "%{a-b}", "%{?}", "%{1-5000000000}",
        "%{0-4000000000}%{0-4000000000}%{0-4000000000}",
        "%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d", "@/nowhere/at/all",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct pattern p = {.count = 99};
        if (!pattern_parse(a, str_of(rows[i]), &p))
            fail_msg("\"%s\" was accepted", rows[i]);
        assert_int_equal(p.count, 99);
    }
}

static void a_random_place_stays_in_its_range_and_meets_all_of_it(void **state)
{
    struct arena *a = *state;
    struct pattern p;
    bool seen[10] = {0};
    assert_null(pattern_parse(a, STR("x%{3-6?}"), &p));
    for (int i = 0; i < 1000; i++) {
        struct buf b = {0};
        pattern_make(&p, 0, &b);
        assert_int_equal(b.len, 2);
        assert_in_range(b.ptr[1], '3', '6');
        seen[b.ptr[1] - '0'] = true;
        buf_fini(&b);
    }
    assert_true(seen[3] && seen[4] && seen[5] && seen[6]);
}

static void a_random_place_does_not_slow_the_others(void **state)
{
    struct arena *a = *state;
    struct pattern p;
    struct buf b = {0};
    assert_null(pattern_parse(a, STR("u%{1-9?}@dest%{1-3}"), &p));
    pattern_make(&p, 4, &b);
    assert_true(str_ends(buf_str(&b), STR("@dest2")));
    buf_fini(&b);
}

static void the_lines_of_a_file_come_in_turn(void **state)
{
    struct arena *a = *state;
    char path[] = "/tmp/test-pattern-XXXXXX", text[64];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "a@x\r\nb@y\n\n  c@z\n", 16), 16);
    close(fd);
    struct pattern p;
    snprintf(text, sizeof text, "@%s", path);
    struct err *e = pattern_parse(a, str_of(text), &p);
    unlink(path);
    assert_null(e);
    static const char *const lines[] = {"a@x", "b@y", "c@z"};
    for (uint64_t i = 0; i < 7; i++) {
        struct buf b = {0};
        pattern_make(&p, i, &b);
        assert_true(str_eq(buf_str(&b), str_of(lines[i % 3])));
        buf_fini(&b);
    }
}

static int set_up(void **state)
{
    *state = arena_new(0, 0);
    return 0;
}
static int tear_down(void **state)
{
    arena_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_counter_gives_an_address),
        cmocka_unit_test(what_is_no_pattern_is_an_error),
        cmocka_unit_test(a_random_place_stays_in_its_range_and_meets_all_of_it),
        cmocka_unit_test(a_random_place_does_not_slow_the_others),
        cmocka_unit_test(the_lines_of_a_file_come_in_turn),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
