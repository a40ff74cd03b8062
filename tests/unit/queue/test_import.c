/* Mail that is taken over from another queue: nothing goes out before its import has ended, and then it is what it was. */
#include "tests/unit/queue/world.h"

#include "queue/import.h"

#define WAITED_US (INT64_C(3600) * US_PER_S)

struct taking {
    struct import_state state;
    const char *rcpt;
    enum rcpt_state rcpt_state;
    unsigned flags;
    uint64_t seq;
    char id[QUEUE_ID_MAX];
};

static void take_main(void *arg)
{
    static uint64_t number = 1000;
    struct taking *t = arg;
    struct buf b = {0};
    struct draft *d;
    struct attr origin = {STR(IMPORT_ORIGIN), STR("04999A720B6/1795322115.015645")};
    struct rcpt rcpt = {.address = str_of(t->rcpt), .original = str_of(t->rcpt), .orcpt = STR(""), .state = t->rcpt_state};
    rcpt.resolved = rcpt.address;
    rcpt.why = (struct dsn){.status = "5.1.1", .text = STR("no such user"), .mta = STR(""), .diagnostic = STR("")};
    struct envelope e = {.sender = STR("a@example.com"), .envid = STR(""), .flags = t->flags,
                         .arrival_us = t->state.arrival_us, .attrs = &origin, .attr_count = 1, .rcpts = &rcpt,
                         .rcpt_count = 1, .data_size = ++number};
    fill_content(&b, number, 2000);
    OK(queue_import_begin(world.q, &t->state, &d));
    t->seq = d->seq;
    memcpy(t->id, d->id, sizeof(t->id));
    OK(draft_write(d, buf_str(&b)));
    OK(queue_commit(d, &e));
    buf_fini(&b);
}

static void take(struct taking *t)
{
    if (t->state.arrival_us == 0)
        t->state.arrival_us = clock_wall_us() - WAITED_US;
    there(world.workers[0], take_main, t);
}

static void end_main_of_test(void *arg)
{
    const struct taking *t = arg;
    OK(queue_import_end(world.q, &t->seq, 1));
}

static void end(struct taking *t)
{
    there(world.workers[1], end_main_of_test, t);
}

struct left {
    size_t count;
    char id[QUEUE_ID_MAX];
    bool has_origin;
};

static void note_left(void *ctx, const struct queue_entry *e)
{
    struct left *l = ctx;
    l->count++;
    memcpy(l->id, e->id, sizeof(l->id));
    l->has_origin = str_eq(envelope_attr(e->env, IMPORT_ORIGIN), STR("04999A720B6/1795322115.015645"));
}

static void left_main(void *arg)
{
    OK(queue_import_open(world.q, note_left, arg));
}

static struct left left(void)
{
    struct left l = {0};
    there(world.workers[0], left_main, &l);
    return l;
}

static void nobody_touches_it_until_its_import_has_ended(void **state)
{
    (void)state;
    static const enum queue_act acts[] = {QUEUE_ACT_RELEASE, QUEUE_ACT_REQUEUE, QUEUE_ACT_EXPIRE, QUEUE_ACT_HOLD};
    struct taking t = {.rcpt = "ok@example.org"};
    queue_up();
    take(&t);
    for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++) {
        assert_int_equal(act(acts[i], t.id, QUEUE_ANY), 0);
        assert_int_equal(act(acts[i], "", QUEUE_ANY), 0);
    }
    (void)flush("", "");
    (void)flush(t.id, "");
    assert_true(queue_down(5000));
    queue_up(); /* as after a crash: what was committed is found again, and nothing of it has gone out */
    struct left l = left();
    assert_int_equal(l.count, 1);
    assert_string_equal(l.id, t.id);
    assert_true(l.has_origin && is_in(t.id, QUEUE_HOLD));
    assert_int_equal(seen(&world.sent), 0);
    end(&t);
    WAIT_FOR(gone(t.id));
    assert_int_equal(seen(&world.sent), 1);
    assert_int_equal(left().count, 0);
    end(&t); /* it is gone */
    assert_true(queue_down(5000));
}

static void what_was_on_hold_stays_there(void **state)
{
    (void)state;
    struct taking t = {.rcpt = "ok@example.org", .flags = ENV_HOLD};
    queue_up();
    take(&t);
    end(&t);
    assert_int_equal(left().count, 0);
    assert_true(queue_down(5000));
    queue_up();
    assert_true(is_in(t.id, QUEUE_HOLD));
    assert_int_equal(queue_counts(world.q).hold, 1);
    assert_int_equal(act(QUEUE_ACT_RELEASE, t.id, QUEUE_ANY), 1);
    WAIT_FOR(gone(t.id));
    assert_int_equal(queue_counts(world.q).hold, 0);
    assert_true(queue_down(5000));
}

