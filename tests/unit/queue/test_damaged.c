/* A message that an agent cannot read: what becomes of it, of its other recipients, and of its sender. */
#include "tests/unit/queue/world.h"

#include "queue/store/corrupt.h"

/* --- damage */

struct found {
    const char *id;
    struct qmsg_place place;
    uint64_t size;
};

static void place_main(void *arg)
{
    struct found *f = arg;
    struct arena *a = arena_new(0, 0);
    struct queue_entry entry;
    struct qmsg *m = NULL;
    bool found = false;
    OK(queue_find(world.q, str_of(f->id), a, &entry, &m, &found));
    MUST(found);
    f->place = m->place;
    f->size = m->env->size;
    qmsg_unref(m);
    arena_free(a);
}

/* The last byte of its content. */
static void spoil(const char *id)
{
    struct found f = {.id = id};
    char name[SEGMENT_NAME_MAX], path[200], byte;
    there(world.workers[0], place_main, &f);
    segment_name(f.place.epoch, name);
    snprintf(path, sizeof path, "%s/log/%s", world.dir, name);
    int fd = open(path, O_RDWR);
    off_t at = (off_t)f.place.at + f.place.length - 1;
    MUST(fd >= 0 && pread(fd, &byte, 1, at) == 1);
    byte ^= 1;
    MUST(pwrite(fd, &byte, 1, at) == 1);
    close(fd);
}

/* What is in corrupt/ of it. */
struct kept {
    const char *id;
    bool found;
    size_t rcpts;
    enum rcpt_state states[4];
    struct buf content;
};

static void kept_main(void *arg)
{
    struct kept *k = arg;
    struct arena *a = arena_new(0, 0);
    struct queue_entry entry;
    struct corrupt_reader *r;
    struct str piece;
    OK(queue_find_corrupt(world.q, str_of(k->id), a, &entry, &r, &k->found));
    if (k->found) {
        MUST(entry.queue == QUEUE_CORRUPT && strcmp(entry.id, k->id) == 0);
        k->rcpts = entry.env->rcpt_count;
        for (size_t i = 0; i < k->rcpts && i < 4; i++)
            k->states[i] = entry.env->rcpts[i].state;
        do {
            OK(corrupt_next(r, &piece));
            buf_add_str(&k->content, piece);
        } while (piece.len > 0);
        corrupt_close(r);
    }
    arena_free(a);
}

static struct kept kept(const char *id)
{
    struct kept k = {.id = id};
    there(world.workers[1], kept_main, &k);
    return k;
}

/* Only its last byte is another one. */
static void check_kept_content(struct kept *k, uint64_t number, size_t size)
{
    struct buf want = {0};
    fill_content(&want, number, size);
    assert_int_equal(k->content.len, size);
    assert_memory_equal(k->content.ptr, want.ptr, size - 1);
    assert_int_not_equal(k->content.ptr[size - 1], want.ptr[size - 1]);
    buf_fini(&want);
    buf_fini(&k->content);
}

static void log_has(const char *before, const char *id, const char *behind)
{
    char text[200];
    snprintf(text, sizeof text, "%s%s%s", before, id, behind);
    WAIT_FOR(logged(text) == 1);
}

/* --- rows */

static void it_is_set_aside_when_its_other_requests_have_ended(void **state)
{
    static const char *const rcpts[] = {"read@a.org", "gate@b.org", "ok@c.org"};
    struct posting p = {.rcpts = rcpts, .rcpt_count = 3, .notify = NOTIFY_FAILURE | NOTIFY_DELAY};
    (void)state;
    queue_up();
    post(&p);
    WAIT_FOR(seen(&world.deferred) == 1); /* its content is in memory still, and whole */
    world.gate_open = true;
    WAIT_FOR(is_in(p.id, QUEUE_DEFERRED));
    assert_int_equal(lookup(p.id).rcpts, 1);
    spoil(p.id);
    assert_true(flush(p.id, ""));
    WAIT_FOR(gone(p.id));
    struct kept k = kept(p.id);
    assert_true(k.found);
    assert_int_equal(k.rcpts, 3);
    assert_int_equal(k.states[0], RCPT_DEFERRED);
    assert_int_equal(k.states[1], RCPT_DONE);
    assert_int_equal(k.states[2], RCPT_DONE);
    check_kept_content(&k, p.number, 2000);
    assert_int_equal(notices_seen(), 0);
    assert_int_equal(queue_counts(world.q).corrupt, 1);
    log_has("saving corrupt file \"", p.id, "\" from queue \"active\" to queue \"corrupt\"");
    log_has("", p.id, ": from=<sender@example.com>, corrupt: 1 recipients were not delivered to");
    log_has("corrupt/", p.id, ": content is damaged: checksum: ");
    assert_true(queue_down(5000));
    queue_up();
    k = kept(p.id);
    assert_true(gone(p.id) && k.found);
    buf_fini(&k.content);
    assert_true(queue_down(5000));
}

