/* Stops of every kind: clean, in the middle of deliveries, and by a crash. */
#include "tests/unit/queue/crash.h"

static void a_drain_waits_for_what_runs(void **state)
{
    (void)state;
    world.slow_ms = 100;
    queue_up();
    const char *id = post_to("slow@a.org");
    WAIT_FOR(site_seen("smtp", "a.org").busy == 1);
    assert_true(queue_down(20000));
    assert_int_equal(world.sent, 1);
    queue_up();
    assert_true(gone(id));
    assert_true(queue_down(5000));
}

static void a_delivery_past_the_deadline_is_tried_again(void **state)
{
    (void)state;
    queue_up();
    const char *id = post_to("gate@a.org");
    WAIT_FOR(site_seen("smtp", "a.org").busy == 1);
    const char *other = post_to("ok@b.org");
    WAIT_FOR(gone(other));
    assert_false(queue_down(30));
    world.gate_open = true;
    queue_up();
    WAIT_FOR(gone(id));
    assert_int_equal(seen(&world.sent), 2);
    assert_true(queue_down(5000));
}

static void mail_that_waits_survives_a_stop(void **state)
{
    (void)state;
    world.transports[0].concurrency_limit = 1;
    queue_up();
    for (int i = 0; i < 30; i++)
        (void)post_to("gate@a.org");
    WAIT_FOR(site_seen("smtp", "a.org").busy == 1);
    assert_false(queue_down(20));
    assert_int_equal(world.sent, 0);
    world.gate_open = true;
    queue_up();
    WAIT_FOR(seen(&world.sent) == 30);
    WAIT_FOR(list_count() == 0);
    assert_true(queue_down(5000));
}

static void mail_committed_while_draining_is_found_later(void **state)
{
    (void)state;
    queue_up();
    struct drained d = {.wait_ms = 5000};
    there(world.sched, drain_main, &d);
    const char *id = post_to("ok@a.org");
    assert_false(gone(id));
    assert_true(queue_down(5000));
    assert_int_equal(world.sent, 0);
    queue_up();
    WAIT_FOR(gone(id));
    assert_int_equal(seen(&world.sent), 1);
    assert_true(queue_down(5000));
}

/* --- crashes */

enum { CRASH_MAIL = 300 };

struct stream_of_mail {
    sem_t done;
    _Atomic int committed;
    char ids[CRASH_MAIL][QUEUE_ID_MAX];
};

static void keep_posting(void *arg)
{
    struct stream_of_mail *s = arg;
    for (int i = 0; i < CRASH_MAIL; i++) {
        char rcpt[48];
        const char *list[1] = {rcpt};
        snprintf(rcpt, sizeof rcpt, "%s-%d@s%d.org", i % 3 ? "ok" : "defer", i, i % 7);
        struct posting p = {.sender = "s@example.com",
                            .rcpts = list,
                            .rcpt_count = 1,
                            .number = (uint64_t)i + 1000};
        post_main(&p);
        memcpy(s->ids[i], p.id, QUEUE_ID_MAX);
        s->committed = i + 1;
    }
    sem_post(&s->done);
}

static bool got_it(const char *id, int i)
{
    char address[48];
    snprintf(address, sizeof address, "ok-%d@s%d.org", i, i % 7);
    return was_delivered(id, address);
}

/* Everything that was acknowledged before the copy was begun is in the copy, or was delivered
 * before the copy was complete. */
static void nothing_acknowledged_is_lost_in_a_crash(void **state)
{
    (void)state;
    static struct stream_of_mail s;
    struct crash crash;
    for (int round = 0; round < 4; round++) {
        world.gate_open = false;
        world.repeats_allowed = true;
        memset(&s, 0, sizeof s);
        sem_init(&s.done, 0, 0);
        queue_up();
        worker_spawn(world.workers[0], "sender", keep_posting, &s);
        WAIT_FOR(s.committed > 60 * round + 30);
        int acknowledged = s.committed;
        crash_now(&crash);
        bool before[CRASH_MAIL];
        for (int i = 0; i < acknowledged; i++)
            before[i] = got_it(s.ids[i], i);
        while (sem_wait(&s.done) != 0)
            ;
        WAIT_FOR(idle());
        assert_true(queue_down(5000));
        crash_up(&crash);
        WAIT_FOR(idle());
        for (int i = 0; i < acknowledged; i++)
            assert_true(i % 3 ? before[i] || got_it(s.ids[i], i) : !gone(s.ids[i]));
        assert_true(queue_down(5000));
        crash_over(&crash);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QUEUE_TEST(a_drain_waits_for_what_runs),
        QUEUE_TEST(a_delivery_past_the_deadline_is_tried_again),
        QUEUE_TEST(mail_that_waits_survives_a_stop),
        QUEUE_TEST(mail_committed_while_draining_is_found_later),
        QUEUE_TEST(nothing_acknowledged_is_lost_in_a_crash),
    };
    return cmocka_run_group_tests(tests, log_setup, log_teardown);
}
