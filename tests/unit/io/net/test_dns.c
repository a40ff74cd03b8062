/* dns: fibers ask the resolver thread, which forwards to a small name server on loopback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "io/fiber/fiber.h"
#include "io/fiber/wait.h"
#include "io/fiber/worker.h"
#include "io/net/dns.h"

/* --- the name server: the first label says what to answer. */
static struct {
    int fd;
    char at[64]; /* addr@port */
    pthread_t thread;
    atomic_bool stop;
    atomic_int asked;
} server;

static size_t reply(uint8_t *m, size_t n)
{
    size_t end = 12;
    while (end < n && m[end] != 0)
        end += (size_t)m[end] + 1;
    end += 5;
    uint8_t type = m[end - 3];
    const char *label = (const char *)m + 13;
    m[2] = 0x81;
    m[3] = 0x80;
    memset(m + 6, 0, 6);
    if (m[12] == 5 && memcmp(label, "quiet", 5) == 0)
        return 0;
    if (m[12] == 4 && memcmp(label, "gone", 4) == 0)
        m[3] |= 3;
    else if (m[12] == 4 && memcmp(label, "sick", 4) == 0)
        m[3] |= 2;
    else if (type == DNS_A && memcmp(label, "bare", 4) != 0) {
        m[7] = 1;
        memcpy(m + end, "\xc0\x0c\0\1\0\1\0\0\1\0\0\4\x7f\0\0\7", 16);
        end += 16;
    } else if (type == DNS_PTR) {
        m[7] = 1;
        memcpy(m + end, "\xc0\x0c\0\x0c\0\1\0\0\1\0\0\x0c\4Back\5local\0", 24);
        end += 24;
    }
    return end;
}

static void *serve(void *unused)
{
    (void)unused;
    while (!atomic_load(&server.stop)) {
        struct pollfd p = {.fd = server.fd, .events = POLLIN};
        if (poll(&p, 1, 20) <= 0)
            continue;
        uint8_t m[1024];
        struct sockaddr_in from;
        socklen_t len = sizeof(from);
        ssize_t n = recvfrom(server.fd, m, 512, 0, (struct sockaddr *)&from, &len);
        if (n < 17)
            continue;
        atomic_fetch_add(&server.asked, 1);
        size_t out = reply(m, (size_t)n);
        if (out > 0)
            (void)!sendto(server.fd, m, out, 0, (struct sockaddr *)&from, len);
    }
    return NULL;
}

static int start_server(void **state)
{
    (void)state;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(at);
    server.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (bind(server.fd, (struct sockaddr *)&at, len) != 0 ||
        getsockname(server.fd, (struct sockaddr *)&at, &len) != 0)
        return -1;
    snprintf(server.at, sizeof(server.at), "127.0.0.1@%u", ntohs(at.sin_port));
    return pthread_create(&server.thread, NULL, serve, NULL);
}

static int stop_server(void **state)
{
    (void)state;
    atomic_store(&server.stop, true);
    pthread_join(server.thread, NULL);
    close(server.fd);
    return 0;
}

static void in_fiber(void (*fn)(void *))
{
    struct err *e = worker_run_here(&(struct worker_options){.name = "test", .cpu = -1}, fn, NULL);
    if (e && (e->kind == ERR_REFUSED || e->kind == ERR_UNSUPPORTED))
        skip();
    assert_null(e);
}

static void start_dns(void)
{
    struct err *e = dns_start(&(struct dns_options){.forward = server.at});
    if (e)
        fail_msg("%s", e->text);
}

static struct dns_answer ask(struct arena *a, const char *name, enum dns_type type, int64_t ms)
{
    struct dns_answer out;
    dns_lookup(a, name, type, clock_in_ms(ms), &out);
    return out;
}

static void ask_for_everything(void *arg)
{
    (void)arg;
    static const struct {
        const char *name;
        enum dns_type type;
        enum dns_status status;
        size_t count;
    } rows[] = {
        {"here.example.net", DNS_A, DNS_FOUND, 1},
        {"Here.Example.NET.", DNS_A, DNS_FOUND, 1},
        {"here.example.net", DNS_MX, DNS_NODATA, 0},
        {"gone.example.net", DNS_A, DNS_NXDOMAIN, 0},
        {"sick.example.net", DNS_A, DNS_TEMPORARY, 0},
        {"here.mail.test", DNS_A, DNS_FOUND, 1}, /* the site's own, not the resolver's */
        {"no..name", DNS_A, DNS_INVALID, 0},
    };
    struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct dns_answer r = ask(a, rows[i].name, rows[i].type, 20000);
        if (r.status != rows[i].status || r.count != rows[i].count)
            fail_msg("%s: status %d count %zu", rows[i].name, (int)r.status, r.count);
        assert_true(r.why != NULL);
    }
    struct dns_answer r = ask(a, "gone.example.net", DNS_MX, 20000);
    assert_string_equal(dns_error_text(a, "gone.example.net", DNS_MX, &r),
                        "Name service error for name=gone.example.net type=MX: Host not found");
    struct addr addr;
    assert_true(addr_parse(STR("192.168.3.7"), 0, &addr));
    dns_reverse(a, &addr, clock_in_s(20), &r);
    assert_int_equal(r.status, DNS_FOUND);
    assert_string_equal(r.records[0].name, "back.local");
    assert_true(addr_parse(STR("2001:db8::7"), 0, &addr));
    dns_reverse(a, &addr, clock_in_s(20), &r);
    assert_int_equal(r.status, DNS_FOUND);
    arena_free(a);
}

static void found_not_found_and_error_are_apart(void **state)
{
    (void)state;
    start_dns();
    in_fiber(ask_for_everything);
    dns_stop();
}

