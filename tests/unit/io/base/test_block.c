/* Blocks that wait for the next who needs one. Under ASan none does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/base/block.h"

#if defined(__SANITIZE_ADDRESS__)
enum { KEPT = 0 };
#else
enum { KEPT = 1 };
#endif

static void is_a_buffer_with_room(void **state)
{
    (void)state;
    struct buf b = block_buf();
    assert_int_equal(b.len, 0);
    assert_int_equal(b.cap, BLOCK_BYTES);
    assert_string_equal(b.ptr, "");
    for (size_t i = 0; i < 3 * BLOCK_BYTES; i++)
        buf_add_char(&b, 'x');
    assert_true(b.cap > BLOCK_BYTES);
    block_buf_fini(&b);
    assert_null(b.ptr);
    assert_int_equal(b.len + b.cap, 0);
    assert_int_equal(block_spares(), 0); /* what has grown goes to the heap */
    block_buf_fini(&b);
    assert_int_equal(block_spares(), 0);
}

static void the_last_one_given_is_the_next_one_taken(void **state)
{
    (void)state;
    struct buf a = block_buf(), b = block_buf();
    char *first = a.ptr, *last = b.ptr;
    buf_add_c(&b, "old");
    block_buf_fini(&a);
    block_buf_fini(&b);
    assert_int_equal(block_spares(), 2 * KEPT);
    struct buf c = block_buf(), d = block_buf();
    if (KEPT) {
        assert_ptr_equal(c.ptr, last);
        assert_ptr_equal(d.ptr, first);
    }
    assert_string_equal(c.ptr, "");
    buf_fini(&c); /* owned as any other buffer is */
    buf_fini(&d);
    assert_int_equal(block_spares(), 0);
}

static void half_of_what_nobody_needed_goes_back(void **state)
{
    (void)state;
    static const size_t left[] = {8, 4, 2, 1, 0, 0};
    struct buf all[8];
    block_trim();
    for (size_t i = 0; i < 8; i++)
        all[i] = block_buf();
    for (size_t i = 0; i < 8; i++)
        block_buf_fini(&all[i]);
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        block_trim();
        assert_int_equal(block_spares(), left[i] * KEPT);
    }
    for (size_t i = 0; i < 8; i++)
        all[i] = block_buf();
    for (size_t i = 0; i < 8; i++)
        block_buf_fini(&all[i]);
    block_trim();
    for (size_t i = 0; i < 6; i++) /* six were needed since */
        all[i] = block_buf();
    for (size_t i = 0; i < 6; i++)
        block_buf_fini(&all[i]);
    block_trim();
    assert_int_equal(block_spares(), 7 * KEPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_a_buffer_with_room),
        cmocka_unit_test(the_last_one_given_is_the_next_one_taken),
        cmocka_unit_test(half_of_what_nobody_needed_goes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
