/* Lists longer than qmgr_message_recipient_limit: some recipients at a time are in memory, and each gets its mail once, is
 * named in one notice, and waits for its next attempt, as if all were. */
#include "queue/why.h"
#include "tests/unit/queue/crash.h"

enum { SLICE = 20, MANY_MAX = 3000 };

struct many {
    char text[MANY_MAX][64];
    const char *list[MANY_MAX];
    size_t n;
};
static struct many many;

/* words: of the local parts, in turn; sites: of so many domains. */
static void make_many(size_t n, const char *const *words, size_t n_words, size_t sites)
{
    many.n = n;
    for (size_t i = 0; i < n; i++) {
        snprintf(many.text[i], sizeof many.text[i], "%.8s-%zu@s%zu.org", words[i % n_words], i, i % sites);
        many.list[i] = many.text[i];
    }
}

static const char *post_many(uint8_t notify)
{
    return post_id((struct posting){.rcpts = many.list, .rcpt_count = many.n, .notify = notify});
}

/* So many of a message's recipients in memory: one seat of its own, the others of the transport. */
static void in_slices(int64_t slice)
{
    world.so.message_recipient_limit = slice;
    world.so.recipient_minimum = 1;
    world.transports[0].pool = slice - 1;
    world.transports[0].recipient_limit = 3;
    world.transports[0].refill_limit = 5;
    world.transports[0].refill_delay_s = 1;
}

static size_t flying(void)
{
    pthread_mutex_lock(&world.lock);
    size_t n = world.flying.count;
    pthread_mutex_unlock(&world.lock);
    return n;
}

/* --- delivery */

static void each_gets_it_once(void **state)
{
    (void)state;
    static const char *const ok[] = {"ok"};
    static const struct {
        size_t n, sites;
        int64_t slice, limit;
    } rows[] = {
        {SLICE, 1, SLICE, 5},     {SLICE + 1, 1, SLICE, 5}, {1000, 1000, SLICE, 5},
        {1000, 7, 1, 1},          {3000, 40, 1000, 100},    {1000, 3, SLICE, 100000},
    };
    size_t sent = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        in_slices(rows[i].slice);
        world.transports[0].refill_limit = rows[i].limit;
        world.transports[0].refill_delay_s = rows[i].limit > rows[i].slice ? 1000 : 1;
        queue_up();
        make_many(rows[i].n, ok, 1, rows[i].sites);
        const char *id = post_many(0);
        WAIT_FOR(gone(id));
        sent += rows[i].n;
        assert_int_equal(seen(&world.sent), sent);
        assert_true(queue_down(5000));
    }
    assert_int_equal(notices_seen(), 0);
}

struct loaded {
    size_t messages, slots;
    bool part;
};

static void loaded_main(void *arg)
{
    struct loaded *l = arg;
    size_t at = 0;
    uint64_t seq;
    void *value;
    while (umap_next(&world.q->sched->active, &at, &seq, &value)) {
        const struct active *a = value;
        l->messages++;
        l->slots += a->m->env->rcpt_count;
        l->part = a->m->part != NULL;
    }
}

static struct loaded loaded(void)
{
    struct loaded l = {0};
    there(world.sched, loaded_main, &l);
    return l;
}

static void no_more_than_a_slice_is_in_memory(void **state)
{
    (void)state;
    static const char *const gate[] = {"gate"};
    in_slices(SLICE);
    world.transports[0].recipient_limit = 1;
    queue_up();
    make_many(300, gate, 1, 300);
    const char *id = post_many(0);
    WAIT_FOR(flying() == SLICE);
    struct loaded l = loaded();
    assert_true(l.part);
    assert_int_equal(l.messages, 1);
    assert_int_equal(l.slots, SLICE);
    assert_int_equal(lookup(id).rcpts, 300);
    world.gate_open = true;
    WAIT_FOR(gone(id));
    assert_int_equal(seen(&world.sent), 300);
    assert_true(queue_down(5000));
}

/* What is slow has its slots, and the others go on in what is left: at once when there is room for refill_limit, else
 * after refill_delay. */
