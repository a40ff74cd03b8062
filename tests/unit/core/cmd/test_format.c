/* Listings against lines that postqueue 3.7 printed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "core/cmd/format.h"

#define ARRIVAL_US (INT64_C(1795314065) * 1000000) /* Sun Nov 22 02:21:05 2026 UTC */

static struct rcpt rcpts[4];
static struct envelope env = {.arrival_us = ARRIVAL_US, .data_size = 299, .rcpts = rcpts};

static struct rcpt rcpt(const char *address, enum rcpt_state state, const char *why)
{
    return (struct rcpt){.address = str_of(address), .state = state, .why = {.text = str_of(why)}};
}

static struct queue_entry entry(const char *id, enum queue_name queue, bool expire)
{
    struct queue_entry e = {.queue = queue, .env = &env, .forced_expire = expire};
    str_copy(e.id, sizeof(e.id), str_of(id));
    return e;
}

static void expect(struct buf *b, const char *name, const char *text)
{
    if (!str_eq(buf_str(b), str_of(text)))
        fail_msg("%s: got\n%s\nwanted\n%s", name, b->ptr, text);
    buf_fini(b);
}

static void test_a_long_id(void **state)
{
    (void)state;
    struct buf b = {0};
    rcpts[0] = rcpt("a@later.example", RCPT_DEFERRED, "come again");
    rcpts[1] = rcpt("d@long.example", RCPT_DEFERRED,
                    "connect to some.host.example[192.0.2.1]:25: Connection timed out");
    env.rcpt_count = 2;
    env.sender = STR("a@example.com");
    struct queue_entry e = entry("4jXCVT1Yrfz1bcqZ", QUEUE_DEFERRED, false);
    format_list_head(&b, true);
    format_list_entry(&b, true, &e);
    format_list_foot(&b, 2863, 4);
    expect(&b, "long ids",
           "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------\n"
           "4jXCVT1Yrfz1bcqZ       299 Sun Nov 22 02:21:05 a@example.com\n"
           "                                                                  (come again)\n"
           "                                               a@later.example\n"
           "            (connect to some.host.example[192.0.2.1]:25: Connection timed out)\n"
           "                                               d@long.example\n"
           "\n"
           "-- 2 Kbytes in 4 Requests.\n");
}

static void test_short_ids_and_marks(void **state)
{
    static const struct {
        const char *id;
        enum queue_name queue;
        bool expire;
        const char *line;
    } rows[] = {
        {"1AB31A747D2", QUEUE_DEFERRED, false, "1AB31A747D2     299 Sun Nov 22 02:21:05  MAILER-DAEMON\n"},
        {"10F97A745C5", QUEUE_HOLD, false, "10F97A745C5!     299 Sun Nov 22 02:21:05  MAILER-DAEMON\n"},
        {"10962A74521", QUEUE_HOLD, true, "10962A74521!#     299 Sun Nov 22 02:21:05  MAILER-DAEMON\n"},
        {"10962A74521", QUEUE_ACTIVE, false, "10962A74521*     299 Sun Nov 22 02:21:05  MAILER-DAEMON\n"},
        {"5A6BAA7200", QUEUE_INCOMING, true, "5A6BAA7200#     299 Sun Nov 22 02:21:05  MAILER-DAEMON\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf b = {0};
        char wanted[256];
        rcpts[0] = rcpt("\"q q\"@later.example", RCPT_TODO, "");
        rcpts[0].address = STR("q q@later.example");
        env.rcpt_count = 1;
        env.sender = STR("");
        struct queue_entry e = entry(rows[i].id, rows[i].queue, rows[i].expire);
        format_list_entry(&b, false, &e);
        snprintf(wanted, sizeof(wanted), "%s%41s\"q q\"@later.example\n\n", rows[i].line, "");
        expect(&b, rows[i].id, wanted);
    }
}

static void test_who_has_a_reason_comes_first_and_who_is_done_does_not_come(void **state)
{
    (void)state;
    struct buf b = {0};
    rcpts[0] = rcpt("none@x.example", RCPT_TODO, "");
    rcpts[1] = rcpt("done@x.example", RCPT_DONE, "");
    rcpts[2] = rcpt("one@x.example", RCPT_DEFERRED, "why");
    rcpts[3] = rcpt("two@x.example", RCPT_DEFERRED, "why");
    env.rcpt_count = 4;
    env.sender = STR("a@example.com");
    struct queue_entry e = entry("1AB31A747D2", QUEUE_DEFERRED, false);
    format_list_entry(&b, false, &e);
    expect(&b, "order",
           "1AB31A747D2     299 Sun Nov 22 02:21:05  a@example.com\n"
           "                                                                         (why)\n"
           "                                         one@x.example\n"
           "                                         two@x.example\n"
           "                                         none@x.example\n\n");
}

static void test_json(void **state)
{
    (void)state;
    struct buf b = {0};
    rcpts[0] = rcpt("q@quote.example", RCPT_DEFERRED, "a \"quoted\" back\\slash\ttab \x01 \xff \xc3\xa4");
    rcpts[1] = rcpt("n@quote.example", RCPT_TODO, "");
    env.rcpt_count = 2;
    env.sender = STR("s s@example.com");
    struct queue_entry e = entry("4jXCVT1pPwz1bcql", QUEUE_HOLD, true);
    format_json_entry(&b, &e);
    expect(&b, "json",
           "{\"queue_name\": \"hold\", \"queue_id\": \"4jXCVT1pPwz1bcql\", \"arrival_time\": 1795314065, "
           "\"message_size\": 299, \"forced_expire\": true, \"sender\": \"\\\"s s\\\"@example.com\", "
           "\"recipients\": [{\"address\": \"q@quote.example\", \"delay_reason\": "
           "\"a \\\"quoted\\\" back\\\\slash\\ttab \\u0001 ? \xc3\xa4\"}, {\"address\": \"n@quote.example\"}]}\n");
}

static void test_one_request_has_no_s(void **state)
{
    (void)state;
    struct buf b = {0};
    format_list_foot(&b, 1024, 1);
    expect(&b, "foot", "-- 1 Kbytes in 1 Request.\n");
}

static void test_ids(void **state)
{
    (void)state;
    assert_true(format_id_valid(STR("3EDA640AEC")));
    assert_true(format_id_valid(STR("4jXCVT1Yrfz1bcqZ")));
    assert_true(format_id_valid(STR("ALL")));
    assert_false(format_id_valid(STR("")));
    assert_false(format_id_valid(STR("a/../b")));
    assert_false(format_id_valid(STR("a b")));
    assert_false(format_id_valid(str_make("a\0b", 3)));
}

static void test_paths(void **state)
{
    (void)state;
    static const struct {
        const char *id;
        enum queue_name queue;
        const char *path;
    } rows[] = {
        {"A182DA721CB", QUEUE_DEFERRED, "deferred/A/A182DA721CB"},
        {"A182DA721CB", QUEUE_HOLD, "hold/A182DA721CB"},
        {"0793710000", QUEUE_DEFERRED, "deferred/0/0793710000"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf b = {0};
        struct queue_entry e = entry(rows[i].id, rows[i].queue, false);
        format_path(&b, &e);
        expect(&b, rows[i].id, rows[i].path);
    }
}

int main(void)
{
    setenv("TZ", "UTC", 1);
    tzset();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_long_id),
        cmocka_unit_test(test_short_ids_and_marks),
        cmocka_unit_test(test_who_has_a_reason_comes_first_and_who_is_done_does_not_come),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_one_request_has_no_s),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
