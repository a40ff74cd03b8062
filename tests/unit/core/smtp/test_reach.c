/* Which addresses come first after what was learned of them; many threads at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "core/smtp/reach.h"
#include "io/base/clock.h"

static struct params params = {
    .smtp_bind_address = "", .smtp_bind_address6 = "", .minimal_backoff_time = 300};

/* 'a' .. 'z': IPv4, 'A' .. 'Z': IPv6 */
static struct smtp_target target(char name)
{
    struct smtp_target t = {.host = "h"};
    char text[32];
    bool v6 = name < 'a';
    snprintf(text, sizeof(text), v6 ? "2001:db8::%x" : "192.0.2.%d", name);
    assert_true(addr_parse(str_of(text), 25, &t.addr));
    return t;
}

static char name_of(const struct smtp_target *t)
{
    const uint8_t *bytes = t->addr.sa.sa_family == AF_INET6 ? t->addr.in6.sin6_addr.s6_addr + 12
                                                            : (uint8_t *)&t->addr.in.sin_addr;
    return (char)bytes[3];
}

/* "abc" -> "bc/a": the order, and behind the stroke those known to be unreachable. */
static void ask(const char *names, int64_t now_s, char *out)
{
    struct smtp_target list[8];
    size_t n = 0;
    for (; names[n]; n++)
        list[n] = target(names[n]);
    size_t front = smtp_reach_order(&params, list, n, now_s * NS_PER_S);
    for (size_t i = 0; i < n; i++) {
        if (i == front)
            *out++ = '/';
        assert_int_equal(list[i].unreachable, i >= front);
        *out++ = name_of(&list[i]);
    }
    *out = '\0';
}

/* A step: "at !names" could not be reached, "at +names" greeted, "at names=order" asked. */
static const struct {
    const char *name, *steps[8];
} rows[] = {
    {"nothing is known", {"0 abc=abc"}},
    {"the dead one comes last", {"0 !a", "1 abc=bc/a"}},
    {"those that are dead keep their order", {"0 !ac", "1 abcd=bd/ac"}},
    {"all are dead: the order is the usual one", {"0 !cab", "1 abc=/abc"}},
    {"the only one", {"0 !a", "1 a=/a"}},
    {"one probe when the time is up", {"0 !a", "299 ab=b/a", "300 ab=ab", "300 ab=b/a"}},
    {"the next probe as long after", {"0 !a", "310 ab=ab", "609 ab=b/a", "610 ab=ab"}},
    {"a probe that fails begins the time anew",
     {"0 !a", "300 ab=ab", "330 !a", "629 ab=b/a", "630 ab=ab"}},
    {"one that greets is forgotten", {"0 !a", "1 +a", "2 ab=ab"}},
    {"and may be lost again", {"0 !a", "1 +a", "2 !a", "3 ab=b/a"}},
    {"who greets says nothing of the others", {"0 !ab", "1 +b", "2 ab=b/a"}},
    {"the one that would not be asked is not the probe", {"0 !b", "400 ab=a/b", "401 b=b"}},
    {"of two that are due one is the probe at a time",
     {"0 !ab", "300 abc=ac/b", "301 abc=bc/a", "302 abc=c/ab"}},
    {"a network without a way out", {"0 !AB", "1 AaBb=ab/AB"}},
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        smtp_reach_clear();
        for (size_t k = 0; k < 8 && rows[i].steps[k]; k++) {
            int64_t at_s;
            char what[40], got[40];
            assert_int_equal(sscanf(rows[i].steps[k], "%ld %39s", &at_s, what), 2);
            char *want = strchr(what, '=');
            if (want) {
                *want++ = '\0';
                ask(what, at_s, got);
                if (strcmp(got, want) != 0)
                    fail_msg("%s: %s: %s", rows[i].name, rows[i].steps[k], got);
                continue;
            }
            for (const char *p = what + 1; *p; p++) {
                struct smtp_target t = target(*p);
                if (*what == '!')
                    smtp_reach_failed(&params, &t.addr, at_s * NS_PER_S);
                else
                    smtp_reach_ok(&params, &t.addr);
            }
        }
    }
}

