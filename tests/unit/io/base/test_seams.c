#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/base/clock.h"
#include "io/base/metric.h"
#include "io/base/rand.h"

static int64_t seven(void)
{
    return 7;
}

static void the_clocks_can_be_replaced_and_put_back(void **state)
{
    (void)state;
    clock_replace(seven, seven);
    assert_int_equal(clock_mono_ns(), 7);
    assert_int_equal(clock_wall_us(), 7);
    assert_int_equal(clock_in_s(2), 7 + 2 * NS_PER_S);
    clock_replace(NULL, NULL);
    int64_t before = clock_mono_ns();
    assert_true(clock_mono_ns() >= before && before > 7);
    assert_true(clock_wall_us() > INT64_C(1600000000) * US_PER_S);
}

static uint64_t counting(void)
{
    static uint64_t n;
    return n++;
}

static void random_numbers_stay_below_and_can_be_replaced(void **state)
{
    (void)state;
    unsigned seen[5] = {0};
    for (int i = 0; i < 5000; i++)
        seen[rand_below(5)]++;
    for (int i = 0; i < 5; i++)
        assert_true(seen[i] > 700 && seen[i] < 1300); /* ten standard deviations */
    assert_true(rand_u64() != rand_u64());
    rand_replace(counting);
    assert_int_equal(rand_u64(), 0);
    assert_int_equal(rand_u64(), 1);
    rand_replace(NULL);
}

static void a_child_does_not_repeat_its_parents_numbers(void **state)
{
    (void)state;
    int ends[2];
    uint64_t theirs;
    (void)rand_u64();
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        uint64_t n = rand_u64();
        _exit(write(ends[1], &n, sizeof n) != sizeof n);
    }
    uint64_t ours = rand_u64();
    assert_int_equal(read(ends[0], &theirs, sizeof theirs), sizeof theirs);
    assert_true(ours != theirs);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static void *count(void *unused)
{
    for (int i = 0; i < 1000; i++)
        metric_add(METRIC_smtpd_messages, 1);
    return unused;
}

static void counts_of_threads_that_ended_stay_in_the_sum(void **state)
{
    (void)state;
    for (int round = 0; round < 5; round++) {
        pthread_t threads[4];
        for (int i = 0; i < 4; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, count, NULL), 0);
        for (int i = 0; i < 4; i++)
            assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    metric_add(METRIC_smtpd_messages, -1);
    assert_int_equal(metric_sum(METRIC_smtpd_messages), 5 * 4 * 1000 - 1);
    assert_int_equal(metric_sum(METRIC_ring_enters), 0);
    assert_string_equal(metric_name(METRIC_smtpd_messages), "smtpd_messages");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_clocks_can_be_replaced_and_put_back),
        cmocka_unit_test(random_numbers_stay_below_and_can_be_replaced),
        cmocka_unit_test(a_child_does_not_repeat_its_parents_numbers),
        cmocka_unit_test(counts_of_threads_that_ended_stay_in_the_sum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
