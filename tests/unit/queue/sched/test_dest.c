/* Destinations and transports: windows, dead sites, rates, turns. Rows of SCHEDULER_README as seen
 * from outside. */
#include "tests/unit/queue/world.h"

static void post_many(int n, const char *kind, const char *domain)
{
    for (int i = 0; i < n; i++) {
        char rcpt[64];
        snprintf(rcpt, sizeof rcpt, "%s-%d@%s", kind, i, domain);
        (void)post_to(rcpt);
    }
}

struct peek {
    const char *transport, *nexthop;
    bool there;
    enum dest_state state;
    int64_t window;
    size_t todo, idle;
};

static void peek_main(void *arg)
{
    struct peek *p = arg;
    struct transport *t = hmap_get(&world.q->sched->transports, str_of(p->transport));
    const struct dest *d = t ? hmap_get(&t->dests, str_of(p->nexthop)) : NULL;
    p->there = d != NULL;
    if (d == NULL)
        return;
    p->state = d->state;
    p->window = d->window.size;
    p->todo = d->todo_count;
    p->idle = 0;
    LIST_EACH(&d->idle, it) p->idle++;
}

static struct peek peek_in(const char *transport, const char *nexthop)
{
    struct peek p = {.transport = transport, .nexthop = nexthop};
    there(world.sched, peek_main, &p);
    return p;
}

static struct peek peek(const char *nexthop)
{
    return peek_in("smtp", nexthop);
}

static void the_window_grows_to_the_limit(void **state)
{
    (void)state;
    world.transports[0].initial_concurrency = 2;
    world.transports[0].concurrency_limit = 6;
    world.slow_ms = 5;
    queue_up();
    post_many(10, "gate", "a.org");
    WAIT_FOR(site_seen("smtp", "a.org").busy == 2);
    WAIT_FOR(peek("a.org").todo == 8);
    post_many(60, "slow", "a.org");
    world.gate_open = true;
    WAIT_FOR(seen(&world.sent) == 70);
    assert_int_equal(site_seen("smtp", "a.org").max_busy, 6);
    WAIT_FOR(idle() && !peek("a.org").there);
    assert_true(queue_down(5000));
}

static void a_dead_site_holds_nobody(void **state)
{
    (void)state;
    world.sites_down = true;
    world.so.minimal_backoff_s = world.so.maximal_backoff_s = 10000;
    queue_up();
    post_many(40, "dead", "a.org");
    post_many(10, "ok", "b.org");
    /* All of it is deferred, though only a cohort found out. */
    WAIT_FOR(seen(&world.deferred) == 40 && seen(&world.sent) == 10 && idle());
    struct site a = site_seen("smtp", "a.org");
    assert_in_range(a.requests, 1, 39);
    struct peek p = peek("a.org");
    assert_int_equal(p.state, DEST_DEAD);
    assert_int_equal(p.todo, 0);
    /* Fresh mail does not try it either. */
    const char *id = post_to("dead-x@a.org");
    WAIT_FOR(is_in(id, QUEUE_DEFERRED));
    assert_int_equal(site_seen("smtp", "a.org").requests, a.requests);
    struct lookup l = lookup(id);
    assert_string_equal(l.status, "4.4.1");
    assert_string_equal(l.text,
                        "delivery temporarily suspended: connect to it: Connection refused");
    /* Somebody asks for it: another chance. */
    world.sites_down = false;
    assert_true(flush("", ""));
    WAIT_FOR(list_count() == 0);
    assert_int_equal(seen(&world.sent), 51);
    assert_true(queue_down(5000));
}

static void a_dead_site_has_another_chance_in_time(void **state)
{
    (void)state;
    world.sites_down = true;
    world.transports[0].initial_concurrency = 1;
    queue_up();
    post_many(3, "dead", "a.org");
    WAIT_FOR(seen(&world.deferred) >= 6);
    world.sites_down = false;
    WAIT_FOR(list_count() == 0);
    WAIT_FOR(!peek("a.org").there);
    assert_true(queue_down(5000));
}

