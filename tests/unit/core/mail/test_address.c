#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/mail/address.h"
#include "core/mail/fold.h"
#include "io/base/rand.h"

struct path_row {
    const char *text;
    const char *want; /* NULL = bad syntax */
    bool strict_bad;
    bool odd;
};

/* As Debian's Postfix 3.7 answers RCPT TO. */
static const struct path_row path_rows[] = {
    {"<a@b.c>", "a@b.c", false, false},
    {"a@b.c", "a@b.c", true, false},
    {"<a b@c.d>", NULL, true, false},
    {"<\"a b\"@c.d>", "a b@c.d", false, false},
    {"<a\\ b@c.d>", "a b@c.d", false, false},
    {"<\"a\"@c.d>", "a@c.d", false, false},
    {"<@x,@y:a@c.d>", "a@c.d", false, false},
    {"<@x:a@c.d>", "a@c.d", false, false},
    {"<a@c.d.>", "a@c.d.", false, false},
    {"<a@[1.2.3.4]>", "a@[1.2.3.4]", false, false},
    {"<a@[IPv6:::1]>", "a@[IPv6:::1]", false, false},
    {"<a>", "a", false, false},
    {"<>", NULL, true, false},
    {"<@c.d>", "@c.d", true, false},
    {"<a@>", NULL, true, false},
    {"<a@@c.d>", "a@@c.d", false, false},
    {"<a@b@c.d>", "a@b@c.d", false, false},
    {"<a@b.c>x", NULL, true, false},
    {"x<a@b.c>", "a@b.c", true, false},
    {"(comment)<a@b.c>", "a@b.c", true, false},
    {"<a@b.c>(comment)", "a@b.c", true, false},
    {"<a(comment)@b.c>", "a@b.c", true, false},
    {"<a @ b.c>", "a@b.c", false, false},
    {"<a. b@c.d>", "a.b@c.d", false, false},
    {"<a..b@c.d>", "a..b@c.d", false, false},
    {"<.a@c.d>", ".a@c.d", false, false},
    {"<a@b..c>", NULL, true, false},
    {"<a@.c.d>", NULL, true, false},
    {"<\"a\\\"b\"@c.d>", "a\"b@c.d", false, false},
    {"<\"a\\\\b\"@c.d>", "a\\b@c.d", false, false},
    {"<a,b@c.d>", NULL, true, false},
    {"<a@b.c,d@e.f>", NULL, true, false},
    {"<a;b@c.d>", NULL, true, false},
    {"<a:b@c.d>", "a:b@c.d", false, false},
    {"<a%b@c.d>", "a%b@c.d", false, false},
    {"<b!a@c.d>", "b!a@c.d", false, false},
    {"<a@[1.2.3.4>", "a@[1.2.3.4]", false, false},
    {"<a@b.c", NULL, true, false},
    {"a@b.c>", "a@b.c", true, false},
    {"<<a@b.c>>", "a@b.c", false, false},
    {"<a@b.c><d@e.f>", NULL, true, false},
    {"<\"\">", NULL, true, false},
    {"<\"\"@c.d>", "@c.d", true, false},
    {"<\"a@b\"@c.d>", "a@b@c.d", false, false},
    {"<a@\"c.d\">", "a@c.d", false, false},
    {"<\xc3\xbc@c.d>", "\xc3\xbc@c.d", false, false},
    {"<a[b]c@c.d>", NULL, true, false},
    {"<a@b_c.d>", "a@b_c.d", false, false},
    {"<a@-b.c>", NULL, true, false},
    {"<a@1.2.3.4>", "a@1.2.3.4", false, true},
    {"< a@b.c >", "a@b.c", false, false},
    {"<a@(x)b.c>", "a@b.c", true, false},
    {"<\"a\".\"b\"@c.d>", "a.b@c.d", false, false},
    {"<a.\"b c\"@c.d>", "a.b c@c.d", false, false},
    {"<-a@c.d>", "-a@c.d", false, true},
    {"<a\\@b@c.d>", "a@b@c.d", false, false},
    {"<\"b\"c@d.e>", NULL, true, false},
    {"<b\\c@d.e>", "bc@d.e", false, false},
    {"<a@b c>", NULL, true, false},
    {"<(a)>", NULL, true, false},
    {"<a(b)c@d.e>", NULL, true, false},
    {"<a@b.c (foo)>", "a@b.c", true, false},
    {"<\"a b>", NULL, true, false},
    {"<a\\>", NULL, true, false},
    {"<a\\@b.c>", "a@b.c", false, false},
    {"<@a:b>", "b", false, false},
    {"<@a,@b>", NULL, true, false},
    {"<:a@b.c>", ":a@b.c", false, false},
    {"<a@[IPv6:zzz]>", NULL, true, false},
    {"<a@[1.2.3]>", NULL, true, false},
    {"<a@[]>", NULL, true, false},
    {"<a@b-.c>", NULL, true, false},
    {"<.>", ".", false, false},
    {"<@>", NULL, true, false},
    {"<\"@b.c\">", "@b.c", true, false},
    {"a:b@c.d;", "b@c.d", true, false},
    {"<a@b.c>:", NULL, true, false},
    {"<a@b.c>,", "a@b.c", true, false},
    {"<[a]@b.c>", "[a]@b.c", false, false},
    {"<a@b.c.1>", "a@b.c.1", false, false},
    {"<a@bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.c>", NULL, true, false},
    {"", NULL, true, false},
};

