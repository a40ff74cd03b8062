/* What was imported: which lines count, and when the last import came to its end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/import/ledger.h"

static char folder[64], path[96];

static int setup(void **state)
{
    (void)state;
    char log[80];
    snprintf(folder, sizeof(folder), "/tmp/rp-ledger-XXXXXX");
    if (!mkdtemp(folder))
        return 1;
    snprintf(log, sizeof(log), "%s/log", folder);
    snprintf(path, sizeof(path), "%s/imported", log);
    return mkdir(log, 0700);
}

static int teardown(void **state)
{
    (void)state;
    char log[80];
    snprintf(log, sizeof(log), "%s/log", folder);
    (void)unlink(path);
    return rmdir(log) || rmdir(folder);
}

static void put(const char *text)
{
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
}

static void test_what_a_crash_leaves(void **state)
{
    (void)state;
    static const struct {
        const char *name, *bytes, *lines;
        bool orderly;
    } rows[] = {
        {"nothing", "", "", true},
        {"an import that ended", "begin\na/1 b\nend\n", "begin\na/1 b\nend\n", true},
        {"one that ended, without a message", "begin\nend\n", "begin\nend\n", true},
        {"one that was cut short", "begin\na/1 b\n", "begin\na/1 b\n", false},
        {"one that had just begun", "begin\n", "begin\n", false},
        {"a torn line", "begin\na/1 b\na/2", "begin\na/1 b\n", false},
        {"a torn end", "begin\na/1 b\nend", "begin\na/1 b\n", false},
        {"a torn begin after an end", "begin\nend\nbeg", "begin\nend\n", true},
        {"only a torn begin", "beg", "", true},
        {"a message whose id ends like an end", "begin\na/1 Bend\n", "begin\na/1 Bend\n", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ledger *l;
        struct str lines;
        bool orderly = !rows[i].orderly;
        put(rows[i].bytes);
        assert_null(ledger_open(folder, &l, &orderly));
        assert_null(ledger_next(l, &lines));
        if (orderly != rows[i].orderly || !str_eq(lines, str_of(rows[i].lines)))
            fail_msg("%s: %d %.*s", rows[i].name, orderly, STR_ARG(lines));
        /* What follows does not stick to what was torn. */
        assert_null(ledger_append(l, STR("c/3 d\n")));
        ledger_close(l);
        assert_null(ledger_open(folder, &l, &orderly));
        assert_false(orderly);
        assert_null(ledger_next(l, &lines));
        assert_true(str_starts(lines, str_of(rows[i].lines)) && lines.len == strlen(rows[i].lines) + 6);
        ledger_close(l);
    }
}

static void test_all_lines_come_back_whole(void **state)
{
    (void)state;
    enum { LINES = 20000 };
    struct ledger *l;
    struct buf b = {0};
    bool orderly;
    put("");
    assert_null(ledger_open(folder, &l, &orderly));
    for (int i = 0; i < LINES; i++) {
        buf_printf(&b, "%05X%d/%d.000000 ID%d\n", i, i, i, i);
        if (b.len > 1000 || i == LINES - 1) {
            assert_null(ledger_append(l, buf_str(&b)));
            buf_reset(&b);
        }
    }
    for (int again = 0; again < 2; again++) {
        struct str lines, origin, id;
        int seen = 0;
        while (assert_null(ledger_next(l, &lines)), lines.len > 0)
            while (ledger_line(&lines, &origin, &id)) {
                char want[64], want_id[16];
                snprintf(want, sizeof(want), "%05X%d/%d.000000", seen, seen, seen);
                snprintf(want_id, sizeof(want_id), "ID%d", seen++);
                assert_true(str_eq(origin, str_of(want)) && str_eq(id, str_of(want_id)));
            }
        assert_int_equal(seen, LINES);
        ledger_rewind(l);
    }
    buf_fini(&b);
    ledger_close(l);
}

static void test_one_import_at_a_time(void **state)
{
    (void)state;
    struct ledger *one, *two;
    bool orderly;
    put("");
    assert_null(ledger_open(folder, &one, &orderly));
    struct err *e = ledger_open(folder, &two, &orderly);
    assert_non_null(e);
    assert_int_equal(e->kind, ERR_REFUSED);
    assert_string_equal(e->text, "another import is running");
    ledger_close(one);
    assert_null(ledger_open(folder, &two, &orderly));
    ledger_close(two);
}

static void test_a_line_without_end_is_damage(void **state)
{
    (void)state;
    struct ledger *l;
    struct buf b = {0};
    bool orderly;
    buf_add_c(&b, "begin\n");
    for (int i = 0; i < 70000; i++)
        buf_add_char(&b, 'x');
    put(b.ptr);
    struct err *e = ledger_open(folder, &l, &orderly);
    assert_non_null(e);
    assert_int_equal(e->kind, ERR_DAMAGED);
    buf_add_c(&b, "\nend\n");
    put(b.ptr);
    struct str lines;
    assert_null(ledger_open(folder, &l, &orderly));
    assert_null(ledger_next(l, &lines));
    assert_true(str_eq(lines, LEDGER_BEGIN));
    e = ledger_next(l, &lines);
    assert_non_null(e);
    assert_int_equal(e->kind, ERR_DAMAGED);
    ledger_close(l);
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_a_crash_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_all_lines_come_back_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_import_at_a_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_line_without_end_is_damage, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
