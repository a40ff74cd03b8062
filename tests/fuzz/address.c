/* core/mail address: the path of MAIL and RCPT, and address headers. What was read and is written comes back the same. */
#include "fuzz.h"
#include "core/mail/address.h"
#include "core/mail/fold.h"

static void path(struct arena *a, struct str in, bool strict)
{
    struct str out = STR("as it was"), again, rest = STR("");
    enum address_parse how = address_parse_path(a, in, strict, true, &out, &rest);
    if (how == ADDRESS_BAD_SYNTAX)
        return;
    struct str local = address_local(out), domain = address_domain(out);
    CHECK(fuzz_inside(local, out) && fuzz_inside(domain, out));
    CHECK(local.len + domain.len <= out.len);
    ssize_t ext = address_ext(local, "+-");
    CHECK(ext < (ssize_t)local.len);
    (void)address_domain_valid(domain);
    (void)address_domain_numeric(domain);
    CHECK(fold_text(a, out).len <= out.len);
    CHECK(address_fold(a, out).len <= out.len);
    /* Logged and sent on as the same address. Of an odd one the domain is looked at by resolve_valid. */
    struct str quoted = arena_printf(a, "<%.*s>", STR_ARG(address_quote(a, out)));
    if (how == ADDRESS_OK && !memchr(out.ptr, '\0', out.len) &&
        address_parse_path(a, quoted, false, true, &again, &rest) == ADDRESS_OK)
        CHECK(str_eq(out, again));
}

static void header(struct arena *a, struct str in)
{
    struct str *list = NULL;
    struct address_part *parts = NULL, *few = NULL;
    size_t n = address_header_list(a, in, &list), found = 0;
    size_t count = address_header_parts(a, in, 10240, &parts);
    for (size_t i = 0; i < count; i++)
        found += parts[i].kind == PART_ADDRESS;
    CHECK(found >= n || in.len > 10240); /* tokens, a byte each at least */
    struct buf once = {0}, twice = {0};
    address_header_print(parts, count, &once);
    /* What was printed is a header once more; a stranger's text does not grow each time it passes. */
    size_t again = address_header_parts(a, buf_str(&once), 10240, &parts);
    address_header_print(parts, again, &twice);
    CHECK(twice.len <= once.len * 2 + 16);
    CHECK(address_header_parts(a, in, 3, &few) <= 3 * 3 + 4);
    buf_fini(&once);
    buf_fini(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = fuzz_str(data, size);
    struct arena *a = arena_new(0, 0);
    path(a, in, false);
    path(a, in, true);
    header(a, in);
    arena_free(a);
    return 0;
}
