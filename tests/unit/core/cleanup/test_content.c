#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <time.h>

#include "core/cleanup/private.h"
#include "io/base/rand.h"

static struct params params;
static struct lists lists;
static struct snapshot snapshot = {.params = &params, .lists = &lists};
static struct service service = {.snapshot = &snapshot, .params = &params, .lists = &lists,
                                 .name = "cleanup", .log_tag = "test"};

static void defaults(void)
{
    memset(&params, 0, sizeof params);
    params.append_at_myorigin = params.allow_percent_hack = params.swap_bangpath = true;
    params.myorigin = "origin.example";
    params.mydomain = "example";
    params.myhostname = "mx.example";
    params.remote_header_rewrite_domain = "";
    params.empty_address_recipient = "MAILER-DAEMON";
    params.message_drop_headers = "bcc, content-length, resent-bcc, return-path";
    params.undisclosed_recipients_header = "";
    params.header_from_format = "standard";
    params.cleanup_replace_stray_cr_lf = params.detect_8bit_encoding_header = true;
    params.enable_original_recipient = true;
    params.header_size_limit = 102400;
    params.header_address_token_limit = 10240;
    params.hopcount_limit = 50;
    params.message_size_limit = 10240000;
    params.duplicate_filter_limit = 1000;
    params.virtual_alias_address_length_limit = 1000;
    params.virtual_alias_expansion_limit = 1000;
    params.virtual_alias_recursion_limit = 1000;
    params.propagate_unmatched_extensions = "canonical, virtual";
    params.recipient_delimiter = "+";
}

static struct cleanup *begin(unsigned flags)
{
    struct cleanup *c = cleanup_new(&service, flags, NULL);
    c->arrival_us = INT64_C(1795304174000000);
    strcpy(c->id, "ID");
    cleanup_sender(c, STR("s@out.example"), 0, STR(""), 0);
    return c;
}

/* Lines end at LF here; CR, NUL and the rest are data. */
static void feed(struct cleanup *c, struct str text)
{
    while (text.len) {
        ssize_t lf = str_index(text, '\n');
        struct str line = lf < 0 ? text : str_head(text, (size_t)lf);
        cleanup_line(c, line, true);
        text = lf < 0 ? STR("") : str_from(text, (size_t)lf + 1);
    }
}

#define MSGID "Message-Id: <20261121233614.ID@mx.example>\r\n"
#define DATE  "Date: Sat, 21 Nov 2026 23:36:14 +0000 (UTC)\r\n"
#define FROM  "From: s@out.example\r\n"

struct row {
    const char *name;
    unsigned flags;
    const char *in, *out;
};

