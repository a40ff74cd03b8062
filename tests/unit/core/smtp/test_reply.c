/* Replies of the next hop, well made and not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/smtp/reply.h"

struct row {
    const char *name;
    const char *lines; /* '\n' ends a line */
    int code;          /* 0: the reply is not complete */
    const char *dsn, *text;
    bool garbage;
};

static const struct row rows[] = {
    {"one line with an enhanced code", "250 2.1.0 Ok\n", 250, "2.1.0", "250 2.1.0 Ok", false},
    {"no enhanced code: the class stands for it", "550 unknown user\n", 550, "5.0.0",
     "550 unknown user", false},
    {"an enhanced code of another class does not count", "550 4.1.1 odd\n", 550, "5.0.0",
     "550 4.1.1 odd", false},
    {"354 has no enhanced code", "354 3.0.0 go\n", 354, "5.5.0", "354 3.0.0 go", false},
    {"the code alone", "250\n", 250, "2.0.0", "250", false},
    {"the code and a blank", "550 \n", 550, "5.0.0", "550 ", false},
    {"several blanks before the enhanced code", "550   5.7.1 no\n", 550, "5.7.1", "550   5.7.1 no",
     false},
    {"several lines: the last one decides", "450-4.1.1 a\n550 5.1.1 b\n", 550, "5.1.1",
     "450-4.1.1 a\n550 5.1.1 b", false},
    {"an enhanced code without text", "250 2.0.0\n", 250, "2.0.0", "250 2.0.0", false},
    {"three digits a part are the most", "550 5.123.456 x\n", 550, "5.123.456", "550 5.123.456 x",
     false},
    {"four digits are no enhanced code", "550 5.1.1234 x\n", 550, "5.0.0", "550 5.1.1234 x", false},
    {"text glued to the enhanced code", "550 5.1.1x\n", 550, "5.0.0", "550 5.1.1x", false},
    {"a continued line only: more must come", "250-first\n", 0, "", "250-first", false},
    {"rubbish is kept and passed over", "hello\n250 Ok\n", 250, "2.0.0", "hello\n250 Ok", true},
    {"two digits are no code", "25 Ok\n250 Ok\n", 250, "2.0.0", "25 Ok\n250 Ok", true},
    {"four digits are no code", "2500 Ok\n250 Ok\n", 250, "2.0.0", "2500 Ok\n250 Ok", true},
    {"text glued to the code", "250Ok\n250 Ok\n", 250, "2.0.0", "250Ok\n250 Ok", true},
    {"an empty line", "\n250 Ok\n", 250, "2.0.0", "\n250 Ok", true},
    {"control bytes and broken UTF-8 are masked", "550 5.1.1 \t\x07\xff\xc3\xa4\n", 550, "5.1.1",
     "550 5.1.1 ???\xc3\xa4", false},
};

static bool feed(struct smtp_reply *r, const char *lines)
{
    struct str rest = str_of(lines);
    bool done = false;
    while (rest.len > 0 && !done) {
        ssize_t end = str_index(rest, '\n');
        done = smtp_reply_line(r, str_head(rest, (size_t)end));
        rest = str_from(rest, (size_t)end + 1);
    }
    return done;
}

static void test_rows(void **state)
{
    (void)state;
    struct smtp_reply r = {0};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        smtp_reply_begin(&r);
        bool done = feed(&r, rows[i].lines);
        if (done != (rows[i].code != 0) || r.code != rows[i].code ||
            strcmp(r.dsn, rows[i].dsn) != 0 || !str_eq(buf_str(&r.text), str_of(rows[i].text)) ||
            r.garbage != rows[i].garbage)
            fail_msg("%s: done %d code %d dsn %s text \"%.*s\" garbage %d", rows[i].name, done,
                     r.code, r.dsn, STR_ARG(buf_str(&r.text)), r.garbage);
    }
    smtp_reply_fini(&r);
}

static void test_limits(void **state)
{
    (void)state;
    struct smtp_reply r = {0};
    static char longest[5000];
    memset(longest, 'x', sizeof longest);
    memcpy(longest, "550-", 4);
    smtp_reply_begin(&r);
    for (int i = 0; i < SMTP_REPLY_LINES_MAX; i++)
        assert_false(smtp_reply_line(&r, str_make(longest, sizeof longest)));
    assert_true(r.text.len <= SMTP_REPLY_TEXT_MAX + SMTP_REPLY_LINE_MAX + 1);
    assert_false(smtp_reply_endless(&r));
    assert_false(smtp_reply_line(&r, STR("550-more")));
    assert_true(smtp_reply_endless(&r));
    /* The decision is not lost with the text. */
    assert_true(smtp_reply_line(&r, STR("550 5.7.1 end")));
    assert_int_equal(r.code, 550);
    assert_string_equal(r.dsn, "5.7.1");
    smtp_reply_fini(&r);
}

/* Whatever comes: no overrun (ASan), and a finished reply has a code of three digits. */
static void test_random(void **state)
{
    (void)state;
    static const char bytes[] = "2450 -.\t\x80\xc3\xa4"
                                "1239x";
    struct smtp_reply r = {0};
    srand(1);
    for (int i = 0; i < 50000; i++) {
        char *line = malloc(16);
        size_t n = (size_t)(rand() % 16);
        for (size_t k = 0; k < n; k++)
            line[k] = bytes[(size_t)rand() % (sizeof(bytes) - 1)];
        if (i % 7 == 0 || r.code)
            smtp_reply_begin(&r);
        bool done = smtp_reply_line(&r, str_make(line, n));
        free(line);
        assert_true(done == (r.code != 0 || (done && r.code == 0)));
        if (done) {
            assert_in_range(r.code, 0, 999);
            assert_true(strlen(r.dsn) >= 5);
        }
    }
    smtp_reply_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_limits),
                                       cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