static void ask_again(void *arg)
{
    (void)arg;
    struct arena *a = arena_new(0, 0);
    assert_int_equal(ask(a, "again.example.net", DNS_A, 20000).status, DNS_FOUND);
    int asked = atomic_load(&server.asked);
    for (int i = 0; i < 100; i++)
        assert_int_equal(ask(a, "again.example.net", DNS_A, 20000).status, DNS_FOUND);
    assert_int_equal(atomic_load(&server.asked), asked);
    arena_free(a);
}

static void a_cached_answer_asks_nobody(void **state)
{
    (void)state;
    start_dns();
    in_fiber(ask_again);
    dns_stop();
}

static void give_up(void *arg)
{
    (void)arg;
    struct arena *a = arena_new(0, 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(ask(a, "quiet.example.net", DNS_A, 20).status, DNS_TEMPORARY);
    /* A deadline in the past must not lose the answer's memory either. */
    for (int i = 0; i < 200; i++) {
        enum dns_status s = ask(a, "raced.example.net", DNS_A, i % 3 - 1).status;
        assert_true(s == DNS_TEMPORARY || s == DNS_FOUND);
    }
    arena_free(a);
}

static void a_deadline_ends_the_wait_and_the_query_ends_later(void **state)
{
    (void)state;
    start_dns();
    in_fiber(give_up);
    in_fiber(ask_again); /* a new worker; the old one's queries are still out */
    dns_stop();
}

static void ask_one(void *arg)
{
    struct arena *a = arena_new(0, 0);
    *(struct dns_answer *)arg = ask(a, "quiet.example.net", DNS_A, 20000);
    arena_free(a);
}

static void cancel_one(void *arg)
{
    (void)arg;
    struct dns_answer r = {.status = DNS_FOUND};
    struct group g;
    group_init(&g);
    assert_true(group_spawn(&g, "ask", ask_one, &r));
    (void)fiber_sleep_until(clock_in_ms(10));
    group_cancel(&g);
    (void)group_join(&g, DEADLINE_NEVER);
    assert_int_equal(r.status, DNS_TEMPORARY);
}

static void a_canceled_fiber_stops_waiting(void **state)
{
    (void)state;
    start_dns();
    in_fiber(cancel_one);
    dns_stop();
}

static void ask_without(void *arg)
{
    (void)arg;
    struct arena *a = arena_new(0, 0);
    assert_int_equal(ask(a, "here.example.net", DNS_A, 20000).status, DNS_TEMPORARY);
    arena_free(a);
}

static void without_a_resolver_every_answer_is_temporary(void **state)
{
    (void)state;
    in_fiber(ask_without);
    dns_stop();
}

static atomic_int found;

static void ask_many(void *arg)
{
    (void)arg;
    struct arena *a = arena_new(0, 0);
    char name[64];
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "n%d.example.net", i % 20);
        if (ask(a, name, DNS_A, 20000).status == DNS_FOUND)
            atomic_fetch_add(&found, 1);
        arena_reset(a);
    }
    arena_free(a);
}

static void many_workers_share_one_cache(void **state)
{
    (void)state;
    start_dns();
    struct worker *w[3];
    for (int i = 0; i < 3; i++) {
        struct err *e = worker_start(&(struct worker_options){.name = "w", .cpu = -1}, ask_many,
                                     NULL, &w[i]);
        if (e && (e->kind == ERR_REFUSED || e->kind == ERR_UNSUPPORTED))
            skip();
        assert_null(e);
        worker_spawn(w[i], "ask", ask_many, NULL);
    }
    while (atomic_load(&found) < 600)
        usleep(1000);
    for (int i = 0; i < 3; i++) {
        worker_stop(w[i]);
        worker_join(w[i]);
    }
    dns_stop();
}

static void ask_hosts(void *arg)
{
    struct arena *a = arena_new(0, 0);
    struct addr *list, addr;
    size_t n;
    char text[ADDR_TEXT_MAX];
    const char *name;
    assert_null(dns_hosts_path(arg));
    assert_null(dns_hosts_file(a, "box", &list, &n));
    assert_int_equal(n, 2);
    assert_string_equal(addr_text(&list[0], text), "127.0.0.9");
    assert_string_equal(addr_text(&list[1], text), "::9");
    assert_null(dns_hosts_file(a, "commented", &list, &n));
    assert_int_equal(n, 0);
    assert_true(addr_parse(STR("127.0.0.9"), 0, &addr));
    assert_null(dns_hosts_name(a, &addr, &name));
    assert_string_equal(name, "box.example");
    assert_true(addr_parse(STR("127.0.0.10"), 0, &addr));
    assert_null(dns_hosts_name(a, &addr, &name));
    assert_null(name);
    assert_null(dns_hosts_path("/nonexistent/hosts"));
    assert_null(dns_hosts_file(a, "box", &list, &n));
    assert_int_equal(n, 0);
    assert_null(dns_hosts_path(NULL));
    arena_free(a);
}

static void the_hosts_file(void **state)
{
    (void)state;
    char path[] = "/tmp/test_dns.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    const char *text = "# hosts\n127.0.0.9\tbox.example BOX # commented\n\nbad line box\n::9 box\n";
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    ask_hosts(path);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_resolver_every_answer_is_temporary),
        cmocka_unit_test(found_not_found_and_error_are_apart),
        cmocka_unit_test(a_cached_answer_asks_nobody),
        cmocka_unit_test(a_deadline_ends_the_wait_and_the_query_ends_later),
        cmocka_unit_test(a_canceled_fiber_stops_waiting),
        cmocka_unit_test(many_workers_share_one_cache),
        cmocka_unit_test(the_hosts_file),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
