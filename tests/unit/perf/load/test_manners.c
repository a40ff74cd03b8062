/* manners: words, when an answer counts, which line an address belongs to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <unistd.h>
#include "io/base/clock.h"
#include "perf/load/manners.h"

static struct manner manner_of(struct arena *a, const char *words)
{
    struct manner m = {0};
    struct err *e = manner_parse(a, str_of(words), &m);
    if (e)
        fail_msg("%s: %s", words, e->text);
    return m;
}

static void an_answer_counts_when_it_is_its_time(void **state)
{
    struct arena *a = *state;
    static const struct {
        const char *words;
        enum sink_stage stage;
        uint64_t times;
        int64_t since_ns;
        const char *reply; /* NULL: the usual one */
    } rows[] = {
        {"", SINK_RCPT, 0, 0, NULL},
        {"rcpt=450", SINK_RCPT, 0, 0, "450 4.0.0 as told\r\n"},
        {"rcpt=450", SINK_MAIL, 0, 0, NULL},
        {"dot=552_5.2.2_mailbox_full", SINK_DOT, 9, 0, "552 5.2.2 mailbox full\r\n"},
        {"rcpt=450:0%", SINK_RCPT, 0, 0, NULL},
        {"rcpt=450:100%", SINK_RCPT, 0, 0, "450 4.0.0 as told\r\n"},
        {"mail=451:after=3", SINK_MAIL, 2, 0, NULL},
        {"mail=451:after=3", SINK_MAIL, 3, 0, "451 4.0.0 as told\r\n"},
        {"mail=451:first=3", SINK_MAIL, 2, 0, "451 4.0.0 as told\r\n"},
        {"mail=451:first=3", SINK_MAIL, 3, 0, NULL},
        {"mail=451:every=3", SINK_MAIL, 1, 0, NULL},
        {"mail=451:every=3", SINK_MAIL, 2, 0, "451 4.0.0 as told\r\n"},
        {"mail=451:until=1s", SINK_MAIL, 0, NS_PER_S - 1, "451 4.0.0 as told\r\n"},
        {"mail=451:until=1s", SINK_MAIL, 0, NS_PER_S, NULL},
        {"mail=451:from=1s", SINK_MAIL, 0, NS_PER_S - 1, NULL},
        {"mail=451:from=1s", SINK_MAIL, 0, NS_PER_S, "451 4.0.0 as told\r\n"},
        {"rcpt=550:first=1 rcpt=450:first=2", SINK_RCPT, 0, 0, "550 5.0.0 as told\r\n"},
        {"rcpt=550:first=1 rcpt=450:first=2", SINK_RCPT, 1, 0, "450 4.0.0 as told\r\n"},
        {"rcpt=550:first=1 rcpt=450:first=2", SINK_RCPT, 2, 0, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct manner m = manner_of(a, rows[i].words);
        const struct answer *got =
            manner_answer(&m, rows[i].stage, rows[i].times, rows[i].since_ns);
        bool same = got == NULL ? rows[i].reply == NULL
                                : rows[i].reply != NULL && str_eq(got->reply, str_of(rows[i].reply));
        if (!same)
            fail_msg("%s, after %d times", rows[i].words, (int)rows[i].times);
        assert_true(got == NULL || m.acts[rows[i].stage]);
    }
}

static void a_rate_is_kept(void **state)
{
    struct arena *a = *state;
    struct manner m = manner_of(a, "rcpt=450:2.5%");
    int refused = 0;
    for (uint64_t i = 0; i < 100000; i++)
        refused += manner_answer(&m, SINK_RCPT, i, 0) != NULL;
    assert_in_range(refused, 2200, 2800); /* six sigma */
}

