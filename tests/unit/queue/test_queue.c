/* The life of a message in the whole queue: committed, tried, tried again, told of, gone. */
#include "tests/unit/queue/world.h"

static void delivered_mail_is_gone_also_after_a_restart(void **state)
{
    (void)state;
    queue_up();
    const char *id = post_to("ok@example.org");
    WAIT_FOR(seen(&world.sent) == 1);
    WAIT_FOR(gone(id));
    WAIT_FOR(queue_counts(world.q).active == 0);
    assert_true(queue_down(5000));
    queue_up();
    assert_true(gone(id));
    assert_int_equal(list_count(), 0);
    assert_true(queue_down(5000));
    assert_int_equal(world.sent, 1);
}

static void log_lines_are_postfix_s(void **state)
{
    char text[200];
    (void)state;
    queue_up();
    const char *id = post_to("ok@example.org");
    WAIT_FOR(gone(id));
    snprintf(text, sizeof text, "postfix/qmgr[%d]: %s: from=<sender@example.com>, size=", getpid(),
             id);
    WAIT_FOR(logged(text) == 1);
    snprintf(text, sizeof text, "nrcpt=1 (queue active)");
    WAIT_FOR(logged(text) >= 1);
    snprintf(text, sizeof text, "%s: removed", id);
    WAIT_FOR(logged(text) == 1);
    assert_true(queue_down(5000));
}

static void recipients_are_grouped_by_destination_and_limit(void **state)
{
    (void)state;
    world.transports[0].recipient_limit = 3;
    static const char *const rcpts[] = {"ok-1@a.org", "ok-2@b.org", "ok-3@a.org", "ok-4@a.org",
                                        "ok-5@a.org", "ok-6@b.org", "ok-7@a.org", "ok-8@nowhere"};
    struct posting p = {.rcpts = rcpts, .rcpt_count = 8};
    queue_up();
    post(&p);
    WAIT_FOR(seen(&world.sent) == 7);
    assert_int_equal(site_seen("smtp", "a.org").requests, 2);
    assert_int_equal(site_seen("smtp", "a.org").max_rcpts, 3);
    assert_int_equal(site_seen("smtp", "b.org").requests, 1);
    WAIT_FOR(lookup(p.id).rcpts == 1);
    /* No answer from the resolver is doubt, and doubt defers. */
    WAIT_FOR(is_in(p.id, QUEUE_DEFERRED));
    struct lookup l = lookup(p.id);
    assert_string_equal(l.status, "4.3.0");
    assert_string_equal(l.text, "address resolver failure");
    assert_true(queue_down(5000));
}

static void deferred_mail_is_tried_again(void **state)
{
    (void)state;
    static const char *const rcpts[] = {"once-a@example.org", "ok@example.org", "pending@x.org"};
    struct posting p = {.rcpts = rcpts, .rcpt_count = 2};
    queue_up();
    post(&p);
    WAIT_FOR(seen(&world.deferred) == 1);
    WAIT_FOR(seen(&world.sent) == 2);
    WAIT_FOR(gone(p.id));
    p.rcpts = &rcpts[2];
    p.rcpt_count = 1;
    post(&p);
    WAIT_FOR(is_in(p.id, QUEUE_DEFERRED));
    assert_string_equal(lookup(p.id).text, "unknown mail transport error");
    assert_true(queue_down(5000));
}

/* With a wall clock of our own: not more than a second before its time, and then at the next queue run. */
static _Atomic int64_t wall_us;
static int64_t wall(void)
{
    return wall_us;
}

static void the_due_time_is_the_clock_s(void **state)
{
    (void)state;
    wall_us = 1000000 * US_PER_S;
    clock_replace(NULL, wall);
    world.so.minimal_backoff_s = 300;
    world.so.maximal_backoff_s = 4000;
    queue_up();
    const char *id = post_to("once@example.org");
    WAIT_FOR(is_in(id, QUEUE_DEFERRED));
    assert_int_equal(lookup(id).next_try_us, wall_us + 300 * US_PER_S);
    wall_us += 299 * US_PER_S - 1;
    usleep(2500000); /* two queue runs, in which nothing may happen */
    assert_true(is_in(id, QUEUE_DEFERRED));
    assert_int_equal(seen(&world.sent), 0);
    wall_us += 1;
    WAIT_FOR(gone(id));
    assert_int_equal(seen(&world.sent), 1);
    assert_true(queue_down(5000));
}

