/* core/cleanup without a queue, core/cmd head: headers and body of a message as it comes. Lines go out with CRLF and nothing
 * else of that kind in them; how long lines were cut does not show, when the first piece has the header's name. */
#include "fuzz.h"
#include "core/cleanup/private.h"
#include "core/cmd/head.h"

static struct params params = {
    .append_at_myorigin = true,
    .allow_percent_hack = true,
    .swap_bangpath = true,
    .myorigin = "origin.example",
    .mydomain = "example",
    .myhostname = "mx.example",
    .remote_header_rewrite_domain = "",
    .empty_address_recipient = "MAILER-DAEMON",
    .message_drop_headers = "bcc, content-length, resent-bcc, return-path",
    .undisclosed_recipients_header = "To: undisclosed-recipients:;",
    .header_from_format = "standard",
    .cleanup_replace_stray_cr_lf = true,
    .detect_8bit_encoding_header = true,
    .enable_original_recipient = true,
    .header_size_limit = 102400,
    .header_address_token_limit = 100,
    .hopcount_limit = 50,
    .message_size_limit = 10240000,
    .duplicate_filter_limit = 1000,
    .virtual_alias_address_length_limit = 1000,
    .virtual_alias_expansion_limit = 1000,
    .virtual_alias_recursion_limit = 1000,
    .propagate_unmatched_extensions = "canonical, virtual",
    .recipient_delimiter = "+",
};
static struct lists lists;
static const struct snapshot snapshot = {.params = &params, .lists = &lists};
static const struct service service = {.snapshot = &snapshot,
                                       .params = &params,
                                       .lists = &lists,
                                       .name = "cleanup",
                                       .log_tag = "fuzz"};

static void play(unsigned flags, struct str in, struct fuzz_rand *cuts, struct buf *out)
{
    struct cleanup *c = cleanup_new(&service, flags, NULL);
    c->arrival_us = INT64_C(1795304174000000);
    str_copy(c->id, sizeof c->id, STR("ID"));
    cleanup_sender(c, STR("s@out.example"), 0, STR(""), 0);
    struct str line;
    while (fuzz_line(&in, &line)) {
        size_t name = (size_t)(str_index(line, ':') + 1);
        while (cuts && line.len > name + 1 && fuzz_below(cuts, 4) == 0) {
            struct str piece = str_head(line, name + 1 + fuzz_below(cuts, line.len - name - 1));
            name = 0;
            cleanup_line(c, piece, false);
            line = str_from(line, piece.len);
        }
        cleanup_line(c, line, true);
    }
    cleanup_content_end(c);
    CHECK(c->status != CLEANUP_OK || c->size == c->block.len);
    buf_add_str(out, buf_str(&c->block));
    buf_printf(out, "%u", c->env.flags & (ENV_DOTS | ENV_8BIT));
    cleanup_abort(c);
}

static void ends(struct str out)
{
    for (size_t i = 0; i < out.len; i++) {
        CHECK(out.ptr[i] != '\r' || (i + 1 < out.len && out.ptr[i + 1] == '\n'));
        CHECK(out.ptr[i] != '\n' || (i > 0 && out.ptr[i - 1] == '\r'));
    }
}

static void posted(struct str in)
{
    struct arena *a = arena_new(0, 0);
    struct buf head = {0}, list = {0};
    struct str line;
    bool after = false;
    while (fuzz_line(&in, &line) && head_line(line, after)) {
        after = true;
        buf_add_str(&head, line);
        buf_add_char(&head, '\n');
    }
    head_recipients(a, buf_str(&head), &list);
    CHECK(list.len % sizeof(struct str) == 0);
    buf_fini(&head);
    buf_fini(&list);
    arena_free(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_quiet();
    struct str in = fuzz_str(data, size);
    struct fuzz_rand cuts = fuzz_rand_of(in, 1);
    static const unsigned flags[] = {0, CLEANUP_LOCAL, CLEANUP_UTF8};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        struct buf whole = {0}, cut = {0};
        play(flags[i], in, NULL, &whole);
        play(flags[i], in, &cuts, &cut);
        CHECK(str_eq(buf_str(&whole), buf_str(&cut)));
        ends(buf_str(&whole));
        buf_fini(&whole);
        buf_fini(&cut);
    }
    posted(in);
    return 0;
}
