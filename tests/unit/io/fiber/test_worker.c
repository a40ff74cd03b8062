/* workers, mailboxes, completions, the offload pool and the watchdog: what crosses threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "io/base/check.h"
#include "io/base/mem.h"
#include "io/fiber/offload.h"
#include "io/fiber/wait.h"
#include "io/fiber/watchdog.h"
#include "io/fiber/wheel.h"
#include "io/fiber/worker.h"
#include "io/ring/ring.h"

/* Asserts of cmocka are for the main thread; on workers CHECK says where. */
static struct worker *start(const char *name)
{
    struct worker_options o = {.name = name, .cpu = -1};
    struct worker *w = NULL;
    struct err *e = worker_start(&o, NULL, NULL, &w);
    if (e != NULL)
        fail_msg("%s", e->text);
    return w;
}
static void stop(struct worker *w)
{
    worker_stop(w);
    worker_join(w);
}
static void in_fiber(void (*body)(void *), void *arg)
{
    struct err *e = worker_run_here(NULL, body, arg);
    if (e != NULL)
        fail_msg("%s", e->text);
}

static void a_worker_starts_stops_and_starts_again(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct worker *w = start("again");
        assert_string_equal(worker_name(w), "again");
        worker_stop(w);
        worker_stop(w);
        worker_join(w);
    }
    assert_null(worker_self());
}

static void init_notes(void *arg)
{
    struct worker **out = arg;
    CHECK(fiber_self() != NULL);
    *out = worker_self();
}
static void init_runs_in_a_fiber_of_the_new_worker(void **state)
{
    (void)state;
    struct worker *seen = NULL, *w = NULL;
    struct worker_options o = {.name = "init", .cpu = 0};
    assert_null(worker_start(&o, init_notes, &seen, &w));
    stop(w);
    assert_ptr_equal(seen, w);
}

/* --- mailbox --- */

enum { POSTERS = 4 };
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { POSTS = 5000 };
#else
enum { POSTS = 50000 };
#endif

struct numbered {
    struct mbox_msg msg;
    unsigned poster, number;
    struct worker *bounce_to;
};
static atomic_uint received;
static unsigned next_number[2][POSTERS];

static void back_arrived(struct mbox_msg *m)
{
    mem_free(CONTAINER(m, struct numbered, msg));
    atomic_fetch_add(&received, 1);
}
static void numbered_arrived(struct mbox_msg *m)
{
    struct numbered *n = CONTAINER(m, struct numbered, msg);
    unsigned side = n->bounce_to == NULL;
    CHECK(next_number[side][n->poster] == n->number);
    next_number[side][n->poster]++;
    if (n->bounce_to != NULL) {
        /* On to the other worker: from a ring, by MSG_RING. */
        struct worker *to = n->bounce_to;
        n->bounce_to = NULL;
        worker_post(to, m);
        return;
    }
    back_arrived(m);
}
static struct worker *pair[2];
static void *poster(void *arg)
{
    unsigned me = (unsigned)(uintptr_t)arg;
    for (unsigned i = 0; i < POSTS; i++) {
        struct numbered *n = MEM_NEW(struct numbered);
        *n = (struct numbered){
            .msg.fn = numbered_arrived, .poster = me, .number = i, .bounce_to = pair[1]};
        worker_post(pair[0], &n->msg);
        if (i % 64 == 0)
            sched_yield(); /* let the worker fall asleep now and then */
    }
    return NULL;
}
static void every_message_arrives_once_and_in_its_senders_order(void **state)
{
    (void)state;
    pthread_t threads[POSTERS];
    atomic_store(&received, 0);
    memset(next_number, 0, sizeof next_number);
    pair[0] = start("pair-0");
    pair[1] = start("pair-1");
    for (uintptr_t i = 0; i < POSTERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, poster, (void *)i), 0);
    for (int i = 0; i < POSTERS; i++)
        pthread_join(threads[i], NULL);
    while (atomic_load(&received) != POSTERS * POSTS)
        sched_yield();
    stop(pair[0]);
    stop(pair[1]);
}

