#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "queue/sched/line.h"

/* Who goes in which order: jobs 1, 2, ... with so many requests stand in one line, and one request
 * goes at a time. SCHEDULER_README writes such rows. */
enum { JOBS = 8 };

static void play(const struct slot_rules *r, const int *sizes, char *out)
{
    struct line line;
    struct slots slots[JOBS];
    struct line_item items[JOBS];
    line_init(&line);
    for (int i = 0; sizes[i] > 0; i++) {
        slots[i] = (struct slots){.id = (uint64_t)i + 1, .left = sizes[i]};
        line_item_init(&items[i], &slots[i]);
        items[i].since_ns = i;
        line_add(&line, &items[i]);
    }
    while (!line_empty(&line)) {
        struct line_item *next = line_next(&line, r, 1000);
        next->slots->left--;
        next->slots->gone++;
        *out++ = (char)('0' + next->slots->id);
        if (next->slots->left == 0)
            line_remove(next);
    }
    *out = '\0';
}

static void rows_of_the_readme(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct slot_rules rules;
        int sizes[JOBS + 1];
        const char *order;
    } rows[] = {
        {"a cost of 0: nobody passes", {0, 3, 50, 0}, {4, 1, 1}, "111123"},
        {"a cost of 1 would have no bound: nobody passes", {1, 3, 50, 0}, {4, 1, 1}, "111123"},
        {"every second slot is free: one of four, four of one", {2, 0, 0, 0}, {4, 1, 1, 1, 1}, "11211345"},
        {"all of it earned before: ten, two, two", {2, 0, 0, 1}, {10, 2, 2}, "11112211113311"},
        {"half of it given in advance", {2, 0, 50, 1}, {10, 2, 2}, "11221111331111"},
        {"a loan: the first one passes at once", {5, 1, 0, 1}, {10, 1, 1}, "211111311111"},
        {"too small to be passed", {5, 3, 50, 3}, {14, 1}, "111111111111112"},
        {"just large enough", {5, 3, 50, 3}, {15, 1}, "2111111111111111"},
        {"one that needs more than it will ever earn does not pass", {5, 3, 50, 1}, {10, 3, 2}, "331111111111222"},
        {"equal sizes keep their order", {5, 3, 50, 1}, {3, 3, 3}, "111222333"},
        {"each when enough has been earned for it", {2, 0, 0, 1}, {12, 4, 1}, "11311111111222211"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char got[64];
        play(&rows[i].rules, rows[i].sizes, got);
        if (strcmp(got, rows[i].order) != 0)
            fail_msg("%s: %s, not %s", rows[i].name, got, rows[i].order);
    }
}

/* Whatever comes meanwhile: those that pass a list of N take less than N / (cost - 1) places before
 * it has ended, and a small one that comes soon has its turn soon. */
static void the_bound_holds(void **state)
{
    (void)state;
    enum { MANY = 4000 };
    static struct slots slots[MANY];
    static struct line_item items[MANY];
    for (unsigned seed = 1; seed <= 200; seed++) {
        struct slot_rules r = {2 + seed % 7, seed % 4, (seed * 10) % 101, seed % 4};
        unsigned dice = seed;
        struct line line;
        int n = 1, list = 200 + (int)(seed * 13 % 1000), others = 0;
        line_init(&line);
        slots[0] = (struct slots){.id = 1, .left = list};
        line_item_init(&items[0], &slots[0]);
        line_add(&line, &items[0]);
        for (int64_t now = 1; slots[0].left > 0; now++) {
            while (n < MANY && rand_r(&dice) % 3 != 0) {
                int size = rand_r(&dice) % 10 == 0 ? 1 + rand_r(&dice) % 300 : 1;
                slots[n] = (struct slots){.id = (uint64_t)n + 1, .left = size};
                line_item_init(&items[n], &slots[n]);
                items[n].since_ns = now;
                line_add(&line, &items[n++]);
            }
            struct line_item *next = line_next(&line, &r, now);
            next->slots->left--;
            next->slots->gone++;
            others += next != &items[0];
            if (next->slots->left == 0)
                line_remove(next);
        }
        assert_in_range(others, 1, list / (r.cost - 1));
    }
}

/* The one that waited longest for what it needs, and of classes that are full of too large ones
 * the others still. */
static void who_passes(void **state)
{
    (void)state;
    static const struct {
        int64_t left, since_s;
    } rows[] = {{1000, 0}, {90, 5}, {4, 6}, {1, 100}, {1, 101}, {2, 90}, {999, 1}};
    enum { N = sizeof(rows) / sizeof(rows[0]) };
    static const struct {
        int64_t now_s;
        int best;
    } asked[] = {{102, 2}, {130, 2}, {200, 3}, {2000, 3}};
    struct slots slots[N];
    struct line_item items[N];
    struct line line;
    struct slot_rules r = {5, 3, 50, 3};
    line_init(&line);
    for (int i = 0; i < N; i++) {
        slots[i] = (struct slots){.id = (uint64_t)i + 1, .left = rows[i].left};
        line_item_init(&items[i], &slots[i]);
        items[i].since_ns = rows[i].since_s * 1000000000;
        line_add(&line, &items[i]);
    }
    assert_ptr_equal(line_first(&line), &items[0]);
    for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++)
        assert_ptr_equal(line_candidate(&line, &r, &items[0], asked[i].now_s * 1000000000),
                         &items[asked[i].best]);
}

static void one_that_comes_back_has_its_place(void **state)
{
    (void)state;
    struct slots slots[3];
    struct line_item items[3];
    struct line line;
    line_init(&line);
    for (int i = 0; i < 3; i++) {
        slots[i] = (struct slots){.id = (uint64_t)i + 1, .left = 1};
        line_item_init(&items[i], &slots[i]);
        items[i].since_ns = i;
        line_add(&line, &items[i]);
    }
    line_remove(&items[1]);
    line_add(&line, &items[1]);
    line_remove(&items[0]);
    assert_ptr_equal(line_first(&line), &items[1]);
    line_add(&line, &items[0]);
    assert_ptr_equal(line_first(&line), &items[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_the_readme),
        cmocka_unit_test(the_bound_holds),
        cmocka_unit_test(who_passes),
        cmocka_unit_test(one_that_comes_back_has_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
