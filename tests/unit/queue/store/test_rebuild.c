/* The index is built again behind a running queue: at a start without one, after a crash in the
 * middle of that, and when it turns out to be damaged under way. */
#include "old_world.h"

/* --- at a start */

static bool called;
static void on_ready(void *ctx)
{
    (void)ctx;
    called = true;
}

static void start_and_go_on(void *arg)
{
    struct store_options o = rebuild_options();
    struct store *s = NULL;
    struct qmsg *m = NULL;
    (void)arg;
    OK(store_open(&o, &s));
    MUST(!store_ready(s));
    store_on_ready(s, on_ready, NULL);
    MUST(store_get(s, seqs[4], &m)->kind == ERR_TIMEOUT);
    uint64_t n = OLD, while_building = 0;
    while (n < ALL) {
        while_building += !store_ready(s);
        new_mail(s, n, n + 1);
        check_due(s);
        n++;
    }
    MUST(while_building > 3);
    OK(store_wait_ready(s));
    MUST(called && store_ready_percent(s) == 100);
    check_world(s);
    OK(store_close(s));
}

static void mail_is_taken_while_the_index_is_built(void **state)
{
    (void)state;
    drop_index();
    in_fiber(start_and_go_on, NULL);
    in_fiber(look_again, NULL);
    drop_index();
    in_fiber(look_again, NULL);
}

/* Closed before it has ended, and opened again, until it has. */
static void stop_early(void *arg)
{
    struct store_options o = rebuild_options();
    struct store *s = NULL;
    int *stops = arg;
    int64_t left = 200;
    uint64_t n = OLD, covered = 0;
    bool ready = false;
    while (!ready && --left > 0) {
        OK(store_open(&o, &s));
        ready = store_ready(s);
        *stops += !ready;
        MUST(s->covered >= covered);
        covered = s->covered;
        for (int i = 0; i < 3 && n < ALL; i++)
            new_mail(s, n, n + 1), n++;
        /* Longer each time: on a busy machine nothing comes of some milliseconds. */
        OK(fiber_sleep_until(clock_in_ms(3 + (200 - left) * (200 - left) / 50)));
        ready = ready || store_ready(s);
        if (ready)
            OK(store_wait_ready(s));
        OK(store_close(s));
    }
    MUST(ready);
}

static void a_stop_in_the_middle_goes_on_from_there(void **state)
{
    int stops = 0;
    (void)state;
    drop_index();
    size_t files = count_files("log", "seg-");
    in_fiber(stop_early, &stops);
    assert_true(count_files("log", "seg-") <= files + NEW / 3 + 10);
    assert_true(stops > 1);
    in_fiber(look_again, NULL);
}

/* --- kills */

static void victim(void *arg)
{
    struct store_options o = rebuild_options();
    struct store *s = NULL;
    int want = *(int *)arg;
    OK(store_open(&o, &s));
    for (uint64_t n = OLD; n < ALL && store_ready_percent(s) < want; n++) {
        struct qmsg *m = commit(s, n, size_of(n));
        printf("%llu %llu\n", (unsigned long long)n, (unsigned long long)m->seq);
        fflush(stdout);
        qmsg_unref(m);
    }
    _exit(0);
}

static void read_victim(int percent)
{
    char cmd[256];
    unsigned long long n, seq;
    snprintf(cmd, sizeof cmd, "/proc/%d/exe --victim %s %d", (int)getpid(), world_dir, percent);
    FILE *f = popen(cmd, "r");
    while (fscanf(f, "%llu %llu", &n, &seq) == 2) {
        MUST(n < ALL && fates[n] == NEVER);
        fates[n] = PLAIN;
        seqs[n] = seq;
    }
    MUST(pclose(f) == 0);
}

static void a_crash_in_the_middle_loses_nothing(void **state)
{
    (void)state;
    for (int percent = 0; percent < 100; percent += 23) {
        memset(fates + OLD, 0, NEW * sizeof *fates);
        drop_index();
        read_victim(percent);
        in_fiber(look_again, NULL);
        /* What it has taken is gone before the next turn. */
        world_teardown(state);
        make_old_world(state);
    }
}

/* --- under a running queue */

