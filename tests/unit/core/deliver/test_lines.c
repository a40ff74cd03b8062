/* Lines of stored content, for every way the content may be cut into pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/deliver/lines.h"
#include "io/base/mem.h"

/* "text/" ends a line, "text+" goes on; "|" before it: starts one. */
static void each(void *ctx, struct str text, bool starts, bool ends)
{
    struct buf *out = ctx;
    if (starts)
        buf_add_char(out, '|');
    buf_add_str(out, text);
    if (ends)
        buf_add_char(out, '/');
}

static void split(const char *content, size_t a, size_t b, struct buf *out)
{
    struct lines l;
    struct str all = str_of(content);
    buf_reset(out);
    lines_begin(&l, each, out);
    lines_push(&l, str_head(all, a));
    lines_push(&l, str_head(str_from(all, a), b - a));
    lines_push(&l, str_from(all, b));
    lines_end(&l);
}

static void test_every_split_gives_the_same_lines(void **state)
{
    static const struct {
        const char *name, *content, *expected;
    } rows[] = {
        {"two lines", "one\r\ntwo\r\n", "|one/|two/"},
        {"an empty line", "a\r\n\r\nb\r\n", "|a/|/|b/"},
        {"a bare LF ends a line", "a\nb\r\n", "|a/|b/"},
        {"a CR inside is data", "a\rb\r\n", "|a\rb/"},
        {"the second of two CRs belongs to the end", "a\r\r\n", "|a\r/"},
        {"a last line without an end", "a\r\nb", "|a/|b/"},
        {"a lone CR at the end is data", "a\r", "|a\r/"},
        {"nothing", "", ""},
    };
    (void)state;
    struct buf out = {0};
    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
        size_t n = strlen(rows[r].content);
        for (size_t a = 0; a <= n; a++)
            for (size_t b = a; b <= n; b++) {
                split(rows[r].content, a, b, &out);
                if (!str_eq(buf_str(&out), str_of(rows[r].expected)))
                    fail_msg("%s, cut at %zu and %zu: %.*s", rows[r].name, a, b, STR_ARG(buf_str(&out)));
            }
    }
    buf_fini(&out);
}

struct tally {
    size_t bytes, pieces, lines;
};

static void count(void *ctx, struct str text, bool starts, bool ends)
{
    struct tally *t = ctx;
    assert_true(text.len <= LINES_PIECE_MAX);
    assert_true(starts == (t->pieces == 0));
    t->bytes += text.len;
    t->pieces = ends ? 0 : t->pieces + 1;
    t->lines += ends;
}

static void test_a_long_line_comes_in_pieces_and_nothing_is_lost(void **state)
{
    static const size_t cuts[] = {1, 7, 4096, LINES_PIECE_MAX - 1, LINES_PIECE_MAX, 65536, 1000000};
    (void)state;
    size_t n = 3 * LINES_PIECE_MAX + 17;
    char *bytes = mem_alloc(n + 2);
    memset(bytes, 'x', n);
    memcpy(bytes + n, "\r\n", 2);
    for (size_t c = 0; c < sizeof(cuts) / sizeof(cuts[0]); c++) {
        struct tally t = {0};
        struct lines l;
        lines_begin(&l, count, &t);
        for (struct str rest = str_make(bytes, n + 2); rest.len > 0; rest = str_from(rest, cuts[c]))
            lines_push(&l, str_head(rest, cuts[c]));
        lines_end(&l);
        assert_int_equal(t.bytes, n);
        assert_int_equal(t.lines, 1);
    }
    mem_free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_split_gives_the_same_lines),
        cmocka_unit_test(test_a_long_line_comes_in_pieces_and_nothing_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
