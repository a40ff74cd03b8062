/* What an operator may say, whom it holds back, what its mail says of itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/base/buf.h"
#include "queue/sched/suspend.h"

static bool is_transport(const void *ctx, struct str name)
{
    (void)ctx;
    return str_eq(name, STR("smtp")) || str_eq(name, STR("slow"));
}

static void what_may_be_said(void **state)
{
    (void)state;
    static const struct {
        const char *text, *name; /* NULL: refused */
        enum suspend_kind kind;
    } rows[] = {
        {"example.com", "example.com", SUSPEND_DOMAIN},
        {"@Example.COM", "example.com", SUSPEND_DOMAIN},
        {" example.com ", "example.com", SUSPEND_DOMAIN},
        {"localhost", "localhost", SUSPEND_DOMAIN},
        {"@smtp", "smtp", SUSPEND_DOMAIN},
        {"smtp", "smtp:", SUSPEND_TRANSPORT},
        {"smtp:", "smtp:", SUSPEND_TRANSPORT},
        {"SMTP:[Relay.example]:25", "smtp:[relay.example]:25", SUSPEND_DESTINATION},
        {"slow:example.com", "slow:example.com", SUSPEND_DESTINATION},
        {"[192.0.2.1]:25", "[192.0.2.1]:25", SUSPEND_NEXTHOP},
        {"[ipv6:2001:db8::1]", "[ipv6:2001:db8::1]", SUSPEND_NEXTHOP},
        {"", NULL, SUSPEND_DOMAIN},
        {"@", NULL, SUSPEND_DOMAIN},
        {"relay.example:25", NULL, SUSPEND_DOMAIN},
        {"user@example.com", NULL, SUSPEND_DOMAIN},
        {"a b", NULL, SUSPEND_DOMAIN},
        {"a\nb", NULL, SUSPEND_DOMAIN},
    };
    struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct str name = STR("");
        enum suspend_kind kind = SUSPEND_DOMAIN;
        struct err *e = suspend_parse(str_of(rows[i].text), is_transport, NULL, a, &name, &kind);
        if (!rows[i].name) {
            assert_non_null(e);
            assert_int_equal(e->kind, ERR_REFUSED);
            continue;
        }
        assert_null(e);
        assert_true(str_eq(name, str_of(rows[i].name)));
        assert_int_equal(kind, rows[i].kind);
        if (rows[i].text[0] != '@')
            assert_int_equal(suspend_kind_of(name), rows[i].kind);
    }
    arena_free(a);
}

static struct suspensions with(const char *const *names)
{
    struct suspensions p = {0};
    bool changed = false;
    assert_null(suspend_open(&p, NULL));
    for (size_t i = 0; names[i]; i++) {
        assert_null(suspend_set(&p, str_of(names[i]), true, &changed));
        assert_true(changed);
    }
    return p;
}

static void whom_it_holds_back(void **state)
{
    (void)state;
    static const char *const names[] = {"a.example", "[relay]:25", "smtp:b.example", "slow:", NULL};
    static const struct {
        const char *address, *transport, *nexthop, *by;
    } rows[] = {
        {"x@a.example", "smtp", "a.example", "a.example"},
        {"x@A.Example", NULL, NULL, "a.example"},
        {"x@sub.a.example", "smtp", "sub.a.example", NULL},
        {"a.example", "smtp", "c.example", NULL},
        {"x@c.example", "smtp", "[relay]:25", "[relay]:25"},
        {"x@c.example", "other", "[RELAY]:25", "[relay]:25"},
        {"x@c.example", "smtp", "[relay]", NULL},
        {"x@c.example", "smtp", "b.example", "smtp:b.example"},
        {"x@b.example", "lmtp", "b.example", NULL},
        {"x@c.example", "slow", "c.example", "slow:"},
        {"x@c.example", "slowly", "c.example", NULL},
        {"x@c.example", NULL, NULL, NULL},
    };
    struct suspensions p = with(names);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *by = suspend_find(&p, str_of(rows[i].address), rows[i].transport, rows[i].nexthop);
        if (rows[i].by)
            assert_string_equal(by, rows[i].by);
        else
            assert_null(by);
    }
    suspend_close(&p);
}

static void its_mail_says_so_and_what_it_said_before(void **state)
{
    (void)state;
    struct arena *a = arena_new(0, 0);
    struct dsn none = {.text = STR(""), .mta = STR(""), .diagnostic = STR("")};
    struct dsn refused = {
        .status = "4.4.1", .text = STR("Connection refused"), .mta = STR("m"), .diagnostic = STR("")};
    struct dsn first = suspend_why(&none, a), second = suspend_why(&refused, a),
               again = suspend_why(&second, a);
    assert_true(str_eq(first.text, STR("delivery suspended by the operator")));
    assert_string_equal(first.status, "4.3.2");
    assert_true(str_eq(second.text,
                       STR("delivery suspended by the operator; before: Connection refused")));
    assert_string_equal(second.status, "4.4.1");
    assert_true(str_eq(again.text, second.text));
    assert_true(suspend_says(&again) && suspend_says(&first) && !suspend_says(&refused));
    arena_free(a);
}

static void add_name(void *ctx, const char *name, int64_t since_us)
{
    assert_true(since_us > 0);
    buf_printf(ctx, "%s ", name);
}

static void it_is_kept(void **state)
{
    (void)state;
    char dir[] = "/tmp/suspend-XXXXXX", path[64];
    static const char *const all[] = {"b.example", "a.example", "smtp:[r]:25"};
    struct suspensions p = {0}, q = {0};
    struct buf seen = {0};
    bool changed = false;
    assert_non_null(mkdtemp(dir));
    assert_null(suspend_open(&p, dir));
    for (size_t i = 0; i < 3; i++)
        assert_null(suspend_set(&p, str_of(all[i]), true, &changed));
    assert_null(suspend_set(&p, STR("a.example"), false, &changed));
    assert_true(changed);
    assert_null(suspend_set(&p, STR("a.example"), false, &changed));
    assert_false(changed);
    suspend_close(&p);
    assert_null(suspend_open(&q, dir));
    suspend_each(&q, add_name, &seen);
    assert_string_equal(seen.ptr, "b.example smtp:[r]:25 ");
    suspend_close(&q);
    buf_fini(&seen);
    snprintf(path, sizeof(path), "%s/suspended", dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

static void what_cannot_be_written_does_not_hold(void **state)
{
    (void)state;
    struct suspensions p = {0};
    bool changed = false;
    assert_null(suspend_open(&p, "/nonexistent/folder"));
    assert_non_null(suspend_set(&p, STR("a.example"), true, &changed));
    assert_false(changed);
    assert_null(suspend_find(&p, STR("x@a.example"), NULL, NULL));
    suspend_close(&p);
}

static void what_cannot_be_read_refuses(void **state)
{
    (void)state;
    char dir[] = "/tmp/suspend-XXXXXX", path[64];
    struct suspensions p = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/suspended", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    struct err *e = suspend_open(&p, dir);
    assert_non_null(e);
    assert_non_null(strstr(e->text, path));
    suspend_close(&p);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_may_be_said),
        cmocka_unit_test(whom_it_holds_back),
        cmocka_unit_test(its_mail_says_so_and_what_it_said_before),
        cmocka_unit_test(it_is_kept),
        cmocka_unit_test(what_cannot_be_written_does_not_hold),
        cmocka_unit_test(what_cannot_be_read_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
