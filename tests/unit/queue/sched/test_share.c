/* Shares: a destination with a backlog does not keep others out of the active queue. */
#include "tests/unit/queue/world.h"

static void post_some(int n, const char *rcpt)
{
    for (int i = 0; i < n; i++)
        (void)post_to(rcpt);
}

struct counts {
    size_t active;
    uint64_t left; /* for a.org */
    size_t known;
    bool there; /* that destination */
};

static void counts_main(void *arg)
{
    struct counts *c = arg;
    struct sched *s = world.q->sched;
    struct transport *t = hmap_get(&s->transports, STR("smtp"));
    const struct dest *d = t ? hmap_get(&t->dests, STR("a.org")) : NULL;
    *c = (struct counts){.active = s->active.count, .left = d ? d->left : 0, .known = s->known_left, .there = d != NULL};
}

static struct counts counts(void)
{
    struct counts c;
    there(world.sched, counts_main, &c);
    return c;
}

/* Nothing comes by itself, by a queue run. */
static void little_room(int64_t limit)
{
    world.so.message_active_limit = limit;
    world.so.queue_run_delay_s = 100000;
    world.transports[0].concurrency_limit = 2;
    world.transports[0].initial_concurrency = 2;
}

static void a_backlog_leaves_room(void **state)
{
    (void)state;
    little_room(40);
    queue_up();
    post_some(100, "gate@a.org");
    WAIT_FOR(counts().left > 60 && site_seen("smtp", "a.org").busy == 2);
    assert_in_range(counts().active, 30, 35);
    for (int i = 0; i < 20; i++) {
        char rcpt[32];
        snprintf(rcpt, sizeof rcpt, "ok@b%d.org", i);
        const char *id = post_to(rcpt);
        WAIT_FOR(gone(id));
    }
    assert_int_equal(seen(&world.sent), 20);
    world.gate_open = true; /* what sleeps comes when there is room */
    WAIT_FOR(seen(&world.sent) == 120);
    WAIT_FOR(list_count() == 0 && idle() && counts().left == 0);
    assert_true(queue_down(5000));
}

static void know_little(void *arg)
{
    (void)arg;
    world.q->sched->known_max = 7;
}

/* Those whose numbers are kept come first, the others are found by what the index calls the destination. */
static void what_is_not_kept_in_mind_is_looked_for(void **state)
{
    (void)state;
    little_room(40);
    queue_up();
    there(world.sched, know_little, NULL);
    post_some(100, "gate@a.org");
    WAIT_FOR(counts().left > 60 && counts().known == 7);
    world.gate_open = true;
    WAIT_FOR(seen(&world.sent) == 100);
    WAIT_FOR(list_count() == 0 && idle() && counts().left == 0 && counts().known == 0);
    assert_false(counts().there); /* nobody is expected for it any more */
    assert_true(queue_down(5000));
}

/* It had all the room while it was alone. */
static void a_backlog_makes_room(void **state)
{
    (void)state;
    little_room(40);
    queue_up();
    post_some(30, "gate@a.org");
    WAIT_FOR(counts().active == 30);
    for (int i = 0; i < 8; i++) {
        char rcpt[32];
        snprintf(rcpt, sizeof rcpt, "gate@b%d.org", i);
        (void)post_to(rcpt);
    }
    WAIT_FOR(counts().left > 0);
    for (int i = 0; i < 8; i++) { /* there is less and less to take, but always some */
        char rcpt[32];
        snprintf(rcpt, sizeof rcpt, "ok@c%d.org", i);
        const char *id = post_to(rcpt);
        WAIT_FOR(gone(id));
    }
    world.gate_open = true;
    WAIT_FOR(seen(&world.sent) == 46);
    WAIT_FOR(list_count() == 0);
    assert_true(queue_down(5000));
}

struct site_counts {
    size_t active, sharing, dests;
    uint64_t left;
};

static void site_counts_main(void *arg)
{
    struct site_counts *c = arg;
    struct sched *s = world.q->sched;
    const struct transport *t = hmap_get(&s->transports, STR("one"));
    const struct dest *d = t ? hmap_get(&t->dests, STR("one.org")) : NULL;
    *c = (struct site_counts){.active = s->active.count};
    if (t)
        c->dests = t->dests.count;
    if (d) {
        c->left = d->left;
        c->sharing = d->sharing;
    }
}