static void slow_ones_do_not_hold_up_the_others(void **state)
{
    (void)state;
    static const int64_t limits[] = {2, 50};
    for (size_t i = 0; i < 2; i++) {
        in_slices(10);
        world.transports[0].refill_limit = limits[i];
        world.gate_open = false;
        queue_up();
        uint64_t sent = seen(&world.sent);
        static const char *const ok[] = {"ok"};
        make_many(i == 0 ? 200 : 20, ok, 1, 3);
        for (size_t k = 0; k < 6; k++)
            snprintf(many.text[k], sizeof many.text[k], "gate-%zu@slow%zu.org", k, k);
        const char *id = post_many(0);
        WAIT_FOR(seen(&world.sent) == sent + many.n - 6);
        WAIT_FOR(flying() == 6);
        assert_int_equal(lookup(id).rcpts, 6);
        world.gate_open = true;
        WAIT_FOR(gone(id));
        assert_true(queue_down(5000));
    }
}

/* --- what becomes of the others */

static void one_bounce_names_all_that_failed(void **state)
{
    (void)state;
    static const char *const words[] = {"ok", "bounce", "ok", "once"};
    in_slices(SLICE);
    queue_up();
    make_many(400, words, 4, 9);
    const char *id = post_many(0);
    WAIT_FOR(gone(id));
    assert_int_equal(seen(&world.sent), 300);
    assert_int_equal(seen(&world.bounced), 100);
    assert_int_equal(seen(&world.deferred), 100);
    assert_int_equal(notices_seen(), 1);
    assert_int_equal(world.notices[0].kind, NOTICE_BOUNCE);
    assert_int_equal(world.notices[0].rcpts, 100);
    assert_string_equal(world.notices[0].status, "5.1.1");
    assert_string_equal(world.notices[0].address, "bounce-1@s1.org");
    assert_true(queue_down(5000));
}

static void a_bounce_that_cannot_be_made_is_tried_again(void **state)
{
    (void)state;
    static const char *const words[] = {"ok", "bounce"};
    in_slices(SLICE);
    world.notify_fails = true;
    queue_up();
    make_many(200, words, 2, 9);
    const char *id = post_many(0);
    WAIT_FOR(seen(&world.bounced) == 100 && seen(&world.sent) == 100 && idle());
    assert_false(gone(id));
    assert_true(queue_down(5000));
    world.notify_fails = false;
    queue_up();
    WAIT_FOR(gone(id));
    assert_int_equal(notices_seen(), 1);
    assert_int_equal(world.notices[0].rcpts, 100);
    assert_int_equal(seen(&world.sent), 100);
    assert_true(queue_down(5000));
}

static void one_notice_of_success(void **state)
{
    (void)state;
    static const char *const ok[] = {"ok"};
    in_slices(SLICE);
    queue_up();
    make_many(300, ok, 1, 9);
    const char *id = post_many(NOTIFY_SUCCESS);
    WAIT_FOR(gone(id));
    assert_int_equal(notices_seen(), 1);
    assert_int_equal(world.notices[0].kind, NOTICE_SUCCESS);
    assert_int_equal(world.notices[0].rcpts, 300);
    assert_string_equal(world.notices[0].status, "2.0.0");
    assert_true(queue_down(5000));
}

static void a_warning_and_the_end_of_its_life_name_all_that_wait(void **state)
{
    (void)state;
    static const char *const words[] = {"defer", "ok"};
    in_slices(SLICE);
    world.so.delay_warning_s = 1;
    world.so.maximal_lifetime_s = 7;
    queue_up();
    make_many(200, words, 2, 9);
    const char *id = post_many(0);
    WAIT_FOR(notices_seen() == 1);
    assert_int_equal(world.notices[0].kind, NOTICE_DELAY);
    assert_int_equal(world.notices[0].rcpts, 100);
    assert_string_equal(world.notices[0].text, "mailbox busy");
    WAIT_FOR(gone(id));
    assert_int_equal(notices_seen(), 2);
    assert_int_equal(world.notices[1].kind, NOTICE_BOUNCE);
    assert_true(world.notices[1].expired);
    assert_int_equal(world.notices[1].rcpts, 100);
    assert_string_equal(world.notices[1].text, "mailbox busy");
    assert_int_equal(seen(&world.sent), 100);
    assert_true(queue_down(5000));
}

static void a_dead_site_keeps_its_share(void **state)
{
    (void)state;
    static const char *const words[] = {"dead", "ok", "ok", "ok"};
    in_slices(SLICE);
    world.sites_down = true;
    queue_up();
    make_many(400, words, 4, 4);
    const char *id = post_many(0);
    WAIT_FOR(seen(&world.sent) == 300);
    WAIT_FOR(idle());
    assert_int_equal(lookup(id).rcpts, 100);
    world.sites_down = false;
    WAIT_FOR(gone(id));
    assert_int_equal(seen(&world.sent), 400);
    assert_true(queue_down(5000));
}

/* --- acts */

