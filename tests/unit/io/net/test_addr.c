/* addr, cidr: what is an address and what is a network, in Postfix's words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/net/addr.h"

static void addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *printed; /* NULL: refused */
    } rows[] = {
        {"127.0.0.1", "127.0.0.1"}, {"255.255.255.255", "255.255.255.255"},
        {"::1", "::1"},             {"2001:DB8:0:0::1", "2001:db8::1"},
        {"::ffff:1.2.3.4", "::ffff:1.2.3.4"},
        {"", NULL},                 {"127.0.0", NULL},
        {"127.0.0.1.", NULL},       {"127.0.0.01", NULL},
        {"256.1.1.1", NULL},        {"[127.0.0.1]", NULL},
        {"::1%lo", NULL},           {"IPv6:::1", NULL},
        {"1:2:3:4:5:6:7:8:9", NULL}, {" 127.0.0.1", NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct addr a;
        char text[ADDR_TEXT_MAX];
        if (addr_parse(str_of(rows[i].text), 25, &a) != (rows[i].printed != NULL))
            fail_msg("%s", rows[i].text);
        if (!rows[i].printed)
            continue;
        assert_string_equal(addr_text(&a, text), rows[i].printed);
        assert_int_equal(addr_port(&a), 25);
        addr_set_port(&a, 26);
        assert_int_equal(addr_port(&a), 26);
    }
    struct addr a;
    assert_false(addr_parse(STR("127.0.0.1\0x"), 0, &a));
}

static void literals(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool fine;
    } rows[] = {{"127.0.0.1", true},  {"IPv6:::1", true},           {"ipv6:2001:db8::1", true},
                {"::1", false},       {"IPv6:127.0.0.1", false},    {"IPv6:", false},
                {"x.example", false}, {"IPv6:IPv6:::1", false},     {"[127.0.0.1]", false}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct addr a;
        if (addr_parse_literal(str_of(rows[i].text), 0, &a) != rows[i].fine)
            fail_msg("%s", rows[i].text);
    }
}

static void mapped_and_unknown(void **state)
{
    (void)state;
    struct addr a, b;
    char text[ADDR_TEXT_MAX];
    assert_true(addr_parse(STR("::ffff:192.0.2.7"), 25, &a));
    assert_true(addr_parse(STR("192.0.2.7"), 26, &b));
    assert_false(addr_eq_host(&a, &b));
    addr_unmap(&a);
    assert_true(addr_eq_host(&a, &b));
    assert_int_equal(addr_port(&a), 25);
    assert_string_equal(addr_text(&a, text), "192.0.2.7");
    struct addr local = {.un = {.family = AF_UNIX}};
    assert_string_equal(addr_text(&local, text), "unknown");
    assert_false(addr_eq_host(&local, &local));
}

/* As `postmap -q x cidr:file` of Postfix 3.7.11 says it. */
static void bad_networks(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error;
    } rows[] = {
        {"192.168.1.1/24", "non-null host address bits in \"192.168.1.1/24\", perhaps you should use "
                           "\"192.168.1.0/24\" instead"},
        {"[2001:db8::1]/32", "non-null host address bits in \"2001:db8::1/32\", perhaps you should "
                             "use \"2001:db8::/32\" instead"},
        {"1.2.3.4/0", "non-null host address bits in \"1.2.3.4/0\", perhaps you should use "
                      "\"0.0.0.0/0\" instead"},
        {"[2001:db8::1", "missing ']' character after \"[2001:db8::1\""},
        {"[::1]x", "garbage after \"[::1]\""},
        {"[2001:db8::]/32x", "bad mask value in \"2001:db8::/32x\""},
        {"1.2.3.4/", "bad mask value in \"1.2.3.4/\""},
        {"1.2.3.4/-1", "bad mask value in \"1.2.3.4/-1\""},
        {"1.2.3.4/+8", "bad mask value in \"1.2.3.4/+8\""},
        {"1.2.3.4/33", "bad mask length in \"1.2.3.4/33\""},
        {"[::1]/129", "bad mask length in \"::1/129\""},
        {"1.2.3/24", "bad network value in \"1.2.3/24\""},
        {"[]/3", "bad network value in \"/3\""},
        {"10", "bad address pattern: \"10\""},
        {"01.2.3.4", "bad address pattern: \"01.2.3.4\""},
        {"", "bad address pattern: \"\""},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cidr c;
        struct err *e = cidr_parse(str_of(rows[i].text), &c);
        if (!e)
            fail_msg("%s is taken", rows[i].text);
        assert_int_equal(e->kind, ERR_CONFIG);
        assert_string_equal(e->text, rows[i].error);
    }
    char longer[400];
    struct cidr c;
    memset(longer, '1', sizeof(longer));
    assert_non_null(cidr_parse(str_make(longer, sizeof(longer)), &c));
}

static void who_is_in_a_network(void **state)
{
    (void)state;
    static const struct {
        const char *network, *host;
        bool in;
    } rows[] = {
        {"127.0.0.0/8", "127.255.255.255", true},  {"127.0.0.0/8", "128.0.0.0", false},
        {"192.168.4.0/22", "192.168.7.255", true}, {"192.168.4.0/22", "192.168.8.0", false},
        {"10.0.0.0/7", "11.1.1.1", true},          {"0.0.0.0/0", "8.8.8.8", true},
        {"0.0.0.0/0", "::1", false},               {"[::]/0", "::1", true},
        {"[::]/0", "1.2.3.4", false},              {"1.2.3.4", "1.2.3.4", true},
        {"1.2.3.4", "1.2.3.5", false},             {"[::1]", "::1", true},
        {"[::1]/128", "::2", false},               {"2001:db8::/33", "2001:db8:7fff::1", true},
        {"2001:db8::/33", "2001:db8:8000::", false}, {"[1.2.3.0]/24", "1.2.3.9", true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cidr c;
        struct addr a;
        assert_null(cidr_parse(str_of(rows[i].network), &c));
        assert_true(addr_parse(str_of(rows[i].host), 0, &a));
        if (cidr_match(&c, &a) != rows[i].in)
            fail_msg("%s in %s", rows[i].host, rows[i].network);
    }
}

static void our_own_addresses_have_the_loopback(void **state)
{
    (void)state;
    struct arena *a = arena_new(0, 0);
    struct own_addr *list;
    size_t n;
    bool loopback = false;
    assert_null(addr_own_interfaces(a, &list, &n));
    for (size_t i = 0; i < n; i++) {
        char text[ADDR_TEXT_MAX];
        loopback |= strcmp(addr_text(&list[i].addr, text), "127.0.0.1") == 0 && list[i].bits == 8;
    }
    assert_true(loopback);
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses),
        cmocka_unit_test(literals),
        cmocka_unit_test(mapped_and_unknown),
        cmocka_unit_test(bad_networks),
        cmocka_unit_test(who_is_in_a_network),
        cmocka_unit_test(our_own_addresses_have_the_loopback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
