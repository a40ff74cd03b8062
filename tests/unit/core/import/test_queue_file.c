/* Message files of Postfix: those in files/ were written by Postfix 3.7.11, the others are built record by record. What is expected
 * of the former is what postcat said of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "core/import/queue_file.h"
#include "core/import/queue_log.h"
#include "io/base/buf.h"

/* --- sources */

struct memory {
    struct str bytes;
    size_t step; /* bytes given at once */
};

static struct err *memory_read(void *ctx, uint64_t at, char *bytes, size_t n, size_t *n_out)
{
    const struct memory *m = ctx;
    struct str part = str_head(str_head(str_from(m->bytes, (size_t)at), n), m->step);
    if (part.len > 0)
        memcpy(bytes, part.ptr, part.len);
    *n_out = part.len;
    return NULL;
}

static struct queue_file_source source_of(struct memory *m)
{
    return (struct queue_file_source){.read = memory_read, .ctx = m, .size = m->bytes.len};
}

static struct str fixture(struct arena *a, const char *name)
{
    static char bytes[65536];
    char path[512];
    const char *slash = strrchr(__FILE__, '/');
    snprintf(path, sizeof(path), "%.*sfiles/%s", slash ? (int)(slash + 1 - __FILE__) : 0, __FILE__, name);
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("%s is not there", path);
    size_t n = fread(bytes, 1, sizeof(bytes), f);
    fclose(f);
    return arena_str(a, str_make(bytes, n));
}

/* --- files built here */

static void add_length(struct buf *b, size_t n)
{
    for (; n > 127; n >>= 7)
        buf_add_u8(b, (uint8_t)(n | 128));
    buf_add_u8(b, (uint8_t)n);
}

static void rec(struct buf *b, char type, const char *text)
{
    buf_add_char(b, type);
    add_length(b, strlen(text));
    buf_add_c(b, text);
}

static void head(struct buf *b)
{
    rec(b, 'C', "              100             200               1               0             100               0");
    rec(b, 'T', "1700000000 5");
    rec(b, 'S', "a@example.com");
}

/* --- what comes out */

static struct err *add_piece(void *ctx, struct str text, bool ends)
{
    struct buf *out = ctx;
    buf_add_str(out, text);
    if (ends)
        buf_add_c(out, "|");
    return NULL;
}

static void describe(const struct queue_file *f, struct buf *out)
{
    const struct envelope *e = &f->env;
    buf_printf(out, "%lld <%.*s> flags=%u ret=%u envid=%.*s size=%llu data=%llu", (long long)e->arrival_us,
               STR_ARG(e->sender), e->flags, e->ret, STR_ARG(e->envid), (unsigned long long)e->size,
               (unsigned long long)e->data_size);
    if (f->warned)
        buf_add_c(out, " warned");
    if (f->probe)
        buf_add_c(out, " probe");
    if (!f->sized)
        buf_add_c(out, " posted");
    if (f->filter.len)
        buf_printf(out, " filter=%.*s", STR_ARG(f->filter));
    if (f->verp.len)
        buf_printf(out, " verp=%.*s", STR_ARG(f->verp));
    if (f->full_name.len)
        buf_printf(out, " name=%.*s", STR_ARG(f->full_name));
    for (size_t i = 0; i < e->rcpt_count; i++) {
        const struct rcpt *r = &e->rcpts[i];
        buf_printf(out, "\n%d@%llu <%.*s> orig=<%.*s> orcpt=%.*s notify=%u %s %.*s", r->state,
                   (unsigned long long)f->rcpt_at[i], STR_ARG(r->address), STR_ARG(r->original), STR_ARG(r->orcpt), r->notify,
                   r->why.status, STR_ARG(r->why.text));
    }
}

