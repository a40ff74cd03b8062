/* Next hops taken apart; addresses in order; our own host cut off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "core/smtp/route.h"
#include "io/base/rand.h"

/* --- next hops */
static const struct {
    const char *text, *host; /* NULL: refused */
    uint16_t port;
    bool direct;
} sites[] = {
    {"example.com", "example.com", 25, false},
    {"example.com:2525", "example.com", 2525, false},
    {"example.com:submission", "example.com", 587, false},
    {"[example.com]", "example.com", 25, true},
    {"[example.com]:26", "example.com", 26, true},
    {"[192.0.2.1]", "192.0.2.1", 25, true},
    {"[192.0.2.1]:10025", "192.0.2.1", 10025, true},
    {"[IPv6:2001:db8::1]", "2001:db8::1", 25, true},
    {"[ipv6:2001:db8::1]:26", "2001:db8::1", 26, true},
    {"[2001:db8::1]:26", "2001:db8::1", 26, true},
    {"[example.com", NULL, 0, false},
    {"[example.com]x", NULL, 0, false},
    {"[]", NULL, 0, false},
    {"", NULL, 0, false},
    {":25", NULL, 0, false},
    {"[example.com]:", NULL, 0, false},
    {"example.com:0", NULL, 0, false},
    {"example.com:65536", NULL, 0, false},
    {"example.com:nosuchservice", NULL, 0, false},
};

static void test_sites(void **state)
{
    (void)state;
    struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < sizeof(sites) / sizeof(sites[0]); i++) {
        struct smtp_site s = {0};
        struct err *e = smtp_site_parse(a, str_of(sites[i].text), "smtp", &s);
        if ((e == NULL) != (sites[i].host != NULL))
            fail_msg("%s: %s", sites[i].text, e ? e->text : "taken");
        if (e)
            continue;
        assert_string_equal(s.host, sites[i].host);
        assert_int_equal(s.port, sites[i].port);
        assert_int_equal(s.direct, sites[i].direct);
    }
    arena_free(a);
}

/* --- addresses: "pref address" lists */
static size_t make(const char *text, struct smtp_target *out)
{
    struct str rest = str_of(text), word;
    size_t n = 0;
    while (str_token(&rest, " ", &word)) {
        uint64_t pref;
        ssize_t at = str_index(word, '/');
        assert_true(str_u64(str_head(word, (size_t)at), &pref));
        out[n] = (struct smtp_target){.host = "h", .preference = (uint16_t)pref};
        assert_true(addr_parse(str_from(word, (size_t)at + 1), 25, &out[n++].addr));
    }
    return n;
}

static void expect(const char *name, const struct smtp_target *list, size_t n, const char *want)
{
    char got[512] = "", ip[ADDR_TEXT_MAX];
    size_t at = 0;
    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(got + at, sizeof(got) - at, "%s%u/%s", i ? " " : "",
                               list[i].preference, addr_text(&list[i].addr, ip));
    if (strcmp(got, want) != 0)
        fail_msg("%s: want \"%s\", got \"%s\"", name, want, got);
}

static const struct {
    const char *name, *in;
    enum smtp_family family;
    const char *out;
} orders[] = {
    {"by preference", "20/192.0.2.2 10/192.0.2.1 30/192.0.2.3", SMTP_FAMILY_ANY,
     "10/192.0.2.1 20/192.0.2.2 30/192.0.2.3"},
    {"equal ones stay when nobody shuffles", "10/192.0.2.2 10/192.0.2.1 5/192.0.2.3",
     SMTP_FAMILY_ANY, "5/192.0.2.3 10/192.0.2.2 10/192.0.2.1"},
    {"IPv6 first among equals", "10/192.0.2.1 10/2001:db8::1 5/192.0.2.2", SMTP_FAMILY_IPV6,
     "5/192.0.2.2 10/2001:db8::1 10/192.0.2.1"},
    {"IPv4 first among equals", "10/2001:db8::1 10/192.0.2.1 5/2001:db8::2", SMTP_FAMILY_IPV4,
     "5/2001:db8::2 10/192.0.2.1 10/2001:db8::1"},
    {"one", "10/192.0.2.1", SMTP_FAMILY_ANY, "10/192.0.2.1"},
    {"none", "", SMTP_FAMILY_ANY, ""},
};

