/* What mailq, postqueue and qshape see of a queue that is at work. */
#include "tests/unit/queue/world.h"

#include "io/fiber/offload.h"

static void lists_in_order_and_in_slices(void **state)
{
    (void)state;
    char ids[20][QUEUE_ID_MAX];
    queue_up();
    for (int i = 0; i < 20; i++)
        memcpy(ids[i], post_to(i % 2 ? "defer@a.org" : "gate@b.org"), QUEUE_ID_MAX);
    WAIT_FOR(seen(&world.deferred) >= 10);
    struct listing l = {.max = 3};
    there(world.workers[0], list_main_of_test, &l);
    assert_int_equal(l.count, 20);
    for (int i = 0; i < 20; i++) {
        assert_string_equal(l.ids[i], ids[i]);
        assert_true(i % 2 || l.queues[i] == QUEUE_ACTIVE);
    }
    world.gate_open = true;
    WAIT_FOR(list_count() == 10);
    assert_true(queue_down(5000));
}

/* --- what fits, and nothing else */

static const struct {
    const char *what;
    struct queue_select select;
    uint64_t count;
} fits[] = {
    {"everything", {.queue = QUEUE_ANY}, 6},
    {"a sender", {.sender = STR("ann@one.example")}, 2},
    {"a sender in capitals", {.sender = STR("ANN@ONE.EXAMPLE")}, 2},
    {"a part of an address is none", {.sender = STR("nn@one.example")}, 0},
    {"a sender's domain", {.sender = STR("@one.example")}, 3},
    {"a domain below it is another", {.sender = STR("@example")}, 0},
    {"the null sender", {.sender = STR("<>")}, 1},
    {"a recipient's domain", {.domain = STR("a.org")}, 3},
    {"the second recipient's", {.domain = STR("b.org")}, 3},
    {"that of one who has his mail", {.domain = STR("done.org")}, 0},
    {"a next hop", {.destination = STR("c.org")}, 1},
    {"a next hop of this transport", {.destination = STR("smtp:c.org")}, 1},
    {"a next hop of another transport", {.destination = STR("lmtp:c.org")}, 0},
    {"sender and domain", {.sender = STR("ann@one.example"), .domain = STR("b.org")}, 1},
    {"sender and queue", {.sender = STR("@one.example"), .queue = QUEUE_DEFERRED}, 2},
    {"what is on hold", {.queue = QUEUE_HOLD}, 1},
    {"what is on hold, to a domain", {.queue = QUEUE_HOLD, .domain = STR("a.org")}, 1},
    {"what is on hold, from elsewhere", {.queue = QUEUE_HOLD, .sender = STR("<>")}, 0},
    {"what is active", {.queue = QUEUE_ACTIVE}, 1},
    {"what is active, to a domain", {.queue = QUEUE_ACTIVE, .domain = STR("gate.org")}, 1},
    {"what is deferred, to a domain that is active",
     {.queue = QUEUE_DEFERRED, .domain = STR("gate.org")},
     0},
};

static void what_fits_is_found(void **state)
{
    (void)state;
    world.so.minimal_backoff_s = world.so.maximal_backoff_s = 10000;
    queue_up();
    (void)post_from("ann@one.example", "defer@a.org", NULL);
    const char *held = post_from("Ann@One.Example", "defer@a.org", "defer@b.org");
    (void)post_from("bob@one.example", "defer@b.org", "ok@done.org");
    (void)post_from("", "defer@a.org", "defer@b.org");
    (void)post_from("bob@two.example", "defer@c.org", NULL);
    (void)post_from("bob@two.example", "gate@gate.org", NULL);
    WAIT_FOR(queue_counts(world.q).deferred == 5 && delivering("gate.org"));
    assert_int_equal(act(QUEUE_ACT_HOLD, held, QUEUE_ANY), 1);
    for (size_t i = 0; i < sizeof fits / sizeof *fits; i++) {
        uint64_t n = select_and(QUEUE_ACT_FIND, fits[i].select);
        if (n != fits[i].count)
            print_error("%s: %llu\n", fits[i].what, (unsigned long long)n);
        assert_int_equal(n, fits[i].count);
    }
    /* An id has to fit too. */
    struct queue_select one = {.id = str_of(held), .domain = STR("b.org")};
    assert_int_equal(select_and(QUEUE_ACT_FIND, one), 1);
    one.domain = STR("c.org");
    assert_int_equal(select_and(QUEUE_ACT_FIND, one), 0);
    one = (struct queue_select){.id = str_of(held), .destination = STR("b.org")};
    assert_int_equal(select_and(QUEUE_ACT_FIND, one), 1);
    /* Acts touch what fits and leave the others. */
    assert_int_equal(select_and(QUEUE_ACT_REMOVE, (struct queue_select){.domain = STR("b.org")}),
                     3);
    assert_int_equal(list_count(), 3);
    assert_int_equal(select_and(QUEUE_ACT_FIND, (struct queue_select){.domain = STR("a.org")}), 1);
    world.gate_open = true;
    WAIT_FOR(idle());
    assert_int_equal(list_count(), 2);
    assert_true(queue_down(5000));
    /* And so after a restart. */
    queue_up();
    assert_int_equal(select_and(QUEUE_ACT_FIND, (struct queue_select){.domain = STR("a.org")}), 1);
    assert_int_equal(
        select_and(QUEUE_ACT_REMOVE, (struct queue_select){.destination = STR("smtp:c.org")}), 1);
    assert_int_equal(list_count(), 1);
    assert_true(queue_down(5000));
}

