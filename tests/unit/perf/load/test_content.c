/* content: where it ends, and the mark in its header; ids: seen before or not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "perf/load/sink.h"

static void the_end_is_a_lone_dot_between_proper_line_ends(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        bool after_line;
        size_t end;
    } rows[] = {
        {".\r\n", true, 3},
        {".\r\n", false, 0},
        {"a\r\n.\r\n", true, 6},
        {"a\r\n.\r\nMAIL FROM:<>\r\n", true, 6},
        {"a.b\r\n..\r\n.c\r\n.\r\n", true, 16},
        {"a\r\n.\r", true, 0},
        {"a\n.\r\n", true, 0},
        {"a\r\n.\n", true, 0},
        {"a\r.\r\n", true, 0},
        {".", true, 0},
        {"", true, 0},
        {"..\r\n.\r\n", true, 7},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (content_end(str_of(rows[i].bytes), rows[i].after_line) != rows[i].end)
            fail_msg("row %zu: %zu", i, content_end(str_of(rows[i].bytes), rows[i].after_line));
}

static void the_mark_stands_in_the_header(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        int found;
    } rows[] = {
        {"X-Load: 0a.1 123\r\nA: b\r\n\r\n", 1},
        {"Received: from\r\n\tx\r\nX-Load: 0a.1 123\r\n", 1},
        {"Received: from X-Load: no\r\nX-Load: 0a.1 123\r\n\r\n", 1},
        {"Received: from", -1},
        {"X-Load: 0a.1 12", -1},
        {"", -1},
        {"Subject: x\r\n\r\nX-Load: 0a.1 123\r\n", 0},
        {"X-Load: 0a.1\r\n\r\n", 0},
        {"X-Load: 0a.1 soon\r\n\r\n", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct str id = STR("");
        int64_t us = 0;
        int found = content_mark(str_of(rows[i].bytes), &id, &us);
        if (found != rows[i].found)
            fail_msg("row %zu: %d", i, found);
        if (found == 1) {
            assert_true(str_eq(id, STR("0a.1")));
            assert_int_equal(us, 123);
        }
    }
}

static void a_set_knows_what_it_has(void **state)
{
    (void)state;
    static struct idset set;
    idset_init(&set);
    for (uint64_t i = 0; i < 50000; i++)
        assert_true(idset_add(&set, i * UINT64_C(0x9E3779B97F4A7C15)));
    for (uint64_t i = 0; i < 50000; i++)
        assert_false(idset_add(&set, i * UINT64_C(0x9E3779B97F4A7C15)));
    assert_int_equal(idset_count(&set), 50000);
    assert_true(idset_add(&set, 12345));
    idset_fini(&set);
}

static void the_first_time_is_kept(void **state)
{
    (void)state;
    struct first_times f;
    first_times_init(&f);
    assert_int_equal(first_times_see(&f, 7, 100), 100);
    assert_int_equal(first_times_see(&f, 8, 200), 200);
    assert_int_equal(first_times_see(&f, 7, 300), 100);
    umap_fini(&f.map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_end_is_a_lone_dot_between_proper_line_ends),
        cmocka_unit_test(the_mark_stands_in_the_header),
        cmocka_unit_test(a_set_knows_what_it_has),
        cmocka_unit_test(the_first_time_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