static void what_was_waiting_waits_for_its_time(void **state)
{
    (void)state;
    int64_t due_us = clock_wall_us() + WAITED_US;
    struct taking t = {.rcpt = "ok@example.org", .rcpt_state = RCPT_DEFERRED, .state = {.due_us = due_us}};
    queue_up();
    take(&t);
    end(&t);
    for (int i = 0; i < 2; i++) {
        struct lookup l = lookup(t.id);
        assert_true(l.found && l.queue == QUEUE_DEFERRED && l.next_try_us == due_us);
        assert_string_equal(l.text, "no such user");
        assert_true(queue_down(5000));
        queue_up();
    }
    assert_int_equal(seen(&world.sent), 0);
    assert_true(flush(t.id, ""));
    WAIT_FOR(gone(t.id));
    assert_true(queue_down(5000));
}

static void its_name_is_made_of_its_arrival(void **state)
{
    (void)state;
    for (int long_ids = 0; long_ids < 2; long_ids++) {
        struct taking t = {.rcpt = "ok@example.org", .flags = ENV_HOLD, .state = {.arrival_us = 1795322115015645}};
        char want[QUEUE_ID_MAX];
        world.qo.long_ids = long_ids;
        queue_up();
        take(&t);
        queue_id_format(long_ids, 1795322115015645, t.seq, want);
        assert_string_equal(t.id, want);
        end(&t);
        assert_true(queue_down(5000));
        queue_up();
        assert_true(is_in(t.id, QUEUE_HOLD));
        assert_int_equal(act(QUEUE_ACT_REMOVE, t.id, QUEUE_ANY), 1);
        assert_true(queue_down(5000));
    }
}

static void removed_in_the_middle(void **state)
{
    (void)state;
    struct taking t = {.rcpt = "ok@example.org"};
    queue_up();
    take(&t);
    assert_int_equal(act(QUEUE_ACT_REMOVE, t.id, QUEUE_ANY), 1);
    end(&t);
    assert_true(gone(t.id));
    assert_int_equal(left().count, 0);
    assert_int_equal(queue_counts(world.q).hold, 0);
    assert_true(queue_down(5000));
    assert_int_equal(seen(&world.sent), 0);
}

static void a_sender_is_warned_of_a_delay_once(void **state)
{
    (void)state;
    world.so.delay_warning_s = 60;
    struct taking told = {.rcpt = "defer@example.org", .state = {.warned = true}};
    struct taking not_told = {.rcpt = "defer@example.net"};
    world.so.maximal_lifetime_s = world.so.bounce_lifetime_s = 100000;
    queue_up();
    take(&told);
    take(&not_told);
    end(&told);
    end(&not_told);
    WAIT_FOR(seen(&world.deferred) >= 2 && notices_seen() >= 1);
    WAIT_FOR(is_in(told.id, QUEUE_DEFERRED) && is_in(not_told.id, QUEUE_DEFERRED));
    assert_true(queue_down(5000));
    assert_int_equal(world.notice_count, 1);
    assert_int_equal(world.notices[0].kind, NOTICE_DELAY);
    assert_string_equal(world.notices[0].id, not_told.id);
}

static void a_bounce_that_was_not_sent_is_sent(void **state)
{
    (void)state;
    struct taking t = {.rcpt = "ok@example.org", .rcpt_state = RCPT_BOUNCED};
    queue_up();
    take(&t);
    end(&t);
    WAIT_FOR(gone(t.id));
    assert_true(queue_down(5000));
    assert_int_equal(world.notice_count, 1);
    assert_int_equal(world.notices[0].kind, NOTICE_BOUNCE);
    assert_string_equal(world.notices[0].text, "no such user");
    assert_int_equal(world.sent, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QUEUE_TEST(nobody_touches_it_until_its_import_has_ended),
        QUEUE_TEST(what_was_on_hold_stays_there),
        QUEUE_TEST(what_was_waiting_waits_for_its_time),
        QUEUE_TEST(its_name_is_made_of_its_arrival),
        QUEUE_TEST(removed_in_the_middle),
        QUEUE_TEST(a_sender_is_warned_of_a_delay_once),
        QUEUE_TEST(a_bounce_that_was_not_sent_is_sent),
    };
    return cmocka_run_group_tests(tests, log_setup, log_teardown);
}
