/* Agents that keep their connection: request_next and everything that can come between. */
#include "tests/unit/queue/world.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { STRESS = 3000 };
#else
enum { STRESS = 10000 };
#endif

static void connections_are_used_again(void **state)
{
    (void)state;
    world.idle_ms = 60000;
    world.transports[0].concurrency_limit = world.transports[0].initial_concurrency = 1;
    queue_up();
    for (int i = 0; i < 20; i++)
        (void)post_to("ok@a.org");
    WAIT_FOR(seen(&world.sent) == 20);
    assert_int_equal(seen(&world.connections), 1);
    assert_int_equal(seen(&world.reused), 19);
    assert_true(queue_down(5000)); /* tells the one that waits that there is no more */
}

static void idle_ones_leave_in_time(void **state)
{
    (void)state;
    world.idle_ms = 20;
    queue_up();
    (void)post_to("ok@a.org");
    WAIT_FOR(seen(&world.sent) == 1);
    WAIT_FOR(worker_load(world.workers[0]) + worker_load(world.workers[1]) == 0);
    (void)post_to("ok@a.org");
    WAIT_FOR(seen(&world.sent) == 2);
    assert_int_equal(seen(&world.connections), 2);
    assert_true(queue_down(5000));
}

static void idle_ones_are_canceled(void **state)
{
    (void)state;
    world.idle_ms = 600000;
    queue_up();
    for (int i = 0; i < 4; i++)
        (void)post_to("ok@a.org");
    (void)post_to("ok@b.org");
    WAIT_FOR(seen(&world.sent) == 5);
    for (int i = 0; i < WORKERS; i++)
        worker_stop(world.workers[i]);
    for (int i = 0; i < WORKERS; i++)
        worker_join(world.workers[i]);
    there(world.sched, close_main, NULL);
    worker_stop(world.sched);
    worker_join(world.sched);
    world.up = false;
}

/* Connections that leave the moment the next request comes: idle times about as long as the gaps.
 */
struct sender {
    int worker, count;
    sem_t done;
};

static void send_many(void *arg)
{
    struct sender *s = arg;
    for (int i = 0; i < s->count; i++) {
        char rcpt[3][48];
        const char *rcpts[3];
        int n = 1 + i % 3;
        for (int k = 0; k < n; k++) {
            const char *kind = (i + k) % 50 == 7 ? "bounce" : (i + k) % 20 == 3 ? "once" : "ok";
            snprintf(rcpt[k], sizeof rcpt[k], "%s-%d-%d@s%d.org", kind, s->worker, k,
                     (i * 7 + k) % 13);
            rcpts[k] = rcpt[k];
        }
        struct posting p = {.sender = "s@example.com",
                            .rcpts = rcpts,
                            .rcpt_count = (size_t)n,
                            .number = (uint64_t)(s->worker * 1000000 + i),
                            .size = 600};
        post_main(&p);
        if (i % 16 == 0)
            (void)fiber_sleep_until(clock_in_ms(i % 5));
    }
    sem_post(&s->done);
}

static struct err *no_notice(void *ctx, const struct notice *n)
{
    (void)ctx;
    MUST(n->kind == NOTICE_BOUNCE && n->rcpt_count > 0);
    return NULL;
}

static void open_quiet(void *arg)
{
    (void)arg;
    static const struct queue_hooks hooks = {
        .resolve = hook_resolve, .deliver = hook_deliver, .notify = no_notice};
    OK(queue_open(&world.qo, &hooks, world.workers, WORKERS, &world.q));
}

static void stress(int idle_ms)
{
    enum { SENDERS = 8 };
    static struct sender senders[SENDERS];
    world.idle_ms = idle_ms;
    world.qo.segment_bytes = 0;
    queue_up();
    there(world.sched, close_main, NULL);
    there(world.sched, open_quiet, NULL);
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.worker = i, .count = STRESS / SENDERS};
        sem_init(&senders[i].done, 0, 0);
        worker_spawn(world.workers[i % WORKERS], "sender", send_many, &senders[i]);
    }
    for (int i = 0; i < SENDERS; i++)
        while (sem_wait(&senders[i].done) != 0)
            ;
    WAIT_FOR(idle() && list_count() == 0);
    pthread_mutex_lock(&world.lock);
    assert_int_equal(world.flying.count, 0);
    assert_int_equal(world.done.count, world.sent);
    pthread_mutex_unlock(&world.lock);
    assert_true(queue_down(20000));
    assert_true(world.sent > STRESS && world.bounced > 0 && world.deferred > 0);
}

static void thousands_without_reuse(void **state)
{
    (void)state;
    stress(0);
}

static void thousands_that_just_miss(void **state)
{
    (void)state;
    stress(1);
    assert_true(world.reused > 0 && world.connections > 13);
}

static void thousands_with_reuse(void **state)
{
    (void)state;
    stress(5000);
    assert_true(world.reused > world.connections);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QUEUE_TEST(connections_are_used_again), QUEUE_TEST(idle_ones_leave_in_time),
        QUEUE_TEST(idle_ones_are_canceled),     QUEUE_TEST(thousands_without_reuse),
        QUEUE_TEST(thousands_that_just_miss),   QUEUE_TEST(thousands_with_reuse),
    };
    return cmocka_run_group_tests(tests, log_setup, log_teardown);
}
