/* sheaf: what goes in by due time comes out by number, each once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "io/base/mem.h"
#include "queue/sched/sheaf.h"

struct filling {
    const char *name;
    size_t parts, each, last; /* parts of `each`, and one of `last` */
    uint64_t factor;          /* which numbers are due when; prime to their count */
};

static const struct filling table[] = {
    {"nothing", 0, 0, 0, 1},
    {"one", 0, 0, 1, 1},
    {"few, as they came", 0, 0, 100, 1},
    {"few, the last first", 0, 0, 101, 100},
    {"parts that lie through each other", 5, 100, 7, 223},
    {"all it takes", SHEAF_PARTS - 1, SHEAF_PART, SHEAF_PART - 1, 104729},
};

static void fill(struct sheaf *s, const struct filling *f, size_t total)
{
    struct store_due *list = mem_alloc(SHEAF_PART * sizeof *list);
    size_t n = 0;
    for (size_t part = 0; part <= f->parts; part++) {
        size_t count = part < f->parts ? f->each : f->last;
        assert_false(count > 0 && sheaf_full(s));
        for (size_t i = 0; i < count; i++, n++)
            list[i] = (struct store_due){.due_us = 1000 + (int64_t)n, .seq = 5 + n * f->factor % total};
        sheaf_add(s, list, count);
    }
    mem_free(list);
}

static void each_comes_out_once_in_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const struct filling *f = &table[i];
        size_t total = f->parts * f->each + f->last;
        struct sheaf s = {0};
        for (int again = 0; again < 2; again++) {
            uint64_t seq = 0;
            fill(&s, f, total);
            assert_int_equal(s.left, total);
            assert_true(total == 0 || s.first_us == 1000);
            for (size_t k = 0; k < total; k++)
                if (!sheaf_next(&s, &seq) || seq != 5 + k)
                    fail_msg("%s: the %zuth is %llu", f->name, k, (unsigned long long)seq);
            assert_false(sheaf_next(&s, &seq));
            assert_false(sheaf_full(&s));
        }
        fill(&s, f, total);
        sheaf_clear(&s);
        assert_int_equal(s.left, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_comes_out_once_in_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
