/* The form a message has in a mailbox file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "core/virtual/private.h"

#define NOW_US (INT64_C(1795315200) * 1000000)

static void head(enum letter_style style, const char *sender, const char *original, bool enabled,
                 struct buf *out)
{
    struct params params = {.enable_original_recipient = enabled};
    struct service svc = {.params = &params};
    struct envelope env = {.sender = str_of(sender)};
    struct qmsg msg = {.env = &env};
    struct request request = {.msg = &msg};
    struct rcpt rcpt = {.address = STR("a b@v.example"), .original = str_of(original)};
    struct mailbox m = {.svc = &svc, .request = &request, .rcpt = &rcpt};
    buf_reset(out);
    letter_head(&m, style, NOW_US, out);
}

static void test_headers_ahead_of_the_message(void **state)
{
    static const struct {
        const char *name;
        enum letter_style style;
        const char *sender, *original;
        bool enabled;
        const char *expected;
    } rows[] = {
        {"maildir", LETTER_MAILDIR, "s@x.example", "al@v.example", true,
         "Return-Path: <s@x.example>\nX-Original-To: al@v.example\nDelivered-To: \"a b\"@v.example\n"},
        {"mbox begins with a From_ line", LETTER_MBOX, "s@x.example", "al@v.example", true,
         "From s@x.example  Sun Nov 22 02:40:00 2026\nReturn-Path: <s@x.example>\n"
         "X-Original-To: al@v.example\nDelivered-To: \"a b\"@v.example\n"},
        {"the null sender", LETTER_MBOX, "", "", true,
         "From MAILER-DAEMON  Sun Nov 22 02:40:00 2026\nReturn-Path: <>\nDelivered-To: \"a b\"@v.example\n"},
        {"a quoted sender", LETTER_MBOX, "s s@x.example", "", true,
         "From \"s s\"@x.example  Sun Nov 22 02:40:00 2026\nReturn-Path: <\"s s\"@x.example>\n"
         "Delivered-To: \"a b\"@v.example\n"},
        {"enable_original_recipient = no", LETTER_MAILDIR, "s@x.example", "al@v.example", false,
         "Return-Path: <s@x.example>\nDelivered-To: \"a b\"@v.example\n"},
    };
    (void)state;
    struct buf out = {0};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        head(rows[i].style, rows[i].sender, rows[i].original, rows[i].enabled, &out);
        if (!str_eq(buf_str(&out), str_of(rows[i].expected)))
            fail_msg("%s: %s", rows[i].name, out.ptr);
    }
    buf_fini(&out);
}

struct copy {
    enum letter_style style;
    struct buf out;
};

static void each(void *ctx, struct str text, bool starts, bool ends)
{
    struct copy *c = ctx;
    letter_line(c->style, text, starts, ends, &c->out);
}

static void copied(struct copy *c, const char *content, size_t cut)
{
    struct lines l;
    struct str all = str_of(content);
    buf_reset(&c->out);
    lines_begin(&l, each, c);
    lines_push(&l, str_head(all, cut));
    lines_push(&l, str_from(all, cut));
    lines_end(&l);
}

/* Wherever a piece of content ends, and so whatever part of "From " or CRLF it ends in. */
static void test_lines_for_every_cut_of_the_content(void **state)
{
    static const struct {
        const char *name;
        enum letter_style style;
        const char *content, *expected;
    } rows[] = {
        {"mbox: From_ is quoted once", LETTER_MBOX,
         "b\r\nFrom the start\r\n>From two\r\nFrom\r\nFromage\r\n From x\r\nend\r\n",
         "b\n>From the start\n>From two\nFrom\nFromage\n From x\nend\n"},
        {"mbox: also as the first line", LETTER_MBOX, "From x\r\n", ">From x\n"},
        {"maildir: nothing is quoted", LETTER_MAILDIR, "From x\r\n..dot\r\n", "From x\n..dot\n"},
        {"a lone CR stays", LETTER_MAILDIR, "a\rb\r\n", "a\rb\n"},
        {"a missing end is added", LETTER_MBOX, "x\r\nFrom y", "x\n>From y\n"},
        {"8-bit", LETTER_MBOX, "\xe4\r\n\r\n", "\xe4\n\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct copy c = {.style = rows[i].style};
        for (size_t cut = 0; cut <= strlen(rows[i].content); cut++) {
            copied(&c, rows[i].content, cut);
            if (!str_eq(buf_str(&c.out), str_of(rows[i].expected)))
                fail_msg("%s, cut at %zu: %s", rows[i].name, cut, c.out.ptr);
        }
        buf_fini(&c.out);
    }
}

static void test_a_piece_of_a_long_line_is_no_start(void **state)
{
    (void)state;
    struct buf out = {0};
    letter_line(LETTER_MBOX, STR("xxx "), true, false, &out);
    letter_line(LETTER_MBOX, STR("From y"), false, true, &out);
    assert_true(str_eq(buf_str(&out), STR("xxx From y\n")));
    buf_fini(&out);
}

int main(void)
{
    setenv("TZ", "UTC", 1);
    tzset();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers_ahead_of_the_message),
        cmocka_unit_test(test_lines_for_every_cut_of_the_content),
        cmocka_unit_test(test_a_piece_of_a_long_line_is_no_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