/* The right sides are what Debian's Postfix 3.7.11 delivered. */
static const struct row rows[] = {
    {"local mail gets what is missing", CLEANUP_LOCAL, "Subject: hi\n\nbody\n",
     "Subject: hi\r\n" MSGID DATE FROM "\r\nbody\r\n"},
    {"remote mail gets nothing", 0, "Subject: hi\n\nbody\n", "Subject: hi\r\n\r\nbody\r\n"},
    {"headers without a body get no empty line", CLEANUP_LOCAL, "Subject: x\n",
     "Subject: x\r\n" MSGID DATE FROM},
    {"nothing at all", CLEANUP_LOCAL, "", MSGID DATE FROM},
    {"an empty line alone", CLEANUP_LOCAL, "\n", MSGID DATE FROM "\r\n"},
    {"a line that is no header begins the body", CLEANUP_LOCAL, "no header at all\nfoo: bar\n",
     MSGID DATE FROM "\r\nno header at all\r\nfoo: bar\r\n"},
    {"a From line among headers begins the body", CLEANUP_LOCAL, "Subject: x\nFrom joe Mon\nTo: a\n",
     "Subject: x\r\n" MSGID DATE FROM "\r\nFrom joe Mon\r\nTo: a\r\n"},
    {"blanks before the colon go", CLEANUP_LOCAL, "Subject : spaced\nTo :a\nFrom: x@y\nDate: d\nMessage-Id: <i>\n",
     "Subject: spaced\r\nTo: a@origin.example\r\nFrom: x@y\r\nDate: d\r\nMessage-Id: <i>\r\n"},
    {"complete address lists stay byte for byte", 0,
     "From: Joe Doe <joe@x.example>\nTo: a@b   ,   c@d (x)\nCc: a@b,\nX: 1\n  2\n",
     "From: Joe Doe <joe@x.example>\r\nTo: a@b   ,   c@d (x)\r\nCc: a@b,\r\nX: 1\r\n  2\r\n"},
    {"Bcc, Return-Path and Content-Length go", 0,
     "Bcc: h@x\n more@x\nResent-Bcc: h@x\nReturn-Path: <x@y>\nContent-Length: 33\nTo: a@b\n",
     "To: a@b\r\n"},
    {"Resent-Bcc makes it resent mail", CLEANUP_LOCAL, "Resent-Bcc: h@x\n\nb\n",
     "Resent-Message-Id: <20261121233614.ID@mx.example>\r\nResent-" DATE "Resent-" FROM "\r\nb\r\n"},
    {"resent mail gets resent headers", CLEANUP_LOCAL, "Resent-To: x@y\nSubject: x\nDate: foo\nFrom: bar\n",
     "Resent-To: x@y\r\nSubject: x\r\nDate: foo\r\nFrom: bar@origin.example\r\n"
     "Resent-Message-Id: <20261121233614.ID@mx.example>\r\nResent-" DATE "Resent-" FROM},
    {"the case of a header's name stays", CLEANUP_LOCAL,
     "TO: joe\nFROM:   x@y\ncC: b\nDate: d\nMessage-ID: <i>\n",
     "TO: joe@origin.example\r\nFROM:   x@y\r\ncC: b@origin.example\r\nDate: d\r\nMessage-ID: <i>\r\n"},
    {"rewritten lists are filled to 70 columns", CLEANUP_LOCAL,
     "From: Joe Doe <joe>\nTo: a, b@c, d\nCc: friends: joe, jim@out.example; , other\n"
     "Resent-Reply-To: one, two, three, four, five\nResent-From: \"a b\"@c, <\"j d\">, Joe A. Doe <j>\n"
     "Resent-Date: x\nResent-Message-Id: <i>\n",
     "From: Joe Doe <joe@origin.example>\r\nTo: a@origin.example, b@c, d@origin.example\r\n"
     "Cc: friends: joe@origin.example, jim@out.example;,\r\n\tother@origin.example\r\n"
     "Resent-Reply-To: one@origin.example, two@origin.example,\r\n"
     "\tthree@origin.example, four@origin.example, five@origin.example\r\n"
     "Resent-From: \"a b\"@c, <\"j d\"@origin.example>,\r\n\tJoe A.Doe <j@origin.example>\r\n"
     "Resent-Date: x\r\nResent-Message-Id: <i>\r\n"},
    {"two words are two addresses", CLEANUP_LOCAL, "From: x@y\nDate: d\nMessage-Id: i\nReply-To: joe  doe@foo\n",
     "From: x@y\r\nDate: d\r\nMessage-Id: i\r\nReply-To: joe@origin.example, doe@foo\r\n"},
    {"a lone CR becomes a blank", 0, "Subject: a\rb\n\nz\rw\n", "Subject: a b\r\n\r\nz w\r\n"},
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct cleanup *c = begin(rows[i].flags);
        feed(c, str_of(rows[i].in));
        cleanup_content_end(c);
        if (c->status != CLEANUP_OK || !str_eq(buf_str(&c->block), str_of(rows[i].out)))
            fail_msg("%s: got\n%.*s", rows[i].name, STR_ARG(buf_str(&c->block)));
        assert_int_equal(c->size, c->block.len);
        cleanup_abort(c);
    }
}

