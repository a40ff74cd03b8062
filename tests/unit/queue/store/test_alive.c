/* alive: what was added is found always, what was not is found seldom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "queue/store/alive.h"

struct numbers {
    const char *name;
    uint64_t rows, step; /* numbers of those that are there; the others lie between them */
    unsigned wrong_max;  /* of a hundred others */
};

static const struct numbers table[] = {
    {"none", 0, 2, 0},
    {"every second of a row", 100000, 2, 10},
    {"few of many", 1000, 1001, 10},
    {"a power of two apart", 50000, UINT64_C(1) << 16, 10},
};

static void what_is_there_is_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const struct numbers *n = &table[i];
        struct alive v;
        uint64_t wrong = 0;
        alive_init(&v, n->rows);
        for (uint64_t k = 0; k < n->rows; k++)
            alive_add(&v, 0x10000 + k * n->step);
        for (uint64_t k = 0; k < n->rows; k++) {
            if (!alive_has(&v, 0x10000 + k * n->step))
                fail_msg("%s: number %llu is lost", n->name, (unsigned long long)k);
            wrong += alive_has(&v, 0x10000 + k * n->step + 1);
        }
        if (wrong * 100 > n->rows * n->wrong_max || alive_wrong_percent(&v) > n->wrong_max)
            fail_msg("%s: %llu of %llu are not there and are found; %u of 100 by its own count", n->name,
                     (unsigned long long)wrong, (unsigned long long)n->rows, alive_wrong_percent(&v));
        alive_fini(&v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_there_is_found)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