static void test_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
        struct smtp_target list[8];
        size_t n = make(orders[i].in, list);
        smtp_targets_order(list, n, false, orders[i].family);
        expect(orders[i].name, list, n, orders[i].out);
    }
}

/* Each of three equal hosts comes first about as often; the better one always does. */
static void test_shuffle(void **state)
{
    (void)state;
    size_t first[3] = {0};
    for (int i = 0; i < 3000; i++) {
        struct smtp_target list[4];
        make("10/192.0.2.1 10/192.0.2.2 10/192.0.2.3 5/192.0.2.9", list);
        smtp_targets_order(list, 4, true, SMTP_FAMILY_ANY);
        assert_int_equal(list[0].preference, 5);
        first[(ntohl(list[1].addr.in.sin_addr.s_addr) & 0xff) - 1]++;
    }
    for (int i = 0; i < 3; i++)
        assert_in_range(first[i], 800, 1200);
}

static const struct {
    const char *name, *in;
    size_t limit;
    const char *out;
} balances[] = {
    {"within the limit nothing changes", "1/192.0.2.1 1/2001:db8::1", 5,
     "1/192.0.2.1 1/2001:db8::1"},
    {"one family alone stays whole", "1/192.0.2.1 1/192.0.2.2 1/192.0.2.3", 2,
     "1/192.0.2.1 1/192.0.2.2 1/192.0.2.3"},
    {"a crowd of IPv6 leaves room for IPv4",
     "1/2001:db8::1 1/2001:db8::2 1/2001:db8::3 1/192.0.2.1", 3,
     "1/2001:db8::1 1/2001:db8::2 1/192.0.2.1"},
    {"both crowd: half each, order kept",
     "1/2001:db8::1 1/2001:db8::2 1/2001:db8::3 1/192.0.2.1 1/192.0.2.2 1/192.0.2.3", 4,
     "1/2001:db8::1 1/2001:db8::2 1/192.0.2.1 1/192.0.2.2"},
    {"a lone IPv6 behind many", "1/192.0.2.1 1/192.0.2.2 1/192.0.2.3 2/2001:db8::1", 3,
     "1/192.0.2.1 1/192.0.2.2 2/2001:db8::1"},
};

static void test_balance(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(balances) / sizeof(balances[0]); i++) {
        struct smtp_target list[8];
        size_t n = make(balances[i].in, list);
        n = smtp_targets_balance(list, n, balances[i].limit);
        expect(balances[i].name, list, n, balances[i].out);
    }
}

static const struct {
    const char *name, *in, *out;
    bool self;
} cuts[] = {
    {"we are not in it", "10/192.0.2.1 20/192.0.2.2", "10/192.0.2.1 20/192.0.2.2", false},
    {"better ones are left", "10/192.0.2.1 20/198.51.100.1 30/192.0.2.3", "10/192.0.2.1", true},
    {"equal ones go too, before and behind us",
     "10/192.0.2.1 20/192.0.2.2 20/198.51.100.1 20/192.0.2.3", "10/192.0.2.1", true},
    {"we are the best: nothing is left", "10/198.51.100.1 20/192.0.2.2", "", true},
    {"our IPv6 address counts", "10/192.0.2.1 20/2001:db8::25 30/192.0.2.3", "10/192.0.2.1", true},
};

static void test_cut_own(void **state)
{
    (void)state;
    struct own_addr own[2] = {0};
    assert_true(addr_parse(STR("198.51.100.1"), 0, &own[0].addr));
    assert_true(addr_parse(STR("2001:db8::25"), 0, &own[1].addr));
    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        struct smtp_target list[8];
        bool self = false;
        size_t n = make(cuts[i].in, list);
        n = smtp_targets_cut_own(list, n, own, 2, &self);
        expect(cuts[i].name, list, n, cuts[i].out);
        assert_int_equal(self, cuts[i].self);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sites),   cmocka_unit_test(test_order),
        cmocka_unit_test(test_shuffle), cmocka_unit_test(test_balance),
        cmocka_unit_test(test_cut_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