static void test_nul_and_size(void **state)
{
    (void)state;
    struct cleanup *c = begin(0);
    feed(c, STR("Subject: a\0b\nX: 1\n\nx\0y\n.dot\n"));
    cleanup_content_end(c);
    assert_true(str_eq(buf_str(&c->block), STR("Subject: a\r\nX: 1\r\n\r\nx\0y\r\n.dot\r\n")));
    assert_true(c->env.flags & ENV_DOTS);
    assert_false(c->env.flags & (ENV_LONG_LINES | ENV_8BIT));
    assert_int_equal(c->record_size, 10 + 2 + 4 + 2 + 2 + 3 + 2 + 4 + 2);
    cleanup_abort(c);

    /* Postfix logged size=306 for nine lines that have 297 bytes with LF: two bytes a short record,
     * three from 128 on, and long lines are several records. */
    c = begin(0);
    static char line[5000];
    memset(line, 'x', sizeof line);
    cleanup_line(c, STR(""), true);
    cleanup_line(c, str_make(line, 127), true);
    cleanup_line(c, str_make(line, 128), true);
    assert_int_equal(c->record_size, 2 + 129 + 131);
    cleanup_line(c, str_make(line, 3000), false);
    cleanup_line(c, str_make(line, 2000), true);
    assert_int_equal(c->record_size, 2 + 129 + 131 + 2 * 2051 + 904 + 3);
    assert_true(c->env.flags & ENV_LONG_LINES);
    cleanup_abort(c);
}

static void test_pieces(void **state)
{
    (void)state;
    struct cleanup *c = begin(0);
    cleanup_line(c, STR("To: joe"), false);
    cleanup_line(c, STR("@x, "), false);
    cleanup_line(c, STR("jim@y"), true);
    cleanup_line(c, STR(" folded"), true);
    cleanup_line(c, STR(""), true);
    cleanup_line(c, STR("b"), false);
    cleanup_line(c, STR(".ody"), true);
    cleanup_line(c, STR("cut"), false);
    cleanup_content_end(c);
    assert_true(str_eq(buf_str(&c->block), STR("To: joe@x, jim@y\r\n folded\r\n\r\nb.ody\r\ncut\r\n")));
    assert_false(c->env.flags & ENV_DOTS);
    cleanup_abort(c);
}

static void test_limits(void **state)
{
    (void)state;
    struct cleanup *c = begin(0);
    params.header_size_limit = 12;
    feed(c, STR("X-Long: aaaaaaaaaaaaaaaaaa\n more\nY: b\n"));
    cleanup_content_end(c);
    assert_true(str_eq(buf_str(&c->block), STR("X-Long: aaaa\r\nY: b\r\n")));
    cleanup_abort(c);
    defaults();

    params.hopcount_limit = 3;
    c = begin(0);
    feed(c, STR("Received: 1\nReceived: 2\nSubject: x\n\nb\n"));
    assert_int_equal(c->status, CLEANUP_OK);
    cleanup_abort(c);
    c = begin(0);
    feed(c, STR("Received: 1\nReceived: 2\nReceived: 3\n\nb\n"));
    assert_int_equal(c->status, CLEANUP_TOO_MANY_HOPS);
    cleanup_abort(c);
    defaults();

    params.message_size_limit = 1000;
    c = begin(0);
    for (int i = 0; i < 100; i++)
        cleanup_line(c, STR("ten bytes."), true);
    cleanup_content_end(c);
    assert_int_equal(c->status, CLEANUP_TOO_BIG);
    cleanup_abort(c);
    defaults();
}