static void damage_under_way(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    struct draft *early = NULL;
    (void)arg;
    o.index_delay_ms = 20;
    o.replay_rows = 20;
    OK(store_open(&o, &s));
    while (!s->proven)
        fiber_yield();
    struct qmsg *kept = get(s, 3 + 1), *changed = get(s, 8), *removed = get(s, 9);
    struct qmsg *before = get(s, 13);
    fate_is(before, 13, REMOVED); /* unsafe still */
    qmsg_unref(before);
    OK(store_begin(s, NULL, &early));
    /* Just committed, no row yet. */
    s->index_delay_ms = 100000;
    new_mail(s, OLD, OLD + 20);
    struct qmsg *young = get(s, OLD + 3), *young_gone = get(s, OLD + 4);
    (void)index_trouble(s, err_new(ERR_DAMAGED, 0, "a test says so"));
    while (store_ready(s))
        fiber_yield();
    new_mail(s, OLD + 20, OLD + 40);
    fate_is(changed, 8, DEFERRED);
    fate_is(removed, 9, REMOVED);
    fate_is(young_gone, OLD + 4, REMOVED);
    fate_is(young, OLD + 3, HELD);
    s->index_delay_ms = 20;
    uint64_t n = OLD + 40;
    for (; n < ALL && !store_ready(s); n++)
        new_mail(s, n, n + 1);
    check_due(s);
    queue_abort(early);
    qmsg_unref(changed);
    qmsg_unref(removed);
    qmsg_unref(young);
    qmsg_unref(young_gone);
    OK(store_wait_ready(s));
    check_world(s);
    check_content(kept);
    qmsg_unref(kept);
    OK(store_close(s));
}

static void a_damaged_index_is_replaced_under_a_running_queue(void **state)
{
    (void)state;
    in_fiber(damage_under_way, NULL);
    assert_int_equal(count_files("index", "damaged.mdb"), 1);
    in_fiber(look_again, NULL);
    drop_index();
    in_fiber(look_again, NULL);
}

/* --- the trial */

static void die_early(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    (void)arg;
    OK(store_open(&o, &s));
    _exit(0);
}

static void an_index_that_was_not_looked_through_is_not_opened_again(void **state)
{
    char cmd[256];
    (void)state;
    snprintf(cmd, sizeof cmd, "/proc/%d/exe --die-early %s", (int)getpid(), world_dir);
    assert_int_equal(system(cmd), 0);
    assert_int_equal(count_files("log", "index.trial"), 1);
    assert_int_equal(count_files("index", "damaged.mdb"), 0);
    in_fiber(look_again, NULL);
    assert_int_equal(count_files("index", "damaged.mdb"), 1);
    assert_int_equal(count_files("log", "index.trial"), 0);
    in_fiber(look_again, NULL);
    assert_int_equal(count_files("log", "index.trial"), 0);
}

/* --- names */

static struct {
    uint64_t seq[2];
    char id[2][QUEUE_ID_MAX];
} named;

static void name_two(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    (void)arg;
    OK(store_open(&o, &s));
    for (int i = 0; i < 2; i++) {
        o.long_ids = i == 1;
        store_reconfigure(s, &o);
        struct qmsg *m = commit(s, OLD + i, 500);
        named.seq[i] = m->seq;
        memcpy(named.id[i], m->id, QUEUE_ID_MAX);
        if (i == 1)
            hold(m, true);
        qmsg_unref(m);
    }
    OK(store_close(s));
}

static void same_names(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    o.long_ids = *(bool *)arg;
    OK(store_open(&o, &s));
    for (int i = 0; i < 2; i++) {
        struct qmsg *m = NULL;
        OK(store_get(s, named.seq[i], &m));
        MUST(m != NULL && strcmp(m->id, named.id[i]) == 0);
        qmsg_unref(m);
    }
    OK(store_close(s));
}

static void names_stay_what_they_were(void **state)
{
    (void)state;
    in_fiber(name_two, NULL);
    assert_true(strlen(named.id[1]) > strlen(named.id[0]));
    for (int i = 0; i < 4; i++) {
        bool long_ids = i % 2 == 0;
        if (i >= 2)
            drop_index();
        in_fiber(same_names, &long_ids);
    }
}

int main(int argc, char **argv)
{
    OK(offload_start(2));
    if (argc >= 3)
        snprintf(world_dir, sizeof world_dir, "%s", argv[2]);
    if (argc == 4 && strcmp(argv[1], "--victim") == 0) {
        int percent = atoi(argv[3]);
        in_fiber(victim, &percent);
    }
    if (argc == 3 && strcmp(argv[1], "--die-early") == 0)
        in_fiber(die_early, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(mail_is_taken_while_the_index_is_built, make_old_world,
                                        world_teardown),
        cmocka_unit_test_setup_teardown(a_stop_in_the_middle_goes_on_from_there, make_old_world,
                                        world_teardown),
        cmocka_unit_test_setup_teardown(a_crash_in_the_middle_loses_nothing, make_old_world,
                                        world_teardown),
        cmocka_unit_test_setup_teardown(a_damaged_index_is_replaced_under_a_running_queue,
                                        make_old_world, world_teardown),
        cmocka_unit_test_setup_teardown(an_index_that_was_not_looked_through_is_not_opened_again,
                                        make_old_world, world_teardown),
        cmocka_unit_test_setup_teardown(names_stay_what_they_were, world_setup, world_teardown),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    offload_stop();
    return failed;
}
