/* The index is built again behind a running queue: at a start without one, after a crash in the middle
 * of that, and when it turns out to be damaged under way. What is there at the end is compared, message
 * by message, with a model. */
#include "world.h"

enum { OLD = 1500, NEW = 150, ALL = OLD + NEW, GANGS = 16 };

/* What the world must look like. */
enum fate { NEVER, PLAIN, DEFERRED, HELD, REMOVED };
static enum fate fates[ALL];
static uint64_t seqs[ALL];

static struct store_options rebuild_options(void)
{
    struct store_options o = world_options();
    o.replay_at_once_bytes = 1;
    o.replay_rows = 20;
    o.index_delay_ms = 20;
    return o;
}

static size_t size_of(uint64_t n)
{
    return n % 400 == 7 ? 70000 : 300 + n * 37 % 1500;
}

static void hold(struct qmsg *m, bool on)
{
    store_mark(m, &(struct mark){.flags = on ? MESSAGE_HOLD : 0, .due_us = 0});
}

static void fate_is(struct store *s, struct qmsg *m, uint64_t n, enum fate f)
{
    (void)s;
    if (f == DEFERRED)
        defer_first(m, (int64_t)n + 1);
    if (f == HELD)
        hold(m, true);
    if (f == REMOVED)
        store_remove(m);
    fates[n] = f;
}

/* --- the old world */

struct gang {
    struct store *store;
    uint64_t next, end;
};

static void old_fiber(void *arg)
{
    struct gang *g = arg;
    while (g->next < g->end) {
        uint64_t n = g->next++;
        struct qmsg *m = commit(g->store, n, size_of(n));
        seqs[n] = m->seq;
        fates[n] = PLAIN;
        qmsg_unref(m);
    }
}

static void commit_some(struct store *s, uint64_t from, uint64_t to)
{
    struct gang gang = {.store = s, .next = from, .end = to};
    struct group g;
    group_init(&g);
    for (int i = 0; i < GANGS; i++)
        MUST(group_spawn(&g, "old", old_fiber, &gang));
    OK(group_join(&g, DEADLINE_NEVER));
}

static void settle_some(struct store *s, uint64_t from, uint64_t to)
{
    for (uint64_t n = from; n < to; n++) {
        struct qmsg *m = NULL;
        OK(store_get(s, seqs[n], &m));
        MUST(m != NULL);
        fate_is(s, m, n, n % 5 == 0 ? REMOVED : n % 5 == 1 ? DEFERRED : n % 5 == 2 ? HELD : PLAIN);
        qmsg_unref(m);
    }
}

static void old_world(void *arg)
{
    struct store_options o = rebuild_options();
    struct store *s = NULL;
    (void)arg;
    OK(store_open(&o, &s));
    MUST(store_ready(s));
    commit_some(s, 0, OLD / 2);
    settle_some(s, 0, OLD / 2);
    commit_some(s, OLD / 2, OLD);
    settle_some(s, OLD / 2, OLD);
    /* Said long after the message. */
    for (uint64_t n = 3; n < OLD; n += 50) {
        struct qmsg *m = NULL;
        OK(store_get(s, seqs[n], &m));
        if (m != NULL)
            fate_is(s, m, n, REMOVED);
        qmsg_unref(m);
    }
    OK(store_close(s));
}

static void drop_index(void)
{
    char path[128];
    snprintf(path, sizeof path, "%s/index", world_dir);
    remove_tree(path);
}

static int make_old_world(void **state)
{
    if (world_setup(state) != 0)
        return 1;
    memset(fates, 0, sizeof fates);
    in_fiber(old_world, NULL);
    return 0;
}

/* --- the comparison */

static void check_one(struct store *s, const struct store_row *row)
{
    struct qmsg *m = NULL;
    uint64_t n = row->env->data_size;
    MUST(n < ALL && row->seq == seqs[n]);
    OK(store_get(s, row->seq, &m));
    MUST(m != NULL);
    if (fates[n] == PLAIN)
        MUST(qmsg_flags(m) == 0 && qmsg_due_us(m) == 0);
    if (fates[n] == DEFERRED)
        MUST(qmsg_due_us(m) == (int64_t)n + 1 && m->env->rcpts[0].state == RCPT_DEFERRED);
    MUST((fates[n] == HELD) == ((qmsg_flags(m) & MESSAGE_HOLD) != 0));
    check_content(m);
    qmsg_unref(m);
}

