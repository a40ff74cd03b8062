#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/base/codec.h"

static struct arena *a;

/* RFC 4648 §10. */
static void base64_vectors_go_both_ways(void **state)
{
    (void)state;
    static const char *rows[][2] = {{"", ""},
                                    {"f", "Zg=="},
                                    {"fo", "Zm8="},
                                    {"foo", "Zm9v"},
                                    {"foob", "Zm9vYg=="},
                                    {"fooba", "Zm9vYmE="},
                                    {"foobar", "Zm9vYmFy"},
                                    {"\xff\xfe\xfb", "//77"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct str out;
        assert_string_equal(base64_encode(a, str_of(rows[i][0])).ptr, rows[i][1]);
        assert_true(base64_decode(a, str_of(rows[i][1]), &out));
        assert_true(str_eq(out, str_of(rows[i][0])));
    }
}

/* RFC 4648 §3.2, §3.3, §3.5. */
static void base64_refuses_what_is_not_the_one_text(void **state)
{
    (void)state;
    static const char *rows[] = {"Zg", "Zg=",  "Zg==\n", "Z g=",     "Zh==", "Zm9=", "====",
                                 "=",  "Z===", "Zg=x",   "Zg==Zg==", "Zm-_", "Zm9vY"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct str out = STR("untouched");
        if (base64_decode(a, str_of(rows[i]), &out))
            fail_msg("accepted: %s", rows[i]);
        assert_string_equal(out.ptr, "untouched");
    }
}

/* RFC 3461 §4. */
static void xtext(void **state)
{
    (void)state;
    struct str out;
    assert_string_equal(xtext_encode(a, STR("a+b=c d\n")).ptr, "a+2Bb+3Dc+20d+0A");
    assert_string_equal(xtext_encode(a, STR("\xff")).ptr, "+FF");
    assert_true(xtext_decode(a, STR("a+2Bb+3Dc+20d"), &out));
    assert_string_equal(out.ptr, "a+b=c d");
    static const char *bad[] = {"a b", "a=b", "+", "+2", "+2b", "+GG", "\x7f", "\xc3\xa4", "a+"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (xtext_decode(a, str_of(bad[i]), &out))
            fail_msg("accepted: %s", bad[i]);
}

/* RFC 3629 §4. */
static void utf8_edges(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool good;
    } rows[] = {
        {"", true},
        {"a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", true},
        {"\xc2\x80", true},
        {"\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", true},
        {"\x80", false},             /* tail alone */
        {"\xc1\xbf", false},         /* overlong */
        {"\xe0\x9f\xbf", false},     /* overlong */
        {"\xf0\x8f\xbf\xbf", false}, /* overlong */
        {"\xed\xa0\x80", false},     /* surrogate */
        {"\xf4\x90\x80\x80", false}, /* beyond U+10FFFF */
        {"\xf5\x80\x80\x80", false},
        {"\xe2\x82", false}, /* cut */
        {"\xe2\x82"
         "a",
         false},
        {"\xff", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(utf8_valid(str_of(rows[i].text)), rows[i].good);
    assert_true(ascii_only(STR("abc")));
    assert_false(ascii_only(STR("\xc3\xa4")));
}

static void idna(void **state)
{
    (void)state;
    struct str out = STR("untouched");
    assert_true(idna_to_ascii(a,
                              STR("b\xc3\xbc"
                                  "cher.example"),
                              &out));
    assert_string_equal(out.ptr, "xn--bcher-kva.example");
    assert_true(idna_to_ascii(a, STR("_dmarc.Example.com"), &out));
    assert_string_equal(out.ptr, "_dmarc.Example.com");
    assert_true(idna_to_utf8(a, STR("xn--bcher-kva.example"), &out));
    assert_string_equal(out.ptr, "b\xc3\xbc"
                                 "cher.example");
    out = STR("untouched");
    assert_false(idna_to_ascii(a, STR("\xff.example"), &out));
    assert_false(idna_to_ascii(a, str_make("\xc3\xa4\0x", 4), &out));
    assert_false(idna_to_ascii(a, STR("\xe2\x80\x8e.example"), &out)); /* a direction mark */
    assert_string_equal(out.ptr, "untouched");
}

static int set_up(void **state)
{
    (void)state;
    a = arena_new(0, 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_free(a);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64_vectors_go_both_ways),
        cmocka_unit_test(base64_refuses_what_is_not_the_one_text),
        cmocka_unit_test(xtext),
        cmocka_unit_test(utf8_edges),
        cmocka_unit_test(idna),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
