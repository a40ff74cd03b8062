/* qshape's table, against lines that Debian's qshape printed for the same mail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/cmd/shape.h"

#define NOW 1000000

struct mail {
    int age_s;
    uint32_t count;
    const char *domain;
};

static void add(struct shape *s, const struct mail *m)
{
    struct buf row = {0};
    buf_add_u32(&row, (uint32_t)(NOW - m->age_s));
    buf_add_u32(&row, m->count);
    buf_add_u8(&row, (uint8_t)strlen(m->domain));
    buf_add_c(&row, m->domain);
    shape_add(s, buf_str(&row));
    buf_fini(&row);
}

static void check(struct shape *s, const struct mail *mail, const char *expected)
{
    struct buf out = {0};
    for (; mail->domain; mail++)
        add(s, mail);
    shape_print(s, &out);
    assert_string_equal(out.ptr, expected);
    buf_fini(&out);
    shape_fini(s);
}

static void the_layout_of_three_messages(void **state)
{
    (void)state;
    static const struct mail mail[] = {
        {180, 1, "tdm.mz"}, {6000, 1, "Scarlet.an"}, {36000, 1, "omantel.com"}, {0, 0, NULL}};
    struct shape s;
    shape_init(&s, NOW);
    check(&s, mail,
          "                                         T  5 10 20 40 80 160 320 640 1280 1280+\n"
          "                                  TOTAL  3  1  0  0  0  0   1   0   1    0     0\n"
          "                                 tdm.mz  1  1  0  0  0  0   0   0   0    0     0\n"
          "                             scarlet.an  1  0  0  0  0  0   1   0   0    0     0\n"
          "                            omantel.com  1  0  0  0  0  0   0   0   1    0     0\n");
}

static void nothing(void **state)
{
    (void)state;
    static const struct mail mail[] = {{0, 0, NULL}};
    struct shape s;
    shape_init(&s, NOW);
    check(&s, mail,
          "                                         T  5 10 20 40 80 160 320 640 1280 1280+\n"
          "                                  TOTAL  0  0  0  0  0  0   0   0   0    0     0\n");
}

static void few_linear_buckets(void **state)
{
    (void)state;
    static const struct mail mail[] = {{0, 1, "a.example"},
                                       {59, 1, "a.example"},
                                       {60, 1, "a.example"},
                                       {179, 1, "a.example"},
                                       {100000, 1, "b.example"},
                                       {0, 0, NULL}};
    struct shape s;
    shape_init(&s, NOW);
    s.linear = true;
    s.buckets = 3;
    s.tick_min = 1;
    check(&s, mail,
          "                                                                      T  1  2 2+\n"
          "                                                               TOTAL  5  2  1  2\n"
          "                                                           a.example  4  2  1  1\n"
          "                                                           b.example  1  0  0  1\n");
}

static void parents_and_long_names(void **state)
{
    (void)state;
    static const struct mail mail[] = {
        {0, 1000000, "one.a-domain-with-a-long-name.example"},
        {0, 1, "two.a-domain-with-a-long-name.example"},
        {0, 1, ".dots..in.it."},
        {0, 1, "few.other.example"},
        {0, 0, NULL}};
    struct shape s;
    shape_init(&s, NOW);
    s.parents = true;
    s.min_subdomains = 2;
    check(&s, mail,
          "                                    T       5 10 20 40 80 160 320 640 1280 1280+\n"
          "                        TOTAL 1000003 1000003  0  0  0  0   0   0   0    0     0\n"
          ".+in-with-a-long-name.example 1000001 1000001  0  0  0  0   0   0   0    0     0\n"
          "+ain-with-a-long-name.example 1000000 1000000  0  0  0  0   0   0   0    0     0\n"
          "                   dots.in.it       1       1  0  0  0  0   0   0   0    0     0\n"
          "            few.other.example       1       1  0  0  0  0   0   0   0    0     0\n"
          "+ain-with-a-long-name.example       1       1  0  0  0  0   0   0   0    0     0\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_layout_of_three_messages),
        cmocka_unit_test(nothing),
        cmocka_unit_test(few_linear_buckets),
        cmocka_unit_test(parents_and_long_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
