/* The store in good times: what goes in comes out, now and after a restart. */
#include "world.h"

static void two_messages(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    (void)arg;
    OK(store_open(&o, &s));
    struct qmsg *a = commit(s, 1, 3000), *b = commit(s, 2, 0);
    MUST(a->seq != b->seq && a->content != NULL && strcmp(a->id, b->id) != 0);
    check_content(a);
    check_content(b);
    qmsg_drop_content(a);
    MUST(a->content == NULL);
    check_content(a);
    MUST(store_counts(s).messages == 2);
    store_remove(a);
    MUST(store_counts(s).messages == 1 && store_get_cached(s, a->seq) == NULL);
    qmsg_unref(a);
    qmsg_unref(b);
    OK(store_close(s));
}

static void one_is_left(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    struct store_due due[8];
    struct qmsg *m = NULL;
    size_t n = 0;
    (void)arg;
    OK(store_open(&o, &s));
    OK(store_due(s, (struct store_due){0}, INT64_MAX, due, 8, &n));
    MUST(n == 1);
    OK(store_get(s, due[0].seq, &m));
    MUST(m != NULL && m->env->data_size == 2 && m->env->rcpt_count == 2);
    check_content(m);
    struct qmsg *same = store_get_cached(s, due[0].seq);
    MUST(same == m);
    qmsg_unref(same);
    qmsg_unref(m);
    OK(store_close(s));
}

static void what_was_committed_is_there_after_a_restart(void **state)
{
    (void)state;
    in_fiber(two_messages, NULL);
    in_fiber(one_is_left, NULL);
    in_fiber(one_is_left, NULL);
}

/* --- states */

static uint64_t marked_seq, held_seq;

static void mark_and_hold(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    (void)arg;
    o.index_delay_ms = 20;
    OK(store_open(&o, &s));
    struct qmsg *a = commit(s, 3, 100), *b = commit(s, 4, 100);
    marked_seq = a->seq;
    held_seq = b->seq;
    defer_first(a, 5000000);
    store_mark(b, &(struct mark){.flags = MESSAGE_HOLD});
    OK(store_sync(s));
    COMES(has_row(a) && has_row(b));
    defer_first(a, 7000000);
    struct store_row *rows = NULL;
    struct arena *mem = arena_new(0, 0);
    size_t n = 0;
    OK(store_list(s, 0, 10, mem, &rows, &n));
    MUST(n >= 2 && rows[n - 2].seq == marked_seq && rows[n - 2].due_us == 7000000);
    MUST(rows[n - 1].flags == MESSAGE_HOLD);
    OK(store_list(s, held_seq, 10, mem, &rows, &n));
    MUST(n == 0);
    arena_free(mem);
    qmsg_unref(a);
    qmsg_unref(b);
    OK(store_close(s));
}

static void marks_are_back(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    struct store_due due[8];
    struct qmsg *m = NULL;
    size_t n = 0;
    (void)arg;
    OK(store_open(&o, &s));
    OK(store_get(s, marked_seq, &m));
    MUST(qmsg_due_us(m) == 7000000 && m->env->rcpts[0].state == RCPT_DEFERRED);
    MUST(strcmp(m->env->rcpts[0].why.status, "4.4.1") == 0);
    MUST(str_eq(m->env->rcpts[0].why.text, STR("connection refused")));
    MUST(m->env->rcpts[1].state == RCPT_TODO);
    qmsg_unref(m);
    OK(store_due(s, (struct store_due){.due_us = 1}, 6999999, due, 8, &n));
    MUST(n == 0);
    OK(store_due(s, (struct store_due){.due_us = 1}, 7000000, due, 8, &n));
    MUST(n == 1 && due[0].seq == marked_seq && due[0].due_us == 7000000);
    OK(store_due(s, due[0], INT64_MAX, due, 8, &n));
    MUST(n == 0); /* what is on hold is never due */
    OK(store_get(s, held_seq, &m));
    MUST(qmsg_flags(m) == MESSAGE_HOLD);
    qmsg_unref(m);
    OK(store_get(s, 12345, &m));
    MUST(m == NULL);
    OK(store_close(s));
}

static void marks_last_and_order_what_is_due(void **state)
{
    (void)state;
    in_fiber(mark_and_hold, NULL);
    in_fiber(marks_are_back, NULL);
}

/* --- content in a file of its own */