/* One message to and fro: each hop needs its wake-up, and a lost one would hang here. */
struct ball {
    struct mbox_msg msg;
    struct worker *to[2];
    unsigned hops;
    struct completion done;
};
static void ball_arrived(struct mbox_msg *m)
{
    struct ball *b = CONTAINER(m, struct ball, msg);
    if (b->hops-- == 0)
        completion_signal(&b->done);
    else
        worker_post(b->to[b->hops % 2], m);
}
static void play(void *arg)
{
    struct ball *b = arg;
    completion_init(&b->done);
    worker_post(b->to[0], &b->msg);
    completion_wait(&b->done);
}
static void no_wake_up_is_lost_between_two_sleeping_workers(void **state)
{
    (void)state;
    struct ball b = {
        .msg.fn = ball_arrived, .hops = POSTS, .to = {start("ball-0"), start("ball-1")}};
    in_fiber(play, &b);
    stop(b.to[0]);
    stop(b.to[1]);
}
/* The same from threads without a ring: by eventfd. */
static atomic_int pings;
static void ping_arrived(struct mbox_msg *m)
{
    (void)m;
    atomic_fetch_add(&pings, 1);
}
static void no_wake_up_from_a_plain_thread_is_lost(void **state)
{
    (void)state;
    struct worker *w = start("ping");
    struct mbox_msg m = {.fn = ping_arrived};
    atomic_store(&pings, 0);
    for (int i = 0; i < POSTS / 10; i++) {
        worker_post(w, &m);
        while (atomic_load(&pings) != i + 1)
            sched_yield();
    }
    stop(w);
}

/* --- calls and spawns across --- */

static void double_it(void *arg)
{
    *(int *)arg *= 2;
}
static void call_many(void *arg)
{
    struct worker **to = arg;
    for (int i = 0; i < 500; i++) {
        int n = i;
        worker_call(to[i % 3], double_it, &n);
        CHECK(n == 2 * i);
    }
}
static void call_self_too(void *arg)
{
    struct worker **to = arg;
    to[2] = worker_self();
    struct group g;
    group_init(&g);
    for (int i = 0; i < 20; i++)
        CHECK(group_spawn(&g, "caller", call_many, to));
    CHECK(group_join(&g, DEADLINE_NEVER) == NULL);
}
static void worker_call_runs_there_and_waits(void **state)
{
    (void)state;
    struct worker *to[3] = {start("call-0"), start("call-1")};
    in_fiber(call_self_too, to);
    stop(to[0]);
    stop(to[1]);
}

static atomic_int spawned;
static void spawned_fiber(void *arg)
{
    CHECK(worker_self() == arg);
    fiber_yield();
    atomic_fetch_add(&spawned, 1);
}
static void worker_spawn_reaches_another_worker_from_any_thread(void **state)
{
    (void)state;
    struct worker *w = start("spawn");
    atomic_store(&spawned, 0);
    for (int i = 0; i < 1000; i++)
        worker_spawn(w, "spawned", spawned_fiber, w);
    while (atomic_load(&spawned) != 1000)
        sched_yield();
    stop(w);
}

/* --- the end of a worker --- */

struct ending {
    struct worker *worker;
    atomic_int ready, canceled, cleaned;
};
static void late_child(void *arg)
{
    struct ending *e = arg;
    if (fiber_canceled())
        atomic_fetch_add(&e->canceled, 1);
}
static void endless(void *arg)
{
    struct ending *e = arg;
    atomic_fetch_add(&e->ready, 1);
    struct err *err = fiber_sleep_until(clock_in_s(3600));
    CHECK(err != NULL && err->kind == ERR_CANCELED);
    fiber_shield_begin();
    CHECK(fiber_sleep_until(clock_in_ms(2)) == NULL);
    fiber_shield_end();
    CHECK(fiber_spawn("late", late_child, e) != NULL);
    atomic_fetch_add(&e->cleaned, 1);
}
static void worker_stop_cancels_all_and_waits_for_their_clean_up(void **state)
{
    (void)state;
    struct ending e = {.worker = start("ending")};
    for (int i = 0; i < 50; i++)
        worker_spawn(e.worker, "endless", endless, &e);
    while (atomic_load(&e.ready) != 50)
        sched_yield();
    assert_int_equal(worker_load(e.worker), 50);
    stop(e.worker);
    assert_int_equal(atomic_load(&e.cleaned), 50);
    assert_int_equal(atomic_load(&e.canceled),
                     50); /* born while draining: canceled from the start */
}

/* --- completion and offload --- */