/* Another port, and another address of our own, are another way. */
static void test_ways(void **state)
{
    (void)state;
    struct smtp_target t = target('a'), other = target('a');
    struct params from = params;
    from.smtp_bind_address = "192.0.2.200";
    addr_set_port(&other.addr, 587);
    smtp_reach_clear();
    smtp_reach_failed(&params, &t.addr, 0);
    assert_int_equal(smtp_reach_order(&params, &t, 1, 1), 0);
    assert_int_equal(smtp_reach_order(&params, &other, 1, 1), 1);
    assert_int_equal(smtp_reach_order(&from, &t, 1, 1), 1);
    from.smtp_bind_address = "";
    from.smtp_bind_address6 = "2001:db8::200";
    assert_int_equal(smtp_reach_order(&from, &t, 1, 1), 0);
}

static void test_a_thousand_have_room(void **state)
{
    (void)state;
    struct smtp_target t = target('a');
    smtp_reach_clear();
    for (uint32_t i = 0; i < 1000; i++) {
        t.addr.in.sin_addr.s_addr = htonl(i);
        smtp_reach_failed(&params, &t.addr, 0);
    }
    for (uint32_t i = 0; i < 1000; i++) {
        t.addr.in.sin_addr.s_addr = htonl(i);
        assert_int_equal(smtp_reach_order(&params, &t, 1, 1), 0);
    }
}

/* More than there is room for: the latest are known, and memory is what it was. */
static void test_bound(void **state)
{
    (void)state;
    struct smtp_target t = target('a');
    size_t known = 0;
    smtp_reach_clear();
    for (uint32_t i = 0; i < 100000; i++) {
        t.addr.in.sin_addr.s_addr = htonl(i);
        smtp_reach_failed(&params, &t.addr, i * NS_PER_MS);
        assert_int_equal(smtp_reach_order(&params, &t, 1, i * NS_PER_MS), 0);
    }
    for (uint32_t i = 0; i < 100000; i++) {
        t.addr.in.sin_addr.s_addr = htonl(i);
        known += smtp_reach_order(&params, &t, 1, 100 * NS_PER_S) == 0;
    }
    assert_int_equal(known, 4096);
    smtp_reach_clear();
    assert_int_equal(smtp_reach_order(&params, &t, 1, 1), 1);
}

/* --- threads */

enum { THREADS = 8, ROUNDS = 2000 };
static _Atomic int64_t now_s;
static _Atomic int probes;

static void *ask_often(void *arg)
{
    struct smtp_target list[2];
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        list[0] = target('a');
        list[1] = target('b');
        size_t front = smtp_reach_order(&params, list, 2, now_s * NS_PER_S);
        if (front == 2)
            atomic_fetch_add(&probes, 1);
        else if (front != 1)
            return "b was never dead";
        /* Others come and go. */
        struct smtp_target t = target((char)('c' + i % 20));
        smtp_reach_failed(&params, &t.addr, i * NS_PER_S);
        smtp_reach_ok(&params, &t.addr);
    }
    return NULL;
}

static void test_one_probe_among_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    struct smtp_target a = target('a');
    smtp_reach_clear();
    smtp_reach_failed(&params, &a.addr, 0);
    for (int64_t round = 1; round <= 20; round++) {
        now_s = round * 300;
        probes = 0;
        for (size_t i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, ask_often, NULL), 0);
        for (size_t i = 0; i < THREADS; i++) {
            void *wrong;
            assert_int_equal(pthread_join(threads[i], &wrong), 0);
            assert_null(wrong);
        }
        assert_int_equal(probes, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_ways),
        cmocka_unit_test(test_a_thousand_have_room),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_one_probe_among_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