/* Its backlog comes back at once and waits for the one that finds out. */
static void a_dead_site_gets_one_probe(void **state)
{
    (void)state;
    struct sched_transport *t = &world.transports[0];
    t->initial_concurrency = t->concurrency_limit = 5;
    world.so.minimal_backoff_s = world.so.maximal_backoff_s = 10000;
    world.so.feedback_debug = true;
    world.sites_down = true;
    queue_up();
    post_many(30, "dead", "a.org");
    WAIT_FOR(seen(&world.deferred) == 30 && idle());
    int before = site_seen("smtp", "a.org").requests;
    /* Each time it is asked for it is tried once, and all else is deferred with that. */
    for (int i = 1; i <= 3; i++) {
        uint64_t deferred = seen(&world.deferred);
        assert_true(flush("", ""));
        WAIT_FOR(seen(&world.deferred) >= deferred + 30 && idle());
    }
    struct site a = site_seen("smtp", "a.org");
    assert_int_equal(a.requests, before + 3);
    assert_true(logged("qmgr_queue_throttle: queue a.org: limit 5 window 0 success 0 failure 0") >
                0);
    world.sites_down = false;
    assert_true(flush("", ""));
    WAIT_FOR(list_count() == 0);
    assert_true(queue_down(5000));
}

/* One message finds out; then nobody tries it before its time, or before somebody asks for it. */
static void an_agent_that_dies_takes_no_more(void **state)
{
    (void)state;
    world.sites_down = true;
    world.transports[0].initial_concurrency = world.transports[0].concurrency_limit = 1;
    (void)transport_add("other");
    world.so.transport_retry_s = 10000;
    world.so.minimal_backoff_s = world.so.maximal_backoff_s = 10000;
    queue_up();
    post_many(5, "mute", "a.org");
    WAIT_FOR(seen(&world.deferred) == 4 && idle());
    assert_int_equal(site_seen("smtp", "a.org").requests, 1);
    post_many(10, "ok", "b.org");
    const char *id = post_to("ok-one@c.org");
    post_many(1, "ok", "other.org");
    WAIT_FOR(seen(&world.deferred) == 4 + 10 + 1 && seen(&world.sent) == 1); /* nobody is still on the way here */
    WAIT_FOR(is_in(id, QUEUE_DEFERRED) && idle());
    assert_int_equal(site_seen("smtp", "b.org").requests, 0);
    assert_false(peek("b.org").there);
    struct lookup l = lookup(id);
    assert_string_equal(l.status, "4.3.0");
    assert_string_equal(l.text, "unknown mail transport error");
    WAIT_FOR(logged("transport smtp failure: unknown mail transport error") == 1);
    world.sites_down = false;
    assert_true(flush("", ""));
    WAIT_FOR(list_count() == 0);
    assert_int_equal(seen(&world.sent), 17);
    assert_true(queue_down(5000));
}

static void an_agent_that_dies_is_tried_again_in_time(void **state)
{
    (void)state;
    world.sites_down = true;
    world.so.transport_retry_s = 1;
    queue_up();
    post_many(3, "mute", "a.org");
    WAIT_FOR(site_seen("smtp", "a.org").requests >= 2);
    world.sites_down = false;
    WAIT_FOR(list_count() == 0);
    assert_true(queue_down(5000));
}

/* The begins are so far apart, and more than one is out. */
static void pauses_between_begins(void **state)
{
    (void)state;
    struct sched_transport *t = transport_add("rate");
    t->rate_delay_ms = 20;
    t->rate_serial = false;
    struct sched_transport *all = transport_add("all");
    all->transport_rate_delay_ms = 20;
    all->rate_serial = false;
    queue_up();
    int64_t begun = clock_mono_ns();
    post_many(5, "gate", "rate.a");
    post_many(3, "gate", "all.a");
    post_many(2, "gate", "all.b");
    WAIT_FOR(site_seen("rate", "rate.a").busy == 5);
    WAIT_FOR(site_seen("all", "all.a").busy == 3 && site_seen("all", "all.b").busy == 2);
    assert_true(clock_mono_ns() - begun >= 4 * 19 * NS_PER_MS);
    world.gate_open = true;
    WAIT_FOR(seen(&world.sent) == 10);
    assert_true(queue_down(5000));
}

