/* hist: buckets, quantiles, merging. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/base/mem.h"
#include "perf/load/hist.h"

static void buckets_follow_each_other_without_gap(void **state)
{
    (void)state;
    int64_t next = 0;
    for (size_t i = 0; i < HIST_BUCKETS; i++) {
        assert_int_equal(hist_bucket(next), i);
        assert_int_equal(hist_bucket(hist_bucket_top(i)), i);
        assert_true(hist_bucket_top(i) >= next);
        next = hist_bucket_top(i) + 1;
    }
    assert_int_equal(next, INT64_C(1) << HIST_TOP_BITS);
    assert_int_equal(hist_bucket(INT64_MAX), HIST_BUCKETS - 1);
    assert_int_equal(hist_bucket(-5), 0);
}

static void a_bucket_is_less_than_one_percent_wide(void **state)
{
    (void)state;
    for (int64_t v = 1; v < INT64_C(1) << 42; v += v / 3 + 1) {
        int64_t top = hist_bucket_top(hist_bucket(v));
        assert_true(top >= v);
        assert_true((double)(top - v) <= (double)v * 0.01);
    }
}

static void quantiles_of_a_thousand_values(void **state)
{
    (void)state;
    struct hist *h = MEM_NEW(struct hist);
    assert_int_equal(hist_at(h, 0.5), 0);
    for (int i = 1000; i >= 1; i--)
        hist_add(h, i * 1000);
    static const struct {
        double share;
        int64_t value;
    } rows[] = {{0, 1000}, {0.5, 500000}, {0.9, 900000}, {0.99, 990000}, {0.999, 999000}, {1, 1000000}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t got = hist_at(h, rows[i].share);
        assert_true(got >= rows[i].value);
        assert_true((double)got <= (double)rows[i].value * 1.01);
    }
    assert_int_equal(h->min, 1000);
    assert_int_equal(h->max, 1000000);
    assert_int_equal(hist_at(h, 1), 1000000); /* exactly: not the bucket's end */
    assert_int_equal((int64_t)hist_mean(h), 500500);
    mem_free(h);
}

static void merging_is_as_if_all_were_added_to_one(void **state)
{
    (void)state;
    struct hist *a = MEM_NEW(struct hist), *b = MEM_NEW(struct hist), *all = MEM_NEW(struct hist);
    for (int64_t v = 7; v < 5000000; v = v * 13 / 10 + 1) {
        hist_add(v % 2 ? a : b, v);
        hist_add(all, v);
    }
    hist_merge(a, b);
    assert_int_equal(a->count, all->count);
    assert_int_equal(a->min, all->min);
    assert_int_equal(a->max, all->max);
    assert_memory_equal(a->buckets, all->buckets, sizeof a->buckets);
    struct hist *none = MEM_NEW(struct hist);
    hist_merge(a, none);
    assert_int_equal(a->min, 7);
    mem_free(a);
    mem_free(b);
    mem_free(all);
    mem_free(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_follow_each_other_without_gap),
        cmocka_unit_test(a_bucket_is_less_than_one_percent_wide),
        cmocka_unit_test(quantiles_of_a_thousand_values),
        cmocka_unit_test(merging_is_as_if_all_were_added_to_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
