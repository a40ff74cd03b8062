/* core/smtp reply: what the next hop says. */
#include "fuzz.h"
#include "core/smtp/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = fuzz_str(data, size), line;
    struct smtp_reply r = {0};
    smtp_reply_begin(&r);
    while (fuzz_line(&rest, &line)) {
        CHECK(smtp_reply_dsn_length(line) < 12 && smtp_reply_dsn_length(line) <= line.len);
        bool done = smtp_reply_line(&r, line);
        CHECK(r.text.len <= SMTP_REPLY_TEXT_MAX + SMTP_REPLY_LINE_MAX + 2);
        for (size_t i = 0; i < r.text.len; i++)
            CHECK((unsigned char)r.text.ptr[i] >= ' ' || r.text.ptr[i] == '\n');
        if (!done)
            continue;
        CHECK(r.code >= 0 && r.code <= 999);
        CHECK(strlen(r.dsn) >= 5 && r.dsn[1] == '.');
        smtp_reply_begin(&r);
    }
    smtp_reply_fini(&r);
    return 0;
}
