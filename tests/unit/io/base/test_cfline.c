#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "io/base/cfline.h"

static const char source[] = "# a comment\n"
                             "\n"
                             "one = 1\n"
                             "two = a,\n"
                             "  b\n"
                             "# between\n"
                             "\n"
                             "   # indented comment\n"
                             "\tc  \n"
                             "three=\n"
                             " \"q\" # text\r\n"
                             "last = no newline";

static const struct {
    const char *line;
    int number;
} rows[] = {
    {"one = 1", 3},
    {"two = a,  b\tc", 4},
    {"three= \"q\" # text", 10},
    {"last = no newline", 12},
};

static void check_rows(struct cfline *c)
{
    struct str line;
    int number = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_null(cfline_next(c, &line, &number));
        assert_non_null(line.ptr);
        if (!str_eq(line, str_of(rows[i].line)))
            fail_msg("row %zu: %.*s", i, STR_ARG(line));
        assert_int_equal(number, rows[i].number);
    }
    assert_null(cfline_next(c, &line, &number));
    assert_null(line.ptr);
    assert_null(cfline_next(c, &line, &number));
    assert_null(line.ptr);
    cfline_fini(c);
}

static void joins_continuations_of_a_text(void **state)
{
    (void)state;
    struct cfline c;
    cfline_init_text(&c, str_of(source));
    check_rows(&c);
}

static void joins_continuations_of_a_file(void **state)
{
    (void)state;
    FILE *fp = tmpfile();
    assert_non_null(fp);
    assert_true(fputs(source, fp) >= 0);
    rewind(fp);
    struct cfline c;
    cfline_init_file(&c, fp);
    check_rows(&c);
    assert_int_equal(fclose(fp), 0);
}

static void a_text_that_begins_with_a_continuation_is_stray(void **state)
{
    (void)state;
    struct cfline c;
    struct str line;
    int number;
    cfline_init_text(&c, STR("# x\n  a = 1\n b\nc = 2\n"));
    assert_null(cfline_next(&c, &line, &number));
    assert_true(cfline_stray(line));
    assert_int_equal(number, 2);
    assert_null(cfline_next(&c, &line, &number));
    assert_false(cfline_stray(line));
    assert_int_equal(number, 4);
    cfline_fini(&c);
}

static void splits_name_and_value(void **state)
{
    (void)state;
    static const struct {
        const char *line, *name, *value, *error;
    } cases[] = {
        {"a = b", "a", "b", NULL},
        {"a=b=c ", "a", "b=c", NULL},
        {"a =", "a", "", NULL},
        {"f.o/b-a = x  y", "f.o/b-a", "x  y", NULL},
        {"a", NULL, NULL, "missing '=' after attribute name: \"a\""},
        {"a b = c", NULL, NULL, "missing '=' after attribute name: \"a b = c\""},
        {"= c", NULL, NULL, "missing attribute name: \"= c\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct str name = STR_NULL, value = STR_NULL;
        struct err *e = cfline_split(str_of(cases[i].line), &name, &value);
        if (cases[i].error) {
            assert_string_equal(e->text, cases[i].error);
            assert_null(name.ptr);
            continue;
        }
        assert_null(e);
        assert_true(str_eq(name, str_of(cases[i].name)));
        assert_true(str_eq(value, str_of(cases[i].value)));
    }
}

static void an_endless_line_is_refused(void **state)
{
    (void)state;
    size_t size = 3 * (size_t)CFLINE_BYTES_MAX / 2;
    char *text = malloc(size);
    assert_non_null(text);
    memset(text, 'x', size);
    for (size_t i = 0; i < size; i += 1000)
        memcpy(text + i, "\n ", 2);
    struct cfline c;
    struct str line;
    int number;
    cfline_init_text(&c, str_make(text, size));
    struct err *e = cfline_next(&c, &line, &number);
    assert_non_null(e);
    assert_int_equal(e->kind, ERR_LIMIT);
    cfline_fini(&c);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joins_continuations_of_a_text),
        cmocka_unit_test(joins_continuations_of_a_file),
        cmocka_unit_test(a_text_that_begins_with_a_continuation_is_stray),
        cmocka_unit_test(splits_name_and_value),
        cmocka_unit_test(an_endless_line_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
