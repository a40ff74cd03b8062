/* Dots and line breaks, against a reference that sees the whole text, cut in every place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/smtp/wire.h"

struct row {
    const char *name;
    size_t limit;
    const char *in, *out;
};

static const struct row rows[] = {
    {"as it lies", 0, "a\r\nb\r\n", "a\r\nb\r\n"},
    {"a dot is doubled", 0, ".\r\n..\r\n.a\r\n", "..\r\n...\r\n..a\r\n"},
    {"a dot inside is not", 0, "a.\r\n .\r\n", "a.\r\n .\r\n"},
    {"nothing", 0, "", ""},
    {"the last line gets an end", 0, "a\r\nb", "a\r\nb\r\n"},
    {"a lone CR is data", 0, "a\rb\r\r\n", "a\rb\r\r\n"},
    {"a CR at the very end belongs to the end", 0, "a\r", "a\r\n"},
    {"a bare LF ends a line", 0, "a\n.b\n", "a\r\n..b\r\n"},
    {"a line of the limit is whole", 5, "12345\r\n", "12345\r\n"},
    {"one byte more is broken", 5, "123456\r\n", "12345\r\n 6\r\n"},
    {"what follows has one byte less", 5, "1234567890\r\n", "12345\r\n 6789\r\n 0\r\n"},
    {"the doubled dot does not count", 5, ".1234\r\n.12345\r\n", "..1234\r\n..1234\r\n 5\r\n"},
    {"no dot is doubled after a break", 5, "12345.\r\n", "12345\r\n .\r\n"},
    {"a limit of one gets on", 1, "abc\r\n", "ab\r\n c\r\n"},
};

/* The plain definition: line by line. */
static void reference(struct str in, size_t limit, struct buf *out)
{
    while (in.len > 0) {
        ssize_t lf = str_index(in, '\n');
        struct str line = lf < 0 ? in : str_head(in, (size_t)lf);
        in = str_from(in, line.len + 1);
        if (line.len > 0 && line.ptr[line.len - 1] == '\r')
            line.len--;
        if (line.len > 0 && line.ptr[0] == '.')
            buf_add_char(out, '.');
        size_t room = limit;
        while (limit > 0 && line.len > room) {
            buf_add_str(out, str_head(line, room));
            buf_add_c(out, "\r\n ");
            line = str_from(line, room);
            room = limit - 1;
        }
        buf_add_str(out, line);
        buf_add_c(out, "\r\n");
    }
}

static void whole(struct str in, size_t limit, size_t cut1, size_t cut2, struct buf *out)
{
    struct smtp_wire w;
    smtp_wire_begin(&w, limit);
    smtp_wire_feed(&w, str_head(in, cut1), out);
    smtp_wire_feed(&w, str_make(in.ptr + cut1, cut2 - cut1), out);
    smtp_wire_feed(&w, str_from(in, cut2), out);
    smtp_wire_end(&w, out);
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct str in = str_of(rows[i].in);
        for (size_t a = 0; a <= in.len; a++)
            for (size_t b = a; b <= in.len; b++) {
                struct buf out = {0};
                whole(in, rows[i].limit, a, b, &out);
                if (!str_eq(buf_str(&out), str_of(rows[i].out)))
                    fail_msg("%s, cut at %zu and %zu: \"%.*s\"", rows[i].name, a, b,
                             STR_ARG(buf_str(&out)));
                buf_fini(&out);
            }
    }
}

static void test_random(void **state)
{
    (void)state;
    static const char bytes[] = "..ab\r\n\n\r";
    srand(2);
    for (int i = 0; i < 3000; i++) {
        char text[60];
        size_t n = (size_t)(rand() % 60), limit = (size_t)(rand() % 9);
        limit = limit == 1 ? 2 : limit;
        for (size_t k = 0; k < n; k++)
            text[k] = bytes[(size_t)rand() % (sizeof(bytes) - 1)];
        struct buf want = {0}, out = {0};
        reference(str_make(text, n), limit, &want);
        size_t a = (size_t)rand() % (n + 1), b = a + (size_t)rand() % (n - a + 1);
        whole(str_make(text, n), limit, a, b, &out);
        if (!str_eq(buf_str(&want), buf_str(&out)))
            fail_msg("round %d: want \"%.*s\" got \"%.*s\"", i, STR_ARG(buf_str(&want)),
                     STR_ARG(buf_str(&out)));
        buf_fini(&want);
        buf_fini(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