static void other_words_set_their_fields(void **state)
{
    struct arena *a = *state;
    struct manner m = manner_of(a, "delay=5ms delay.dot=exp:1s tarpit=250ms-1s connections=20 greylist=3 "
                                   "size=10k no-pipelining no-ehlo content=drop quit=hang");
    assert_int_equal(m.delay[SINK_MAIL].low, 5 * NS_PER_MS);
    assert_int_equal(m.delay[SINK_DOT].shape, DIST_EXP);
    assert_true(m.drips);
    assert_int_equal(m.tarpit.shape, DIST_RANGE);
    assert_int_equal(m.tarpit.low, 250 * NS_PER_MS);
    assert_int_equal(m.tarpit.high, NS_PER_S);
    assert_int_equal(m.connections, 20);
    assert_int_equal(m.greylist_ns, 3 * NS_PER_S);
    assert_int_equal(m.size, 10240);
    assert_true(m.no_pipelining && m.no_ehlo);
    assert_int_equal(manner_answer(&m, SINK_CONTENT, 0, 0)->kind, ANSWER_DROP);
    assert_int_equal(manner_answer(&m, SINK_QUIT, 0, 0)->kind, ANSWER_HANG);
    assert_false(m.has_delay[SINK_CONTENT]);
}

static void words_that_mean_nothing_are_errors(void **state)
{
    struct arena *a = *state;
    static const char *const rows[] = {
        "nonsense", "rcpt", "rcpt=", "rcpt=45", "rcpt=999", "rcpt=450x", "rcpt=450:", "rcpt=450:101%",
        "rcpt=450:%", "rcpt=450:every=0", "rcpt=450:after=x", "rcpt=450:until=5q", "delay.x=5ms",
        "delay.content=5ms", "delay=5k", "content=450", "connections=many", "delayed=3s",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct manner m = {0};
        if (!manner_parse(a, str_of(rows[i]), &m))
            fail_msg("\"%s\" was accepted", rows[i]);
    }
}

static struct err *read_text(struct arena *a, const char *text, const struct manner *fallback,
                             const struct rules **out)
{
    char path[] = "/tmp/test-manners-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    struct err *e = rules_read(a, path, fallback, out);
    unlink(path);
    return e;
}

static void an_address_gets_the_first_line_that_fits(void **state)
{
    struct arena *a = *state;
    struct manner fallback = manner_of(a, "connections=99");
    const struct rules *r = NULL;
    assert_null(read_text(a,
                          "# a comment\n\n"
                          "127.1.0.7            connections=1\n"
                          "127.1.0.0/16         connections=2\n"
                          "127.2.0.5-127.2.1.3  connections=3\r\n"
                          "::1                  connections=4",
                          &fallback, &r));
    static const struct {
        const char *address;
        uint64_t connections;
    } rows[] = {
        {"127.1.0.7", 1}, {"127.1.0.8", 2},   {"127.1.255.255", 2}, {"127.2.0.4", 99}, {"127.2.0.5", 3},
        {"127.2.1.3", 3}, {"127.2.1.4", 99}, {"::1", 4},           {"::2", 99},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct addr at;
        assert_true(addr_parse(str_of(rows[i].address), 25, &at));
        assert_int_equal(rules_find(r, &at)->connections, rows[i].connections);
    }
    assert_null(read_text(a, "* connections=5\n", &fallback, &r));
    struct addr at;
    assert_true(addr_parse(STR("127.9.9.9"), 25, &at));
    assert_int_equal(rules_find(r, &at)->connections, 5);
}

static void an_error_names_the_line(void **state)
{
    struct arena *a = *state;
    struct manner fallback = {0};
    const struct rules *r = NULL;
    struct err *e = read_text(a, "* size=1k\n127.0.0.9-127.0.0.1 size=1k\n", &fallback, &r);
    assert_non_null(e);
    assert_int_equal(e->kind, ERR_CONFIG);
    assert_non_null(strstr(e->text, "line 2"));
    assert_null(r);
}

static int set_up(void **state)
{
    *state = arena_new(0, 0);
    return 0;
}
static int tear_down(void **state)
{
    arena_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_counts_when_it_is_its_time),
        cmocka_unit_test(a_rate_is_kept),
        cmocka_unit_test(other_words_set_their_fields),
        cmocka_unit_test(words_that_mean_nothing_are_errors),
        cmocka_unit_test(an_address_gets_the_first_line_that_fits),
        cmocka_unit_test(an_error_names_the_line),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