static void check_world(struct store *s)
{
    struct arena *a = arena_new(0, 0);
    bool *seen = mem_zalloc(ALL);
    uint64_t after = 0, alive = 0, held = 0;
    size_t n = 1;
    while (n > 0) {
        struct store_row *rows = NULL;
        arena_reset(a);
        OK(store_list(s, after, 100, a, &rows, &n));
        for (size_t i = 0; i < n; i++) {
            check_one(s, &rows[i]);
            MUST(!seen[rows[i].env->data_size]);
            seen[rows[i].env->data_size] = true;
            after = rows[i].seq;
        }
    }
    for (uint64_t i = 0; i < ALL; i++) {
        if (seen[i] != (fates[i] != NEVER && fates[i] != REMOVED)) {
            fprintf(stderr, "message %llu, fate %d: seen %d\n", (unsigned long long)i, fates[i],
                    seen[i]);
            abort();
        }
        alive += seen[i];
        held += fates[i] == HELD;
    }
    MUST(store_counts(s).messages == alive);
    MUST(store_counts(s).held == held);
    mem_free(seen);
    arena_free(a);
}

/* What is given as due is never an old message whose state is not known. */
static void check_due(struct store *s)
{
    struct store_due list[64], after = {0};
    size_t n = 64;
    while (n == 64) {
        OK(store_due(s, after, INT64_MAX, list, 64, &n));
        for (size_t i = 0; i < n; i++) {
            struct qmsg *m = NULL;
            after = list[i];
            struct err *e = store_get(s, list[i].seq, &m);
            if (store_hidden(s, list[i].seq))
                MUST(e != NULL ? e->kind == ERR_TIMEOUT : m != NULL && m->refs > 1);
            else
                MUST(e == NULL);
            qmsg_unref(m);
        }
    }
}

static void look_again(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    (void)arg;
    OK(store_open(&o, &s));
    MUST(store_ready(s));
    check_world(s);
    OK(store_close(s));
}

/* --- at a start */

static void new_mail(struct store *s, uint64_t from, uint64_t to)
{
    for (uint64_t n = from; n < to; n++) {
        struct qmsg *m = commit(s, n, size_of(n));
        seqs[n] = m->seq;
        fates[n] = PLAIN;
        for (uint64_t i = 0; i < OLD; i++)
            MUST(seqs[i] != m->seq);
        check_content(m);
        fate_is(s, m, n, n % 5 == 0 ? REMOVED : n % 5 == 1 ? DEFERRED : n % 5 == 2 ? HELD : PLAIN);
        qmsg_unref(m);
    }
}

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
        OK(fiber_sleep_until(clock_in_ms(3 + (200 - left) / 4)));
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

static struct qmsg *get(struct store *s, uint64_t n)
{
    struct qmsg *m = NULL;
    OK(store_get(s, seqs[n], &m));
    MUST(m != NULL && m->env->data_size == n);
    return m;
}

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
    fate_is(s, before, 13, REMOVED); /* unsafe still */
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
    fate_is(s, changed, 8, DEFERRED);
    fate_is(s, removed, 9, REMOVED);
    fate_is(s, young_gone, OLD + 4, REMOVED);
    fate_is(s, young, OLD + 3, HELD);
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

/* --- the scrub */

static void seq_key(uint64_t n, struct str *out)
{
    *out = str_make((const char *)&seqs[n], sizeof seqs[n]);
}