static void one_at_a_time_with_pauses(void **state)
{
    (void)state;
    struct sched_transport *t = transport_add("rate");
    t->rate_delay_ms = 40;
    queue_up();
    post_many(6, "ok", "rate.a");
    post_many(6, "ok", "rate.b");
    WAIT_FOR(seen(&world.sent) == 12);
    struct site a = site_seen("rate", "rate.a"), b = site_seen("rate", "rate.b");
    assert_int_equal(a.max_busy, 1);
    assert_int_equal(b.max_busy, 1);
    assert_true(a.min_gap_ns >= 35 * NS_PER_MS && b.min_gap_ns >= 35 * NS_PER_MS);
    assert_true(queue_down(5000));
}

static void a_transport_with_pauses(void **state)
{
    (void)state;
    struct sched_transport *t = transport_add("rate");
    t->transport_rate_delay_ms = 20;
    world.slow_ms = 5;
    queue_up();
    post_many(8, "slow", "rate.org");
    WAIT_FOR(seen(&world.sent) == 8);
    struct site s = site_seen("rate", "rate.org");
    assert_int_equal(s.max_busy, 1);
    assert_true(s.min_gap_ns >= 15 * NS_PER_MS);
    assert_true(queue_down(5000));
}

static void processes_are_shared_in_turn(void **state)
{
    (void)state;
    struct sched_transport *t = transport_add("lim");
    t->process_limit = 3;
    world.slow_ms = 3;
    queue_up();
    post_many(4, "gate", "lim.first");
    WAIT_FOR(sum_of("lim/").busy == 3);
    post_many(60, "slow", "lim.big");
    post_many(1, "ok", "lim.small");
    WAIT_FOR(peek_in("lim", "lim.big").todo == 60 && peek_in("lim", "lim.small").todo == 1);
    assert_int_equal(sum_of("lim/").busy, 3);
    world.gate_open = true;
    WAIT_FOR(seen(&world.sent) == 65);
    /* The small one did not wait until the big one was through. */
    assert_in_range(site_seen("lim", "lim.small").first_of_all, 4, 4 + 30);
    assert_true(queue_down(5000));
}

/* An idle connection holds no process. */
static void idle_connections_do_not_block(void **state)
{
    (void)state;
    struct sched_transport *t = transport_add("lim");
    t->process_limit = 1;
    world.idle_ms = 60000;
    queue_up();
    (void)post_to("ok@lim.a");
    (void)post_to("ok@lim.b");
    (void)post_to("ok@lim.a");
    WAIT_FOR(seen(&world.sent) == 3);
    assert_int_equal(seen(&world.reused), 1);
    assert_true(queue_down(5000));
}

/* --- lists: of one message with many recipients */

enum { LIST_MAX = 20000 };
static const char *list[LIST_MAX];

PRINTF(2, 3)
static void list_put(int i, const char *fmt, ...)
{
    static char text[LIST_MAX][32];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text[i], sizeof text[i], fmt, args);
    va_end(args);
    list[i] = text[i];
}

static struct posting list_of(int n, const char *kind, const char *domain)
{
    for (int i = 0; i < n; i++)
        list_put(i, "%s-%d@%s", kind, i, domain);
    return (struct posting){.rcpts = list, .rcpt_count = (size_t)n};
}

