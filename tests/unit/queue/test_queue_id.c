#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "queue/queue_id.h"

static void names_look_as_in_postfix(void **state)
{
    static const struct {
        bool long_ids;
        int64_t us;
        uint64_t seq;
        const char *id;
    } rows[] = {
        {false, 1700000000257752, 0x640AEC, "3EED8640AEC"},
        {false, 1700000000000001, 0x10000, "0000110000"},
        {true, 0, 1, "0000000000z1"},
        {true, 51000000, 50, "00000z0000zy"},
        /* the example of postconf(5) enable_long_queue_ids */
        {true, 1300484092223646, 9586603, "3Ps0FS1Zhtz1PFjb"},
        {true, 1700000000999999, 51, "4SVLCh75plz10"},
    };
    char id[QUEUE_ID_MAX];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t seq = 0;
        uint32_t usec = 0;
        queue_id_format(rows[i].long_ids, rows[i].us, rows[i].seq, id);
        assert_string_equal(id, rows[i].id);
        assert_true(queue_id_parse(str_of(id), &seq, &usec));
        assert_int_equal(seq, rows[i].seq);
        assert_int_equal(usec, rows[i].us % 1000000);
    }
}

static void all_numbers_come_back(void **state)
{
    char id[QUEUE_ID_MAX];
    (void)state;
    for (int i = 0; i < 200000; i++) {
        uint64_t n = (uint64_t)i * 0x9E3779B97F4A7C15U, seq = n >> (i % 64), back = 0;
        int64_t us = (int64_t)(n % 4000000000000000);
        uint32_t usec = 0;
        if (seq == 0)
            continue;
        queue_id_format(i & 1, us, seq, id);
        assert_true(queue_id_parse(str_of(id), &back, &usec));
        assert_int_equal(back, seq);
        assert_int_equal(usec, us % 1000000);
    }
}

static void long_names_sort_by_time(void **state)
{
    char before[QUEUE_ID_MAX], after[QUEUE_ID_MAX];
    (void)state;
    queue_id_format(true, 1700000000123456, 99, before);
    for (int i = 1; i < 5000; i++) {
        queue_id_format(true, 1700000000123456 + (int64_t)i * 7919, 1, after);
        assert_true(strncmp(before, after, 10) < 0);
        memcpy(before, after, sizeof before);
    }
}

static void other_texts_are_no_names(void **state)
{
    static const char *const rows[] = {
        "",
        "1",
        "12345",
        "12345g",
        "3edA640AEC",
        "F4240"
        "10000",
        "../../etc",
        "ALL",
        "0000100001"
        "X",
        "123450",
        "z1",
        "00000000z1",
        "0000000000z",
        "0000000000zz",
        "0000000000a1z1",
        "aeiouaeiou"
        "z1",
        "3EDA640AEC3EDA640AEC3EDA640AEC3E",
        "FFFFFFFFFFFFFFFFFFFFFF",
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t seq = 7;
        uint32_t usec = 8;
        if (queue_id_parse(str_of(rows[i]), &seq, &usec))
            fail_msg("taken: %s", rows[i]);
        assert_int_equal(seq, 7);
    }
    assert_false(queue_id_parse(str_make("12345\0"
                                         "7",
                                         7),
                                NULL, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_look_as_in_postfix),
        cmocka_unit_test(all_numbers_come_back),
        cmocka_unit_test(long_names_sort_by_time),
        cmocka_unit_test(other_texts_are_no_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
