/* What ends a line and what ends the content (RFC 5321 §2.3.8, §4.1.1.4, §4.5.2; postconf(5)
 * smtpd_forbid_bare_newline). The exhaustive tests try every sequence of <CR> <LF> . a up to a length
 * against a reference that works on the whole text at once, cut into reads in every way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include "tests/unit/io/net/chunk_layer.h"

/* A transcript: text, then one of  $ (CRLF)  / (LF)  + (LONG); ! the content ended, # end of file,
 * B a bare <LF> was seen, and what was left unread after the end. */
struct transcript {
    char text[256];
    size_t len;
};

static void note(struct transcript *t, const char *bytes, size_t n, char mark)
{
    assert_true(t->len + n + 2 < sizeof(t->text));
    for (size_t i = 0; i < n; i++)
        t->text[t->len++] = bytes[i] == '\r' ? 'R' : bytes[i] == '\n' ? 'N' : bytes[i];
    t->text[t->len++] = mark;
    t->text[t->len] = '\0';
}

static char mark_of(enum line_end end)
{
    return end == LINE_CRLF ? '$' : end == LINE_LF ? '/' : '+';
}

/* The lines that stream_plain takes, one by one. */
static void note_plain(struct transcript *t, struct dot *d, size_t max)
{
    struct plain lines;
    size_t count = 0, over = 0;
    if (!stream_plain(d, max, &lines))
        return;
    for (struct str left = lines.text; left.len; count++) {
        ptrdiff_t end = str_find(left, STR("\r\n"));
        assert_true(end >= 0);
        note(t, left.ptr, (size_t)end, '$');
        left = str_from(left, (size_t)end + 2);
        over += end > 127;
    }
    assert_int_equal(count, lines.lines);
    assert_int_equal(over, lines.over_127);
}

static struct transcript run_dot(struct str in, size_t max, enum bare_newline policy,
                                 uint64_t cuts, size_t step, bool bulk)
{
    struct transcript t = {.len = 0};
    struct chunk_layer c = chunk_of(in);
    c.cuts = cuts;
    c.step = step;
    struct stream *s = stream_new_layer(&c.layer);
    struct dot d;
    dot_begin(&d, s, policy);
    for (;;) {
        struct line line;
        bool ended = false;
        if (bulk)
            note_plain(&t, &d, max);
        struct err *e = stream_dot(&d, max, 0, &line, &ended);
        if (e) {
            assert_int_equal(e->kind, ERR_CLOSED);
            note(&t, "", 0, '#');
            break;
        }
        if (ended) {
            size_t unread = stream_pending(s) + (c.in.len - c.at);
            note(&t, "", 0, '!');
            note(&t, in.ptr + in.len - unread, unread, '|');
            break;
        }
        note(&t, line.text.ptr, line.text.len, mark_of(line.end));
    }
    if (d.bare_lf)
        note(&t, "", 0, 'B');
    stream_free(s);
    return t;
}

/* --- the reference: the whole text is known, so there is no state but "how the last line ended". */
struct ref {
    struct transcript t;
    enum bare_newline policy;
    size_t max;
    enum line_end before;
    bool bare;
};

/* One line without its <LF>; end says what it ended in. True: it ended the content. */
static bool ref_line(struct ref *r, const char *text, size_t n, enum line_end end)
{
    bool no = r->policy == BARE_NEWLINE_NO;
    bool lone_dot = n >= 1 && n <= r->max && text[0] == '.';
    for (size_t i = 1; i < n; i++)
        lone_dot = lone_dot && no && text[i] == '\r';
    if (end == LINE_LF)
        r->bare = true;
    bool strict = r->before == LINE_CRLF && end == LINE_CRLF;
    r->before = end;
    if (lone_dot)
        return no || strict; /* else it vanishes */
    bool first = true;
    while (n > r->max) {
        bool dot = first && text[0] == '.';
        if (r->max > dot)
            note(&r->t, text + dot, r->max - dot, '+');
        first = false;
        text += r->max;
        n -= r->max;
    }
    while (no && n > 0 && text[n - 1] == '\r')
        n--;
    bool dot = first && n > 0 && text[0] == '.';
    note(&r->t, text + dot, n - dot, mark_of(end));
    return false;
}

/* The unfinished end of the input: pieces that no further byte could make a line's end. */
static void ref_tail(struct ref *r, const char *text, size_t n)
{
    bool first = true;
    while (n > r->max + 1 || (n == r->max + 1 && text[r->max] != '\r')) {
        bool dot = first && text[0] == '.';
        if (r->max > dot)
            note(&r->t, text + dot, r->max - dot, '+');
        first = false;
        text += r->max;
        n -= r->max;
    }
    note(&r->t, "", 0, '#');
}

