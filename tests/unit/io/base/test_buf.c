#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/base/buf.h"

static void grows_and_stays_terminated(void **state)
{
    (void)state;
    struct buf b = {0};
    assert_string_equal(buf_str(&b).ptr, "");
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%d,", i);
    assert_int_equal(b.len, 10 * 2 + 90 * 3 + 900 * 4);
    assert_int_equal(b.ptr[b.len], '\0');
    size_t len = b.len;
    buf_printf(&b, "%*s", 5000, "x"); /* longer than the room at hand */
    assert_int_equal(b.len, len + 5000);
    assert_int_equal(b.ptr[b.len - 1], 'x');
    buf_reset(&b);
    buf_add(&b, "a\0b", 3);
    buf_add(&b, NULL, 0);
    assert_int_equal(b.len, 3);
    buf_fini(&b);
    assert_null(b.ptr);
}

static void reads_back_what_it_wrote(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_add_u8(&b, 0xab);
    buf_add_u16(&b, 0x1234);
    buf_add_u32(&b, 0xdeadbeef);
    buf_add_u64(&b, UINT64_C(0x0123456789abcdef));
    buf_add_lstr(&b, STR("name"));
    assert_memory_equal(b.ptr, "\xab\x34\x12\xef\xbe\xad\xde\xef\xcd\xab\x89", 11);
    struct rd r = rd_of(buf_str(&b));
    assert_int_equal(rd_u8(&r), 0xab);
    assert_int_equal(rd_u16(&r), 0x1234);
    assert_int_equal(rd_u32(&r), 0xdeadbeef);
    assert_int_equal(rd_u64(&r), UINT64_C(0x0123456789abcdef));
    assert_true(str_eq(rd_lstr(&r), STR("name")));
    assert_false(r.bad);
    assert_ptr_equal(r.ptr, r.end);
    buf_fini(&b);
}

static void a_read_past_the_end_is_bad_and_stays_bad(void **state)
{
    (void)state;
    struct rd r = rd_of(str_make("\x01\x02\x03", 3));
    assert_int_equal(rd_u32(&r), 0);
    assert_true(r.bad);
    assert_int_equal(rd_u8(&r), 0);
    /* A length that promises more than there is. */
    r = rd_of(str_make("\xff\xff\xff\xff"
                       "ab",
                       6));
    assert_int_equal(rd_lstr(&r).len, 0);
    assert_true(r.bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_and_stays_terminated),
        cmocka_unit_test(reads_back_what_it_wrote),
        cmocka_unit_test(a_read_past_the_end_is_bad_and_stays_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