static void small_messages_pass_a_large_one(void **state)
{
    (void)state;
    enum { N = 500 };
    struct posting large = list_of(N, "gate", "a.org");
    world.transports[0].recipient_limit = 2;
    world.transports[0].concurrency_limit = 2;
    world.transports[0].initial_concurrency = 2;
    queue_up();
    post(&large);
    WAIT_FOR(site_seen("smtp", "a.org").busy == 2);
    const char *small = post_to("ok@a.org");
    WAIT_FOR(peek("a.org").todo == 2); /* the rest of the list, and this one */
    assert_true(is_in(large.id, QUEUE_ACTIVE) && lookup(large.id).rcpts > 0);
    world.gate_open = true;
    WAIT_FOR(gone(small) && gone(large.id));
    assert_in_range(site_seen("smtp", "a.org").last_of_one, 3, 10);
    assert_int_equal(site_seen("smtp", "a.org").last_of_list, N / 2 + 1);
    assert_true(queue_down(5000));
}

/* One message for 2,000 destinations, and two processes for all of them. */
static void a_list_of_many_sites_is_passed_too(void **state)
{
    (void)state;
    enum { N = 2000 };
    for (int i = 0; i < N; i++)
        list_put(i, "%s@lim.d%d", i < 2 ? "gate" : "ok", i);
    struct posting large = {.rcpts = list, .rcpt_count = N};
    struct sched_transport *t = transport_add("lim");
    t->process_limit = 2;
    queue_up();
    post(&large);
    WAIT_FOR(sum_of("lim/").busy == 2);
    const char *small = post_to("ok@lim.other");
    const char *shared = post_to("ok@lim.d1999"); /* behind one of the list's own */
    WAIT_FOR(is_in(shared, QUEUE_ACTIVE) && is_in(small, QUEUE_ACTIVE));
    WAIT_FOR(peek_in("lim", "lim.d1999").todo == 2 && peek_in("lim", "lim.other").todo == 1);
    world.gate_open = true;
    WAIT_FOR(gone(small) && gone(shared) && gone(large.id));
    assert_in_range(site_seen("lim", "lim.other").last_of_one, 3, N / 2);
    assert_in_range(site_seen("lim", "lim.d1999").last_of_one, 3, N / 2);
    assert_int_equal(sum_of("lim/").requests, N + 2);
    assert_true(queue_down(20000));
}

/* It has earned three slots in advance and one of five after that, and gives no more. */
static void a_list_is_not_starved_by_small_mail(void **state)
{
    (void)state;
    enum { N = 60, SMALL = 200 };
    struct posting large = list_of(N, "gate", "a.org");
    world.transports[0].concurrency_limit = world.transports[0].initial_concurrency = 1;
    world.transports[0].recipient_limit = 2;
    world.slow_ms = 3;
    queue_up();
    post(&large);
    WAIT_FOR(site_seen("smtp", "a.org").busy == 1);
    post_many(SMALL, "slow", "a.org");
    WAIT_FOR(peek("a.org").todo == SMALL + 1);
    world.gate_open = true;
    WAIT_FOR(gone(large.id) && seen(&world.sent) == N + SMALL);
    /* 30 requests of its own, and at most 6 that passed it. */
    assert_in_range(site_seen("smtp", "a.org").last_of_list, 30, 30 + 6);
    assert_true(queue_down(20000));
}

/* Long enough to be sorted and filed in pieces; every recipient once, in the order of addresses. */
static void a_long_list_is_filed_in_pieces(void **state)
{
    (void)state;
    enum { N = 5000 };
    for (int i = 0; i < N; i++)
        list_put(i, "ok-%04d@d%d.org", i * 7919 % N, i % 7);
    struct posting large = {.rcpts = list, .rcpt_count = N};
    queue_up();
    post(&large);
    WAIT_FOR(seen(&world.sent) == N && gone(large.id));
    assert_int_equal(sum_of("smtp/").requests, 7 * ((N / 7 + 50) / 50));
    assert_true(queue_down(20000));
}