static void test_from(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        {"Joe Doe", "From: Joe Doe <s@out.example>\r\n"},
        {"Doe, Joe", "From: \"Doe, Joe\" <s@out.example>\r\n"},
        {"J\"D", "From: \"J\\\"D\" <s@out.example>\r\n"},
        {"", FROM},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct cleanup *c = begin(CLEANUP_LOCAL);
        cleanup_attr(c, STR("full_name"), str_of(names[i][0]));
        feed(c, STR("Message-Id: i\nDate: d\n"));
        cleanup_content_end(c);
        if (!str_ends(buf_str(&c->block), str_of(names[i][1])))
            fail_msg("%s: %.*s", names[i][0], STR_ARG(buf_str(&c->block)));
        cleanup_abort(c);
    }
    struct cleanup *c = begin(CLEANUP_LOCAL);
    c->env.sender = STR("");
    params.undisclosed_recipients_header = "To: undisclosed-recipients:;";
    feed(c, STR("Message-Id: i\nDate: d\n"));
    cleanup_content_end(c);
    assert_true(str_eq(buf_str(&c->block), STR("Message-Id: i\r\nDate: d\r\nFrom: MAILER-DAEMON\r\n"
                                               "To: undisclosed-recipients:;\r\n")));
    cleanup_abort(c);
    defaults();
}

/* Any bytes: nothing breaks, lines end in CRLF and hold no other CR or LF. */
static void test_random(void **state)
{
    (void)state;
    static const char alphabet[] = "To:From:Bcc: @<>,\"()\\;\n\n\t \r\0abc.\xc3\xbc";
    for (int round = 0; round < 5000; round++) {
        char text[400];
        size_t len = (size_t)rand_below(sizeof text);
        for (size_t i = 0; i < len; i++)
            text[i] = alphabet[rand_below(sizeof alphabet - 1)];
        struct cleanup *c = begin(rand_below(2) ? CLEANUP_LOCAL : 0);
        for (size_t at = 0; at < len;) {
            size_t n = 1 + (size_t)rand_below(60);
            struct str piece = str_head(str_make(text + at, len - at), n);
            ssize_t lf = str_index(piece, '\n');
            bool whole = lf >= 0 || rand_below(2);
            if (lf >= 0)
                piece = str_head(piece, (size_t)lf);
            at += piece.len + (lf >= 0 ? 1 : 0);
            cleanup_line(c, piece, whole);
        }
        cleanup_content_end(c);
        struct str out = buf_str(&c->block);
        for (size_t i = 0; i < out.len; i++) {
            if (out.ptr[i] == '\r')
                assert_true(i + 1 < out.len && out.ptr[i + 1] == '\n');
            if (out.ptr[i] == '\n')
                assert_true(i > 0 && out.ptr[i - 1] == '\r');
        }
        cleanup_abort(c);
    }
}

/* --- recipients */
struct rcpt_row {
    const char *name, *maps;
    const char *in[4]; /* "address" or "address original" */
    const char *out;   /* "address(original) ..." */
    enum cleanup_status status;
};
static const struct rcpt_row rcpt_rows[] = {
    {"no tables: as they came, duplicates out", "", {"r@out", "R@OUT", "r@out", "c@out"}, "r@out(r@out) c@out(c@out)", CLEANUP_OK},
    {"one to many, and on", "inline:{{a@va=b@va, c@out},{b@va=d@out, c@out}}",
     {"a@va", "c@out"}, "d@out(a@va) c@out(a@va) c@out(c@out)", CLEANUP_OK},
    {"an address may hold itself", "inline:{{self@x=self@x, other@x}}", {"self@x"}, "self@x(self@x) other@x(self@x)", CLEANUP_OK},
    {"a loop is refused", "inline:{l@x=m@x,m@x=l@x}", {"l@x"}, "", CLEANUP_TROUBLE},
    {"catch-all", "inline:{@cat.x=joe@y}", {"a+b@cat.x"}, "joe@y(a+b@cat.x)", CLEANUP_OK},
    {"domain to domain", "inline:{@dom.x=@other.y}", {"u+v@dom.x"}, "u+v@other.y(u+v@dom.x)", CLEANUP_OK},
    {"the extension goes along", "inline:{ext@x=tgt@y}", {"ext+Foo@x"}, "tgt+Foo@y(ext+Foo@x)", CLEANUP_OK},
    {"a bare result gets the origin", "inline:{x@x=y}", {"X@X"}, "y@origin.example(X@X)", CLEANUP_OK},
    {"a bare recipient gets the origin", "", {"joe"}, "joe@origin.example(joe)", CLEANUP_OK},
    {"the null recipient", "", {""}, "MAILER-DAEMON@origin.example()", CLEANUP_OK},
    {"a table that fails refuses the message", "fail:x", {"a@b"}, "", CLEANUP_TROUBLE},
};

