/* fibers and what they wait on, each promise of fiber.h and wait.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "io/fiber/fiber.h"
#include "io/fiber/stack.h"
#include "io/fiber/wait.h"
#include "io/fiber/worker.h"
#include "io/ring/ring.h"

/* Checking builds measure how deep stacks go, and so leave them as they are. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CHECKING 1
#else
#define CHECKING 0
#endif

#define OK(e) assert_null(e)
#define KIND(e, k)                                                                                 \
    do {                                                                                           \
        struct err *e_ = (e);                                                                      \
        assert_non_null(e_);                                                                       \
        assert_int_equal(e_->kind, k);                                                             \
    } while (0)

/* Every row runs in a fiber of its own worker. */
static void in_fiber(void (*body)(void *))
{
    struct err *e = worker_run_here(NULL, body, NULL);
    if (e != NULL)
        fail_msg("%s", e->text);
}
#define ROW(name)                                                                                  \
    static void name##_body(void *arg);                                                            \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        in_fiber(name##_body);                                                                     \
    }                                                                                              \
    static void name##_body(void *arg)

static char trail[64];
static size_t trail_len;
static void mark(void *arg)
{
    trail[trail_len++] = *(const char *)arg;
    trail[trail_len] = 0;
}
static void trail_reset(void)
{
    trail_len = 0;
    trail[0] = 0;
}

ROW(a_spawned_fiber_runs_when_the_spawner_yields)
{
    (void)arg;
    trail_reset();
    assert_non_null(fiber_spawn("mark", mark, "a"));
    assert_non_null(fiber_spawn("mark", mark, "b"));
    assert_string_equal(trail, "");
    fiber_yield();
    assert_string_equal(trail, "ab");
}

static void mark_yield_mark(void *arg)
{
    mark(arg);
    fiber_yield();
    mark(arg);
}
ROW(a_yield_comes_back_at_the_end_of_the_run_queue)
{
    (void)arg;
    trail_reset();
    fiber_spawn("a", mark_yield_mark, "a");
    fiber_spawn("b", mark_yield_mark, "b");
    fiber_yield();
    fiber_yield();
    assert_string_equal(trail, "abab");
}

ROW(a_wake_before_the_park_is_remembered_once)
{
    (void)arg;
    fiber_wake(fiber_self());
    fiber_wake(fiber_self());
    OK(fiber_park(clock_in_s(60)));
    KIND(fiber_park(clock_in_ms(2)), ERR_TIMEOUT);
}

ROW(a_park_ends_at_its_deadline_and_not_before)
{
    (void)arg;
    int64_t deadline = clock_in_ms(5);
    KIND(fiber_park(deadline), ERR_TIMEOUT);
    assert_true(clock_mono_ns() >= deadline);
    KIND(fiber_park(clock_mono_ns() - 1), ERR_TIMEOUT);
    OK(fiber_sleep_until(clock_in_ms(1)));
}

static void wake_it(void *arg)
{
    fiber_wake(arg);
}
ROW(a_woken_park_returns_without_error_and_clears_its_timer)
{
    (void)arg;
    fiber_spawn("wake", wake_it, fiber_self());
    OK(fiber_park(clock_in_ms(200)));
    /* Were the first deadline's timer left, it would end this wait. */
    int64_t deadline = clock_in_ms(220);
    KIND(fiber_park(deadline), ERR_TIMEOUT);
    assert_true(clock_mono_ns() >= deadline);
}

static void cancel_it(void *arg)
{
    fiber_cancel(arg);
    fiber_cancel(arg);
}
ROW(cancellation_ends_this_and_every_later_wait)
{
    (void)arg;
    fiber_spawn("cancel", cancel_it, fiber_self());
    KIND(fiber_park(DEADLINE_NEVER), ERR_CANCELED);
    assert_true(fiber_canceled());
    KIND(fiber_park(DEADLINE_NEVER), ERR_CANCELED);
    KIND(fiber_sleep_until(clock_in_s(60)), ERR_CANCELED);
    char byte;
    size_t n;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    KIND(io_recv(fds[0], &byte, 1, DEADLINE_NEVER, &n), ERR_CANCELED);
    OK(io_close(fds[0]));
    OK(io_close(fds[1]));
}

