/* The tables of parameters against each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include "core/config/params.h"
#include "core/config/table.h"

/* Names whose default here is not Postfix 3.7's, with the reason. */
static const struct {
    const char *name, *why;
} other_defaults[] = {
    {"smtpd_forbid_bare_newline", "normalize, as in Postfix 3.9: smuggling is closed by default"},
};

static bool other_default(const char *name)
{
    for (size_t i = 0; i < sizeof(other_defaults) / sizeof(other_defaults[0]); i++)
        if (strcmp(name, other_defaults[i].name) == 0)
            return true;
    return false;
}

static void test_rows_agree_with_postfix(void **state)
{
    (void)state;
    for (size_t i = 0; i < param_row_count; i++) {
        const struct param_row *row = &param_rows[i];
        const struct known_param *known = known_param_find(str_of(row->name));
        if (!known)
            continue; /* one of our own */
        if (strcmp(row->def, known->def) != 0 && !other_default(row->name))
            fail_msg("%s: default \"%s\", Postfix has \"%s\"", row->name, row->def, known->def);
    }
}

/* A second row of the same name would be a second field of struct params, which does not compile; a
 * name that differs from another by the '_' before a digit would. */
static void test_rows_are_unique(void **state)
{
    (void)state;
    for (size_t i = 0; i < param_row_count; i++)
        assert_ptr_equal(param_row_find(str_of(param_rows[i].name)), &param_rows[i]);
}

static void test_known_is_sorted(void **state)
{
    (void)state;
    for (size_t i = 1; i < known_param_count; i++)
        if (strcmp(known_params[i - 1].name, known_params[i].name) >= 0)
            fail_msg("%s must stand before %s", known_params[i].name, known_params[i - 1].name);
    for (size_t i = 0; i < known_param_count; i++)
        assert_ptr_equal(known_param_find(str_of(known_params[i].name)), &known_params[i]);
    assert_null(known_param_find(STR("nosuch")));
}

/* Every default with numbers of its own can be read, and lies in its range. */
static void test_defaults_are_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < param_row_count; i++) {
        const struct param_row *row = &param_rows[i];
        struct err *e = NULL;
        int64_t n = 0;
        bool b;
        if (strchr(row->def, '$'))
            continue;
        if (row->type == PARAM_BOOL)
            e = param_bool(row->name, str_of(row->def), &b);
        else if (row->type == PARAM_TIME)
            e = param_time(row->name, str_of(row->def), param_time_unit(row->def), &n);
        else if (row->type == PARAM_INT || row->type == PARAM_SIZE)
            e = param_size(row->name, str_of(row->def), &n);
        else
            continue;
        if (!e && row->type != PARAM_BOOL)
            e = param_range(row->name, row->type, n, row->min, row->max);
        if (e)
            fail_msg("%s", e->text);
        assert_true(row->doc[0] != '\0');
    }
}

static void test_dynamic_names(void **state)
{
    (void)state;
    static const struct {
        const char *name, *service, *suffix;
    } rows[] = {
        {"smtp_destination_recipient_limit", "smtp", "_destination_recipient_limit"},
        {"smtp_recipient_limit", "smtp", "_recipient_limit"},
        {"my_own_transport_rate_delay", "my_own", "_transport_rate_delay"},
        {"x_initial_destination_concurrency", "x", "_initial_destination_concurrency"},
        {"_destination_rate_delay", NULL, NULL},
        {"smtp_timeout", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct str service;
        const struct dynamic_param *d = dynamic_param_find(str_of(rows[i].name), &service);
        assert_int_equal(d != NULL, rows[i].suffix != NULL);
        if (!d)
            continue;
        assert_string_equal(d->suffix, rows[i].suffix);
        assert_true(str_eq(service, str_of(rows[i].service)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_agree_with_postfix), cmocka_unit_test(test_rows_are_unique),
        cmocka_unit_test(test_known_is_sorted),         cmocka_unit_test(test_defaults_are_good),
        cmocka_unit_test(test_dynamic_names),
    };
    return cmocka_run_group_tests_name("core/config/table", tests, NULL, NULL);
}