static void expired_mail_goes_back_once(void **state)
{
    char text[200];
    (void)state;
    world.so.maximal_lifetime_s = 0;
    queue_up();
    const char *id = post_to("defer@example.org");
    WAIT_FOR(gone(id));
    assert_int_equal(notices_seen(), 1);
    const struct seen_notice *n = &world.notices[0];
    assert_int_equal(n->kind, NOTICE_BOUNCE);
    assert_true(n->expired);
    assert_string_equal(n->id, id);
    assert_string_equal(n->status, "4.2.0");
    assert_string_equal(n->text, "mailbox busy");
    snprintf(text, sizeof text, "%s: from=<sender@example.com>, status=expired, returned to sender",
             id);
    WAIT_FOR(logged(text) == 1);
    assert_true(queue_down(5000));
    queue_up();
    assert_true(gone(id));
    assert_true(queue_down(5000));
    assert_int_equal(world.notice_count, 1);
}

static void null_senders_have_their_own_lifetime(void **state)
{
    (void)state;
    const char *rcpt = "defer@example.org";
    struct posting p = {.sender = "", .rcpts = &rcpt, .rcpt_count = 1, .flags = ENV_BOUNCE};
    world.so.bounce_lifetime_s = 0;
    queue_up();
    const char *other = post_to(rcpt);
    post(&p);
    WAIT_FOR(gone(p.id));
    assert_int_equal(notices_seen(), 1); /* what becomes of it is the bounce room's */
    WAIT_FOR(is_in(other, QUEUE_DEFERRED));
    assert_true(queue_down(5000));
}

static void bounces_are_told_of_and_tried_again_when_that_fails(void **state)
{
    (void)state;
    static const char *const rcpts[] = {"ok@a.org", "bounce-1@a.org", "bounce-2@b.org"};
    struct posting p = {.rcpts = rcpts, .rcpt_count = 3};
    world.notify_fails = true;
    queue_up();
    post(&p);
    WAIT_FOR(seen(&world.bounced) == 2 && idle());
    assert_false(gone(p.id));
    /* Also over a restart: it is the log that knows. */
    assert_true(queue_down(5000));
    world.notify_fails = false;
    queue_up();
    WAIT_FOR(gone(p.id));
    assert_int_equal(notices_seen(), 1);
    assert_int_equal(world.notices[0].rcpts, 2);
    assert_false(world.notices[0].expired);
    assert_string_equal(world.notices[0].status, "5.1.1");
    assert_int_equal(seen(&world.bounced), 2);
    assert_int_equal(seen(&world.sent), 1);
    assert_true(queue_down(5000));
}

static void one_bounce_while_others_still_wait(void **state)
{
    (void)state;
    static const char *const rcpts[] = {"defer@a.org", "bounce@a.org"};
    struct posting p = {.rcpts = rcpts, .rcpt_count = 2};
    queue_up();
    post(&p);
    WAIT_FOR(seen(&world.deferred) >= 3);
    assert_int_equal(notices_seen(), 1);
    assert_int_equal(seen(&world.bounced), 1);
    WAIT_FOR(lookup(p.id).rcpts == 1);
    assert_true(queue_down(5000));
}

static void a_delay_is_told_of_once(void **state)
{
    (void)state;
    const char *rcpt = "defer@example.org";
    struct posting null_sender = {.sender = "", .rcpts = &rcpt, .rcpt_count = 1};
    world.so.delay_warning_s = 1;
    queue_up();
    const char *id = post_to(rcpt);
    post(&null_sender);
    WAIT_FOR(notices_seen() == 1);
    uint64_t tries = seen(&world.deferred);
    WAIT_FOR(seen(&world.deferred) >= tries + 4);
    assert_int_equal(notices_seen(), 1);
    assert_int_equal(world.notices[0].kind, NOTICE_DELAY);
    assert_string_equal(world.notices[0].id, id);
    assert_true(queue_down(5000));
}