ROW(inside_a_shield_waits_work_in_spite_of_cancellation)
{
    (void)arg;
    fiber_cancel(fiber_self());
    fiber_shield_begin();
    fiber_shield_begin();
    fiber_shield_end();
    assert_false(fiber_canceled());
    KIND(fiber_park(clock_in_ms(2)), ERR_TIMEOUT);
    fiber_shield_end();
    KIND(fiber_park(clock_in_ms(2)), ERR_CANCELED);
}

static void park_no_yield(void *arg)
{
    (void)arg;
    assert_non_null(freopen("/dev/null", "w", stderr));
    NO_YIELD
    {
        (void)!fiber_park(clock_in_ms(1));
    }
}
static void a_park_inside_no_yield_aborts(void **state)
{
    (void)state;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)!worker_run_here(NULL, park_no_yield, NULL);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
}

ROW(no_yield_nests_and_ends)
{
    (void)arg;
    NO_YIELD
    {
        NO_YIELD {}
    }
    fiber_yield();
}

/* What the kernel may not read for us, nobody may. */
static bool touchable(int pipe_fd, uintptr_t at)
{
    return syscall(SYS_write, pipe_fd, at, 1) == 1;
}
ROW(a_guard_page_lies_under_the_stack)
{
    (void)arg;
    uintptr_t page = (uintptr_t)__builtin_frame_address(0) & ~(uintptr_t)4095;
    int ends[2];
    size_t depth = 0;
    assert_int_equal(pipe(ends), 0);
    while (depth <= stack_size_bytes && touchable(ends[1], page - depth))
        depth += 4096;
    close(ends[0]);
    close(ends[1]);
    assert_in_range(depth, stack_size_bytes - 64 * 1024, stack_size_bytes);
}

static size_t mappings(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    size_t n = 0;
    assert_non_null(maps);
    for (int c; (c = getc(maps)) != EOF;)
        n += c == '\n';
    fclose(maps);
    return n;
}

/* vm.max_map_count is 65,530: two mappings a stack would end at 32,765. */
static void stacks_do_not_use_up_the_mappings(void **state)
{
    (void)state;
    enum { STACKS = 2000 };
    static void *stacks[STACKS];
    struct stack_pool pool = {0};
    char *probe = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool guards = madvise(probe, 4096, 102 /* MADV_GUARD_INSTALL */) == 0;
    munmap(probe, 4096);
    if (!guards || CHECKING)
        skip(); /* before Linux 6.13; the checkers make mappings of their own */
    size_t before = mappings();
    for (size_t i = 0; i < STACKS; i++)
        assert_non_null(stacks[i] = stack_take(&pool));
    assert_true(mappings() - before < STACKS / 10);
    for (size_t i = 0; i < STACKS; i++)
        stack_give(&pool, stacks[i]);
    stack_pool_fini(&pool);
    assert_in_range(mappings(), 0, before + 2);
}

struct limit {
    struct event go;
    size_t ran;
};
static void limit_wait(void *arg)
{
    struct limit *l = arg;
    OK(event_wait(&l->go, DEADLINE_NEVER));
    l->ran++;
}
static void limit_body(void *arg)
{
    struct limit *l = arg;
    event_init(&l->go);
    assert_non_null(fiber_spawn("1", limit_wait, l));
    assert_non_null(fiber_spawn("2", limit_wait, l));
    assert_null(fiber_spawn("3", limit_wait, l));
    /* A spawn by message is not refused but waits its turn. */
    worker_spawn(worker_self(), "4", limit_wait, l);
    fiber_yield();
    assert_int_equal(worker_load(worker_self()), 3);
    event_set(&l->go);
}
static void beyond_the_fiber_limit_spawn_refuses(void **state)
{
    (void)state;
    struct limit l = {0};
    struct worker_options o = {.name = "limit", .fibers_max = 3, .cpu = -1};
    OK(worker_run_here(&o, limit_body, &l));
    assert_int_equal(l.ran, 3);
}