static void test_paths(void **state)
{
    (void)state;
    struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < sizeof path_rows / sizeof *path_rows; i++) {
        const struct path_row *row = &path_rows[i];
        struct str out = STR_NULL, rest;
        enum address_parse want = !row->want ? ADDRESS_BAD_SYNTAX : row->odd ? ADDRESS_ODD : ADDRESS_OK;
        enum address_parse got = address_parse_path(a, str_of(row->text), false, false, &out, &rest);
        if (got != want || (row->want && !str_eq(out, str_of(row->want))))
            fail_msg("%s: got %d <%.*s>, want %d <%s>", row->text, got, STR_ARG(out), want,
                     row->want ? row->want : "");
        got = address_parse_path(a, str_of(row->text), true, false, &out, &rest);
        if ((got == ADDRESS_BAD_SYNTAX) != row->strict_bad)
            fail_msg("strict %s: got %d", row->text, got);
    }
    arena_free(a);
}

static void test_path_rest(void **state)
{
    (void)state;
    struct arena *a = arena_new(0, 0);
    struct str out, rest;
    assert_int_equal(address_parse_path(a, STR("<a b@c>"), false, true, &out, &rest), ADDRESS_BAD_SYNTAX);
    assert_int_equal(address_parse_path(a, STR(" <\"a b\"@c.d>  SIZE=3 BODY=7BIT"), false, true, &out, &rest),
                     ADDRESS_OK);
    assert_true(str_eq(rest, STR("SIZE=3 BODY=7BIT")));
    assert_int_equal(address_parse_path(a, STR("<>"), true, true, &out, &rest), ADDRESS_OK);
    assert_int_equal(out.len, 0);
    assert_int_equal(address_parse_path(a, STR("Foo <a@b.c>"), false, true, &out, &rest), ADDRESS_OK);
    assert_true(str_eq(rest, STR("<a@b.c>")));
    arena_free(a);
}

static void test_quote(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"a@b", "a@b"}, {"a b@c", "\"a b\"@c"}, {"a\"b@c", "\"a\\\"b\"@c"}, {"", ""},
        {"@c", "\"\"@c"}, {"a..b@c", "\"a..b\"@c"}, {".a@c", "\".a\"@c"}, {"a.@c", "\"a.\"@c"},
        {"a@b@c", "\"a@b\"@c"}, {"a\\b@c", "\"a\\\\b\"@c"}, {"\xc3\xbc@c", "\xc3\xbc@c"},
        {"plain", "plain"}, {"two words", "\"two words\""}, {"a[@c", "\"a[\"@c"},
    };
    struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct str got = address_quote(a, str_of(rows[i][0]));
        if (!str_eq(got, str_of(rows[i][1])))
            fail_msg("%s gives %.*s", rows[i][0], STR_ARG(got));
    }
    arena_free(a);
}

