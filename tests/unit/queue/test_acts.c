/* What postsuper, postqueue and mailq do to a queue that is at work. */
#include "tests/unit/queue/world.h"

static const char *post_held(void)
{
    const char *rcpt = "ok@example.org";
    return post_id((struct posting){.rcpts = &rcpt, .rcpt_count = 1, .flags = ENV_HOLD});
}

static void hold_at_intake_until_released(void **state)
{
    (void)state;
    queue_up();
    const char *held = post_held();
    assert_true(is_in(held, QUEUE_HOLD));
    assert_int_equal(queue_counts(world.q).hold, 1);
    const char *other = post_to("ok@example.org");
    WAIT_FOR(gone(other));
    assert_true(flush("", ""));
    (void)flush(held, "");
    WAIT_FOR(idle());
    assert_true(is_in(held, QUEUE_HOLD));
    assert_true(queue_down(5000));
    queue_up();
    assert_true(is_in(held, QUEUE_HOLD));
    assert_int_equal(queue_counts(world.q).hold, 1);
    assert_int_equal(act(QUEUE_ACT_RELEASE, held, QUEUE_HOLD), 1);
    WAIT_FOR(gone(held));
    assert_int_equal(queue_counts(world.q).hold, 0);
    assert_int_equal(seen(&world.sent), 2);
    assert_true(queue_down(5000));
}

static void hold_and_release_of_deferred_mail(void **state)
{
    (void)state;
    world.so.minimal_backoff_s = world.so.maximal_backoff_s = 10000;
    queue_up();
    const char *id = post_to("once@example.org");
    WAIT_FOR(is_in(id, QUEUE_DEFERRED));
    assert_int_equal(act(QUEUE_ACT_HOLD, id, QUEUE_ACTIVE), 0);
    assert_int_equal(act(QUEUE_ACT_HOLD, id, QUEUE_DEFERRED), 1);
    assert_int_equal(act(QUEUE_ACT_HOLD, id, QUEUE_ANY), 0);
    assert_true(is_in(id, QUEUE_HOLD));
    assert_int_equal(act(QUEUE_ACT_RELEASE, id, QUEUE_ANY), 1);
    WAIT_FOR(gone(id));
    assert_int_equal(act(QUEUE_ACT_RELEASE, id, QUEUE_ANY), 0);
    assert_int_equal(act(QUEUE_ACT_REMOVE, "not an id", QUEUE_ANY), 0);
    assert_true(queue_down(5000));
}

static void hold_of_mail_in_delivery(void **state)
{
    (void)state;
    queue_up();
    const char *id = post_from(NULL, "gate@a.org", "defer@b.org");
    WAIT_FOR(delivering("a.org"));
    WAIT_FOR(seen(&world.deferred) == 1);
    assert_int_equal(act(QUEUE_ACT_HOLD, id, QUEUE_ACTIVE), 1);
    assert_true(is_in(id, QUEUE_HOLD));
    world.gate_open = true;
    WAIT_FOR(idle());
    assert_int_equal(seen(&world.sent), 1);
    assert_int_equal(lookup(id).rcpts, 1);
    assert_true(is_in(id, QUEUE_HOLD));
    assert_true(queue_down(5000));
    queue_up();
    assert_true(is_in(id, QUEUE_HOLD));
    assert_int_equal(seen(&world.deferred), 1);
    assert_int_equal(act(QUEUE_ACT_RELEASE, id, QUEUE_ANY), 1);
    WAIT_FOR(seen(&world.deferred) >= 2);
    assert_true(queue_down(5000));
}

static void released_before_its_attempt_has_ended(void **state)
{
    (void)state;
    world.so.minimal_backoff_s = world.so.maximal_backoff_s = 10000;
    queue_up();
    const char *id = post_from(NULL, "gate@a.org", "once@b.org");
    WAIT_FOR(delivering("a.org") && seen(&world.deferred) == 1);
    assert_int_equal(act(QUEUE_ACT_HOLD, id, QUEUE_ANY), 1);
    assert_int_equal(act(QUEUE_ACT_RELEASE, id, QUEUE_ANY), 1);
    world.gate_open = true;
    WAIT_FOR(gone(id)); /* at once, and not after its backoff */
    assert_int_equal(seen(&world.sent), 2);
    assert_true(queue_down(5000));
}

