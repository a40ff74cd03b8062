#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/base/arena.h"

static void blocks_are_aligned_and_apart(void **state)
{
    (void)state;
    struct arena *a = arena_new(0, 0);
    char *blocks[200];
    for (size_t i = 0; i < 200; i++) {
        blocks[i] = arena_alloc(a, i * 7);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        memset(blocks[i], (int)i, i * 7);
    }
    for (size_t i = 0; i < 200; i++)
        for (size_t j = 0; j < i * 7; j++)
            assert_int_equal((unsigned char)blocks[i][j], i);
    char *large = arena_alloc(a, 1000000);
    memset(large, 1, 1000000);
    assert_int_equal(*(char *)arena_zalloc(a, 1), 0);
    arena_free(a);
    arena_free(NULL);
}

static void try_stops_at_the_limit_and_reset_lifts_it(void **state)
{
    (void)state;
    struct arena *a = arena_new(64, 1000);
    assert_non_null(arena_try(a, 900));
    assert_null(arena_try(a, 101));
    assert_null(arena_try(a, SIZE_MAX));
    assert_non_null(arena_try(a, 100));
    assert_int_equal(arena_used(a), 1000);
    arena_reset(a);
    assert_int_equal(arena_used(a), 0);
    assert_non_null(arena_try(a, 1000));
    arena_free(a);
}

static void a_size_no_machine_has_is_refused(void **state)
{
    (void)state;
    struct arena *a = arena_new(0, 0);
    volatile size_t size = SIZE_MAX;
    assert_null(arena_try(a, size));
    assert_null(arena_try(a, size - 20));
    arena_free(a);
}

static void copies(void **state)
{
    (void)state;
    struct arena *a = arena_new(0, 0);
    struct str s = arena_str(a, STR("abc"));
    assert_string_equal(s.ptr, "abc");
    assert_string_equal(arena_cstr(a, STR_NULL), "");
    assert_string_equal(arena_printf(a, "%d-%s", 5, "x").ptr, "5-x");
    struct str long_text = arena_printf(a, "%1000d", 7);
    assert_int_equal(long_text.len, 1000);
    assert_int_equal(long_text.ptr[999], '7');
    assert_string_equal(arena_lower(a, STR("MiXed[\xc3\x84]")).ptr, "mixed[\xc3\x84]");
    arena_free(a);
}

static void reset_over_and_over_is_bounded(void **state)
{
    (void)state;
    struct arena *a = arena_new(0, 0);
    for (int i = 0; i < 1000; i++) {
        for (int j = 0; j < 50; j++)
            memset(arena_alloc(a, 300), 1, 300);
        arena_reset(a);
    }
    arena_free(a);
}

static void shrink_gives_back_only_what_is_empty(void **state)
{
    (void)state;
    struct arena *a = arena_new(0, 0);
    arena_shrink(a);
    char *kept = arena_cstr(a, STR("kept"));
    arena_shrink(a);
    assert_string_equal(kept, "kept");
    arena_reset(a);
    arena_shrink(a);
    assert_string_equal(arena_cstr(a, STR("again")), "again");
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_aligned_and_apart),
        cmocka_unit_test(try_stops_at_the_limit_and_reset_lifts_it),
        cmocka_unit_test(a_size_no_machine_has_is_refused),
        cmocka_unit_test(copies),
        cmocka_unit_test(reset_over_and_over_is_bounded),
        cmocka_unit_test(shrink_gives_back_only_what_is_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