static void test_ext(void **state)
{
    (void)state;
    static const struct {
        const char *local, *delimiters;
        ssize_t want;
    } rows[] = {
        {"user+ext", "+", 4}, {"user", "+", -1}, {"+ext", "+", -1}, {"user-a+b", "+-", 4},
        {"owner-list", "-", -1}, {"list-request", "-", -1}, {"owner-list", "+", -1},
        {"owner-list+x", "+", 10}, {"MAILER-DAEMON", "-", -1}, {"double-bounce", "-", -1},
        {"user+", "+", 4}, {"user+ext", "", -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (address_ext(str_of(rows[i].local), rows[i].delimiters) != rows[i].want)
            fail_msg("%s with %s", rows[i].local, rows[i].delimiters);
}

/* Body of a header, and how it looks taken apart and printed; as Postfix prints rewritten headers. */
static void test_header_print(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"Joe Doe <joe>", "Joe Doe <joe>"},
        {"a, b@c, d", "a,\nb@c,\nd"},
        {"friends: joe, jim@out.example; , other", "friends: joe,\njim@out.example;,\nother"},
        {"joe (comment) , \"Quoted Name\" <x@y> (c2), (c3) Plain.Name <z>",
         "joe (comment),\n\"Quoted Name\" <x@y>(c2),\n(c3) Plain.Name <z>"},
        {"joe  doe@foo", "joe,\ndoe@foo"},
        {"<@r:joe>", "<joe>"},
        {"\"a b\"@c, <\"j d\">, Joe A. Doe <j>", "\"a b\"@c,\n<\"j d\">,\nJoe A.Doe <j>"},
        {"undisclosed-recipients:;", "undisclosed-recipients: ;"},
        {"=?utf-8?q?J=C3=B6?= <j>, <>", "=?utf-8?q?J=C3=B6?= <j>,\n<>"},
        {"(a (nested) comment) joe", "joe (a (nested) comment)"},
        {"joe@[1.2.3.4], x!y", "joe@[1.2.3.4],\nx!y"},
        {"\"a, b\" <c>, d; e", "\"a, b\" <c>,\nd;,\ne"},
        {"joe,", "joe,\n"},
        {",,", ",\n,\n"},
        {"<a,b>", "<\"a, b\">"},
        {"<a", "\"<a\""},
        {"a b c <d> e f", "a b c <d>,\ne,\nf"},
        {"g: <a>, h: b;", "g: <a>,\nh: b;"},
        {"g: a, b", "\"g:a\",\nb"},
        {"a <b> (c) <d>", "a <b>(c) <d>"},
        {"<a b>", "<ab>"},
        {"joe (c) smith (d) x\\", "joe (c),\nsmith (d),\nx"},
        {"<a;b>", "<\"a;b\">"},
        {"<a> <b>", "<a> <b>"},
        {"<a> x <b>", "<a>x <b>"},
        {"x <a", "\"x <a\""},
        {"a>b", "a>,\nb"},
        {"g:;a", "g: ;,\na"},
        {"a: b: c;", "a:b: c;"},
        {":a;", ": a;"},
        {"", ""},
    };
    struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct address_part *parts;
        struct buf b = {0};
        size_t n = address_header_parts(a, str_of(rows[i][0]), 10240, &parts);
        address_header_print(parts, n, &b);
        if (!str_eq(buf_str(&b), str_of(rows[i][1])))
            fail_msg("%s gives %.*s", rows[i][0], STR_ARG(buf_str(&b)));
        buf_fini(&b);
    }
    arena_free(a);
}

static void test_header_list(void **state)
{
    (void)state;
    struct arena *a = arena_new(0, 0);
    struct str *list;
    size_t n = address_header_list(
        a, STR("Joe <joe@a>, g: x@b, \"y z\"@c;, (c) last@d, <>"), &list);
    assert_int_equal(n, 4);
    assert_true(str_eq(list[0], STR("joe@a")));
    assert_true(str_eq(list[2], STR("y z@c")));
    assert_true(str_eq(list[3], STR("last@d")));
    arena_free(a);
}