static void blocking_job(void *arg)
{
    struct timespec ts = {.tv_nsec = 100000};
    nanosleep(&ts, NULL);
    CHECK(worker_self() == NULL);
    ++*(int *)arg;
}
static void offload_some(void *arg)
{
    (void)arg;
    for (int i = 0; i < 50; i++) {
        int n = i;
        offload(blocking_job, &n);
        CHECK(n == i + 1);
    }
}
static void offload_body(void *arg)
{
    (void)arg;
    struct group g;
    group_init(&g);
    for (int i = 0; i < 20; i++)
        CHECK(group_spawn(&g, "offload", offload_some, NULL));
    /* Not cancelable: a canceled fiber still gets its answer, for the job uses its stack. */
    group_cancel(&g);
    CHECK(group_join(&g, DEADLINE_NEVER) == NULL);
}
static void offloaded_work_runs_on_the_pool_and_answers(void **state)
{
    (void)state;
    assert_null(offload_start(3));
    in_fiber(offload_body, NULL);
    int n = 1;
    offload(blocking_job, &n);
    assert_int_equal(n, 2);
    offload_stop();
    offload_stop();
}

struct own {
    struct offload_thread *thread;
    int order[60], done;
    bool inside;
};
struct own_job {
    struct own *own;
    int number;
};
static void own_job(void *arg)
{
    struct own_job *j = arg;
    char name[16] = "";
    CHECK(!j->own->inside && worker_self() == NULL);
    CHECK(pthread_getname_np(pthread_self(), name, sizeof name) == 0 && strcmp(name, "of-its-own") == 0);
    j->own->inside = true;
    struct timespec ts = {.tv_nsec = 100000};
    nanosleep(&ts, NULL);
    j->own->inside = false;
    j->own->order[j->own->done++] = j->number;
}
static void own_some(void *arg)
{
    struct own_job *j = arg;
    offload_to(j->own->thread, own_job, j);
}
static void own_body(void *arg)
{
    struct own *own = arg;
    struct own_job jobs[60];
    struct group g;
    group_init(&g);
    for (int i = 0; i < 60; i++) {
        jobs[i] = (struct own_job){own, i};
        CHECK(group_spawn(&g, "own", own_some, &jobs[i]));
    }
    group_cancel(&g);
    CHECK(group_join(&g, DEADLINE_NEVER) == NULL);
}
static void a_thread_of_ones_own_does_one_job_after_the_other(void **state)
{
    static struct own own;
    (void)state;
    assert_null(offload_thread_start("of-its-own", &own.thread));
    in_fiber(own_body, &own);
    offload_thread_stop(own.thread);
    assert_int_equal(own.done, 60);
    for (int i = 0; i < 60; i++)
        assert_int_equal(own.order[i], i);
    int n = 1;
    offload_to(NULL, blocking_job, &n); /* there is none: here */
    assert_int_equal(n, 2);
    offload_thread_stop(NULL);
}

/* --- watchdog --- */

static void hog(void *arg)
{
    (void)arg;
    int64_t until = clock_in_s(30);
    while (watchdog_stalls() == 0 && clock_mono_ns() < until)
        ;
}
static void the_watchdog_names_a_fiber_that_does_not_yield(void **state)
{
    (void)state;
    /* Its warning is not for whoever reads the tests. */
    int stderr_kept = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY);
    assert_true(dup2(null, STDERR_FILENO) >= 0);
    assert_null(watchdog_start(20 * NS_PER_MS));
    in_fiber(hog, NULL);
    watchdog_stop();
    dup2(stderr_kept, STDERR_FILENO);
    close(stderr_kept);
    close(null);
    assert_int_equal(watchdog_stalls(), 1);
}

/* --- the wheel, without real time --- */

struct probe {
    struct timer timer;
    int64_t fired_at;
};
struct turn_probe {
    struct turn_end end;
    int ran, again;
    int64_t done; /* fibers that ran before it */
};
static int64_t turn_fibers;

static void turn_ended(struct turn_end *t)
{
    struct turn_probe *p = CONTAINER(t, struct turn_probe, end);
    p->ran++;
    p->done = turn_fibers;
    if (p->again-- > 0)
        worker_at_turn_end(t, turn_ended);
}

static void turn_asker(void *arg)
{
    turn_fibers++;
    worker_at_turn_end(arg, turn_ended);
}

static void turn_body(void *arg)
{
    struct turn_probe *p = arg;
    for (int i = 0; i < 5; i++)
        CHECK(fiber_spawn("asker", turn_asker, &p->end) != NULL);
    fiber_yield();
    CHECK(p->ran == 0 || turn_fibers == 5);
    while (p->again >= 0)
        fiber_yield();
}

