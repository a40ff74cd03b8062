/* Disks that say no: writes that fail, no room, no O_DIRECT, damage that is met while running. */
#include "world.h"

#include <sys/resource.h>

static void limit_files(rlim_t bytes)
{
    struct rlimit l;
    MUST(getrlimit(RLIMIT_FSIZE, &l) == 0);
    l.rlim_cur = bytes < l.rlim_max ? bytes : l.rlim_max;
    MUST(setrlimit(RLIMIT_FSIZE, &l) == 0);
}

struct tally {
    uint64_t next;
    bool acked[4000];
    uint64_t good, bad;
};

static void try_one(struct store *s, struct tally *t, size_t size)
{
    struct qmsg *m = NULL;
    uint64_t n = t->next++;
    struct err *e = try_commit(s, n, size, &m);
    if (e == NULL) {
        t->acked[n] = true;
        t->good++;
        check_content(m);
        qmsg_unref(m);
    } else {
        MUST(e->kind == ERR_IO || e->kind == ERR_FULL);
        MUST(m == NULL);
        t->bad++;
    }
}

static void check_tally(struct store *s, const struct tally *t)
{
    struct arena *a = arena_new(0, 0);
    struct store_row *rows = NULL;
    size_t n = 0;
    OK(store_list(s, 0, 4000, a, &rows, &n));
    MUST(n == t->good);
    for (size_t i = 0; i < n; i++) {
        struct qmsg *m = NULL;
        MUST(t->acked[rows[i].env->data_size]);
        OK(store_get(s, rows[i].seq, &m));
        check_content(m);
        qmsg_unref(m);
    }
    arena_free(a);
}

/* Writes behind 100 KiB of any file fail: the segment is given up, the next one cannot be made,
 * commits are refused; with the limit gone mail is taken again. */
static void write_errors(void *arg)
{
    struct tally *t = arg;
    struct store_options o = world_options();
    struct store *s = NULL;
    OK(store_open(&o, &s));
    for (int i = 0; i < 5; i++)
        try_one(s, t, 9000);
    MUST(t->good == 5);
    limit_files(100 << 10);
    for (int i = 0; i < 80; i++)
        try_one(s, t, 9000);
    MUST(t->bad > 5);
    limit_files(RLIM_INFINITY);
    uint64_t bad = t->bad;
    for (int i = 0; i < 50; i++)
        try_one(s, t, 9000);
    MUST(t->bad == bad);
    check_tally(s, t);
    OK(store_close(s));
}

static void reopen_and_check(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    OK(store_open(&o, &s));
    check_tally(s, arg);
    OK(store_close(s));
}

static void a_failing_disk_refuses_and_recovers(void **state)
{
    struct tally *t = mem_zalloc(sizeof *t);
    char path[128];
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    in_fiber(write_errors, t);
    in_fiber(reopen_and_check, t);
    snprintf(path, sizeof path, "%s/index", world_dir);
    remove_tree(path);
    in_fiber(reopen_and_check, t); /* nor does the log alone bring back what was refused */
    mem_free(t);
}

/* --- a spilled content that finds no room */

static void spill_without_room(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    struct tally *t = arg;
    OK(store_open(&o, &s));
    limit_files(200 << 10);
    try_one(s, t, 500000);
    MUST(t->bad == 1 && count_files("content", "") == 0);
    limit_files(RLIM_INFINITY);
    try_one(s, t, 500000);
    MUST(t->good == 1 && count_files("content", "") == 1);
    OK(store_close(s));
}

static void large_content_without_room_leaves_no_file(void **state)
{
    struct tally *t = mem_zalloc(sizeof *t);
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    in_fiber(spill_without_room, t);
    in_fiber(reopen_and_check, t);
    mem_free(t);
}

/* --- without O_DIRECT */

static void buffered(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    o.no_direct = true;
    o.index_delay_ms = 10;
    OK(store_open(&o, &s));
    for (int i = 0; i < 150; i++)
        try_one(s, arg, 10000);
    check_tally(s, arg);
    OK(store_close(s));
}

static void buffered_writes_do_as_well(void **state)
{
    struct tally *t = mem_zalloc(sizeof *t);
    (void)state;
    in_fiber(buffered, t);
    in_fiber(reopen_and_check, t);
    mem_free(t);
}

/* --- a record that went bad while its message waited */

static void churn(struct store *s, int messages)
{
    for (int i = 0; i < messages; i++) {
        struct qmsg *m = commit(s, 1000000 + (uint64_t)i, 15000);
        store_remove(m);
        qmsg_unref(m);
        if (i % 50 == 0)
            fiber_sleep_until(clock_in_ms(15));
    }
}

/* The same, and one in twenty stays, so that no segment is free before it was compacted, and the first one is the emptiest. */
enum { STAYERS = 10 };

static void churn_past(struct store *s, struct qmsg *stay[STAYERS])
{
    for (uint64_t i = 0; i < STAYERS; i++) {
        churn(s, 19);
        stay[i] = commit(s, 2000000 + i, 40000);
        fiber_sleep_until(clock_in_ms(15));
    }
}