struct many {
    struct event go;
    size_t woken;
};
static void many_one(void *arg)
{
    struct many *m = arg;
    OK(event_wait(&m->go, clock_in_s(60)));
    m->woken++;
}
ROW(thousands_of_fibers_park_and_all_wake)
{
    (void)arg;
#if defined(__SANITIZE_THREAD__)
    enum { COUNT = 200 };
#else
    enum { COUNT = 5000 };
#endif
    struct many m = {0};
    event_init(&m.go);
    for (size_t i = 0; i < COUNT; i++)
        assert_non_null(fiber_spawn("many", many_one, &m));
    fiber_yield();
    assert_int_equal(fiber_census().live, COUNT + 1);
    event_set(&m.go);
    while (fiber_census().live > 1)
        fiber_yield();
    assert_int_equal(m.woken, COUNT);
    assert_int_equal(fiber_census().peak, COUNT + 1);
    assert_true(fiber_census().stacks_pooled > 0);
}

static void make_errors(void *arg)
{
    const char *text = arg;
    struct err *e = err_new(ERR_LIMIT, 0, "%s", text);
    fiber_yield();
    for (int i = 0; i < ERR_RESERVE - 1; i++)
        (void)err_new(ERR_IO, i, "other");
    fiber_yield();
    assert_string_equal(e->text, text);
}
ROW(errors_live_in_the_fiber_that_made_them)
{
    (void)arg;
    fiber_spawn("e1", make_errors, "one");
    fiber_spawn("e2", make_errors, "two");
    while (fiber_census().live > 1)
        fiber_yield();
}

__attribute__((noinline)) static int deep(int n)
{
    volatile char page[512];
    page[0] = (char)n;
    return n == 0 ? page[0] : deep(n - 1) + page[0];
}
static size_t resident_below(void *frame)
{
    enum { PAGES = 16 };
    unsigned char vec[PAGES];
    char *page = (char *)((uintptr_t)frame & ~(uintptr_t)4095);
    size_t n = 0;
    assert_int_equal(mincore(page - PAGES * 4096, PAGES * 4096, vec), 0);
    for (size_t i = 0; i < PAGES; i++)
        n += vec[i] & 1U;
    return n;
}
ROW(a_trimmed_stack_keeps_its_live_part_and_nothing_else)
{
    (void)arg;
    volatile int live = 77;
    int sum = deep(90);
    size_t before = resident_below(__builtin_frame_address(0));
    fiber_trim_stack();
    size_t after = resident_below(__builtin_frame_address(0));
    assert_int_equal(live, 77);
    assert_int_equal(deep(90), sum);
    assert_true(before >= 10);
    if (!CHECKING)
        assert_true(after <= 1); /* what this very question touches */
}

/* --- wait.h --- */

static void event_setter(void *arg)
{
    struct event *e = arg;
    event_set(e);
    event_clear(e);
}
ROW(an_event_wakes_its_waiters_even_when_cleared_at_once)
{
    (void)arg;
    struct event e;
    event_init(&e);
    KIND(event_wait(&e, clock_in_ms(1)), ERR_TIMEOUT);
    fiber_spawn("set", event_setter, &e);
    OK(event_wait(&e, clock_in_s(60)));
    KIND(event_wait(&e, clock_in_ms(1)), ERR_TIMEOUT);
    event_set(&e);
    OK(event_wait(&e, DEADLINE_NEVER));
}

struct semtest {
    struct sem sem;
    int inside, most;
};
static void sem_user(void *arg)
{
    struct semtest *t = arg;
    OK(sem_take(&t->sem, clock_in_s(60)));
    if (++t->inside > t->most)
        t->most = t->inside;
    fiber_yield();
    t->inside--;
    sem_give(&t->sem);
}
ROW(a_semaphore_lets_in_at_most_its_count)
{
    (void)arg;
    struct semtest t = {0};
    sem_init_count(&t.sem, 3);
    for (int i = 0; i < 20; i++)
        fiber_spawn("sem", sem_user, &t);
    while (fiber_census().live > 1)
        fiber_yield();
    assert_int_equal(t.most, 3);
    assert_int_equal(t.sem.count, 3);
}
ROW(a_semaphore_wait_that_timed_out_leaves_no_trace)
{
    (void)arg;
    struct sem s;
    sem_init_count(&s, 0);
    KIND(sem_take(&s, clock_in_ms(1)), ERR_TIMEOUT);
    assert_true(list_empty(&s.waiters));
    sem_give(&s);
    OK(sem_take(&s, DEADLINE_NEVER));
}