static void removal_of_mail_in_delivery(void **state)
{
    (void)state;
    static const char *const rcpts[] = {"gate@a.org", "ok-1@a.org", "defer@b.org"};
    struct posting p = {.rcpts = rcpts, .rcpt_count = 3};
    world.transports[0].recipient_limit = 1;
    world.transports[0].concurrency_limit = 1;
    queue_up();
    post(&p);
    WAIT_FOR(delivering("a.org"));
    assert_int_equal(act(QUEUE_ACT_REMOVE, p.id, QUEUE_ANY), 1);
    assert_true(gone(p.id));
    assert_int_equal(act(QUEUE_ACT_REMOVE, p.id, QUEUE_ANY), 0);
    world.gate_open = true;
    WAIT_FOR(idle());
    assert_true(gone(p.id));
    assert_true(queue_down(5000));
    queue_up();
    assert_int_equal(list_count(), 0);
    assert_true(queue_down(5000));
}

static void removal_of_all_in_one_queue(void **state)
{
    (void)state;
    world.so.minimal_backoff_s = world.so.maximal_backoff_s = 10000;
    queue_up();
    const char *held = post_held();
    for (int i = 0; i < 5; i++)
        (void)post_to("defer@example.org");
    const char *active = post_to("gate@example.net");
    WAIT_FOR(seen(&world.deferred) == 5 && delivering("example.net"));
    WAIT_FOR(queue_counts(world.q).deferred == 5);
    assert_int_equal(list_count(), 7);
    assert_int_equal(act(QUEUE_ACT_REMOVE, "", QUEUE_DEFERRED), 5);
    assert_int_equal(list_count(), 2);
    assert_true(is_in(held, QUEUE_HOLD));
    assert_true(is_in(active, QUEUE_ACTIVE));
    assert_int_equal(act(QUEUE_ACT_REMOVE, "", QUEUE_ANY), 2);
    assert_int_equal(list_count(), 0);
    world.gate_open = true;
    WAIT_FOR(idle());
    assert_true(queue_down(5000));
    queue_up();
    assert_int_equal(list_count(), 0);
    assert_int_equal(queue_counts(world.q).hold, 0);
    assert_true(queue_down(5000));
}

static void requeue_resolves_anew(void **state)
{
    (void)state;
    world.so.minimal_backoff_s = world.so.maximal_backoff_s = 10000;
    world.transports[0].concurrency_limit = 1;
    queue_up();
    const char *deferred = post_to("once@a.org");
    WAIT_FOR(is_in(deferred, QUEUE_DEFERRED));
    uint64_t before = seen(&world.resolved);
    assert_int_equal(act(QUEUE_ACT_REQUEUE, deferred, QUEUE_ANY), 1);
    WAIT_FOR(gone(deferred));
    assert_int_equal(seen(&world.resolved), before + 1);
    const char *held = post_held();
    assert_int_equal(act(QUEUE_ACT_REQUEUE, held, QUEUE_ANY), 1);
    WAIT_FOR(gone(held));
    /* What waits behind a busy destination comes back through the resolver, too. */
    (void)post_to("gate-1@b.org");
    WAIT_FOR(delivering("b.org"));
    const char *active = post_to("ok@b.org");
    WAIT_FOR(is_in(active, QUEUE_ACTIVE));
    before = seen(&world.resolved);
    assert_int_equal(act(QUEUE_ACT_REQUEUE, active, QUEUE_ANY), 1);
    WAIT_FOR(seen(&world.resolved) == before + 1);
    world.gate_open = true;
    WAIT_FOR(list_count() == 0);
    assert_true(queue_down(5000));
}

static void forced_expiry_of_deferred_mail_tells_why_it_waited(void **state)
{
    char text[120];
    (void)state;
    world.so.minimal_backoff_s = world.so.maximal_backoff_s = 10000;
    queue_up();
    const char *id = post_to("once@a.org");
    WAIT_FOR(is_in(id, QUEUE_DEFERRED));
    assert_int_equal(act(QUEUE_ACT_EXPIRE, id, QUEUE_ANY), 1);
    WAIT_FOR(gone(id));
    assert_int_equal(seen(&world.sent), 0); /* not even tried */
    assert_int_equal(notices_seen(), 1);
    assert_true(world.notices[0].expired);
    assert_string_equal(world.notices[0].text, "greylisted");
    snprintf(text, sizeof text, "%s: from=<sender@example.com>, status=force-expired, returned",
             id);
    WAIT_FOR(logged(text) == 1);
    assert_true(queue_down(5000));
}

