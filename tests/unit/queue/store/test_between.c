/* Segments between others: mail that leaves at once beside mail that stays. */
#include "world.h"

enum { STAY = 15, SIZE = 15000, PASS = 400 };

static struct store *s;

static struct store_options options(void)
{
    struct store_options o = world_options();
    o.index_delay_ms = 10;
    return o;
}

/* They come, and are gone. */
static void pass(uint64_t from)
{
    for (uint64_t i = 0; i < PASS; i++) {
        struct qmsg *m = commit(s, 1000 + from + i, SIZE);
        store_remove(m);
        qmsg_unref(m);
        if (i % 20 == 0)
            fiber_sleep_until(clock_in_ms(15));
    }
}

static void first_life(void *arg)
{
    struct store_options o = options();
    struct qmsg *stay[STAY];
    uint64_t *seqs = arg;
    OK(store_open(&o, &s));
    for (uint64_t i = 0; i < STAY; i++) {
        stay[i] = commit(s, i, SIZE);
        seqs[i] = stay[i]->seq;
        defer_first(stay[i], 1000 + (int64_t)i);
    }
    for (int i = 0; i < STAY; i++)
        COMES(has_row(stay[i]));
    struct qmsg_place place = stay[0]->place;
    pass(0);
    defer_first(stay[0], 5000);
    store_remove(stay[1]);
    pass(PASS);
    defer_first(stay[2], 6000);
    pass(2 * PASS);
    COMES(store_counts(s).segments <= 8);
    /* What stays was not moved for it. */
    MUST(stay[0]->place.epoch == place.epoch && stay[0]->place.at == place.at);
    struct store_counts c = store_counts(s);
    MUST(c.bytes_written < (uint64_t)(3 * PASS + STAY) * SIZE * 13 / 10);
    for (int i = 0; i < STAY; i++)
        qmsg_unref(stay[i]);
    OK(store_close(s));
}

/* By the log alone. */
static void second_life(void *arg)
{
    struct store_options o = options();
    const uint64_t *seqs = arg;
    OK(store_open(&o, &s));
    OK(store_wait_ready(s));
    MUST(store_counts(s).messages == STAY - 1 && store_counts(s).corrupt == 0);
    for (uint64_t i = 0; i < STAY; i++) {
        struct qmsg *m = NULL;
        OK(store_get(s, seqs[i], &m));
        MUST((m == NULL) == (i == 1));
        if (m == NULL)
            continue;
        MUST(qmsg_due_us(m) == (i == 0 ? 5000 : i == 2 ? 6000 : 1000 + (int64_t)i));
        MUST(m->env->rcpts[0].state == RCPT_DEFERRED && m->env->rcpts[1].state == RCPT_TODO);
        check_content(m);
        qmsg_unref(m);
    }
    OK(store_close(s));
}

static void what_passes_does_not_push_what_stays(void **state)
{
    uint64_t seqs[STAY];
    char path[128];
    (void)state;
    in_fiber(first_life, seqs);
    snprintf(path, sizeof path, "%s/index", world_dir);
    remove_tree(path);
    in_fiber(second_life, seqs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_passes_does_not_push_what_stays, world_setup, world_teardown),
    };
    OK(offload_start(2));
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    offload_stop();
    return failed;
}
