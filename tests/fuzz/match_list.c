/* maps match_list, io/net addr and cidr: mynetworks and its relatives. A pattern with a file or table of this machine is left
 * out: '/' counts in a width only. */
#include "fuzz.h"
#include "io/net/addr.h"
#include "maps/map.h"

static const struct map_options options = {.config_dir = "/nonexistent", .default_type = "hash"};

static bool names_a_file(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] == '/' && (i == 0 || !(str_is_alnum(s.ptr[i - 1]) || s.ptr[i - 1] == ']')))
            return true;
    return memchr(s.ptr, '\0', s.len) != NULL;
}

static void one(struct str word)
{
    struct addr a, again;
    struct cidr c;
    char text[ADDR_TEXT_MAX];
    if (addr_parse(word, 25, &a)) {
        addr_text(&a, text);
        CHECK(addr_parse(str_of(text), 25, &again) && addr_eq_host(&a, &again));
        CHECK(addr_port(&again) == 25);
        CHECK(cidr_parse(str_of(text), &c) || cidr_match(&c, &a));
    }
    (void)addr_parse_literal(word, 25, &a);
    if (!cidr_parse(word, &c))
        CHECK(c.bits <= (c.family == AF_INET ? 32 : 128));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_quiet();
    struct str in = fuzz_str(data, size), rest = in, word;
    while (str_token(&rest, ", \t\r\n", &word))
        one(word);
    if (size == 0 || names_a_file(in))
        return 0;
    struct addr client;
    CHECK(addr_parse(STR("192.0.2.1"), 25, &client));
    for (int kind = MATCH_DOMAIN; kind <= MATCH_STRING; kind++) {
        struct arena *a = arena_new(0, 0);
        struct match_list *l = NULL;
        bool hit = false;
        if (!match_list_open("fuzz", arena_cstr(a, in), (enum match_kind)kind, &options, &l)) {
            bool by_addr = kind == MATCH_NETWORK || kind == MATCH_HOST;
            struct err *e = by_addr ? match_list_client(l, a, STR("mx.example.com"), &client, &hit)
                                    : match_list_name(l, a, STR("mx.example.com"), &hit);
            CHECK(!e || !hit);
            match_list_close(l);
        }
        arena_free(a);
    }
    return 0;
}