static void recipients_that_wait_are_not_tried(void **state)
{
    static const char *const rcpts[] = {"read@a.org", "defer-1@b.org", "defer-2@c.org"};
    struct posting p = {.rcpts = rcpts, .rcpt_count = 3};
    (void)state;
    queue_up();
    post(&p);
    WAIT_FOR(is_in(p.id, QUEUE_DEFERRED));
    spoil(p.id);
    assert_true(flush(p.id, ""));
    WAIT_FOR(gone(p.id));
    struct kept k = kept(p.id);
    assert_true(k.found && k.rcpts == 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(k.states[i], RCPT_DEFERRED);
    buf_fini(&k.content);
    assert_true(queue_down(5000));
}

static void what_can_be_read_after_all_is_only_deferred(void **state)
{
    (void)state;
    queue_up();
    const char *id = post_to("lie@a.org");
    WAIT_FOR(is_in(id, QUEUE_DEFERRED));
    assert_false(kept(id).found);
    assert_int_equal(queue_counts(world.q).corrupt, 0);
    WAIT_FOR(logged("a damaged message could be read after all") >= 1);
    assert_true(queue_down(5000));
}

static void what_cannot_be_set_aside_stays(void **state)
{
    char path[200];
    (void)state;
    queue_up();
    const char *id = post_to("read@a.org");
    WAIT_FOR(is_in(id, QUEUE_DEFERRED));
    spoil(id);
    snprintf(path, sizeof path, "%s/corrupt/%s", world.dir, id);
    MUST(mkdir(path, 0700) == 0); /* in its place */
    assert_true(flush(id, ""));
    WAIT_FOR(logged("content is damaged: checksum, and it could not be set aside") == 1);
    WAIT_FOR(is_in(id, QUEUE_DEFERRED));
    MUST(rmdir(path) == 0);
    assert_true(flush(id, ""));
    WAIT_FOR(gone(id));
    struct kept k = kept(id);
    assert_true(k.found);
    buf_fini(&k.content);
    assert_true(queue_down(5000));
}

static void deleted_mail_is_not_set_aside(void **state)
{
    static const char *const rcpts[] = {"read@a.org", "gate@b.org"};
    struct posting p = {.rcpts = rcpts, .rcpt_count = 2};
    (void)state;
    queue_up();
    post(&p);
    world.gate_open = true;
    WAIT_FOR(is_in(p.id, QUEUE_DEFERRED));
    spoil(p.id);
    assert_int_equal(act(QUEUE_ACT_REMOVE, p.id, QUEUE_ANY), 1);
    WAIT_FOR(gone(p.id));
    assert_false(kept(p.id).found);
    assert_true(queue_down(5000));
}

/* --- queue_check: postsuper -s, requeue */

struct asked {
    const char *id;
    bool aside;
};

static void check_main_of_test(void *arg)
{
    struct asked *a = arg;
    OK(queue_check(world.q, str_of(a->id), &a->aside));
}

static bool checked(const char *id)
{
    struct asked a = {.id = id};
    there(world.workers[0], check_main_of_test, &a);
    return a.aside;
}

static void a_check_sets_aside_what_is_damaged_and_nothing_else(void **state)
{
    (void)state;
    queue_up();
    const char *good = post_to("defer@a.org"), *bad = post_to("defer@b.org"), *held = post_to("defer@c.org");
    WAIT_FOR(is_in(good, QUEUE_DEFERRED) && is_in(bad, QUEUE_DEFERRED) && is_in(held, QUEUE_DEFERRED));
    assert_int_equal(act(QUEUE_ACT_HOLD, held, QUEUE_ANY), 1);
    spoil(bad);
    spoil(held);
    assert_false(checked(good));
    assert_true(checked(bad));
    assert_true(checked(held));
    assert_false(checked(bad)); /* once */
    assert_false(checked("4BCDEF12345"));
    WAIT_FOR(gone(bad) && gone(held));
    assert_false(gone(good));
    assert_int_equal(queue_counts(world.q).hold, 0);
    assert_int_equal(queue_counts(world.q).corrupt, 2);
    assert_true(queue_down(5000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QUEUE_TEST(it_is_set_aside_when_its_other_requests_have_ended),
        QUEUE_TEST(recipients_that_wait_are_not_tried),
        QUEUE_TEST(what_can_be_read_after_all_is_only_deferred),
        QUEUE_TEST(what_cannot_be_set_aside_stays),
        QUEUE_TEST(deleted_mail_is_not_set_aside),
        QUEUE_TEST(a_check_sets_aside_what_is_damaged_and_nothing_else),
    };
    OK(offload_start(2));
    int failed = cmocka_run_group_tests(tests, log_setup, log_teardown);
    offload_stop();
    return failed;
}