static void test_recipients(void **state)
{
    (void)state;
    static const struct map_options options = {.config_dir = "/", .default_type = "hash"};
    for (size_t i = 0; i < sizeof rcpt_rows / sizeof *rcpt_rows; i++) {
        const struct rcpt_row *row = &rcpt_rows[i];
        assert_null(map_list_open(row->maps, MAP_FOLD, &options, &lists.virtual_alias_maps));
        struct cleanup *c = begin(0);
        for (size_t n = 0; n < 4 && row->in[n]; n++)
            cleanup_rcpt(c, str_of(row->in[n]), str_of(row->in[n]), STR(""), 0);
        cleanup_expand(c);
        struct buf got = {0};
        for (size_t n = 0; n < c->env.rcpt_count && c->status == CLEANUP_OK; n++)
            buf_printf(&got, "%s%.*s(%.*s)", n ? " " : "", STR_ARG(c->env.rcpts[n].address),
                       STR_ARG(c->env.rcpts[n].original));
        if (c->status != row->status || !str_eq(buf_str(&got), str_of(row->out)))
            fail_msg("%s: %d %.*s", row->name, c->status, STR_ARG(buf_str(&got)));
        buf_fini(&got);
        cleanup_abort(c);
        map_list_close(&lists.virtual_alias_maps);
        memset(&lists.virtual_alias_maps, 0, sizeof lists.virtual_alias_maps);
    }
}

static void test_expansion_limit_and_notify(void **state)
{
    (void)state;
    static const struct map_options options = {.config_dir = "/", .default_type = "hash"};
    assert_null(map_list_open("inline:{{big@x=a@x, b@x, c@x},one@x=two@x}", MAP_FOLD, &options,
                              &lists.virtual_alias_maps));
    params.virtual_alias_expansion_limit = 2;
    struct cleanup *c = begin(0);
    cleanup_rcpt(c, STR("big@x"), STR("big@x"), STR(""), 0);
    cleanup_expand(c);
    assert_int_equal(c->status, CLEANUP_TROUBLE);
    assert_string_equal(c->why, "451 4.6.0 Alias expansion error");
    cleanup_abort(c);

    c = begin(0);
    cleanup_rcpt(c, STR("one@x"), STR("one@x"), STR("rfc822;o"), NOTIFY_SUCCESS);
    cleanup_rcpt(c, STR("one@x"), STR("one@x"), STR("rfc822;o"), NOTIFY_SUCCESS | NOTIFY_DELAY);
    cleanup_rcpt(c, STR("two@x"), STR("two@x"), STR(""), NOTIFY_SUCCESS);
    cleanup_expand(c);
    assert_int_equal(c->env.rcpt_count, 3);
    assert_int_equal(c->env.rcpts[0].notify, NOTIFY_NEVER);
    assert_true(str_eq(c->env.rcpts[0].orcpt, STR("rfc822;o")));
    assert_int_equal(c->env.rcpts[1].notify, NOTIFY_DELAY);
    assert_int_equal(c->env.rcpts[2].notify, NOTIFY_SUCCESS);
    cleanup_abort(c);
    map_list_close(&lists.virtual_alias_maps);
    memset(&lists.virtual_alias_maps, 0, sizeof lists.virtual_alias_maps);
    defaults();
}

static int setup(void **state)
{
    (void)state;
    setenv("TZ", "UTC0", 1);
    tzset();
    defaults();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),       cmocka_unit_test(test_nul_and_size),
        cmocka_unit_test(test_pieces),     cmocka_unit_test(test_limits),
        cmocka_unit_test(test_from),       cmocka_unit_test(test_random),
        cmocka_unit_test(test_recipients), cmocka_unit_test(test_expansion_limit_and_notify),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