static void test_files_of_postfix(void **state)
{
    (void)state;
    static const struct {
        const char *name, *log, *expected, *content;
    } rows[] = {
        {"edited", "edited.defer",
         "1795323294944509 <other@example.com> flags=8 ret=0 envid= size=432 data=364\n"
         "1@721 <c@dest.example> orig=<c@dest.example> orcpt=rfc822;c@dest.example notify=0 4.4.1 connect to "
         "127.0.0.1[127.0.0.1]:1: Connection refused\n"
         "1@1326 <added@dest.example> orig=<added@dest.example> orcpt= notify=0 4.4.1 connect to 127.0.0.1[127.0.0.1]:1: "
         "Connection refused\n"
         "1@1173 <bcc@dest.example> orig=<bcc@dest.example> orcpt= notify=1 4.4.1 connect to 127.0.0.1[127.0.0.1]:1: "
         "Connection refused",
         "Received: from client.example.org (unknown [127.0.0.1])|\tby mail.unix-power.net (Postfix) with ESMTP id "
         "4jXGvy6k0yz1bkhD;|\tSun, 22 Nov 2026 04:54:54 +0000 (UTC)|Subject: changed to something quite a lot longer than it "
         "was|Message-Id: <4jXGvy6k0yz1bkhD@mail.unix-power.net>|Date: Sun, 22 Nov 2026 04:54:54 +0000 (UTC)|From: "
         "a@example.com|X-Added: one||a new body|.with dots|a new body|.with dots|a new body|.with dots|"},
        {"redirected", NULL,
         "1795323295045236 <a@example.com> flags=0 ret=0 envid= size=325 data=325\n"
         "0@648 <r@dest.example> orig=<r@dest.example> orcpt=rfc822;r@dest.example notify=0  ", NULL},
        {"filtered", NULL,
         "1795323295040110 <a@example.com> flags=0 ret=0 envid= size=323 data=323 filter=smtp:[127.0.0.1]:2\n"
         "0@668 <b@dest.example> orig=<b@dest.example> orcpt=rfc822;b@dest.example notify=0  \n"
         "0@737 <c@dest.example> orig=<c@dest.example> orcpt=rfc822;c@dest.example notify=0  \n"
         "0@1114 <bcc@dest.example> orig=<bcc@dest.example> orcpt= notify=1  ", NULL},
        {"smtputf8", NULL,
         "1795322115021142 <a@example.com> flags=3 ret=0 envid= size=322 data=322\n"
         "0@647 <\xc3\xbc" "b@dest.example> orig=<\xc3\xbc" "b@dest.example> orcpt=rfc822;\xc3\xbc" "b@dest.example notify=0  ",
         NULL},
        {"partly", "partly.defer",
         "1795322115015645 <a@example.com> flags=24 ret=2 envid=abc=1 size=5306 data=5313\n"
         "1@668 <b@dest.example> orig=<b@dest.example> orcpt=rfc822;orig@x notify=6 4.4.1 connect to 127.0.0.1[127.0.0.1]:1: "
         "Connection refused\n"
         "2@733 <c@ok.example> orig=<c@ok.example> orcpt=rfc822;c@ok.example notify=0  \n"
         "1@816 <d@dest.example> orig=<d@dest.example> orcpt=rfc822;d@dest.example notify=1 4.4.1 connect to "
         "127.0.0.1[127.0.0.1]:1: Connection refused", NULL},
        {"verp", NULL,
         "1795322307527867 <q@unix-power.net> flags=0 ret=0 envid=envX size=271 data=271 verp=+= name=root\n"
         "0@296 <b@dest.example> orig=<b@dest.example> orcpt=rfc822;b@dest.example notify=10  \n"
         "0@386 <a b@dest.example> orig=<a b@dest.example> orcpt=rfc822;a b@dest.example notify=10  ", NULL},
        {"posted", NULL,
         "1795322576214900 <root> flags=8 ret=0 envid= size=58 data=0 posted name=root\n"
         "0@116 <t1@x.example> orig=<t1@x.example> orcpt= notify=0  \n"
         "0@130 <t2@x.example> orig=<t2@x.example> orcpt= notify=0  ",
         "Subject: v|To: t1@x.example|Cc: t2@x.example||hi|.x|"},
        {"probe", NULL,
         "1795322576204364 <root> flags=0 ret=0 envid= size=48 data=0 probe posted name=root\n"
         "0@71 <x@dest.example> orig=<x@dest.example> orcpt= notify=0  ", "From: root|Subject: probe|To:\tx@dest.example|"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (size_t step = 1; step < 70000; step *= 7) {
            struct arena *a = arena_new(0, 0);
            struct memory m = {fixture(a, rows[i].name), step};
            struct queue_file_source src = source_of(&m);
            struct queue_file f;
            struct buf out = {0};
            struct err *e = queue_file_read(&src, a, &f);
            if (e)
                fail_msg("%s: %s", rows[i].name, e->text);
            if (rows[i].log)
                queue_log_apply(fixture(a, rows[i].log), RCPT_DEFERRED, &f, a);
            describe(&f, &out);
            assert_string_equal(out.ptr, rows[i].expected);
            buf_reset(&out);
            assert_null(queue_file_content(&src, &f, add_piece, &out));
            if (rows[i].content)
                assert_string_equal(out.ptr, rows[i].content);
            size_t ends = 0;
            for (size_t k = 0; k < out.len; k++)
                ends += out.ptr[k] == '|';
            assert_int_equal(out.len + ends, f.env.size);
            buf_fini(&out);
            arena_free(a);
        }
}

/* --- built ones */

static void end(struct buf *b)
{
    rec(b, 'X', "");
    rec(b, 'E', "");
}

static void build_usual(struct buf *b)
{
    head(b);
    rec(b, 'R', "b@d");
    rec(b, 'M', "");
    rec(b, 'N', "x");
    end(b);
}
static void build_no_sizes_yet(struct buf *b)
{
    rec(b, 'C', "                0               0               0               0               0               0");
    rec(b, 'T', "1700000000 5");
}
static void build_text_first(struct buf *b)
{
    buf_add_c(b, "From: somebody\n");
}
static void build_no_sender(struct buf *b)
{
    rec(b, 'T', "1700000000 5");
    rec(b, 'M', "");
    end(b);
}
static void build_no_time(struct buf *b)
{
    rec(b, 'C', "1 1 1 1 1 0");
    rec(b, 'S', "");
    rec(b, 'M', "");
    end(b);
}
static void build_two_senders(struct buf *b)
{
    head(b);
    rec(b, 'S', "c@d");
}
static void build_odd_time(struct buf *b)
{
    rec(b, 'T', "yesterday");
}
static void build_time_too_late(struct buf *b)
{
    rec(b, 'T', "9223372036854775807");
}
static void build_line_feed_in_address(struct buf *b)
{
    head(b);
    rec(b, 'R', "b@d>\r\nRCPT TO:<c@d");
}
static void build_empty_recipient(struct buf *b)
{
    head(b);
    rec(b, 'R', "");
}
static void build_unknown_record(struct buf *b)
{
    head(b);
    rec(b, 'Z', "what?");
}
static void build_recipient_in_content(struct buf *b)
{
    head(b);
    rec(b, 'M', "");
    rec(b, 'R', "b@d");
}
static void build_content_twice(struct buf *b)
{
    head(b);
    rec(b, 'M', "");
    rec(b, 'X', "");
    rec(b, 'M', "");
}
static void build_end_before_content(struct buf *b)
{
    head(b);
    rec(b, 'E', "");
}
static void build_no_end(struct buf *b)
{
    head(b);
    rec(b, 'M', "");
    rec(b, 'N', "x");
}
static void build_cut_record(struct buf *b)
{
    head(b);
    rec(b, 'M', "");
    rec(b, 'N', "abcdef");
    b->len -= 2;
}
static void build_cut_length(struct buf *b)
{
    head(b);
    buf_add_c(b, "A\xff");
}
static void build_endless_length(struct buf *b)
{
    head(b);
    buf_add_c(b, "A\xff\xff\xff\xff\xff\x01");
}
static void build_pointer_to_itself(struct buf *b)
{
    head(b);
    char text[16];
    snprintf(text, sizeof(text), "%10zu", b->len);
    rec(b, 'p', text);
    end(b);
}
static void build_pointer_beyond(struct buf *b)
{
    head(b);
    rec(b, 'p', "         99999");
    end(b);
}
static void build_attribute_without_name(struct buf *b)
{
    head(b);
    rec(b, 'A', "=x");
}

static void test_what_is_wrong_is_told(void **state)
{
    (void)state;
    static const struct {
        void (*build)(struct buf *b);
        const char *expected; /* NULL = nothing is */
    } rows[] = {
        {build_usual, NULL},
        {build_no_sizes_yet, "no sizes: the message was not finished at byte 0"},
        {build_text_first, "not a queue file: no sizes at byte 0"},
        {build_no_sender, "no sender"},
        {build_no_time, "no time of arrival"},
        {build_two_senders, "a second sender at byte 128"},
        {build_odd_time, "a time of arrival that is none at byte 0"},
        {build_time_too_late, "a time of arrival that is none at byte 0"},
        {build_line_feed_in_address, "an address with control characters at byte 128"},
        {build_empty_recipient, "an empty recipient at byte 128"},
        {build_unknown_record, "a record of unknown type at byte 128"},
        {build_recipient_in_content, "a record of unknown type in the content at byte 130"},
        {build_content_twice, "parts of the file are out of order at byte 132"},
        {build_end_before_content, "parts of the file are out of order at byte 128"},
        {build_no_end, "the file ends without an end record at byte 133"},
        {build_cut_record, "the file ends in a record at byte 130"},
        {build_cut_length, "the file ends in a record at byte 128"},
        {build_endless_length, "a record's length is no number at byte 128"},
        {build_pointer_to_itself, "records are read twice at byte 128"},
        {build_pointer_beyond, "a pointer leads nowhere at byte 128"},
        {build_attribute_without_name, "an attribute without a name at byte 128"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct arena *a = arena_new(0, 0);
        struct buf b = {0};
        rows[i].build(&b);
        struct memory m = {buf_str(&b), SIZE_MAX};
        struct queue_file_source src = source_of(&m);
        struct queue_file f;
        struct err *e = queue_file_read(&src, a, &f);
        if (!rows[i].expected) {
            assert_null(e);
        } else if (!e) {
            fail_msg("not seen: %s", rows[i].expected);
        } else {
            assert_int_equal(e->kind, ERR_DAMAGED);
            assert_string_equal(e->text, rows[i].expected);
        }
        buf_fini(&b);
        arena_free(a);
    }
}

static void test_lines_of_many_records(void **state)
{
    (void)state;
    struct arena *a = arena_new(0, 0);
    struct buf b = {0}, out = {0};
    char *big = malloc(200001);
    memset(big, 'x', 200000);
    big[200000] = '\0';
    head(&b);
    rec(&b, 'R', "b@d");
    rec(&b, 'W', "              0");
    rec(&b, 'M', "");
    rec(&b, 'L', "one ");
    rec(&b, 'p', "              0");
    rec(&b, 'L', "");
    rec(&b, 'w', "padding");
    rec(&b, 'N', "line");
    rec(&b, 'N', "");
    rec(&b, 'N', ".dot");
    rec(&b, 'N', big); /* longer than the window */
    rec(&b, 'L', "the end");
    end(&b);
    struct memory m = {buf_str(&b), SIZE_MAX};
    struct queue_file_source src = source_of(&m);
    struct queue_file f;
    assert_null(queue_file_read(&src, a, &f));
    assert_true(f.warned);
    assert_int_equal(f.env.flags, ENV_DOTS | ENV_LONG_LINES);
    assert_int_equal(f.env.size, 10 + 2 + 6 + 200002 + 9);
    assert_null(queue_file_content(&src, &f, add_piece, &out));
    struct buf expected = {0};
    buf_printf(&expected, "one line||.dot|%s|the end|", big);
    assert_string_equal(out.ptr, expected.ptr);
    free(big);
    buf_fini(&expected);
    buf_fini(&out);
    buf_fini(&b);
    arena_free(a);
}

static void test_no_line_end_hides_in_a_line(void **state)
{
    (void)state;
    char both[] = "a\rb\nc\r\n.", lf[] = "a\rb\nc\r\n.";
    queue_file_mask(both, sizeof(both) - 1, true);
    queue_file_mask(lf, sizeof(lf) - 1, false);
    assert_string_equal(both, "a b c  .");
    assert_string_equal(lf, "a\rb c\r .");
}

/* --- logs */

static void test_logs_are_taken_by_offset_and_address(void **state)
{
    (void)state;
    static const char log[] = "\n<b@d>: text\nrecipient=b@d\noffset=128\nstatus=4.2.0\naction=delayed\nreason=later\n"
                              "mta_type=dns\nmta_mname=mx.d\ndiag_type=smtp\ndiag_text=450 4.2.0 later\n\n\n"
                              "<c@d>: text\nrecipient=c@d\noffset=128\nreason=not this one\n\n"
                              "<\"a b\"@d>: text\nrecipient=\"a b\"@d\noffset=133\nstatus=oh\nreason=not\tnow\n";
    struct arena *a = arena_new(0, 0);
    struct buf b = {0};
    head(&b);
    rec(&b, 'R', "b@d");
    rec(&b, 'R', "a b@d");
    rec(&b, 'D', "c@d");
    rec(&b, 'M', "");
    end(&b);
    struct memory m = {buf_str(&b), SIZE_MAX};
    struct queue_file_source src = source_of(&m);
    struct queue_file f;
    assert_null(queue_file_read(&src, a, &f));
    queue_log_apply(str_of(log), RCPT_DEFERRED, &f, a);
    struct rcpt *r = f.env.rcpts;
    assert_int_equal(r[0].state, RCPT_DEFERRED);
    assert_string_equal(r[0].why.status, "4.2.0");
    assert_true(str_eq(r[0].why.text, STR("later")) && str_eq(r[0].why.mta, STR("mx.d")));
    assert_true(str_eq(r[0].why.diagnostic, STR("smtp; 450 4.2.0 later")));
    assert_int_equal(r[1].state, RCPT_DEFERRED);
    assert_string_equal(r[1].why.status, "4.0.0");
    assert_true(str_eq(r[1].why.text, STR("not?now")));
    assert_int_equal(r[2].state, RCPT_DONE);
    /* Who is done cannot wait, but may have failed. */
    queue_log_apply(STR("<c@d>: x\nrecipient=c@d\noffset=140\nreason=x\n"), RCPT_DEFERRED, &f, a);
    assert_int_equal(r[2].state, RCPT_DONE);
    queue_log_apply(STR("<c@d>: x\nrecipient=c@d\noffset=140\nstatus=5.1.1\nreason=x\n"), RCPT_BOUNCED, &f, a);
    assert_int_equal(r[2].state, RCPT_BOUNCED);
    buf_fini(&b);
    arena_free(a);
}

static void test_where_logs_are(void **state)
{
    (void)state;
    static const struct {
        const char *id;
        unsigned depth;
        const char *expected; /* NULL = nowhere */
    } rows[] = {
        {"04999A720B6", 0, "04999A720B6"},
        {"04999A720B6", 1, "0/04999A720B6"},
        {"04999A720B6", 2, "0/4/04999A720B6"},
        {"4jXGvy6k0yz1bkhD", 2, "E/7/4jXGvy6k0yz1bkhD"}, /* folders are of the microseconds */
        {"4jXGvz0JmGz1bkhb", 2, "0/B/4jXGvz0JmGz1bkhb"},
        {"4jXGvz0JmGz1bkhb", 6, NULL},
        {"../etc", 1, NULL},
        {"", 0, NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char path[64] = "";
        bool ok = queue_log_path(str_of(rows[i].id), rows[i].depth, path, sizeof(path));
        assert_int_equal(ok, rows[i].expected != NULL);
        if (ok)
            assert_string_equal(path, rows[i].expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_of_postfix),
        cmocka_unit_test(test_what_is_wrong_is_told),
        cmocka_unit_test(test_lines_of_many_records),
        cmocka_unit_test(test_no_line_end_hides_in_a_line),
        cmocka_unit_test(test_logs_are_taken_by_offset_and_address),
        cmocka_unit_test(test_where_logs_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
