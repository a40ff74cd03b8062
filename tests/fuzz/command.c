/* core/mail command: lines of an SMTP client. */
#include "fuzz.h"
#include "core/mail/command.h"
#include "core/mail/ehlo.h"
#include "core/mail/reply.h"
#include "queue/envelope.h"

static void options(struct arena *a, struct str text)
{
    for (int i = 0; i < 4; i++) {
        struct command_rules rules = {.dsn = i & 1, .smtputf8 = i & 2};
        struct mail_options m = {0};
        struct rcpt_options r = {0};
        struct verdict why = {0};
        bool fine = command_mail_options(a, text, &rules, &m, &why);
        CHECK(fine || why.code >= 400);
        CHECK(m.ret <= RET_HDRS && m.size >= -1);
        why = (struct verdict){0};
        fine = command_rcpt_options(a, text, &rules, &r, &why);
        CHECK(fine || why.code >= 400);
        CHECK(r.notify < 16 && (!(r.notify & NOTIFY_NEVER) || r.notify == NOTIFY_NEVER || !fine));
        for (size_t n = 0; n < why.text.len; n++)
            CHECK(why.text.ptr[n] != '\n' && why.text.ptr[n] != '\0'); /* it goes into a reply */
    }
}

static void line(struct arena *a, struct str in)
{
    struct command c = {0};
    if (!command_read(in, &c))
        return;
    CHECK(c.verb <= VERB_UNKNOWN && c.word.len > 0);
    CHECK(fuzz_inside(c.word, in) && fuzz_inside(c.args, in));
    CHECK(command_verb_name(c.verb) && command_stat(c.verb));
    (void)command_flags(c.verb);
    (void)command_is_header(c.word);
    struct str rest = c.args, word, path, opts;
    bool broken = false, last = false;
    for (size_t left = rest.len + 1; command_word(&rest, &word, &broken); left = rest.len + 1)
        CHECK(word.len > 0 && fuzz_inside(word, in) && rest.len < left);
    if (command_path(c.args, STR("FROM:"), &path, &opts, &broken) ||
        command_path(c.args, STR("TO:"), &path, &opts, &broken))
        options(a, opts);
    options(a, c.args);
    uint64_t bytes = 0;
    (void)command_bdat(c.args, &bytes, &last);
    (void)ehlo_parse(c.args);
}

static void reply(struct str in)
{
    struct buf out = {0};
    struct str text = STR("550 5.1.1 no");
    reply_with_footer(&out, text, in);
    CHECK(out.len >= text.len && str_ends(buf_str(&out), STR("\r\n")));
    reply_soften(out.ptr, out.len);
    CHECK(reply_prefix(in) <= (in.len < 4 ? 4 : in.len));
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = fuzz_str(data, size), one;
    struct arena *a = arena_new(0, 0);
    while (fuzz_line(&rest, &one)) {
        line(a, one);
        arena_reset(a);
    }
    if (!memchr(data, '\0', size))
        reply(fuzz_str(data, size));
    arena_free(a);
    return 0;
}