static void test_domains(void **state)
{
    (void)state;
    static const struct {
        const char *domain;
        bool want;
    } rows[] = {{"a", true}, {"a.b.", true}, {"a..b", false}, {"", false}, {".", false},
                {"[1.2.3.4]", true}, {"[IPv6:::1]", true}, {"[::1]", false}, {"[1.2.3.4", false},
                {"1.2.3.4", false}, {"a b", false}, {"x_y.z", true}, {"a.b..", false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (address_domain_valid(str_of(rows[i].domain)) != rows[i].want)
            fail_msg("%s", rows[i].domain);
}

/* Nothing an outsider writes may break the parser; what is printed must be read back the same. */
static void test_random_input(void **state)
{
    (void)state;
    static const char alphabet[] = "ab@.,:;<>()[]\"\\ %!\t\n-\xc3\xbc";
    for (int round = 0; round < 20000; round++) {
        struct arena *a = arena_new(0, 0);
        char text[48];
        size_t len = (size_t)rand_below(sizeof text);
        for (size_t i = 0; i < len; i++)
            text[i] = rand_below(50) == 0 ? (char)rand_below(256)
                                          : alphabet[rand_below(sizeof alphabet - 1)];
        struct str in = arena_str(a, str_make(text, len)), out, rest, *list;
        if (address_parse_path(a, in, false, true, &out, &rest) == ADDRESS_OK && out.len) {
            struct str again = STR_NULL;
            struct str quoted = arena_printf(a, "<%.*s>", STR_ARG(address_quote(a, out)));
            enum address_parse r = address_parse_path(a, quoted, false, true, &again, &rest);
            if (quoted.len == address_quote(a, out).len + 2 && out.ptr[0] != '@' &&
                !memchr(out.ptr, '\n', out.len) &&
                (r == ADDRESS_BAD_SYNTAX || !str_eq(out, again)) && address_domain_valid(address_domain(out)) && address_domain(out).ptr[0] != '[')
                fail_msg("<%.*s> came back as <%.*s>", STR_ARG(quoted), STR_ARG(again));
        }
        struct address_part *parts;
        struct buf b = {0};
        size_t n = address_header_parts(a, in, 10240, &parts);
        address_header_print(parts, n, &b);
        address_header_list(a, in, &list);
        buf_fini(&b);
        arena_free(a);
    }
}

/* A header as long as one may be, made of nothing but words: memory grows with it and not with its square. */
static void test_memory_of_hostile_headers(void **state)
{
    (void)state;
    static const char *const pieces[] = {"\"\",", "a\\b,", "\"", "[],", "<\"", "()", "\\", "a@b,"};
    static char text[102400];
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        struct arena *a = arena_new(0, 0);
        struct str *list;
        for (size_t n = 0; n < sizeof text; n++)
            text[n] = pieces[i][n % strlen(pieces[i])];
        address_header_list(a, str_make(text, sizeof text), &list);
        if (arena_used(a) > sizeof text * 300)
            fail_msg("%s: %zu bytes", pieces[i], arena_used(a));
        arena_free(a);
    }
}

static void test_fold(void **state)
{
    (void)state;
    struct arena *a = arena_new(0, 0);
    assert_true(str_eq(address_fold(a, STR("Joe@EXAMPLE.Com")), STR("joe@example.com")));
    assert_true(fold_eq(a, STR("\xc3\x9c@x"), STR("\xc3\xbc@X"))); /* U-umlaut */
    assert_true(fold_eq(a, STR("\xd0\x96"), STR("\xd0\xb6")));     /* Cyrillic Zhe */
    assert_false(fold_eq(a, STR("\xc3\x97"), STR("\xc3\xb7")));    /* times, division */
    assert_true(str_eq(fold_text(a, STR("\xc3")), STR("\xc3")));
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),       cmocka_unit_test(test_path_rest),
        cmocka_unit_test(test_quote),       cmocka_unit_test(test_ext),
        cmocka_unit_test(test_header_print), cmocka_unit_test(test_header_list),
        cmocka_unit_test(test_domains),     cmocka_unit_test(test_random_input),
        cmocka_unit_test(test_memory_of_hostile_headers), cmocka_unit_test(test_fold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