static void forced_expiry_of_held_mail_waits_for_its_release(void **state)
{
    (void)state;
    queue_up();
    const char *held = post_held();
    assert_int_equal(act(QUEUE_ACT_EXPIRE, held, QUEUE_ANY), 1);
    WAIT_FOR(idle());
    assert_true(is_in(held, QUEUE_HOLD));
    assert_int_equal(act(QUEUE_ACT_RELEASE, held, QUEUE_ANY), 1);
    WAIT_FOR(gone(held));
    assert_int_equal(seen(&world.sent), 0);
    assert_int_equal(notices_seen(), 1);
    assert_string_equal(world.notices[0].status, "4.7.0");
    assert_string_equal(world.notices[0].text, "message is administratively expired");
    assert_true(queue_down(5000));
}

static void forced_expiry_of_mail_in_delivery(void **state)
{
    (void)state;
    queue_up();
    const char *id = post_from(NULL, "gate@a.org", "defer@b.org");
    WAIT_FOR(delivering("a.org") && seen(&world.deferred) == 1);
    assert_int_equal(act(QUEUE_ACT_EXPIRE, id, QUEUE_ANY), 1);
    world.gate_open = true;
    WAIT_FOR(gone(id));
    assert_int_equal(notices_seen(), 1);
    assert_int_equal(world.notices[0].rcpts, 1);
    assert_string_equal(world.notices[0].address, "defer@b.org");
    assert_true(queue_down(5000));
}

static void flushes(void **state)
{
    (void)state;
    world.so.minimal_backoff_s = world.so.maximal_backoff_s = 10000;
    queue_up();
    static char ids[3][QUEUE_ID_MAX];
    static const char *const to[] = {"once@a.org", "once@b.org", "once@c.org"};
    for (int i = 0; i < 3; i++) {
        memcpy(ids[i], post_to(to[i]), QUEUE_ID_MAX);
        WAIT_FOR(is_in(ids[i], QUEUE_DEFERRED));
    }
    assert_false(flush("3EDA640AEC", ""));
    assert_true(flush(ids[0], ""));
    WAIT_FOR(gone(ids[0]));
    assert_true(flush("", "B.org"));
    WAIT_FOR(gone(ids[1]));
    assert_true(is_in(ids[2], QUEUE_DEFERRED));
    assert_true(flush("", ""));
    WAIT_FOR(gone(ids[2]));
    assert_true(queue_down(5000));
}

static void deferred_transports_wait_for_a_flush(void **state)
{
    (void)state;
    transport_add("later");
    world.so.defer_transports = "uucp, later";
    queue_up();
    const char *id = post_to("ok@later.org");
    const char *other = post_to("ok@example.org");
    WAIT_FOR(gone(other));
    WAIT_FOR(seen(&world.deferred) >= 2); /* its retries change nothing */
    struct lookup l = lookup(id);
    assert_true(l.found);
    assert_string_equal(l.status, "4.3.2");
    assert_string_equal(l.text, "deferred transport");
    WAIT_FOR(flush("", "") && gone(id));
    assert_true(queue_down(5000));
}

static void several_ids_at_once(void **state)
{
    char ids[200];
    (void)state;
    world.so.minimal_backoff_s = world.so.maximal_backoff_s = 10000;
    queue_up();
    const char *a = post_to("defer@a.org"), *b = post_to("defer@b.org"),
               *c = post_to("defer@c.org");
    WAIT_FOR(queue_counts(world.q).deferred == 3);
    snprintf(ids, sizeof ids, "%s ABCDEF %s  %s", a, c, a);
    assert_int_equal(act(QUEUE_ACT_REMOVE, ids, QUEUE_ANY), 2);
    assert_true(gone(a) && gone(c) && is_in(b, QUEUE_DEFERRED));
    assert_true(queue_down(5000));
}

static void what_was_expired_twice_is_counted_once(void **state)
{
    (void)state;
    queue_up();
    const char *held = post_held();
    assert_int_equal(act(QUEUE_ACT_EXPIRE, held, QUEUE_ANY), 1);
    assert_int_equal(act(QUEUE_ACT_EXPIRE, held, QUEUE_ANY), 0);
    assert_int_equal(act(QUEUE_ACT_EXPIRE, "", QUEUE_ANY), 0);
    assert_int_equal(act(QUEUE_ACT_RELEASE, "", QUEUE_ANY), 1);
    WAIT_FOR(gone(held));
    assert_true(queue_down(5000));
}

