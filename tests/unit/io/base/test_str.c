#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/base/str.h"

static void compares(void **state)
{
    (void)state;
    assert_true(str_eq(STR("a"), STR("a")));
    assert_true(str_eq(STR_NULL, STR("")));
    assert_false(str_eq(STR("a"), STR("A")));
    assert_true(str_eq_nocase(STR("aBc"), STR("AbC")));
    assert_false(str_eq_nocase(STR("a["), STR("a{"))); /* case bit apart, but no letters */
    assert_true(str_cmp(STR("a"), STR("ab")) < 0);
    assert_true(str_cmp(STR("b"), STR("ab")) > 0);
    assert_int_equal(str_cmp(STR(""), STR_NULL), 0);
    assert_true(str_starts(STR("postfix"), STR("post")));
    assert_false(str_starts(STR("po"), STR("post")));
    assert_true(str_ends_nocase(STR("Example.COM"), STR(".com")));
    assert_false(str_ends(STR("m"), STR(".com")));
}

static void finds(void **state)
{
    (void)state;
    assert_int_equal(str_index(STR("a.b.c"), '.'), 1);
    assert_int_equal(str_rindex(STR("a.b.c"), '.'), 3);
    assert_int_equal(str_index(STR_NULL, '.'), -1);
    assert_int_equal(str_find(STR("abcabd"), STR("abd")), 3);
    assert_int_equal(str_find(STR("ab"), STR("abd")), -1);
    assert_int_equal(str_find(str_make("a\0b", 3), str_make("\0b", 2)), 1);
    assert_true(str_eq(str_trim(STR(" \t a b\r\n")), STR("a b")));
    assert_int_equal(str_trim(STR("  ")).len, 0);
    assert_int_equal(str_from(STR("ab"), 5).len, 0);
}

static void tokens(void **state)
{
    (void)state;
    struct str rest = STR(", a,b  c,,"), token;
    const char *want[] = {"a", "b", "c"};
    for (size_t i = 0; i < 3; i++) {
        assert_true(str_token(&rest, ", ", &token));
        assert_true(str_eq(token, str_of(want[i])));
    }
    assert_false(str_token(&rest, ", ", &token));
    rest = STR("hash:/a { tcp:x, {y z} } b{c d}e {open f");
    const char *braced[] = {"hash:/a", "{ tcp:x, {y z} }", "b{c d}e", "{open f"};
    for (size_t i = 0; i < 4; i++) {
        assert_true(str_token_braces(&rest, ", ", &token));
        assert_true(str_eq(token, str_of(braced[i])));
    }
    assert_false(str_token_braces(&rest, ", ", &token));
}

static void numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool good;
        int64_t value;
    } rows[] = {
        {"0", true, 0},
        {"-1", true, -1},
        {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0},
        {"-9223372036854775809", false, 0},
        {"", false, 0},
        {"-", false, 0},
        {"+1", false, 0},
        {"1 ", false, 0},
        {"0x1", false, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t value = 42;
        assert_int_equal(str_i64(str_of(rows[i].text), &value), rows[i].good);
        assert_int_equal(value, rows[i].good ? rows[i].value : 42);
    }
    uint64_t big = 7;
    assert_true(str_u64(STR("18446744073709551615"), &big));
    assert_int_equal(big, UINT64_MAX);
    assert_false(str_u64(STR("18446744073709551616"), &big));
}

/* Each byte at each place of words and of their rest, beside neighbours that borrow and carry. */
static void printable_is_blank_to_tilde(void **state)
{
    (void)state;
    static const char around[] = {' ', '~', 'a'};
    for (size_t k = 0; k < sizeof around; k++)
        for (size_t len = 0; len <= 19; len++)
            for (size_t at = 0; at < len; at++)
                for (int c = 0; c < 256; c++) {
                    char text[19];
                    memset(text, around[k], sizeof text);
                    text[at] = (char)c;
                    assert_int_equal(str_is_printable(str_make(text, len)), c >= ' ' && c <= '~');
                }
    assert_true(str_is_printable(STR("")));
}

static void copies_cut_to_fit(void **state)
{
    (void)state;
    char small[4];
    assert_int_equal(str_copy(small, sizeof small, STR("abcdef")), 3);
    assert_string_equal(small, "abc");
    assert_int_equal(str_copy(small, sizeof small, STR_NULL), 0);
    assert_string_equal(small, "");
    assert_int_equal(str_copy(small, 0, STR("x")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compares),
        cmocka_unit_test(finds),
        cmocka_unit_test(tokens),
        cmocka_unit_test(numbers),
        cmocka_unit_test(printable_is_blank_to_tilde),
        cmocka_unit_test(copies_cut_to_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
