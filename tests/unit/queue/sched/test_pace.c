/* Paces: what stalls does not hold up those that are well. */
#include "tests/unit/queue/world.h"

static void active_main(void *arg)
{
    *(size_t *)arg = world.q->sched->active.count;
}

static bool active_is(size_t n)
{
    size_t is;
    there(world.sched, active_main, &is);
    return is == n;
}

static void post_pits(int from, int to, const char *kind)
{
    for (int i = from; i < to; i++) {
        char rcpt[40];
        snprintf(rcpt, sizeof rcpt, "%s@lim.pit%d", kind, i);
        (void)post_to(rcpt);
    }
}

struct look {
    int64_t stalled, quick;
};

static void look_main(void *arg)
{
    struct look *l = arg;
    const struct transport *t = hmap_get(&world.q->sched->transports, STR("lim"));
    *l = t ? (struct look){.stalled = t->stalled, .quick = t->quick} : (struct look){0};
}

static struct look look(void)
{
    struct look l;
    there(world.sched, look_main, &l);
    return l;
}

/* Nobody has asked for a number: what is out for long does not count. */
static void tar_pits_do_not_hold_the_processes(void **state)
{
    (void)state;
    struct sched_transport *t = transport_add("lim");
    t->process_limit = 2;
    t->patience_ms = 250;
    t->lingering_max = 3;
    world.no_checks = true; /* more than process_limit are out */
    queue_up();
    post_pits(0, 5, "gate");
    WAIT_FOR(sum_of("lim/").busy == 5); /* three linger, two count: that is all */
    const char *last = post_to("ok@lim.good");
    WAIT_FOR(is_in(last, QUEUE_ACTIVE));
    assert_int_equal(sum_of("lim/").busy, 5);
    world.gate_open = true;
    WAIT_FOR(gone(last) && seen(&world.sent) == 6); /* all have seen it open */
    world.gate_open = false;
    post_pits(0, 3, "gate");
    WAIT_FOR(sum_of("lim/").busy == 3);
    (void)post_to("ok@lim.good");
    (void)post_to("ok@lim.good");
    WAIT_FOR(site_seen("lim", "lim.good").requests == 3); /* while the gate is shut */
    world.gate_open = true;
    WAIT_FOR(seen(&world.sent) == 11);
    assert_true(queue_down(5000));
}

/* A number was asked for: it holds, and a part of it is left to sites that are known to be quick. */
static void quick_sites_have_processes_left(void **state)
{
    (void)state;
    struct sched_transport *t = transport_add("lim");
    t->process_limit = 20;
    t->patience_ms = 500;
    queue_up();
    const char *first = post_to("ok@lim.good");
    WAIT_FOR(gone(first) && idle());
    post_pits(0, 17, "gate");
    WAIT_FOR(look().stalled == 17);
    post_pits(17, 20, "gate"); /* nothing is known of them, and there are 19 processes for such */
    WAIT_FOR(sum_of("lim/").busy == 19);
    (void)post_to("ok@lim.good");
    (void)post_to("ok@lim.good");
    WAIT_FOR(site_seen("lim", "lim.good").requests == 3 && sum_of("lim/").busy == 19);
    const char *unknown = post_to("ok@lim.other");
    WAIT_FOR(is_in(unknown, QUEUE_ACTIVE));
    assert_int_equal(site_seen("lim", "lim.other").requests, 0);
    world.gate_open = true;
    WAIT_FOR(seen(&world.sent) == 24);
    WAIT_FOR(idle() && look().stalled == 0 && look().quick == 0);
    assert_true(queue_down(5000));
}

/* While something stalls, the quick ones go first, but not all of them. */
static void everybody_has_a_share(void **state)
{
    (void)state;
    struct sched_transport *t = transport_add("lim");
    t->process_limit = 2;
    t->patience_ms = 1000;
    queue_up();
    world.slow_ms = 9000;
    (void)post_to("slow@lim.pit");
    WAIT_FOR(look().stalled == 1);
    world.slow_ms = 1200;
    (void)post_to("slow@lim.slow");
    (void)post_to("slow@lim.slow");
    WAIT_FOR(seen(&world.sent) == 2);
    (void)post_to("gate@lim.last");
    WAIT_FOR(sum_of("lim/").busy == 2); /* it has the last process, until all have come */
    for (int i = 0; i < 60; i++)
        (void)post_to("ok@lim.big");
    (void)post_to("ok@lim.new");
    (void)post_to("ok@lim.slow");
    WAIT_FOR(active_is(64));
    world.gate_open = true;
    WAIT_FOR(seen(&world.sent) == 66);
    struct site big = site_seen("lim", "lim.big");
    assert_true(site_seen("lim", "lim.new").ended_ns < big.ended_ns);
    assert_true(site_seen("lim", "lim.slow").ended_ns < big.ended_ns);
    WAIT_FOR(idle());
    assert_true(queue_down(5000));
}

static void pace_main(void *arg)
{
    const struct transport *t = hmap_get(&world.q->sched->transports, STR("lim"));
    const struct dest *d = t ? hmap_get(&t->dests, STR("lim.pit")) : NULL;
    *(enum pace *)arg = d ? d->pace : PACES;
}

/* Also when it has no work. */
static void recall_main(void *arg)
{
    struct transport *t = hmap_get(&world.q->sched->transports, STR("lim"));
    const struct dest d = {.transport = t, .key = "lim.pit"};
    *(enum pace *)arg = t ? pace_recall(&d) : PACES;
}

static enum pace pace_of_pit(void)
{
    enum pace pace;
    there(world.sched, pace_main, &pace);
    return pace;
}

/* Three wait for a greeting, and what goes out behind one that has come is quick: the site is not.
 */
static void one_in_time_is_little_while_most_stall(void **state)
{
    (void)state;
    struct sched_transport *t = transport_add("lim");
    t->process_limit = 20;
    t->patience_ms = 300;
    queue_up();
    for (int i = 0; i < 3; i++)
        (void)post_to("gate@lim.pit");
    WAIT_FOR(look().stalled == 3);
    assert_int_equal(pace_of_pit(), PACE_SLOW);
    (void)post_to("ok@lim.pit");
    WAIT_FOR(seen(&world.sent) == 1 && sum_of("lim/").busy == 3);
    assert_int_equal(pace_of_pit(), PACE_SLOW);
    world.gate_open = true;
    WAIT_FOR(seen(&world.sent) == 4 && look().stalled == 0);
    (void)post_to("ok@lim.pit");
    WAIT_FOR(seen(&world.sent) == 5 && idle());
    enum pace known = PACES;
    there(world.sched, recall_main, &known);
    assert_int_equal(known, PACE_QUICK);
    assert_true(queue_down(5000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QUEUE_TEST(tar_pits_do_not_hold_the_processes),
        QUEUE_TEST(quick_sites_have_processes_left),
        QUEUE_TEST(everybody_has_a_share),
        QUEUE_TEST(one_in_time_is_little_while_most_stall),
    };
    return cmocka_run_group_tests(tests, log_setup, log_teardown);
}