/* One small lie in the index of a queue that is closed. PLAIN is message 3 of each five, HELD 2. */
static void lie(int what)
{
    char path[128];
    struct kv *kv;
    struct kv_txn *t;
    kv_table msg, changing, due, held, live;
    struct str key, value, all = STR_NULL;
    struct kv_cursor *c;
    struct buf changed = {0};
    bool found = false;
    snprintf(path, sizeof path, "%s/index", world_dir);
    OK(kv_open(path, &(struct kv_options){.tables_max = 8}, &kv));
    OK(kv_begin(kv, true, &t));
    OK(kv_table_open(t, "msg", false, true, &msg));
    OK(kv_table_open(t, "state", false, true, &changing));
    OK(kv_table_open(t, "due", false, false, &due));
    OK(kv_table_open(t, "held", false, true, &held));
    OK(kv_table_open(t, "live", false, true, &live));
    seq_key(13, &key);
    MUST(fates[13] == PLAIN && fates[12] == HELD);
    switch (what) {
    case 0: /* a byte of a row, */
    case 8: /* of its other half */
        OK(kv_get(t, what == 0 ? msg : changing, key, &value, &found));
        buf_add_str(&changed, value);
        changed.ptr[changed.len - 3] ^= 1;
        OK(kv_put(t, what == 0 ? msg : changing, key, buf_str(&changed)));
        break;
    case 1: /* a row is gone, */
    case 9: /* or half of it */
        OK(kv_del(t, what == 1 ? msg : changing, key, &found));
        break;
    case 10: /* a half has no other */
        OK(kv_get(t, changing, key, &value, &found));
        buf_add_str(&changed, value);
        OK(kv_put(t, changing, str_make("\1\0\0\0\0\0\0\0", 8), buf_str(&changed)));
        break;
    case 2: /* one too many on hold */
        OK(kv_put(t, held, key, STR("")));
        found = true;
        break;
    case 3: /* no longer on hold */
        seq_key(12, &key);
        OK(kv_del(t, held, key, &found));
        break;
    case 4: /* a due time is gone, */
    case 5: /* or another one */
    case 6: /* a segment has less in it */
    case 7: /* or nothing */
        OK(kv_cursor_open(t, what < 6 ? due : live, all, &c));
        OK(kv_cursor_next(c, &key, &value, &found));
        buf_add_str(&changed, what < 6 ? key : value);
        if (what == 5 || what == 6)
            changed.ptr[what == 5 ? 7 : 0] ^= 4;
        if (what == 6) {
            uint64_t epoch;
            memcpy(&epoch, key.ptr, 8);
            OK(kv_put(t, live, str_make((const char *)&epoch, 8), buf_str(&changed)));
        } else {
            uint8_t old[16];
            memcpy(old, key.ptr, key.len);
            OK(kv_del(t, what < 6 ? due : live, str_make((const char *)old, key.len), &found));
            if (what == 5)
                OK(kv_put(t, due, buf_str(&changed), STR("")));
        }
        kv_cursor_close(c);
        break;
    }
    MUST(found);
    OK(kv_commit(t));
    kv_close(kv);
    buf_fini(&changed);
}

static void heal(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    (void)arg;
    OK(store_open(&o, &s));
    MUST(store_ready(s) && !s->proven);
    for (int i = 0; i < 10000 && !s->proven; i++)
        OK(fiber_sleep_until(clock_in_ms(1)));
    MUST(s->proven && store_ready(s));
    check_world(s);
    OK(store_close(s));
}

static void the_scrub_finds_each_lie(void **state)
{
    char path[160];
    (void)state;
    for (int what = 0; what < 11; what++) {
        lie(what);
        in_fiber(heal, NULL);
        snprintf(path, sizeof path, "%s/index/damaged.mdb", world_dir);
        if (unlink(path) != 0)
            fail_msg("lie %d was believed", what);
    }
    in_fiber(heal, NULL);
    assert_int_equal(count_files("index", "damaged.mdb"), 0);
}

struct bustle {
    struct store *store;
    uint64_t changes;
    bool stop;
};

static void bustle(void *arg)
{
    struct bustle *b = arg;
    struct store *s = b->store;
    for (uint64_t n = 0; !b->stop; n = (n + 7) % OLD) {
        if (fates[n] == REMOVED)
            continue;
        struct qmsg *m = get(s, n);
        fate_is(s, m, n, n % 11 == 0 ? REMOVED : n % 3 == 0 ? HELD : DEFERRED);
        qmsg_unref(m);
        if (++b->changes % 10 == 0)
            OK(keeper_round(s, 0));
    }
}

static void scrub_in_traffic(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    struct group g;
    (void)arg;
    OK(store_open(&o, &s));
    while (!s->proven)
        OK(fiber_sleep_until(clock_in_ms(1)));
    s->scrub_rows = 25;
    struct bustle b = {.store = s};
    group_init(&g);
    MUST(group_spawn(&g, "bustle", bustle, &b));
    for (int i = 0; i < 5; i++)
        OK(scrub(s));
    b.stop = true;
    OK(group_join(&g, DEADLINE_NEVER));
    MUST(b.changes > 100);
    check_world(s);
    OK(store_close(s));
}

static void the_scrub_is_not_misled_by_traffic(void **state)
{
    (void)state;
    in_fiber(scrub_in_traffic, NULL);
    assert_int_equal(count_files("index", "damaged.mdb"), 0);
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
        cmocka_unit_test_setup_teardown(the_scrub_finds_each_lie, make_old_world, world_teardown),
        cmocka_unit_test_setup_teardown(the_scrub_is_not_misled_by_traffic, make_old_world,
                                        world_teardown),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    offload_stop();
    return failed;
}