static void what_is_asked_for_runs_once_at_the_end_of_the_turn(void **state)
{
    (void)state;
    struct turn_probe p = {.again = 2};
    turn_fibers = 0;
    in_fiber(turn_body, &p);
    assert_int_equal(p.done, 5);
    assert_int_equal(p.ran, 3);
}

static int64_t wheel_now;
static void probe_fired(struct timer *t)
{
    CONTAINER(t, struct probe, timer)->fired_at = wheel_now;
}
static void wheel_fires_each_timer_in_the_tick_of_its_deadline(void **state)
{
    (void)state;
    static const int64_t rows_ms[] = {1,
                                      2,
                                      63,
                                      64,
                                      65,
                                      127,
                                      128,
                                      4095,
                                      4096,
                                      4097,
                                      262143,
                                      262144,
                                      999999,
                                      1 << 24,
                                      (1 << 24) + 1,
                                      1 << 30,
                                      INT64_C(1) << 31,
                                      INT64_C(1) << 36,
                                      (INT64_C(1) << 36) + 5,
                                      INT64_C(1) << 38};
    static const int64_t starts_ms[] = {0,    1,      63,        64,
                                        4095, 262143, 123456789, (INT64_C(1) << 36) - 1};
    static struct wheel w;
    for (size_t s = 0; s < sizeof starts_ms / sizeof *starts_ms; s++) {
        struct probe p[sizeof rows_ms / sizeof *rows_ms] = {0};
        size_t rows = sizeof rows_ms / sizeof *rows_ms;
        wheel_now = starts_ms[s] * NS_PER_MS;
        wheel_init(&w, wheel_now);
        for (size_t i = 0; i < rows; i++) {
            p[i].timer.fn = probe_fired;
            p[i].timer.deadline_ns = (starts_ms[s] + rows_ms[i]) * NS_PER_MS;
            wheel_set(&w, &p[i].timer);
        }
        for (int64_t next; (next = wheel_next_ns(&w)) != DEADLINE_NEVER;) {
            assert_true(next > wheel_now);
            wheel_now = next;
            wheel_advance(&w, wheel_now);
        }
        for (size_t i = 0; i < rows; i++)
            assert_int_equal(p[i].fired_at, p[i].timer.deadline_ns);
    }
}
static void wheel_rounds_up_and_never_fires_early(void **state)
{
    (void)state;
    static struct wheel w;
    struct probe p = {.timer = {.fn = probe_fired, .deadline_ns = 5 * NS_PER_MS + 1}};
    wheel_init(&w, 0);
    wheel_set(&w, &p.timer);
    wheel_now = 5 * NS_PER_MS + 999;
    wheel_advance(&w, wheel_now);
    assert_int_equal(p.fired_at, 0);
    wheel_now = 6 * NS_PER_MS;
    wheel_advance(&w, wheel_now);
    assert_int_equal(p.fired_at, wheel_now);
    assert_true(wheel_next_ns(&w) == DEADLINE_NEVER);
    /* Long past: at the next tick. */
    p.timer.deadline_ns = 1;
    wheel_set(&w, &p.timer);
    assert_true(wheel_next_ns(&w) == 7 * NS_PER_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wheel_fires_each_timer_in_the_tick_of_its_deadline),
        cmocka_unit_test(wheel_rounds_up_and_never_fires_early),
        cmocka_unit_test(a_worker_starts_stops_and_starts_again),
        cmocka_unit_test(init_runs_in_a_fiber_of_the_new_worker),
        cmocka_unit_test(every_message_arrives_once_and_in_its_senders_order),
        cmocka_unit_test(no_wake_up_is_lost_between_two_sleeping_workers),
        cmocka_unit_test(no_wake_up_from_a_plain_thread_is_lost),
        cmocka_unit_test(worker_call_runs_there_and_waits),
        cmocka_unit_test(worker_spawn_reaches_another_worker_from_any_thread),
        cmocka_unit_test(worker_stop_cancels_all_and_waits_for_their_clean_up),
        cmocka_unit_test(offloaded_work_runs_on_the_pool_and_answers),
        cmocka_unit_test(a_thread_of_ones_own_does_one_job_after_the_other),
        cmocka_unit_test(what_is_asked_for_runs_once_at_the_end_of_the_turn),
        cmocka_unit_test(the_watchdog_names_a_fiber_that_does_not_yield),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