static struct site_counts site_counts(void)
{
    struct site_counts c;
    there(world.sched, site_counts_main, &c);
    return c;
}

/* Each recipient is a destination, and all of a next hop have one share. */
static void where_each_recipient_is_a_destination(void **state)
{
    (void)state;
    char rcpt[32];
    little_room(40);
    struct sched_transport *t = transport_add("one");
    t->recipient_limit = 1;
    t->process_limit = 3;
    queue_up();
    for (int i = 0; i < 100; i++) {
        snprintf(rcpt, sizeof rcpt, "gate-%d@one.org", i);
        (void)post_to(rcpt);
    }
    WAIT_FOR(site_counts().left > 60);
    assert_in_range(site_counts().active, 30, 35);
    for (int i = 0; i < 20; i++) {
        snprintf(rcpt, sizeof rcpt, "ok@b%d.org", i);
        const char *id = post_to(rcpt);
        WAIT_FOR(gone(id));
    }
    for (int i = 0; i < 8; i++) { /* others need room: those that have it are let go */
        snprintf(rcpt, sizeof rcpt, "gate@c%d.org", i);
        (void)post_to(rcpt);
    }
    WAIT_FOR(site_seen("smtp", "c7.org").busy == 1 && site_counts().sharing < 27);
    world.gate_open = true;
    WAIT_FOR(list_count() == 0 && idle());
    assert_int_equal(seen(&world.sent), 128);
    WAIT_FOR(site_counts().dests == 0); /* it is forgotten */
    assert_true(queue_down(5000));
}

/* A message with several of them counts once; and again less when it is partly sent. */
static void a_message_counts_once(void **state)
{
    (void)state;
    enum { N = 5 };
    static const char *const rcpts[N] = {"gate-1@one.org", "gate-2@one.org", "gate-3@one.org", "gate-4@one.org",
                                         "gate-5@one.org"};
    little_room(40);
    struct sched_transport *t = transport_add("one");
    t->recipient_limit = 1;
    t->process_limit = 2;
    queue_up();
    for (int i = 0; i < 3; i++)
        (void)post_id((struct posting){.rcpts = rcpts, .rcpt_count = N});
    WAIT_FOR(sum_of("one/").busy == 2 && site_counts().active == 3);
    assert_int_equal(site_counts().sharing, 3);
    world.gate_open = true;
    WAIT_FOR(list_count() == 0 && idle());
    assert_int_equal(site_counts().sharing, 0);
    assert_true(queue_down(5000));
}

static void those_that_sleep_survive_a_stop(void **state)
{
    (void)state;
    little_room(20);
    world.so.queue_run_delay_s = 1;
    queue_up();
    post_some(60, "gate@a.org");
    WAIT_FOR(counts().left > 30);
    assert_false(queue_down(20));
    world.gate_open = true;
    queue_up();
    WAIT_FOR(seen(&world.sent) == 60);
    WAIT_FOR(list_count() == 0);
    assert_true(queue_down(5000));
}

/* Nor does it come back before its time when it was deferred. */
static void what_is_deferred_is_not_fetched(void **state)
{
    (void)state;
    little_room(20);
    world.so.minimal_backoff_s = world.so.maximal_backoff_s = 100000;
    queue_up();
    char later[QUEUE_ID_MAX];
    str_copy(later, sizeof later, str_of(post_to("defer@a.org")));
    WAIT_FOR(is_in(later, QUEUE_DEFERRED));
    post_some(40, "gate@a.org");
    WAIT_FOR(counts().left > 20);
    world.gate_open = true;
    WAIT_FOR(seen(&world.sent) == 40 && counts().left == 0);
    assert_true(is_in(later, QUEUE_DEFERRED));
    assert_int_equal(seen(&world.deferred), 1);
    assert_true(queue_down(5000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QUEUE_TEST(a_backlog_leaves_room),
        QUEUE_TEST(what_is_not_kept_in_mind_is_looked_for),
        QUEUE_TEST(a_backlog_makes_room),
        QUEUE_TEST(where_each_recipient_is_a_destination),
        QUEUE_TEST(a_message_counts_once),
        QUEUE_TEST(those_that_sleep_survive_a_stop),
        QUEUE_TEST(what_is_deferred_is_not_fetched),
    };
    return cmocka_run_group_tests(tests, log_setup, log_teardown);
}
