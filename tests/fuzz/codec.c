/* io/base/codec: what was encoded comes back, and nothing else decodes to it by accident. */
#include "fuzz.h"
#include "io/base/codec.h"

static void utf8(struct str s)
{
    bool whole = true;
    for (struct str rest = s; rest.len > 0;) {
        size_t n = utf8_char(rest);
        CHECK(n <= 4 && n <= rest.len);
        whole = whole && n > 0;
        rest = str_from(rest, n ? n : 1);
    }
    CHECK(whole == utf8_valid(s));
    CHECK(!ascii_only(s) || whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = fuzz_str(data, size), out, back;
    struct arena *a = arena_new(0, 0);
    CHECK(base64_decode(a, base64_encode(a, in), &out) && str_eq(out, in));
    CHECK(xtext_decode(a, xtext_encode(a, in), &out) && str_eq(out, in));
    if (base64_decode(a, in, &out))
        CHECK(str_eq(base64_encode(a, out), in)); /* strict: one text for the same bytes */
    if (xtext_decode(a, in, &out))
        CHECK(xtext_decode(a, xtext_encode(a, out), &back) && str_eq(out, back));
    utf8(in);
    if (size < 1024 && idna_to_ascii(a, in, &out))
        CHECK(ascii_only(out));
    if (size < 1024 && idna_to_utf8(a, in, &out))
        CHECK(utf8_valid(out));
    arena_free(a);
    return 0;
}