static struct transcript ref_dot(struct str in, size_t max, enum bare_newline policy)
{
    struct ref r = {.policy = policy, .max = max, .before = LINE_CRLF};
    size_t at = 0;
    bool ended = false;
    for (size_t i = 0; i < in.len && !ended; i++) {
        if (in.ptr[i] != '\n')
            continue;
        bool crlf = i > at && in.ptr[i - 1] == '\r';
        ended = ref_line(&r, in.ptr + at, i - at - crlf, crlf ? LINE_CRLF : LINE_LF);
        at = i + 1;
    }
    if (ended) {
        note(&r.t, "", 0, '!');
        note(&r.t, in.ptr + at, in.len - at, '|');
    } else {
        ref_tail(&r, in.ptr + at, in.len - at);
    }
    if (r.bare)
        note(&r.t, "", 0, 'B');
    return r.t;
}

static size_t nth_text(uint64_t number, size_t len, char *out)
{
    for (size_t i = 0; i < len; i++, number /= 4)
        out[i] = "\r\n.a"[number % 4];
    return len;
}

static void check_same(struct str in, size_t max, enum bare_newline policy, uint64_t cuts,
                       size_t step)
{
    struct transcript want = ref_dot(in, max, policy);
    for (int bulk = 0; bulk < 2; bulk++) {
        struct transcript got = run_dot(in, max, policy, cuts, step, bulk);
        if (strcmp(want.text, got.text) != 0) {
            struct transcript t = {.len = 0};
            note(&t, in.ptr, in.len, '|');
            fail_msg("input %s max %zu policy %d cuts %#llx bulk %d: want %s got %s", t.text, max,
                     (int)policy, (unsigned long long)cuts, bulk, want.text, got.text);
        }
    }
}

static void every_sequence_is_read_as_the_reference_reads_it(void **state)
{
    (void)state;
    static const size_t maxes[] = {1, 2, 3, 64};
    char text[8];
    for (size_t len = 0; len <= 7; len++) {
        for (uint64_t i = 0; i < UINT64_C(1) << (2 * len); i++) {
            struct str in = str_make(text, nth_text(i, len, text));
            for (size_t m = 0; m < 4; m++) {
                check_same(in, maxes[m], BARE_NEWLINE_NO, 0, 0);
                check_same(in, maxes[m], BARE_NEWLINE_NORMALIZE, 0, 1);
            }
            check_same(in, 64, BARE_NEWLINE_NOTE, 0, 2);
            check_same(in, 64, BARE_NEWLINE_REJECT, 0, 3);
        }
    }
}

static void how_reads_cut_the_bytes_changes_nothing(void **state)
{
    (void)state;
    char text[8];
    for (size_t len = 2; len <= 6; len++) {
        for (uint64_t i = 0; i < UINT64_C(1) << (2 * len); i++) {
            struct str in = str_make(text, nth_text(i, len, text));
            for (uint64_t cuts = 0; cuts < UINT64_C(1) << (len - 1); cuts++) {
                check_same(in, 2, BARE_NEWLINE_NORMALIZE, cuts, 0);
                check_same(in, 64, BARE_NEWLINE_NO, cuts, 0);
            }
        }
    }
}

/* In bulk, content is looked at in blocks of 64 bytes: every sequence at every place around their borders. */
static void where_a_block_ends_changes_nothing(void **state)
{
    (void)state;
    char text[160];
    memset(text, 'a', sizeof text);
    memcpy(text + 20, "\r\n", 2);
    for (size_t before = 58; before <= 66; before++) {
        for (uint64_t i = 0; i < UINT64_C(1) << 12; i++) {
            size_t n = before + nth_text(i, 6, text + before);
            text[n] = 'b';
            memcpy(text + n + 1, "\r\n", 2);
            struct str in = str_make(text, n + 3);
            check_same(in, 80, BARE_NEWLINE_NORMALIZE, 0, 0);
            check_same(in, 43, BARE_NEWLINE_NO, 0, 0);
            memset(text + before, 'a', 16);
        }
    }
}

static void long_lines_are_not_taken_in_bulk(void **state)
{
    (void)state;
    static const struct {
        size_t len, longest;
        bool taken;
        size_t over_127;
    } rows[] = {
        {0, 998, true, 0},   {127, 998, true, 0},  {128, 998, true, 1},   {998, 998, true, 1},
        {999, 998, false, 0}, {5000, 998, false, 0}, {512, 512, true, 1}, {513, 512, false, 0},
    };
    static char text[6000];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct plain lines;
        memset(text, 'a', sizeof text);
        memcpy(text + rows[i].len, "\r\n", 2);
        struct str in = str_make(text, rows[i].len + 2);
        assert_int_equal(plain_lines(in, rows[i].longest, &lines), rows[i].taken);
        assert_int_equal(lines.text.len, rows[i].taken ? in.len : 0);
        assert_int_equal(lines.over_127, rows[i].over_127);
        in.len--; /* its end is under way */
        assert_false(plain_lines(in, rows[i].longest, &lines));
    }
}