static void held_and_released_half_way(void **state)
{
    (void)state;
    static const char *const words[] = {"gate", "ok", "ok", "ok"};
    in_slices(SLICE);
    queue_up();
    make_many(400, words, 4, 4);
    const char *id = post_many(0);
    WAIT_FOR(flying() > 0);
    assert_int_equal(act(QUEUE_ACT_HOLD, id, QUEUE_ANY), 1);
    world.gate_open = true;
    WAIT_FOR(idle() && is_in(id, QUEUE_HOLD));
    assert_int_equal(lookup(id).rcpts, 400 - seen(&world.sent));
    assert_int_equal(act(QUEUE_ACT_RELEASE, id, QUEUE_ANY), 1);
    WAIT_FOR(gone(id));
    assert_int_equal(seen(&world.sent), 400);
    assert_true(queue_down(5000));
}

static void requeued_expired_and_removed_half_way(void **state)
{
    (void)state;
    static const char *const words[] = {"gate", "ok", "defer", "ok"};
    in_slices(SLICE);
    world.so.minimal_backoff_s = world.so.maximal_backoff_s = 1000;
    queue_up();
    make_many(400, words, 4, 4);
    const char *id = post_many(0);
    WAIT_FOR(flying() > 0);
    assert_int_equal(act(QUEUE_ACT_REQUEUE, id, QUEUE_ANY), 1);
    world.gate_open = true;
    WAIT_FOR(seen(&world.sent) == 300 && idle());
    assert_int_equal(lookup(id).rcpts, 100);
    assert_string_equal(lookup(id).text, "mailbox busy");
    assert_int_equal(act(QUEUE_ACT_EXPIRE, id, QUEUE_ANY), 1);
    WAIT_FOR(gone(id));
    assert_int_equal(notices_seen(), 1);
    assert_int_equal(world.notices[0].rcpts, 100);
    assert_string_equal(world.notices[0].text, "mailbox busy");
    world.gate_open = false;
    id = post_many(0);
    WAIT_FOR(flying() > 0);
    assert_int_equal(act(QUEUE_ACT_REMOVE, id, QUEUE_ANY), 1);
    world.gate_open = true;
    WAIT_FOR(idle() && gone(id));
    assert_true(queue_down(5000));
    queue_up();
    assert_true(gone(id));
    assert_true(queue_down(5000));
}

struct suspending_test {
    const char *what;
    bool on;
};

static void suspend_main(void *arg)
{
    const struct suspending_test *t = arg;
    struct arena *a = arena_new(0, 0);
    struct str name = STR("");
    uint64_t n = 0;
    bool changed = false;
    if (t->on)
        OK(queue_suspend(world.q, str_of(t->what), a, &name, &changed));
    else
        OK(queue_resume(world.q, str_of(t->what), a, &n));
    arena_free(a);
}

static void what_is_suspended_waits_for_its_resume(void **state)
{
    (void)state;
    static const char *const ok[] = {"ok"};
    in_slices(SLICE);
    world.so.maximal_backoff_s = 1000;
    queue_up();
    there(world.workers[0], suspend_main, &(struct suspending_test){"@s1.org", true});
    make_many(400, ok, 1, 4);
    const char *id = post_many(0);
    WAIT_FOR(seen(&world.sent) == 300 && idle());
    assert_int_equal(lookup(id).rcpts, 100);
    assert_non_null(strstr(lookup(id).text, "suspended by the operator"));
    there(world.workers[0], suspend_main, &(struct suspending_test){"@s1.org", false});
    WAIT_FOR(gone(id));
    assert_int_equal(seen(&world.sent), 400);
    assert_true(queue_down(5000));
}

static void active_main(void *arg)
{
    const struct sched *s = world.q->sched;
    size_t at = 0;
    uint64_t seq;
    void *value;
    while (umap_next(&s->active, &at, &seq, &value))
        *(bool *)arg |= ((struct active *)value)->again;
}