static void success_is_told_of_when_asked_for(void **state)
{
    (void)state;
    static const char *const rcpts[] = {"ok-1@a.org", "ok-2@b.org", "once@b.org"};
    struct posting p = {.rcpts = rcpts, .rcpt_count = 3, .notify = NOTIFY_SUCCESS};
    queue_up();
    (void)post_to("ok@example.org");
    post(&p);
    WAIT_FOR(gone(p.id));
    assert_int_equal(notices_seen(), 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(world.notices[i].kind, NOTICE_SUCCESS);
        assert_string_equal(world.notices[i].status, "2.0.0");
    }
    assert_int_equal(world.notices[0].rcpts, 2);
    assert_int_equal(world.notices[1].rcpts, 1);
    assert_true(queue_down(5000));
}

static void few_active_many_waiting(void **state)
{
    (void)state;
    world.so.message_active_limit = 2;
    world.slow_ms = 5;
    queue_up();
    for (int i = 0; i < 50; i++) {
        char rcpt[64];
        snprintf(rcpt, sizeof rcpt, "slow-%d@site%d.org", i, i % 5);
        (void)post_to(rcpt);
        uint64_t active = queue_counts(world.q).active;
        world.most_active = active > world.most_active ? active : world.most_active;
    }
    WAIT_FOR(seen(&world.sent) == 50);
    WAIT_FOR(list_count() == 0);
    assert_true(world.most_active <= 2);
    assert_int_equal(queue_counts(world.q).deferred, 0);
    assert_true(queue_down(5000));
}

static void a_hundred_thousand_recipients(void **state)
{
    (void)state;
    enum { N = 100000 };
    world.no_checks = true; /* of each recipient */
    char *text = malloc((size_t)N * 32);
    const char **rcpts = malloc(N * sizeof *rcpts);
    for (int i = 0; i < N; i++) {
        rcpts[i] = text + (size_t)i * 32;
        /* half of them at one site, half at sites of their own, and one site is down */
        int site = i % 2 ? i : 0;
        snprintf(text + (size_t)i * 32, 32, "%s-%d@%d.org", i % 10 == 3 ? "dead" : "ok", i,
                 site % 20000);
    }
    world.sites_down = true;
    struct posting p = {.rcpts = rcpts, .rcpt_count = N};
    world.qo.segment_bytes = 0;
    world.so.minimal_backoff_s = world.so.maximal_backoff_s = 10000;
    queue_up();
    post(&p);
    WAIT_FOR(is_in(p.id, QUEUE_DEFERRED));
    assert_int_equal(seen(&world.sent), N - N / 10);
    assert_int_equal(lookup(p.id).rcpts, N / 10);
    assert_true(queue_down(20000));
    free(text);
    free(rcpts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QUEUE_TEST(delivered_mail_is_gone_also_after_a_restart),
        QUEUE_TEST(log_lines_are_postfix_s),
        QUEUE_TEST(recipients_are_grouped_by_destination_and_limit),
        QUEUE_TEST(deferred_mail_is_tried_again),
        QUEUE_TEST(the_due_time_is_the_clock_s),
        QUEUE_TEST(expired_mail_goes_back_once),
        QUEUE_TEST(null_senders_have_their_own_lifetime),
        QUEUE_TEST(bounces_are_told_of_and_tried_again_when_that_fails),
        QUEUE_TEST(one_bounce_while_others_still_wait),
        QUEUE_TEST(a_delay_is_told_of_once),
        QUEUE_TEST(success_is_told_of_when_asked_for),
        QUEUE_TEST(few_active_many_waiting),
        QUEUE_TEST(a_hundred_thousand_recipients),
    };
    return cmocka_run_group_tests(tests, log_setup, log_teardown);
}