/* --- what qshape counts: several threads look at stretches of it */

struct shape_seen {
    bool senders, stop;
    unsigned queues;
    size_t calls, rows, at_once;
    uint64_t total, a, b; /* recipients, or senders: all, of a.org, of b.org */
};

static bool shape_each(void *ctx, struct str rows)
{
    struct shape_seen *s = ctx;
    struct rd r = rd_of(rows);
    s->calls++;
    MUST(++s->at_once == 1);
    (void)fiber_sleep_until(clock_in_ms(1));
    while (r.ptr < r.end) {
        (void)rd_u32(&r);
        uint32_t n = rd_u32(&r);
        size_t len = rd_u8(&r);
        MUST(!r.bad && len <= (size_t)(r.end - r.ptr));
        s->rows++;
        s->total += n;
        s->a += str_eq(str_make(r.ptr, len), STR("a.org")) ? n : 0;
        s->b += str_eq(str_make(r.ptr, len), STR("b.org")) ? n : 0;
        r.ptr += len;
    }
    s->at_once--;
    return !s->stop;
}

static void shape_main(void *arg)
{
    struct shape_seen *s = arg;
    const struct queue_shape what = {.queues = s->queues, .senders = s->senders};
    OK(queue_shape(world.q, &what, shape_each, s));
}

static struct shape_seen shape_of(unsigned queues, bool senders)
{
    struct shape_seen s = {.queues = 1U << queues, .senders = senders};
    there(world.workers[0], shape_main, &s);
    return s;
}

static void what_waits_is_counted_by_domain(void **state)
{
    (void)state;
    enum { MAIL = 3000 };
    world.so.minimal_backoff_s = world.so.maximal_backoff_s = 10000;
    world.qo.segment_bytes = 0;
    world.no_checks = true;
    MUST(offload_start(0) == NULL);
    queue_up();
    for (int i = 0; i < MAIL; i++)
        (void)post_from("s@c.org", i % 3 ? "defer@a.org" : "defer@b.org", i % 10 ? NULL : "defer-2@b.org");
    (void)post_from("s@a.org", "gate@a.org", "gate-2@a.org");
    WAIT_FOR(queue_counts(world.q).deferred == MAIL && delivering("a.org"));
    assert_int_equal(select_and(QUEUE_ACT_HOLD, (struct queue_select){.domain = STR("b.org")}), 1200);
    struct shape_seen s = shape_of(QUEUE_DEFERRED, false);
    assert_int_equal(s.total, MAIL - 1200);
    assert_int_equal(s.a, MAIL - 1200);
    s = shape_of(QUEUE_HOLD, false);
    assert_int_equal(s.total, 1500);
    assert_int_equal(s.a, 200);
    assert_int_equal(s.b, 1300);
    s = shape_of(QUEUE_ACTIVE, false);
    assert_int_equal(s.total, 2);
    s = shape_of(QUEUE_ACTIVE, true);
    assert_int_equal(s.total, 1);
    assert_int_equal(s.a, 1);
    /* Whoever has seen enough is not called again. */
    s = (struct shape_seen){.queues = 1U << QUEUE_DEFERRED, .stop = true};
    there(world.workers[1], shape_main, &s);
    assert_int_equal(s.calls, 1);
    /* What is gone is not counted, also while its row is still there. */
    assert_int_equal(select_and(QUEUE_ACT_REMOVE, (struct queue_select){.domain = STR("b.org")}), 1200);
    assert_int_equal(shape_of(QUEUE_HOLD, false).rows, 0);
    assert_int_equal(shape_of(QUEUE_DEFERRED, false).total, MAIL - 1200);
    world.gate_open = true;
    assert_true(queue_down(5000));
    offload_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QUEUE_TEST(lists_in_order_and_in_slices),
        QUEUE_TEST(what_fits_is_found),
        QUEUE_TEST(what_waits_is_counted_by_domain),
    };
    return cmocka_run_group_tests(tests, log_setup, log_teardown);
}