/* Every smuggling sequence X . Y between two texts: only the standard one ends under NORMALIZE. */
static void only_the_standard_end_ends_content(void **state)
{
    (void)state;
    static const char *const ends[] = {"\r\n", "\n", "\r", "\n\r", "\r\r\n", "\n\n", "", "\r\n\n",
                                       "\n\r\n", "\r\n\r\n"};
    for (size_t x = 0; x < 10; x++) {
        for (size_t y = 0; y < 10; y++) {
            char text[64];
            int n = snprintf(text, sizeof(text), "a%s.%sb\r\n.\r\n", ends[x], ends[y]);
            struct str in = str_make(text, (size_t)n);
            const char *std = strstr(text, "\r\n.\r\n");
            struct transcript t = run_dot(in, 64, BARE_NEWLINE_NORMALIZE, 0, 0, true);
            size_t left = in.len - (size_t)(std + 5 - text);
            const char *bang = strchr(t.text, '!');
            assert_non_null(bang);
            assert_int_equal(strchr(bang, '|') - bang - 1, left);
        }
    }
}

/* Observed with Postfix 3.7.11, byte for byte. */
static void as_postfix_reads_it(void **state)
{
    (void)state;
    static const struct {
        const char *name, *in;
        enum bare_newline policy;
        const char *want;
    } rows[] = {
        {"empty content", ".\r\n", BARE_NEWLINE_NORMALIZE, "!|"},
        {"plain", "a\r\n\r\nb\r\n.\r\nQUIT\r\n", BARE_NEWLINE_NORMALIZE, "a$$b$!QUITRN|"},
        {"bare lines do not end", "a\n.\nb\n", BARE_NEWLINE_NORMALIZE, "a/b/#B"},
        {"bare lines end in old times", "a\n.\nb\n", BARE_NEWLINE_NO, "a/!bN|B"},
        {"LF . CRLF vanishes", "a\n.\r\nb\r\n.\r\n", BARE_NEWLINE_NORMALIZE, "a/b$!|B"},
        {"CRLF . LF vanishes", "a\r\n.\nb\r\n.\r\n", BARE_NEWLINE_NORMALIZE, "a$b$!|B"},
        {"CRLF . CRLF after one", "a\n.\n.\r\n.\r\n", BARE_NEWLINE_NORMALIZE, "a/!|B"},
        {". CR CRLF is text", "a\r\n.\r\r\nb\r\n.\r\n", BARE_NEWLINE_REJECT, "a$R$b$!|"},
        {". CR CRLF ended in old times", "a\r\n.\r\r\nb\r\n", BARE_NEWLINE_NO, "a$!bRN|"},
        {"CRs before an end", "a\r\r\n.\r\n", BARE_NEWLINE_NORMALIZE, "aR$!|"},
        {"CRs before an end in old times", "a\r\r\r\n.\r\n", BARE_NEWLINE_NO, "a$!|"},
        {"CR . CRLF is text", "a\r.\r\nb\r\n.\r\n", BARE_NEWLINE_NORMALIZE, "aR.$b$!|"},
        {"dots", "..\n..x\n.y\r\n...\r\n.\r\n", BARE_NEWLINE_NORMALIZE, "./.x/y$..$!|B"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct transcript t = run_dot(str_of(rows[i].in), 64, rows[i].policy, 0, 0, i % 2);
        if (strcmp(t.text, rows[i].want) != 0)
            fail_msg("%s: want %s got %s", rows[i].name, rows[i].want, t.text);
    }
}

static void lines(void **state)
{
    (void)state;
    static const struct {
        const char *name, *in;
        size_t max;
        const char *want;
    } rows[] = {
        {"two ends", "EHLO x\r\nQUIT\n", 64, "EHLO x$QUIT/#"},
        {"empty lines", "\r\n\n", 64, "$/#"},
        {"a CR inside is data", "a\rb\r\r\n", 64, "aRbR$#"},
        {"exactly max", "abcd\r\nabcd\nx", 4, "abcd$abcd/#"},
        {"max falls between CR and LF", "abc\r\n", 3, "abc$#"},
        {"one more than max", "abcde\r\n", 4, "abcd+e$#"},
        {"a CR after max that ends nothing", "abcd\rx\r\n", 4, "abcd+Rx$#"},
        {"many pieces", "abcdefg\n", 2, "ab+cd+ef+g/#"},
        {"an unfinished line is dropped", "a\r\nbc", 64, "a$#"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (size_t step = 0; step <= 3; step++) {
            struct chunk_layer c = chunk_of(str_of(rows[i].in));
            c.step = step;
            struct stream *s = stream_new_layer(&c.layer);
            struct transcript t = {.len = 0};
            struct line line;
            struct err *e;
            while (!(e = stream_line(s, rows[i].max, 0, &line)))
                note(&t, line.text.ptr, line.text.len, mark_of(line.end));
            assert_int_equal(e->kind, ERR_CLOSED);
            note(&t, "", 0, '#');
            stream_free(s);
            if (strcmp(t.text, rows[i].want) != 0)
                fail_msg("%s: want %s got %s", rows[i].name, rows[i].want, t.text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines),
        cmocka_unit_test(as_postfix_reads_it),
        cmocka_unit_test(where_a_block_ends_changes_nothing),
        cmocka_unit_test(long_lines_are_not_taken_in_bulk),
        cmocka_unit_test(only_the_standard_end_ends_content),
        cmocka_unit_test(every_sequence_is_read_as_the_reference_reads_it),
        cmocka_unit_test(how_reads_cut_the_bytes_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
