/* 8-bit content made 7-bit, cut in every place; Postfix's answers (tests/parity/test_client.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "core/smtp/downgrade.h"

#define E8 "Content-Transfer-Encoding: 8bit\r\n"
#define EQ "Content-Transfer-Encoding: quoted-printable\r\n"
#define E7 "Content-Transfer-Encoding: 7bit\r\n"
#define X70 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

struct row {
    const char *name, *in, *out;
};

static const struct row rows[] = {
    {"nothing", "", ""},
    {"what is not declared stays", "A: b\r\n\r\n\xe4 = \r\n", "A: b\r\n\r\n\xe4 = \r\n"},
    {"8bit becomes quoted-printable, its field stands last", E8 "A: b\r\n\r\n\xe4=\r\n",
     "A: b\r\n" EQ "\r\n=E4=3D\r\n"},
    {"binary too, behind a folded comment",
     "content-transfer-encoding: (a (b\\)))\r\n\tBINARY\r\n\r\n\x7f\r\n", EQ "\r\n=7F\r\n"},
    {"of two fields the last counts", E8 E7 "\r\n\xe4\r\n", E7 "\r\n\xe4\r\n"},
    {"blanks at the end of a line", E8 "\r\na \r\nb\t\r\n \r\n c\r\n",
     EQ "\r\na=20\r\nb=09\r\n=20\r\n c\r\n"},
    {"73 fit", E8 "\r\n" X70 "xxx\r\n", EQ "\r\n" X70 "xxx\r\n"},
    {"74 do not", E8 "\r\n" X70 "xxxx\r\n", EQ "\r\n" X70 "xxx=\r\nx\r\n"},
    {"a blank at the break stays", E8 "\r\n" X70 "xx yz\r\n", EQ "\r\n" X70 "xx =\r\nyz\r\n"},
    {"a code is not torn", E8 "\r\n" X70 "xx\xe4y\r\n", EQ "\r\n" X70 "xx=E4=\r\ny\r\n"},
    {"an empty body", E8 "\r\n", EQ "\r\n"},
    {"a header alone", E8, EQ},
    {"the last line gets an end", E8 "\r\n\xe4", EQ "\r\n=E4\r\n"},
    {"a lone CR is coded", E8 "\r\na\rb\r\n", EQ "\r\na=0Db\r\n"},
    {"a message is 7bit, its parts speak for themselves",
     "Content-Type: message/rfc822\r\n" E8 "\r\nA: \xe4\r\n" E8 "\r\n\xe4\r\n",
     "Content-Type: message/rfc822\r\n" E7 "\r\nA: \xe4\r\n" EQ "\r\n=E4\r\n"},
    {"a global message is coded whole", "Content-Type: message/global\r\n" E8 "\r\nA: \xe4\r\n",
     "Content-Type: message/global\r\n" EQ "\r\nA: =E4\r\n"},
    {"each part for itself",
     "Content-Type: multipart/x; boundary=b\r\n" E8 "\r\n\xe4\r\n--b\r\n" E8
     "\r\n\xe4\r\n--b\r\n\r\n\xe4\r\n--b--\r\n\xe4\r\n",
     "Content-Type: multipart/x; boundary=b\r\n" E7 "\r\n\xe4\r\n--b\r\n" EQ
     "\r\n=E4\r\n--b\r\n\r\n\xe4\r\n--b--\r\n\xe4\r\n"},
    {"a quoted boundary", "Content-Type: Multipart/x (;boundary=no); Boundary = \"b \\\"c\"\r\n\r\n--b \"c\r\n" E8
     "\r\n\xe4\r\n", "Content-Type: Multipart/x (;boundary=no); Boundary = \"b \\\"c\"\r\n\r\n--b \"c\r\n" EQ
     "\r\n=E4\r\n"},
    {"an outer boundary ends the inner parts",
     "Content-Type: multipart/x; boundary=a\r\n\r\n--a\r\nContent-Type: multipart/x; boundary=b\r\n\r\n--b\r\n" E8
     "\r\n\xe4\r\n--a\r\n\r\n--b\r\n" E8 "\r\n",
     "Content-Type: multipart/x; boundary=a\r\n\r\n--a\r\nContent-Type: multipart/x; boundary=b\r\n\r\n--b\r\n" EQ
     "\r\n=E4\r\n--a\r\n\r\n--b\r\n" E8 "\r\n"},
    {"parts of a digest are messages",
     "Content-Type: multipart/digest; boundary=a\r\n\r\n--a\r\n\r\n" E8 "\r\n\xe4\r\n",
     "Content-Type: multipart/digest; boundary=a\r\n\r\n--a\r\n\r\n" EQ "\r\n=E4\r\n"},
    {"a part without a header", "Content-Type: multipart/x; boundary=a\r\n\r\n--a\r\n\xe4\r\n" E8,
     "Content-Type: multipart/x; boundary=a\r\n\r\n--a\r\n\xe4\r\n" E8},
};

static void check(const struct row *row, size_t cut1, size_t cut2)
{
    struct downgrade *d = downgrade_new();
    struct buf out = {0};
    struct str in = str_of(row->in);
    downgrade_feed(d, str_head(in, cut1), &out);
    downgrade_feed(d, str_from(str_head(in, cut2), cut1), &out);
    downgrade_feed(d, str_from(in, cut2), &out);
    downgrade_end(d, &out);
    downgrade_free(d);
    if (!str_eq(buf_str(&out), str_of(row->out)))
        fail_msg("%s, cut at %zu and %zu:\n%.*s", row->name, cut1, cut2, STR_ARG(buf_str(&out)));
    buf_fini(&out);
}

static void rows_cut_everywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t len = strlen(rows[i].in);
        for (size_t cut1 = 0; cut1 <= len; cut1++)
            for (size_t cut2 = cut1; cut2 <= len; cut2 += 1 + len / 40)
                check(&rows[i], cut1, cut2);
    }
}

/* Lines, header fields and boundaries far beyond what is kept of them. */
static void long_ones_pass(void **state)
{
    (void)state;
    struct downgrade *d = downgrade_new();
    struct buf in = {0}, out = {0};
    buf_add_c(&in, "A: ");
    for (int i = 0; i < 300000; i++)
        buf_add_c(&in, i % 1000 ? "a" : "\r\n ");
    buf_add_c(&in, "\r\n\r\n");
    for (int i = 0; i < 300000; i++)
        buf_add_c(&in, "b");
    buf_add_c(&in, "\r\n");
    downgrade_feed(d, buf_str(&in), &out);
    downgrade_end(d, &out);
    assert_true(str_eq(buf_str(&in), buf_str(&out)));
    downgrade_free(d);
    buf_fini(&in);
    buf_fini(&out);
}

/* More levels than are kept: the deeper ones are text, and nothing is lost. */
static void deep_ones_pass(void **state)
{
    (void)state;
    struct downgrade *d = downgrade_new();
    struct buf in = {0}, out = {0};
    for (int i = 0; i < DOWNGRADE_DEPTH_MAX + 50; i++)
        buf_printf(&in, "Content-Type: multipart/x; boundary=b%dx\r\n\r\n--b%dx\r\n", i, i);
    for (int i = DOWNGRADE_DEPTH_MAX + 49; i >= 0; i--)
        buf_printf(&in, "\r\n--b%dx--\r\n", i);
    downgrade_feed(d, buf_str(&in), &out);
    downgrade_end(d, &out);
    assert_true(str_eq(buf_str(&in), buf_str(&out)));
    downgrade_free(d);
    buf_fini(&in);
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_cut_everywhere),
        cmocka_unit_test(long_ones_pass),
        cmocka_unit_test(deep_ones_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
