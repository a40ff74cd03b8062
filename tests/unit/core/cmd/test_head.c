/* sendmail -t: where headers end, and whom they name. Expectations are what sendmail 3.7 delivered to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/cmd/head.h"

static void test_what_is_a_line_of_the_headers(void **state)
{
    static const struct {
        const char *name, *line;
        bool after, expected;
    } rows[] = {
        {"a header", "Subject: x", false, true},
        {"blanks before the colon", "To : x", false, true},
        {"an empty header", "X:", true, true},
        {"a continuation", " more", true, true},
        {"a continuation of nothing", " more", false, false},
        {"the empty line", "", true, false},
        {"text", "hello world", true, false},
        {"text with a colon later", "hello world: x", true, false},
        {"no name", ": x", true, false},
        {"8-bit name", "Subj\xc3\xa4: x", true, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (head_line(str_of(rows[i].line), rows[i].after) != rows[i].expected)
            fail_msg("%s", rows[i].name);
}

static void test_recipients(void **state)
{
    static const struct {
        const char *name, *head, *expected;
    } rows[] = {
        {"To, Cc and Bcc, in their order",
         "From: x@y\nTo: t1@d, Name <t2@d>\nCC: c@d\nBcc: b@d\nSubject: s\n", "t1@d t2@d c@d b@d"},
        {"continuation lines", "To: a@d,\n b@d\nX: y\nTo: c@d\n", "a@d b@d c@d"},
        {"groups and comments", "To: a@d (comment), grp: b@d, c@d;\n", "a@d b@d c@d"},
        {"Resent headers stand for all", "To: a@d\nResent-Cc: b@d\nResent-Bcc: c@d\n", "b@d c@d"},
        {"Resent headers that name nobody do not", "To: a@d\nResent-Date: x\nResent-To: u:;\n", "a@d"},
        {"an empty group", "To: undisclosed-recipients:;\n", ""},
        {"the null address is nobody", "To: joe\nCc: <>\n", "joe"},
        {"a quoted local part", "To: \"q q\"@d\n", "q q@d"},
        {"others are not asked", "Apparently-To: z@d\nReply-To: r@d\n", ""},
        {"blanks before the colon", "To : a@d\n", "a@d"},
        {"no headers", "", ""},
        {"no line feed at the end", "To: a@d", "a@d"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct arena *a = arena_new(0, 0);
        struct buf list = {0}, text = {0};
        head_recipients(a, str_of(rows[i].head), &list);
        const struct str *found = (const struct str *)(const void *)list.ptr;
        for (size_t k = 0; k < list.len / sizeof(*found); k++)
            buf_printf(&text, "%s%.*s", k ? " " : "", STR_ARG(found[k]));
        if (!str_eq(buf_str(&text), str_of(rows[i].expected)))
            fail_msg("%s: %.*s", rows[i].name, STR_ARG(buf_str(&text)));
        buf_fini(&list);
        buf_fini(&text);
        arena_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_a_line_of_the_headers),
        cmocka_unit_test(test_recipients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