/* More than a slice, many of them in the middle of things. */
static void a_large_backlog_is_held_released_and_removed(void **state)
{
    (void)state;
    enum { MAIL = 3000 };
    struct acting a = {.what = {.queue = QUEUE_ANY}};
    world.so.message_active_limit = 50;
    world.so.minimal_backoff_s = world.so.maximal_backoff_s = 10000;
    world.qo.segment_bytes = 0;
    world.no_checks = true;
    queue_up();
    for (int i = 0; i < MAIL; i++)
        (void)post_from("s@example.com", i % 3 ? "defer@a.org" : "defer@b.org", NULL);
    assert_int_equal(act(QUEUE_ACT_HOLD, "", QUEUE_ANY), MAIL);
    WAIT_FOR(idle());
    assert_int_equal(queue_counts(world.q).hold, MAIL);
    assert_int_equal(select_and(QUEUE_ACT_RELEASE, (struct queue_select){.domain = STR("b.org")}),
                     MAIL / 3);
    assert_int_equal(queue_counts(world.q).hold, MAIL - MAIL / 3);
    WAIT_FOR(queue_counts(world.q).deferred == MAIL / 3 && idle());
    a.act = QUEUE_ACT_REMOVE;
    there(world.workers[1], act_main, &a);
    assert_int_equal(a.count, MAIL);
    assert_int_equal(list_count(), 0);
    assert_int_equal(queue_counts(world.q).hold, 0);
    assert_true(queue_down(5000));
}

/* Everything at once, in an order that is never the same; in the end each recipient had its mail
 * once. */
enum { ROUNDS = 60, BUSY_MAIL = 600 };

static void keep_posting(void *arg)
{
    for (int i = 0; i < BUSY_MAIL; i++) {
        char rcpt[2][48];
        const char *list[2] = {rcpt[0], rcpt[1]};
        snprintf(rcpt[0], sizeof rcpt[0], "%s-%d@s%d.org", i % 9 ? "slow" : "once", i, i % 5);
        snprintf(rcpt[1], sizeof rcpt[1], "ok-%d@s%d.org", i, i % 11);
        struct posting p = {.sender = "s@example.com",
                            .rcpts = list,
                            .rcpt_count = 2,
                            .flags = i % 50 == 0 ? ENV_HOLD : 0,
                            .number = (uint64_t)i + 5000};
        post_main(&p);
        if (i % 4 == 0)
            (void)fiber_sleep_until(clock_in_ms(1));
    }
    sem_post(arg);
}

static void reload_main(void *arg)
{
    queue_reconfigure(world.q, arg);
}

static void acts_in_the_middle_of_everything(void **state)
{
    (void)state;
    sem_t posted;
    sem_init(&posted, 0, 0);
    world.slow_ms = 2;
    world.idle_ms = 3;
    world.so.message_active_limit = 40;
    world.qo.segment_bytes = 0;
    queue_up();
    worker_spawn(world.workers[0], "sender", keep_posting, &posted);
    for (int i = 0; i < ROUNDS; i++) {
        switch (i % 6) {
        case 0:
            (void)act(QUEUE_ACT_HOLD, "", QUEUE_ANY);
            break;
        case 1:
            (void)list_count();
            break;
        case 2:
            (void)act(QUEUE_ACT_RELEASE, "", QUEUE_ANY);
            break;
        case 3:
            (void)flush("", i % 4 ? "s3.org" : "");
            break;
        case 4:
            (void)act(QUEUE_ACT_REQUEUE, "", QUEUE_ACTIVE);
            break;
        default:
            there(world.workers[1], reload_main, &world.qo);
        }
    }
    while (sem_wait(&posted) != 0)
        ;
    (void)act(QUEUE_ACT_RELEASE, "", QUEUE_ANY);
    WAIT_FOR(list_count() == 0);
    assert_int_equal(seen(&world.sent), 2 * BUSY_MAIL);
    assert_true(queue_down(5000));
    sem_destroy(&posted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QUEUE_TEST(hold_at_intake_until_released),
        QUEUE_TEST(hold_and_release_of_deferred_mail),
        QUEUE_TEST(hold_of_mail_in_delivery),
        QUEUE_TEST(released_before_its_attempt_has_ended),
        QUEUE_TEST(removal_of_mail_in_delivery),
        QUEUE_TEST(removal_of_all_in_one_queue),
        QUEUE_TEST(requeue_resolves_anew),
        QUEUE_TEST(forced_expiry_of_deferred_mail_tells_why_it_waited),
        QUEUE_TEST(forced_expiry_of_held_mail_waits_for_its_release),
        QUEUE_TEST(forced_expiry_of_mail_in_delivery),
        QUEUE_TEST(flushes),
        QUEUE_TEST(deferred_transports_wait_for_a_flush),
        QUEUE_TEST(several_ids_at_once),
        QUEUE_TEST(what_was_expired_twice_is_counted_once),
        QUEUE_TEST(a_large_backlog_is_held_released_and_removed),
        QUEUE_TEST(acts_in_the_middle_of_everything),
    };
    return cmocka_run_group_tests(tests, log_setup, log_teardown);
}
