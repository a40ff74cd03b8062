/* zone: replies to queries, byte by byte where it matters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/base/buf.h"
#include "perf/load/zone.h"

static const struct zone zone = {.prefix = STR("dest"),
                                 .suffix = STR(".test"),
                                 .count = 1000,
                                 .sites = 400,
                                 .first = 0x7F010001,
                                 .mx = 2,
                                 .ttl = 60,
                                 .servfail_every = 7};

/* A query for a dotted name; \0 ends it. */
static struct str query(struct buf *b, const char *name, unsigned type)
{
    buf_reset(b);
    buf_add(b, "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00", 12);
    struct str rest = str_of(name), label;
    while (str_token(&rest, ".", &label)) {
        buf_add_char(b, (char)label.len);
        buf_add_str(b, label);
    }
    buf_add_char(b, '\0');
    buf_add_char(b, (char)(type >> 8));
    buf_add_char(b, (char)(type & 255));
    buf_add(b, "\0\1", 2);
    return buf_str(b);
}

static void names_and_what_they_are(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        unsigned type;
        enum zone_kind kind;
        unsigned rcode, answers;
        const char *last; /* 4 bytes at the end of an A */
    } rows[] = {
        {"dest1.test", 15, ZONE_MX, 0, 2, NULL},
        {"DEST1000.Test", 15, ZONE_MX, 0, 2, NULL},
        {"dest1001.test", 15, ZONE_NXDOMAIN, 3, 0, NULL},
        {"dest0.test", 15, ZONE_NXDOMAIN, 3, 0, NULL},
        {"dest01.test", 15, ZONE_NXDOMAIN, 3, 0, NULL},
        {"dest.test", 15, ZONE_NXDOMAIN, 3, 0, NULL},
        {"xdest1.test", 15, ZONE_NXDOMAIN, 3, 0, NULL},
        {"dest1.test.org", 15, ZONE_NXDOMAIN, 3, 0, NULL},
        {"dest1.test", 1, ZONE_OTHER, 0, 0, NULL},
        {"dest14.test", 15, ZONE_SERVFAIL, 2, 0, NULL},
        {"mx1.dest1.test", 1, ZONE_A, 0, 1, "\x7F\x01\x00\x01"},
        {"mx2.dest1.test", 1, ZONE_A, 0, 1, "\x7F\x02\x00\x01"},
        {"mx1.dest300.test", 1, ZONE_A, 0, 1, "\x7F\x01\x01\x2C"},
        {"mx1.dest401.test", 1, ZONE_A, 0, 1, "\x7F\x01\x00\x01"}, /* 400 sites */
        {"mx3.dest1.test", 1, ZONE_NXDOMAIN, 3, 0, NULL},
        {"mx1.dest1.test", 28, ZONE_OTHER, 0, 0, NULL},
        {"", 2, ZONE_NXDOMAIN, 3, 0, NULL},
    };
    struct buf b = {0};
    char reply[ZONE_REPLY_MAX];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t n = 0;
        enum zone_kind kind = zone_answer(&zone, query(&b, rows[i].name, rows[i].type), reply, &n);
        if (kind != rows[i].kind)
            fail_msg("%s %u: %d", rows[i].name, rows[i].type, kind);
        assert_memory_equal(reply, "\x12\x34\x85", 3);
        assert_int_equal((unsigned char)reply[3], 0x80 | rows[i].rcode);
        assert_int_equal(reply[7], rows[i].answers);
        assert_memory_equal(reply + 12, b.ptr + 12, b.len - 12); /* the question, as asked */
        if (rows[i].last)
            assert_memory_equal(reply + n - 4, rows[i].last, 4);
    }
    buf_fini(&b);
}

static void damaged_queries_get_no_reply_and_harm_nobody(void **state)
{
    (void)state;
    struct buf b = {0};
    char reply[ZONE_REPLY_MAX];
    size_t n = 77;
    struct str whole = query(&b, "mx1.dest1.test", 1);
    for (size_t cut = 0; cut < whole.len; cut++)
        assert_int_equal(zone_answer(&zone, str_head(whole, cut), reply, &n), ZONE_IGNORED);
    b.ptr[2] |= (char)0x80; /* a reply, not a query */
    assert_int_equal(zone_answer(&zone, whole, reply, &n), ZONE_IGNORED);
    b.ptr[2] &= 0x7F;
    b.ptr[12] = (char)0xC0; /* a pointer in a question */
    assert_int_equal(zone_answer(&zone, whole, reply, &n), ZONE_IGNORED);
    assert_int_equal(n, 77);
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_what_they_are),
        cmocka_unit_test(damaged_queries_get_no_reply_and_harm_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
