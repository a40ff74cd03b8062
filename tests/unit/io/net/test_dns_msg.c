/* dns_msg: replies from the wire (RFC 1035 §4.1): records, CNAME chains, compression, damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include "io/base/buf.h"
#include "io/net/dns_msg.h"

static void put16(struct buf *b, unsigned v)
{
    buf_add_char(b, (char)(v >> 8));
    buf_add_char(b, (char)v);
}

static void put_name(struct buf *b, const char *name)
{
    struct str rest = str_of(name), label;
    while (str_token(&rest, ".", &label)) {
        buf_add_char(b, (char)label.len);
        buf_add_str(b, label);
    }
    buf_add_char(b, '\0');
}

static void put_head(struct buf *b, unsigned rcode, unsigned answers, const char *name, unsigned type)
{
    put16(b, 1);
    put16(b, 0x8180 | rcode);
    put16(b, 1);
    put16(b, answers);
    put16(b, 0);
    put16(b, 0);
    put_name(b, name);
    put16(b, type);
    put16(b, 1);
}

static void put_rr(struct buf *b, const char *name, unsigned type, const void *data, size_t n)
{
    if (name)
        put_name(b, name);
    else
        put16(b, 0xc00c); /* the question's name */
    put16(b, type);
    put16(b, 1);
    put16(b, 0);
    put16(b, 300);
    put16(b, (unsigned)n);
    buf_add(b, data, n);
}

static struct dns_answer parse(struct arena *a, const struct buf *b, const char *name,
                               enum dns_type type)
{
    struct dns_answer out = {.name = "?"};
    assert_true(dns_msg_parse(a, buf_str(b), name, type, &out));
    return out;
}

static void names_one_can_ask_for(void **state)
{
    (void)state;
    char l63[70], l64[70], long253[300], long254[300], lower[DNS_NAME_TEXT_MAX];
    snprintf(l63, sizeof(l63), "%063d.x", 0);
    snprintf(l64, sizeof(l64), "%064d.x", 0);
    snprintf(long253, sizeof(long253), "%063d.%063d.%063d.%061d", 0, 0, 0, 0);
    snprintf(long254, sizeof(long254), "%063d.%063d.%063d.%062d", 0, 0, 0, 0);
    const struct {
        const char *name, *text;
        bool fine;
    } rows[] = {
        {"plain", "Example.COM", true},
        {"final dot", "example.com.", true},
        {"one label", "localhost", true},
        {"underscores", "_25._tcp.mx.example.com", true},
        {"label of 63", l63, true},
        {"label of 64", l64, false},
        {"253 bytes", long253, true},
        {"254 bytes", long254, false},
        {"nothing", "", false},
        {"only a dot", ".", false},
        {"empty label in front", ".example.com", false},
        {"empty label inside", "example..com", false},
        {"two final dots", "example.com..", false},
        {"a blank", "exa mple.com", false},
        {"an escape", "exa\\046mple.com", false},
        {"not ASCII", "ex\xc3\xa4mple.com", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (dns_name_check(str_of(rows[i].text), lower) != rows[i].fine)
            fail_msg("%s", rows[i].name);
    }
    assert_true(dns_name_check(STR("Example.COM."), lower));
    assert_string_equal(lower, "example.com");
}

static void mx_records_and_the_null_mx(void **state)
{
    (void)state;
    struct arena *a = arena_new(0, 0);
    struct buf b = {0};
    put_head(&b, 0, 3, "example.net", DNS_MX);
    put_rr(&b, NULL, DNS_MX, "\x00\x0a\x03MX1\xc0\x0c", 8); /* 10 MX1.example.net */
    put_rr(&b, NULL, DNS_MX, "\x01\x00\x00", 3);            /* 256 . */
    put_rr(&b, NULL, DNS_MX, "\x00\x05\x03m x\x00", 7);     /* no host name */
    struct dns_answer r = parse(a, &b, "example.net", DNS_MX);
    assert_int_equal(r.status, DNS_FOUND);
    assert_int_equal(r.count, 2);
    assert_int_equal(r.records[0].preference, 10);
    assert_string_equal(r.records[0].name, "mx1.example.net");
    assert_int_equal(r.records[0].ttl, 300);
    assert_int_equal(r.records[1].preference, 256);
    assert_string_equal(r.records[1].name, "");
    buf_fini(&b);
    arena_free(a);
}

static void addresses_behind_aliases(void **state)
{
    (void)state;
    struct arena *a = arena_new(0, 0);
    struct buf b = {0};
    char text[ADDR_TEXT_MAX];
    put_head(&b, 0, 4, "WWW.example.net", DNS_A);
    put_rr(&b, "real.example.org", DNS_A, "\x7f\x00\x00\x02", 4); /* out of order on purpose */
    put_rr(&b, NULL, DNS_CNAME, "\x03two\xc0\x10", 6);
    put_rr(&b, "two.example.net", DNS_CNAME, "\x04real\x07""example\x03org\x00", 18);
    put_rr(&b, "other.example.org", DNS_A, "\x7f\x00\x00\x03", 4); /* nobody asked */
    struct dns_answer r = parse(a, &b, "www.example.net", DNS_A);
    assert_int_equal(r.status, DNS_FOUND);
    assert_int_equal(r.count, 1);
    assert_string_equal(addr_text(&r.records[0].addr, text), "127.0.0.2");
    assert_string_equal(r.name, "real.example.org");
    buf_fini(&b);
    arena_free(a);
}

static void texts_are_joined_and_other_data_is_raw(void **state)
{
    (void)state;
    struct arena *a = arena_new(0, 0);
    struct buf b = {0};
    put_head(&b, 0, 1, "t.example", DNS_TXT);
    put_rr(&b, NULL, DNS_TXT, "\x03v=s\x00\x02pf", 8);
    struct dns_answer r = parse(a, &b, "t.example", DNS_TXT);
    assert_true(str_eq(r.records[0].bytes, STR("v=spf")));
    buf_reset(&b);
    put_head(&b, 0, 1, "_25._tcp.t.example", DNS_TLSA);
    put_rr(&b, NULL, DNS_TLSA, "\x03\x01\x01xyz", 6);
    r = parse(a, &b, "_25._tcp.t.example", DNS_TLSA);
    assert_true(str_eq(r.records[0].bytes, STR("\x03\x01\x01xyz")));
    buf_fini(&b);
    arena_free(a);
}

static void every_rcode_has_its_status(void **state)
{
    (void)state;
    static const struct {
        unsigned rcode, answers;
        enum dns_status status;
        const char *why;
    } rows[] = {
        {0, 0, DNS_NODATA, "Host found but no data record of requested type"},
        {3, 0, DNS_NXDOMAIN, "Host not found"},
        {3, 1, DNS_NXDOMAIN, "Host not found"}, /* an alias to nowhere */
        {2, 0, DNS_TEMPORARY, "Host not found, try again"},
        {5, 0, DNS_TEMPORARY, "Host not found, try again"},
        {0, 1, DNS_NODATA, "Host found but no data record of requested type"},
    };
    struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf b = {0};
        put_head(&b, rows[i].rcode, rows[i].answers, "x.example", DNS_A);
        if (rows[i].answers)
            put_rr(&b, NULL, DNS_CNAME, "\x01y\x00", 3);
        struct dns_answer r = parse(a, &b, "x.example", DNS_A);
        assert_int_equal(r.status, rows[i].status);
        assert_string_equal(r.why, rows[i].why);
        assert_int_equal(r.count, 0);
        buf_fini(&b);
    }
    arena_free(a);
}