static void bad_records(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    struct qmsg *m[4], *stay[STAYERS];
    char path[160], name[SEGMENT_NAME_MAX];
    (void)arg;
    o.index_delay_ms = 10;
    OK(store_open(&o, &s));
    for (uint64_t i = 0; i < 4; i++) {
        m[i] = commit(s, i, 5000);
        qmsg_drop_content(m[i]);
    }
    struct qmsg_place bad = m[1]->place, headless = m[2]->place;
    segment_name(bad.epoch, name);
    snprintf(path, sizeof path, "%s/log/%s", world_dir, name);
    int fd = open(path, O_WRONLY);
    MUST(pwrite(fd, "X", 1, bad.at + 2000) == 1 && pwrite(fd, "X", 1, headless.at + 1) == 1);
    /* Of the envelope the index has a copy. */
    struct qmsg_place first = m[3]->place;
    uint64_t rescued = m[3]->seq;
    MUST(pwrite(fd, "X", 1, first.at + RECORD_HEAD + MESSAGE_FIXED + 20) == 1);
    close(fd);
    struct content_reader *r = NULL;
    struct str piece;
    check_content(m[0]);
    OK(content_open(m[1], &r));
    struct err *e = content_next(r, &piece);
    MUST(e != NULL && e->kind == ERR_DAMAGED);
    content_close(r);
    e = content_open(m[2], &r);
    MUST(e != NULL && e->kind == ERR_DAMAGED);
    for (int i = 0; i < 4; i++)
        qmsg_unref(m[i]);
    /* Compaction meets them, sets aside what is lost, saves what is not, and is not held up. */
    churn_past(s, stay);
    COMES(store_counts(s).corrupt >= 2);
    MUST(store_counts(s).corrupt == 2 && store_counts(s).messages == 2 + STAYERS);
    for (int i = 0; i < STAYERS; i++) {
        store_remove(stay[i]);
        qmsg_unref(stay[i]);
    }
    churn(s, 200);
    COMES(store_counts(s).segments <= 7);
    MUST(count_files("corrupt", "") == 2);
    OK(store_get(s, rescued, &m[3]));
    MUST(m[3] != NULL && m[3]->place.epoch != first.epoch);
    check_content(m[3]);
    qmsg_unref(m[3]);
    OK(store_close(s));
}

static void damaged_messages_are_set_aside_and_block_nothing(void **state)
{
    (void)state;
    in_fiber(bad_records, NULL);
}

/* --- sizes */

static void too_large_envelope(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    struct draft *d = NULL;
    struct qmsg *m = NULL;
    struct arena *a = arena_new(0, 0);
    struct envelope *env = plain_env(a, 1);
    (void)arg;
    env->rcpt_count = 20000; /* some 600 KiB in segments of 256 KiB */
    struct rcpt *rcpts = arena_zalloc(a, env->rcpt_count * sizeof *rcpts);
    for (size_t i = 0; i < env->rcpt_count; i++)
        rcpts[i] = env->rcpts[0];
    env->rcpts = rcpts;
    OK(store_open(&o, &s));
    OK(store_begin(s, NULL, &d));
    struct err *e = store_commit(d, env, &m);
    MUST(e != NULL && e->kind == ERR_FULL);
    /* In a segment that holds it there is no difficulty, nor with a mark for each. */
    OK(store_close(s));
    o.segment_bytes = 8 << 20;
    OK(store_open(&o, &s));
    OK(store_begin(s, NULL, &d));
    OK(draft_write(d, STR("x\r\n")));
    OK(store_commit(d, env, &m));
    struct mark_rcpt *marks = arena_zalloc(a, env->rcpt_count * sizeof *marks);
    for (size_t i = 0; i < env->rcpt_count; i++)
        marks[i] =
            (struct mark_rcpt){.index = (uint32_t)i, .state = RCPT_DONE, .why.status = "2.0.0"};
    store_mark(m, &(struct mark){.rcpts = marks, .rcpt_count = env->rcpt_count - 1});
    OK(store_sync(s));
    uint64_t seq = m->seq;
    qmsg_unref(m);
    OK(store_close(s));
    OK(store_open(&o, &s));
    OK(store_get(s, seq, &m));
    MUST(m->env->rcpt_count == 20000 && m->env->rcpts[19998].state == RCPT_DONE);
    MUST(m->env->rcpts[19999].state == RCPT_TODO);
    qmsg_unref(m);
    arena_free(a);
    OK(store_close(s));
}

static void many_recipients(void **state)
{
    (void)state;
    in_fiber(too_large_envelope, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_failing_disk_refuses_and_recovers, world_setup,
                                        world_teardown),
        cmocka_unit_test_setup_teardown(large_content_without_room_leaves_no_file, world_setup,
                                        world_teardown),
        cmocka_unit_test_setup_teardown(buffered_writes_do_as_well, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(damaged_messages_are_set_aside_and_block_nothing,
                                        world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(many_recipients, world_setup, world_teardown),
    };
    OK(offload_start(2));
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    offload_stop();
    return failed;
}