static void sleep_long(void *arg)
{
    struct err *e = fiber_sleep_until(clock_in_s(3600));
    if (e != NULL && e->kind == ERR_CANCELED)
        ++*(int *)arg;
}
static void sleep_short(void *arg)
{
    OK(fiber_sleep_until(clock_in_ms(2)));
    ++*(int *)arg;
}
ROW(a_group_joins_when_all_members_ended)
{
    (void)arg;
    struct group g;
    int ended = 0;
    group_init(&g);
    OK(group_join(&g, DEADLINE_NEVER));
    for (int i = 0; i < 5; i++)
        assert_true(group_spawn(&g, "short", sleep_short, &ended));
    OK(group_join(&g, DEADLINE_NEVER));
    assert_int_equal(ended, 5);
}
ROW(a_canceled_group_ends_at_once)
{
    (void)arg;
    struct group g;
    int canceled = 0;
    group_init(&g);
    for (int i = 0; i < 5; i++)
        assert_true(group_spawn(&g, "long", sleep_long, &canceled));
    KIND(group_join(&g, clock_in_ms(2)), ERR_TIMEOUT);
    group_cancel(&g);
    OK(group_join(&g, DEADLINE_NEVER));
    assert_int_equal(canceled, 5);
}

/* --- timers --- */

struct one_timer {
    struct timer timer;
    char name;
};
static struct fiber *timer_waiter;
static void timer_fired(struct timer *t)
{
    struct one_timer *o = CONTAINER(t, struct one_timer, timer);
    assert_true(clock_mono_ns() >= t->deadline_ns);
    mark(&o->name);
    fiber_wake(timer_waiter);
}
ROW(timers_fire_in_order_and_cleared_ones_do_not)
{
    (void)arg;
    struct one_timer t[5] = {0};
    int64_t now = clock_mono_ns();
    static const int ms[] = {70, 3, 0, 130, 9};
    trail_reset();
    timer_waiter = fiber_self();
    for (int i = 0; i < 5; i++) {
        t[i].name = (char)('a' + i);
        timer_set(&t[i].timer, now + ms[i] * NS_PER_MS, timer_fired);
    }
    timer_clear(&t[4].timer);
    timer_clear(&t[4].timer);
    while (trail_len < 4)
        OK(fiber_park(DEADLINE_NEVER));
    assert_string_equal(trail, "cbad");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_spawned_fiber_runs_when_the_spawner_yields),
        cmocka_unit_test(a_yield_comes_back_at_the_end_of_the_run_queue),
        cmocka_unit_test(a_wake_before_the_park_is_remembered_once),
        cmocka_unit_test(a_park_ends_at_its_deadline_and_not_before),
        cmocka_unit_test(a_woken_park_returns_without_error_and_clears_its_timer),
        cmocka_unit_test(cancellation_ends_this_and_every_later_wait),
        cmocka_unit_test(inside_a_shield_waits_work_in_spite_of_cancellation),
        cmocka_unit_test(a_park_inside_no_yield_aborts),
        cmocka_unit_test(no_yield_nests_and_ends),
        cmocka_unit_test(a_guard_page_lies_under_the_stack),
        cmocka_unit_test(stacks_do_not_use_up_the_mappings),
        cmocka_unit_test(beyond_the_fiber_limit_spawn_refuses),
        cmocka_unit_test(thousands_of_fibers_park_and_all_wake),
        cmocka_unit_test(errors_live_in_the_fiber_that_made_them),
        cmocka_unit_test(a_trimmed_stack_keeps_its_live_part_and_nothing_else),
        cmocka_unit_test(an_event_wakes_its_waiters_even_when_cleared_at_once),
        cmocka_unit_test(a_semaphore_lets_in_at_most_its_count),
        cmocka_unit_test(a_semaphore_wait_that_timed_out_leaves_no_trace),
        cmocka_unit_test(a_group_joins_when_all_members_ended),
        cmocka_unit_test(a_canceled_group_ends_at_once),
        cmocka_unit_test(timers_fire_in_order_and_cleared_ones_do_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
