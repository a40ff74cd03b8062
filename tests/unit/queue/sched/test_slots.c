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
        slots_sent(next->slots);
        *out++ = (char)('0' + next->slots->id);
        if (next->slots->left == 0)
            line_remove(next);
    }
    *out = '\0';
}

/* "... could never accumulate more than transport_minimum_delivery_slots": it is not tried to pass
 * one that ends with fewer. */
static void who_may_be_passed_at_all(void **state)
{
    (void)state;
    static const struct {
        int64_t cost, minimum, left, gone;
        bool may;
    } rows[] = {
        {5, 3, 15, 0, true},  {5, 3, 14, 0, false}, {5, 3, 1, 14, true}, {5, 3, 0, 15, true},
        {5, 0, 1, 0, true},   {2, 3, 6, 0, true},   {2, 3, 5, 0, false}, {1, 0, 1000, 0, false},
        {0, 0, 1000, 0, false}, {5, 1000, 4999, 0, false}, {5, 1000, 5000, 0, true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct slot_rules r = {.cost = rows[i].cost, .minimum = rows[i].minimum};
        struct slots s = {.left = rows[i].left, .gone = rows[i].gone};
        if (slots_passable(&r, &s) != rows[i].may)
            fail_msg("row %zu", i);
    }
}

/* "We know how many are accumulated and how many are left to deliver, so we know how many it may yet
 * accumulate at maximum": who needs no more is a candidate. */
static void how_many_slots_it_may_yet_have(void **state)
{
    (void)state;
    static const struct {
        int64_t cost, left, gone, given, ever;
    } rows[] = {
        {5, 1000, 0, 0, 200}, {5, 500, 500, 0, 200}, {5, 0, 1000, 150, 50}, {5, 1000, 0, 200, 0},
        {5, 4, 0, 0, 0},      {5, 5, 0, 0, 1},       {2, 4, 0, 0, 2},       {2, 2, 2, 1, 1},
        {0, 1000, 0, 0, 0},   {1, 1000, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct slot_rules r = {.cost = rows[i].cost};
        struct slots s = {.left = rows[i].left, .gone = rows[i].gone, .given = rows[i].given};
        if (slots_ever(&r, &s) != rows[i].ever)
            fail_msg("row %zu: %ld", i, (long)slots_ever(&r, &s));
    }
}

/* "Each time k entries of the job are selected for delivery, this counter is incremented by one"; the
 * loan is added to it, the discount taken from what is needed. */
static void when_enough_has_been_earned(void **state)
{
    (void)state;
    static const struct {
        struct slot_rules rules;
        int64_t gone, given, need;
        bool enough;
    } rows[] = {
        {{2, 0, 0, 0}, 3, 0, 2, false}, /* 3 / 2 = 1 */
        {{2, 0, 0, 0}, 4, 0, 2, true},
        {{2, 0, 0, 0}, 4, 1, 2, false}, /* one of the two is given away */
        {{2, 0, 0, 0}, 6, 1, 2, true},
        {{2, 0, 50, 0}, 1, 0, 2, false}, /* half of two */
        {{2, 0, 50, 0}, 2, 0, 2, true},
        {{5, 3, 0, 0}, 0, 0, 3, false}, /* not before its first */
        {{5, 3, 0, 0}, 1, 0, 3, true},  /* three in advance */
        {{5, 3, 0, 0}, 1, 0, 4, false},
        {{5, 3, 0, 0}, 4, 0, 4, false},
        {{5, 3, 0, 0}, 5, 0, 4, true},
        {{5, 3, 0, 0}, 1, 1, 1, false}, /* the loan is paid back before the next */
        {{5, 3, 0, 0}, 5, 1, 1, false},
        {{5, 3, 0, 0}, 6, 1, 1, true},
        {{5, 3, 50, 3}, 1, 0, 6, true}, /* the usual rules: three in advance do for six */
        {{5, 3, 50, 3}, 1, 0, 7, false},
        {{5, 3, 50, 3}, 4, 0, 7, false}, /* 7 / 2 - 3 = 0.5 slots: one, there are no halves */
        {{5, 3, 50, 3}, 5, 0, 7, true},
        {{5, 3, 50, 3}, 9, 0, 10, false},
        {{5, 3, 50, 3}, 10, 0, 10, true},
        {{5, 0, 50, 0}, 4, 0, 1, false},
        {{5, 0, 50, 0}, 5, 0, 2, true},
        {{5, 0, 100, 0}, 1, 0, 1000, true},  /* all in advance */
        {{5, 0, 100, 0}, 5, 1, 1000, false}, /* but not twice */
        {{5, 0, 100, 0}, 6, 1, 1000, true},
        {{5, 0, 200, 0}, 1, 0, 1000, true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct slots s = {.left = 1000, .gone = rows[i].gone, .given = rows[i].given};
        if (slots_enough(&rows[i].rules, &s, rows[i].need) != rows[i].enough)
            fail_msg("row %zu", i);
    }
}

/* A debtor has half of what it earned since it gave last for those that need no credit. */
static void a_debtor_has_half_for_those_that_pay(void **state)
{
    (void)state;
    static const struct {
        int64_t gone, given, gave_at, need;
        bool enough;
    } rows[] = {
        {1000, 400, 1000, 1, false},                             /* 200 slots are owed */
        {1009, 400, 1000, 1, false}, {1010, 400, 1000, 1, true}, /* two earned since */
        {1010, 400, 1000, 2, false}, {1019, 400, 1000, 2, false},
        {1020, 400, 1000, 2, true},  {1001, 200, 1000, 1, true}, /* owes nothing: as ever */
        {1005, 201, 1000, 1, false}, {1006, 201, 1000, 1, true},
    };
    struct slot_rules r = {5, 3, 50, 3};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct slots s = {.left = 4000, .gone = rows[i].gone, .given = rows[i].given, .gave_at = rows[i].gave_at};
        if (slots_enough(&r, &s, rows[i].need) != rows[i].enough)
            fail_msg("row %zu", i);
    }
}

/* "The one with maximum enqueue_time/recipient_entry_count": one that needs n times as much has to
 * wait n times as long. */
static void the_score(void **state)
{
    (void)state;
    static const struct {
        int64_t left, gone, waited_s, other_left, other_waited_s;
        bool first;
    } rows[] = {
        {1, 0, 10, 1, 9, true},       {1, 0, 10, 2, 20, true},     {1, 0, 10, 2, 22, false},
        {10, 0, 1000, 1, 101, false}, {10, 0, 1020, 1, 100, true}, {5, 5, 100, 9, 100, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct slots s = {.left = rows[i].left, .gone = rows[i].gone};
        struct slots other = {.left = rows[i].other_left};
        double score = slots_score(&s, rows[i].waited_s * 1000000000);
        double against = slots_score(&other, rows[i].other_waited_s * 1000000000);
        if ((score > against) != rows[i].first)
            fail_msg("row %zu: %g against %g", i, score, against);
    }
}

/* "If for every k>1 normally used slots we accumulate one free delivery slot, ... not worse than
 * (k+1)/k if only non-recursive preemption happens": mail with one recipient each, without end. */
static void the_inflation_by_small_mail(void **state)
{
    (void)state;
    enum { LONG = 1000, SMALL = 600 };
    static struct slots slots[SMALL + 1];
    static struct line_item items[SMALL + 1];
    for (int64_t k = 2; k <= 12; k++) {
        struct slot_rules r = {.cost = k, .loan = 3, .discount = 50, .minimum = 3};
        struct line line;
        int passed = 0;
        line_init(&line);
        for (int i = 0; i <= SMALL; i++) {
            slots[i] = (struct slots){.id = (uint64_t)i + 1, .left = i == 0 ? LONG : 1};
            line_item_init(&items[i], &slots[i]);
            items[i].since_ns = i;
            line_add(&line, &items[i]);
        }
        while (slots[0].left > 0) {
            struct line_item *next = line_next(&line, &r, 1000);
            next->slots->left--;
            slots_sent(next->slots);
            passed += next != &items[0];
            if (next->slots->left == 0)
                line_remove(next);
        }
        assert_int_equal(passed, LONG / k);
    }
}

/* "We could first accumulate one hundred free slots, and only after then preempt the first job ...
 * Applying the algorithm recursively, the hundred recipient job can accumulate ten." */
static void a_hundred_in_a_thousand_and_ten_in_a_hundred(void **state)
{
    (void)state;
    static const int sizes[] = {1000, 100, 10};
    struct slot_rules r = {.cost = 5, .minimum = 1};
    struct slots slots[3];
    struct line_item items[3];
    struct line line;
    int64_t began[3] = {0}, at = 0, gone_before[3] = {0};
    line_init(&line);
    for (int i = 0; i < 3; i++) {
        slots[i] = (struct slots){.id = (uint64_t)i + 1, .left = sizes[i]};
        line_item_init(&items[i], &slots[i]);
        items[i].since_ns = i;
        if (i < 2)
            line_add(&line, &items[i]);
    }
    for (; !line_empty(&line); at++) {
        struct line_item *next = line_next(&line, &r, 1000 + at);
        int i = (int)(next - items);
        if (slots[i].gone == 0) {
            began[i] = at;
            gone_before[i] = slots[i == 0 ? 0 : i - 1].gone;
        }
        slots[i].left--;
        slots_sent(&slots[i]);
        if (slots[i].left == 0)
            line_remove(next);
        if (i == 1 && slots[1].gone == 1) /* it arrives when the hundred has begun */
            line_add(&line, &items[2]);
    }
    assert_int_equal(gone_before[1], 500); /* 100 slots at 5 */
    assert_int_equal(began[1], 500);
    assert_int_equal(gone_before[2], 50); /* 10 slots at 5 */
    assert_int_equal(began[2], 550);
    assert_int_equal(at, 1110);
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
        {"every second slot is free: one of four, four of one",
         {2, 0, 0, 0},
         {4, 1, 1, 1, 1},
         "11211345"},
        {"all of it earned before: ten, two, two", {2, 0, 0, 1}, {10, 2, 2}, "11112211113311"},
        {"half of it given in advance", {2, 0, 50, 1}, {10, 2, 2}, "11221111331111"},
        {"a loan: the first one passes soon", {5, 1, 0, 1}, {10, 1, 1}, "121111131111"},
        {"too small to be passed", {5, 3, 50, 3}, {14, 1}, "111111111111112"},
        {"just large enough", {5, 3, 50, 3}, {15, 1}, "1211111111111111"},
        {"one that needs more than it will ever earn does not pass",
         {5, 3, 50, 1},
         {10, 3, 2},
         "133111111111222"},
        {"equal sizes keep their order", {5, 3, 50, 1}, {3, 3, 3}, "111222333"},
        {"the usual rules: a letter passes soon", {5, 3, 50, 3}, {20, 1}, "121111111111111111111"},
        {"one that came first is not passed by an equal", {2, 0, 0, 1}, {4, 4}, "11112222"},
        {"each when enough has been earned for it", {2, 0, 0, 1}, {12, 4, 1}, "11311111111222211"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char got[64];
        play(&rows[i].rules, rows[i].sizes, got);
        if (strcmp(got, rows[i].order) != 0)
            fail_msg("%s: %s, not %s", rows[i].name, got, rows[i].order);
    }
}

/* A list of 5,000 has been under way for 1,000; one of 400 comes, and passes with half of its slots
 * on credit; then two letters in every 24 requests. Each of them waits for ten of the list's own at
 * most (by the credit alone, for 970). */
static void one_that_passed_on_credit_shuts_nobody_out(void **state)
{
    (void)state;
    enum { LETTERS = 150, ALL = LETTERS + 2, LIST = 0, LARGE = 1 };
    struct slot_rules r = {5, 3, 50, 3};
    static struct slots slots[ALL];
    static struct line_item items[ALL];
    int64_t came[ALL] = {0}, most = 0, others = 0; /* the list's requests when it came */
    int n = 1;
    struct line line;
    line_init(&line);
    for (int i = 0; i < ALL; i++) {
        slots[i] = (struct slots){.id = (uint64_t)i + 1, .left = i == LIST ? 5000 : i == LARGE ? 400 : 1};
        line_item_init(&items[i], &slots[i]);
    }
    line_add(&line, &items[LIST]);
    for (int64_t now = 1; slots[LIST].left > 0; now++) {
        if (n < ALL && (n == LARGE ? slots[LIST].gone == 1000 : now % 24 < 2)) {
            items[n].since_ns = now;
            came[n] = slots[LIST].gone;
            line_add(&line, &items[n++]);
        }
        struct line_item *next = line_next(&line, &r, now);
        int i = (int)(next - items);
        next->slots->left--;
        slots_sent(next->slots);
        others += i != LIST;
        if (i > LARGE && slots[LIST].gone - came[i] > most)
            most = slots[LIST].gone - came[i];
        if (next->slots->left == 0)
            line_remove(next);
    }
    assert_int_equal(others, 400 + LETTERS);
    assert_in_range(most, 1, 20);
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
            slots_sent(next->slots);
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

/* Its destination was full for a while ("blocker jobs"): it does not pay for its slots again. */
static void one_that_was_blocked_passes_again(void **state)
{
    (void)state;
    struct slot_rules r = {.cost = 2, .minimum = 1};
    struct slots slots[] = {{.id = 1, .left = 20}, {.id = 2, .left = 3}};
    struct line_item items[2];
    struct line line;
    line_init(&line);
    for (int i = 0; i < 2; i++) {
        line_item_init(&items[i], &slots[i]);
        items[i].since_ns = i;
        line_add(&line, &items[i]);
    }
    for (int i = 0; i < 7; i++) {
        struct line_item *next = line_next(&line, &r, 1000);
        next->slots->left--;
        slots_sent(next->slots);
    }
    assert_int_equal(slots[0].gone, 6);
    assert_int_equal(slots[0].given, 3);
    line_remove(&items[1]);
    assert_ptr_equal(line_next(&line, &r, 1000), &items[0]);
    line_add(&line, &items[1]);
    assert_ptr_equal(line_next(&line, &r, 1000), &items[1]);
    assert_int_equal(slots[0].given, 3);
}

/* It had passed in another line already: here the letters, which may not pass, do not hold it up.
 */
static void one_that_has_passed_is_before_those_that_may_not(void **state)
{
    (void)state;
    struct slot_rules r = {5, 3, 50, 3};
    struct slots slots[] = {
        {.id = 1, .left = 100, .gone = 5}, {.id = 2, .left = 8}, {.id = 3, .left = 1}};
    struct line_item items[3];
    struct line line;
    line_init(&line);
    slots_give(&slots[0], &slots[1]);
    for (int i = 0; i < 3; i++) {
        line_item_init(&items[i], &slots[i]);
        items[i].since_ns = i;
        line_add(&line, &items[i]);
    }
    assert_false(slots_enough(&r, &slots[0], 1));
    assert_ptr_equal(line_first(&line), &items[0]);
    assert_ptr_equal(line_next(&line, &r, 1000), &items[1]);
    assert_ptr_equal(line_first(&line), &items[1]);
    assert_int_equal(slots[0].given, 8);
}

/* A list that is in memory in part: all of it counts before it passes, and what came to it later,
 * from nobody knows where, has to pass anew. */
static void what_is_not_in_memory_counts(void **state)
{
    (void)state;
    struct slot_rules r = {5, 3, 50, 3};
    struct slots slots[] = {{.id = 1, .left = 1000, .gone = 10},
                            {.id = 2, .left = 2, .unread = 300}};
    struct line_item items[2];
    struct line line;
    line_init(&line);
    for (int i = 0; i < 2; i++) {
        line_item_init(&items[i], &slots[i]);
        items[i].since_ns = i;
        line_add(&line, &items[i]);
    }
    assert_null(line_candidate(&line, &r, &items[0], 1000));
    assert_ptr_equal(line_next(&line, &r, 1000), &items[0]);
    slots[1].unread = 4;
    assert_ptr_equal(line_next(&line, &r, 1000), &items[1]);
    assert_int_equal(slots[0].given, 6);
    for (int i = 0; i < 6; i++) {
        assert_ptr_equal(line_next(&line, &r, 1000), &items[1]);
        slots_sent(&slots[1]);
    }
    slots[1].left = 100; /* more than was said */
    assert_ptr_equal(line_next(&line, &r, 1000), &items[0]);
    assert_int_equal(slots[0].given, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_may_be_passed_at_all),
        cmocka_unit_test(how_many_slots_it_may_yet_have),
        cmocka_unit_test(when_enough_has_been_earned),
        cmocka_unit_test(a_debtor_has_half_for_those_that_pay),
        cmocka_unit_test(the_score),
        cmocka_unit_test(the_inflation_by_small_mail),
        cmocka_unit_test(a_hundred_in_a_thousand_and_ten_in_a_hundred),
        cmocka_unit_test(rows_of_the_readme),
        cmocka_unit_test(one_that_passed_on_credit_shuts_nobody_out),
        cmocka_unit_test(the_bound_holds),
        cmocka_unit_test(who_passes),
        cmocka_unit_test(one_that_comes_back_has_its_place),
        cmocka_unit_test(one_that_was_blocked_passes_again),
        cmocka_unit_test(one_that_has_passed_is_before_those_that_may_not),
        cmocka_unit_test(what_is_not_in_memory_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
