/* io/net dns_msg: any packet from a name server that lies. */
#include "fuzz.h"
#include "io/base/hash.h"
#include "io/net/dns_msg.h"

static void look(const struct dns_answer *r)
{
    CHECK(r->status == DNS_FOUND ? r->count > 0 : r->count == 0);
    CHECK(r->name && strlen(r->name) < DNS_NAME_TEXT_MAX);
    for (size_t i = 0; i < r->count; i++) {
        char lower[DNS_NAME_TEXT_MAX];
        const char *name = r->records[i].name;
        CHECK(!name || !*name || dns_name_check(str_of(name), lower));
        struct str bytes = r->records[i].bytes;
        if (bytes.len > 0)
            (void)hash_sum(bytes.ptr, bytes.len, 0); /* readable to its end */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum dns_type types[] = {DNS_A,  DNS_NS,  DNS_CNAME, DNS_PTR,
                                          DNS_MX, DNS_TXT, DNS_AAAA,  DNS_TLSA};
    char lower[DNS_NAME_TEXT_MAX];
    if (dns_name_check(fuzz_str(data, size), lower))
        CHECK(strlen(lower) > 0 && dns_name_check(str_of(lower), lower));
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct arena *a = arena_new(0, 0);
        struct dns_answer out = {.name = "as it was"};
        if (dns_msg_parse(a, fuzz_str(data, size), "example.net", types[i], &out))
            look(&out);
        else
            CHECK(strcmp(out.name, "as it was") == 0);
        arena_free(a);
    }
    return 0;
}