/* Removed while it is being filed, or soon after: nothing is left of it. */
static void a_long_list_is_removed(void **state)
{
    (void)state;
    enum { N = 20000 };
    for (int i = 0; i < N; i++)
        list_put(i, "gate-%d@d%d.org", i, i);
    struct posting large = {.rcpts = list, .rcpt_count = N};
    queue_up();
    post(&large);
    act(QUEUE_ACT_REMOVE, large.id, QUEUE_ANY);
    world.gate_open = true;
    WAIT_FOR(idle() && list_count() == 0);
    assert_true(queue_down(20000));
}

static void one_recipient_one_destination(void **state)
{
    (void)state;
    struct sched_transport *t = transport_add("one");
    t->recipient_limit = 1;
    t->concurrency_limit = 2;
    static const char *const rcpts[] = {"gate@one.org", "ok-1@one.org", "ok-2@one.org",
                                        "ok-3@one.org"};
    struct posting p = {.rcpts = rcpts, .rcpt_count = 4};
    queue_up();
    post(&p);
    WAIT_FOR(seen(&world.sent) == 3); /* the one that hangs holds only itself */
    world.gate_open = true;
    WAIT_FOR(gone(p.id));
    assert_true(queue_down(5000));
}

static void reconfigure_main(void *arg)
{
    (void)arg;
    queue_reconfigure(world.q, &world.qo);
}

static void new_limits_after_a_reload(void **state)
{
    (void)state;
    world.transports[0].initial_concurrency = 8;
    world.slow_ms = 3;
    queue_up();
    post_many(8, "gate", "a.org");
    WAIT_FOR(site_seen("smtp", "a.org").busy == 8);
    post_many(30, "slow", "a.org");
    assert_int_equal(peek("a.org").window, 8);
    pthread_mutex_lock(&world.lock);
    world.transports[0].concurrency_limit = 0; /* the agent's own check */
    pthread_mutex_unlock(&world.lock);
    struct sched_transport next = world.transports[0];
    next.concurrency_limit = 2;
    next.initial_concurrency = 1;
    struct sched_options so = world.so;
    so.transports = &next;
    so.message_active_limit = 3;
    struct queue_options qo = world.qo;
    qo.sched = &so;
    queue_reconfigure(world.q, &qo);
    WAIT_FOR(peek("a.org").window == 2);
    world.gate_open = true;
    WAIT_FOR(site_seen("smtp", "a.org").busy <= 2);
    WAIT_FOR(seen(&world.sent) == 38);
    post_many(10, "slow", "b.org");
    WAIT_FOR(seen(&world.sent) == 48 && idle());
    assert_in_range(site_seen("smtp", "b.org").max_busy, 1, 2);
    there(world.workers[0], reconfigure_main, NULL); /* from a worker, too */
    assert_true(queue_down(5000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QUEUE_TEST(the_window_grows_to_the_limit),
        QUEUE_TEST(a_dead_site_holds_nobody),
        QUEUE_TEST(a_dead_site_has_another_chance_in_time),
        QUEUE_TEST(a_dead_site_gets_one_probe),
        QUEUE_TEST(an_agent_that_dies_takes_no_more),
        QUEUE_TEST(an_agent_that_dies_is_tried_again_in_time),
        QUEUE_TEST(pauses_between_begins),
        QUEUE_TEST(one_at_a_time_with_pauses),
        QUEUE_TEST(a_transport_with_pauses),
        QUEUE_TEST(processes_are_shared_in_turn),
        QUEUE_TEST(idle_connections_do_not_block),
        QUEUE_TEST(small_messages_pass_a_large_one),
        QUEUE_TEST(a_list_of_many_sites_is_passed_too),
        QUEUE_TEST(a_list_is_not_starved_by_small_mail),
        QUEUE_TEST(a_long_list_is_filed_in_pieces),
        QUEUE_TEST(a_long_list_is_removed),
        QUEUE_TEST(one_recipient_one_destination),
        QUEUE_TEST(new_limits_after_a_reload),
    };
    return cmocka_run_group_tests(tests, log_setup, log_teardown);
}