/* What others wait for, or need wait for no longer, is nothing to it; its own word is. */
static void anothers_word_does_not_make_it_come_anew(void **state)
{
    (void)state;
    static const char *const words[] = {"ok", "ok", "gate", "ok"};
    in_slices(SLICE);
    world.transports[0].pool = 500;
    world.so.message_recipient_limit = 500;
    world.so.maximal_backoff_s = 1000;
    queue_up();
    there(world.workers[0], suspend_main, &(struct suspending_test){"@s1.org", true});
    make_many(1000, words, 4, 4);
    const char *id = post_many(0);
    WAIT_FOR(seen(&world.sent) == 500 && flying() > 0);
    bool again = false;
    there(world.workers[0], suspend_main, &(struct suspending_test){"@elsewhere.org", true});
    there(world.workers[0], suspend_main, &(struct suspending_test){"@elsewhere.org", false});
    there(world.sched, active_main, &again);
    assert_false(again);
    there(world.workers[0], suspend_main, &(struct suspending_test){"@s1.org", false});
    WAIT_FOR((there(world.sched, active_main, &again), again));
    world.gate_open = true;
    WAIT_FOR(gone(id));
    assert_int_equal(seen(&world.sent), 1000);
    assert_true(queue_down(5000));
}

/* --- stops */

static void a_stop_half_way_repeats_only_what_was_in_flight(void **state)
{
    (void)state;
    static const char *const words[] = {"ok", "ok", "bounce", "once", "gate", "defer"};
    in_slices(SLICE);
    world.so.minimal_backoff_s = world.so.maximal_backoff_s = 1000; /* the rest is due at once all the same */
    queue_up();
    make_many(1200, words, 6, 11);
    const char *id = post_many(0);
    for (uint64_t i = 1; i <= 4; i++) {
        WAIT_FOR(flying() > 0);
        (void)queue_down(0);
        world.so.minimal_backoff_s = world.so.maximal_backoff_s = i < 4 ? 1000 : 1;
        queue_up();
    }
    world.gate_open = true;
    WAIT_FOR(seen(&world.sent) == 800 && seen(&world.bounced) == 200);
    WAIT_FOR(notices_seen() == 1);
    assert_int_equal(world.notices[0].rcpts, 200);
    WAIT_FOR(idle() && lookup(id).rcpts == 200);
    assert_string_equal(lookup(id).text, "mailbox busy");
    assert_true(queue_down(5000));
}

static void a_crash_half_way_loses_nobody(void **state)
{
    (void)state;
    static const char *const words[] = {"ok", "slow", "ok", "bounce", "once"};
    char id[QUEUE_ID_MAX];
    struct crash crash;
    static bool before[MANY_MAX];
    for (int round = 0; round < 3; round++) {
        in_slices(SLICE);
        world.slow_ms = 1;
        world.notice_count = 0;
        world.repeats_allowed = true;
        queue_up();
        make_many(1000, words, 5, 11);
        uint64_t sent = seen(&world.sent);
        memcpy(id, post_many(0), sizeof id);
        WAIT_FOR(seen(&world.sent) > sent + 100 + 200 * (uint64_t)round);
        crash_now(&crash);
        if (round == 1)
            crash_takes_index(&crash);
        bool told = notices_seen() > 0; /* it takes a while to copy */
        for (size_t i = 0; i < many.n; i++)
            before[i] = was_delivered(id, many.list[i]);
        WAIT_FOR(gone(id));
        assert_true(queue_down(5000));
        world.notice_count = 0;
        crash_up(&crash);
        WAIT_FOR(gone(id));
        size_t failed = 0;
        for (size_t i = 0; i < many.n; i++) {
            bool bounces = strncmp(many.list[i], "bounce", 6) == 0;
            assert_true(bounces || before[i] || was_delivered(id, many.list[i]));
            failed += bounces;
        }
        assert_true(told || notices_seen() == 1);
        assert_true(notices_seen() == 0 || world.notices[0].rcpts == failed);
        assert_true(queue_down(5000));
        crash_over(&crash);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QUEUE_TEST(each_gets_it_once),
        QUEUE_TEST(no_more_than_a_slice_is_in_memory),
        QUEUE_TEST(slow_ones_do_not_hold_up_the_others),
        QUEUE_TEST(one_bounce_names_all_that_failed),
        QUEUE_TEST(a_bounce_that_cannot_be_made_is_tried_again),
        QUEUE_TEST(one_notice_of_success),
        QUEUE_TEST(a_warning_and_the_end_of_its_life_name_all_that_wait),
        QUEUE_TEST(a_dead_site_keeps_its_share),
        QUEUE_TEST(held_and_released_half_way),
        QUEUE_TEST(requeued_expired_and_removed_half_way),
        QUEUE_TEST(what_is_suspended_waits_for_its_resume),
        QUEUE_TEST(anothers_word_does_not_make_it_come_anew),
        QUEUE_TEST(a_stop_half_way_repeats_only_what_was_in_flight),
        QUEUE_TEST(a_crash_half_way_loses_nobody),
    };
    return cmocka_run_group_tests(tests, log_setup, log_teardown);
}