static void spill(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    struct draft *d = NULL;
    struct buf b = {0};
    (void)arg;
    OK(store_open(&o, &s));
    struct qmsg *a = commit(s, 5, 700000), *b5 = commit(s, 6, 200001);
    MUST(a->place.spilled && a->content == NULL && count_files("content", "") == 2);
    check_content(a);
    check_content(b5);
    OK(store_begin(s, NULL, &d));
    fill_content(&b, 7, 300000);
    OK(draft_write(d, buf_str(&b)));
    MUST(count_files("content", "") == 3);
    queue_abort(d);
    MUST(count_files("content", "") == 2);
    store_remove(b5);
    qmsg_unref(a);
    qmsg_unref(b5);
    buf_fini(&b);
    OK(store_close(s));
    MUST(count_files("content", "") == 1);
}

static void spilled_is_back(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    struct qmsg *m = NULL;
    struct arena *mem = arena_new(0, 0);
    struct store_row *rows = NULL;
    size_t n = 0, spilled = 0;
    (void)arg;
    OK(store_open(&o, &s));
    /* What has no row goes when the index has been looked through. */
    COMES(!s->rebuild.sweep);
    MUST(count_files("content", "") == 1);
    OK(store_list(s, 0, 100, mem, &rows, &n));
    for (size_t i = 0; i < n; i++) {
        OK(store_get(s, rows[i].seq, &m));
        check_content(m);
        spilled += m->place.spilled;
        qmsg_unref(m);
    }
    MUST(spilled == 1);
    arena_free(mem);
    OK(store_close(s));
}

static void large_content_has_a_file_of_its_own(void **state)
{
    char orphan[128];
    (void)state;
    in_fiber(spill, NULL);
    snprintf(orphan, sizeof orphan, "%s/content/0000000000010fff", world_dir);
    fclose(fopen(orphan, "w"));
    in_fiber(spilled_is_back, NULL);
}

/* --- the door */

static void refused(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    struct err *e = store_open(&o, &s);
    *(bool *)arg = e != NULL && e->kind == ERR_REFUSED;
}

static void open_twice(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    int status = 0;
    (void)arg;
    OK(store_open(&o, &s));
    pid_t pid = fork();
    if (pid == 0) {
        char *const argv[] = {(char *)arg, (char *)"--try", world_dir, NULL};
        execv("/proc/self/exe", argv);
        _exit(99);
    }
    MUST(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 42);
    OK(store_close(s));
}

static void another_process_is_refused(void **state)
{
    (void)state;
    in_fiber(open_twice, (void *)"test");
}

static void no_room(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    struct draft *d = NULL;
    (void)arg;
    o.minfree_bytes = UINT64_MAX;
    OK(store_open(&o, &s));
    struct err *e = store_begin(s, NULL, &d);
    MUST(e != NULL && e->kind == ERR_FULL);
    o.minfree_bytes = 1;
    store_reconfigure(s, &o);
    atomic_store(&s->space_checked_ns, 0);
    OK(store_begin(s, NULL, &d));
    queue_abort(d);
    OK(store_close(s));
}

static void mail_is_refused_below_queue_minfree_and_taken_again_above(void **state)
{
    (void)state;
    in_fiber(no_room, NULL);
}

static void memory_budget(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    (void)arg;
    o.memory_limit_bytes = 40000;
    OK(store_open(&o, &s));
    struct qmsg *a = commit(s, 10, 20000), *b = commit(s, 11, 20000);
    MUST(a->content != NULL && b->content == NULL);
    MUST(store_counts(s).content_bytes <= 40000);
    check_content(b);
    store_remove(a);
    qmsg_unref(a);
    MUST(store_counts(s).content_bytes == 0);
    qmsg_unref(b);
    OK(store_close(s));
}

static void content_stays_in_memory_within_its_budget(void **state)
{
    (void)state;
    in_fiber(memory_budget, NULL);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--try") == 0) {
        bool was = false;
        snprintf(world_dir, sizeof world_dir, "%s", argv[2]);
        in_fiber(refused, &was);
        return was ? 42 : 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_committed_is_there_after_a_restart, world_setup,
                                        world_teardown),
        cmocka_unit_test_setup_teardown(marks_last_and_order_what_is_due, world_setup,
                                        world_teardown),
        cmocka_unit_test_setup_teardown(large_content_has_a_file_of_its_own, world_setup,
                                        world_teardown),
        cmocka_unit_test_setup_teardown(another_process_is_refused, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(mail_is_refused_below_queue_minfree_and_taken_again_above,
                                        world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(content_stays_in_memory_within_its_budget, world_setup,
                                        world_teardown),
    };
    OK(offload_start(2));
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    offload_stop();
    return failed;
}