static void damaged(struct arena *a, const struct buf *b, const char *name, enum dns_type type)
{
    struct dns_answer out = {.name = "?", .count = 7};
    assert_false(dns_msg_parse(a, buf_str(b), name, type, &out));
    assert_int_equal(out.count, 7);
}

static void damage_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *data;
        size_t n;
        enum dns_type type;
    } rows[] = {
        {"an address of 3 bytes", "abc", 3, DNS_A},
        {"an address of 5 bytes", "abcde", 5, DNS_A},
        {"an IPv6 address of 4 bytes", "abcd", 4, DNS_AAAA},
        {"a preference alone", "\0\1", 2, DNS_MX},
        {"a name that is cut off", "\0\1\5abc", 6, DNS_MX},
        {"bytes behind the name", "\0\1\1a\0zz", 7, DNS_MX},
        {"a pointer to itself", "\xc0\x27", 2, DNS_PTR},
        {"a pointer forward", "\xc0\xff", 2, DNS_PTR},
        {"an unknown label type", "\x81""a\0", 3, DNS_PTR},
        {"a string past its data", "\5abc", 4, DNS_TXT},
        {"no name", "", 0, DNS_PTR},
    };
    struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf b = {0};
        put_head(&b, 0, 1, "x.example", rows[i].type);
        put_rr(&b, NULL, rows[i].type, rows[i].data, rows[i].n);
        damaged(a, &b, "x.example", rows[i].type);
        buf_fini(&b);
    }
    struct buf b = {0};
    put_head(&b, 0, 1, "x.example", DNS_A);
    put_rr(&b, NULL, DNS_CNAME, "\xc0\x0c", 2); /* an alias of itself */
    damaged(a, &b, "x.example", DNS_A);
    buf_fini(&b);
    arena_free(a);
}

/* Cut at every length and with every byte changed: no answer matters, no byte outside is touched
 * (the copy ends where malloc's does, so a checking build sees it). */
static void any_bytes_are_safe(void **state)
{
    (void)state;
    struct buf b = {0};
    put_head(&b, 0, 3, "www.example.net", DNS_MX);
    put_rr(&b, NULL, DNS_CNAME, "\x03two\xc0\x10", 6);
    put_rr(&b, "two.example.net", DNS_MX, "\x00\x0a\x03mx1\xc0\x10", 8);
    put_rr(&b, "two.example.net", DNS_MX, "\x00\x0b\x03mx2\xc0\x10", 8);
    struct arena *a = arena_new(0, 0);
    for (size_t n = 0; n <= b.len; n++) {
        char *copy = malloc(n ? n : 1);
        memcpy(copy, b.ptr, n);
        struct dns_answer out = {.name = "?"};
        assert_int_equal(dns_msg_parse(a, str_make(copy, n), "www.example.net", DNS_MX, &out),
                         n == b.len);
        free(copy);
    }
    for (size_t at = 0; at < b.len; at++) {
        for (int value = 0; value < 256; value++) {
            char *copy = malloc(b.len);
            memcpy(copy, b.ptr, b.len);
            copy[at] = (char)value;
            struct dns_answer out = {.name = "?"};
            (void)dns_msg_parse(a, str_make(copy, b.len), "www.example.net", DNS_MX, &out);
            assert_true(out.count <= 2);
            free(copy);
        }
        arena_reset(a);
    }
    buf_fini(&b);
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_one_can_ask_for),
        cmocka_unit_test(mx_records_and_the_null_mx),
        cmocka_unit_test(addresses_behind_aliases),
        cmocka_unit_test(texts_are_joined_and_other_data_is_raw),
        cmocka_unit_test(every_rcode_has_its_status),
        cmocka_unit_test(damage_is_refused),
        cmocka_unit_test(any_bytes_are_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
