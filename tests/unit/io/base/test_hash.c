#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "io/base/hash.h"

#define MANY 5000

static int values[MANY];

static struct str name_of(char *text, size_t size, int i)
{
    int n = snprintf(text, size, "key%d", i);
    return str_make(text, (size_t)n);
}

static void sums_chain_and_tell_bytes_apart(void **state)
{
    (void)state;
    assert_int_equal(hash_sum("", 0, 0), UINT64_C(0x2d06800538d394c2)); /* XXH3-64 of nothing */
    assert_true(hash_sum("a", 1, 0) != hash_sum("b", 1, 0));
    assert_true(hash_sum("a", 1, 0) != hash_sum("a", 1, 1));
    assert_true(hash_key(STR("a")) == hash_key(STR("a")));
}

static void hmap_keeps_replaces_and_forgets(void **state)
{
    (void)state;
    struct hmap m = {0};
    char text[32];
    assert_null(hmap_get(&m, STR("x")));
    assert_null(hmap_del(&m, STR("x")));
    for (int i = 0; i < MANY; i++)
        assert_null(hmap_put(&m, name_of(text, sizeof text, i), &values[i]));
    assert_ptr_equal(hmap_put(&m, STR("key7"), &values[8]), &values[7]);
    assert_ptr_equal(hmap_put(&m, STR("key7"), &values[7]), &values[8]);
    assert_int_equal(m.count, MANY);
    for (int i = 0; i < MANY; i += 2)
        assert_ptr_equal(hmap_del(&m, name_of(text, sizeof text, i)), &values[i]);
    for (int i = 0; i < MANY; i++)
        assert_ptr_equal(hmap_get(&m, name_of(text, sizeof text, i)), i % 2 ? &values[i] : NULL);
    assert_null(hmap_put(&m, STR(""), &values[0]));
    assert_ptr_equal(hmap_get(&m, STR("")), &values[0]);
    hmap_fini(&m);
    assert_int_equal(m.count, 0);
}

static void hmap_walk_may_delete(void **state)
{
    (void)state;
    struct hmap m = {0};
    char text[32];
    for (int i = 0; i < MANY; i++)
        (void)hmap_put(&m, name_of(text, sizeof text, i), &values[i]);
    size_t at = 0, seen = 0;
    struct str key;
    void *value;
    while (hmap_next(&m, &at, &key, &value)) {
        assert_ptr_equal(hmap_del(&m, key), value);
        seen++;
    }
    assert_int_equal(seen, MANY);
    assert_int_equal(m.count, 0);
    hmap_fini(&m);
}

static void churn_does_not_grow_a_table(void **state)
{
    (void)state;
    struct umap m = {0};
    struct hmap h = {0};
    char text[32];
    for (uint64_t i = 0; i < 100000; i++) {
        (void)umap_put(&m, i, &values[0]);
        assert_ptr_equal(umap_del(&m, i), &values[0]);
        (void)hmap_put(&h, name_of(text, sizeof text, (int)i), &values[0]);
        assert_ptr_equal(hmap_del(&h, name_of(text, sizeof text, (int)i)), &values[0]);
    }
    assert_true(m.cap <= 16);
    assert_true(h.cap <= 16);
    assert_null(umap_get(&m, 5));
    umap_fini(&m);
    hmap_fini(&h);
}

static void umap_keeps_replaces_and_forgets(void **state)
{
    (void)state;
    struct umap m = {0};
    assert_null(umap_get(&m, 0));
    for (uint64_t i = 0; i < MANY; i++)
        assert_null(umap_put(&m, i << 32, &values[i]));
    assert_ptr_equal(umap_put(&m, 0, &values[1]), &values[0]);
    for (uint64_t i = 1; i < MANY; i++)
        assert_ptr_equal(umap_get(&m, i << 32), &values[i]);
    size_t at = 0, seen = 0;
    uint64_t key;
    void *value;
    while (umap_next(&m, &at, &key, &value)) {
        assert_ptr_equal(umap_del(&m, key), value);
        seen++;
    }
    assert_int_equal(seen, MANY);
    umap_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_chain_and_tell_bytes_apart),
        cmocka_unit_test(hmap_keeps_replaces_and_forgets),
        cmocka_unit_test(hmap_walk_may_delete),
        cmocka_unit_test(churn_does_not_grow_a_table),
        cmocka_unit_test(umap_keeps_replaces_and_forgets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
