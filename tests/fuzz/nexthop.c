/* core/smtp route: a next hop as transport tables and relayhost have it, one a line; orders of targets. */
#include "fuzz.h"
#include "core/smtp/route.h"

enum { TARGETS_MAX = 32 };

/* Each byte is a host: 3 bits preference, 1 bit family. */
static void targets(struct str in)
{
    static struct smtp_target list[TARGETS_MAX];
    memset(list, 0, sizeof list);
    size_t count = in.len < TARGETS_MAX ? in.len : TARGETS_MAX;
    struct own_addr own = {0};
    CHECK(addr_parse(STR("192.0.2.7"), 25, &own.addr));
    for (size_t i = 0; i < count; i++) {
        unsigned char c = (unsigned char)in.ptr[i];
        struct str text = c & 8 ? STR("2001:db8::1") : c & 16 ? STR("192.0.2.7") : STR("192.0.2.1");
        list[i].host = "mx";
        list[i].preference = c & 7;
        CHECK(addr_parse(text, 25, &list[i].addr));
    }
    for (int family = SMTP_FAMILY_ANY; family <= SMTP_FAMILY_IPV6; family++) {
        smtp_targets_order(list, count, false, (enum smtp_family)family);
        for (size_t i = 1; i < count; i++)
            CHECK(list[i - 1].preference <= list[i].preference);
    }
    bool self = false;
    size_t left = smtp_targets_cut_own(list, count, &own, 1, &self);
    CHECK(left <= count && (self || left == count));
    for (size_t i = 0; i < left; i++)
        CHECK(!addr_eq_host(&list[i].addr, &own.addr));
    size_t few = smtp_targets_balance(list, left, 5);
    CHECK(few <= left && few >= (left < 5 ? left : 5));
    for (size_t i = 1; i < few; i++)
        CHECK(list[i - 1].preference <= list[i].preference);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = fuzz_str(data, size), rest = in, line;
    struct arena *a = arena_new(0, 0);
    while (fuzz_line(&rest, &line)) {
        struct smtp_site site = {0};
        if (line.len > 300 || smtp_site_parse(a, line, "25", &site))
            continue;
        CHECK(site.port != 0 && site.host && site.text);
        CHECK(strlen(site.host) <= line.len);
    }
    targets(in);
    arena_free(a);
    return 0;
}
