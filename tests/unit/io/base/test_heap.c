#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/base/heap.h"
#include "io/base/rand.h"

#define MANY 2000

static void gives_the_least_key_whatever_was_removed(void **state)
{
    (void)state;
    static struct heap_node nodes[MANY];
    struct heap h = {0};
    assert_null(heap_min(&h));
    for (size_t i = 0; i < MANY; i++)
        heap_push(&h, &nodes[i], (int64_t)rand_below(500) - 250);
    for (size_t i = 0; i < MANY; i += 3) {
        heap_remove(&h, &nodes[i]);
        heap_remove(&h, &nodes[i]); /* harmless */
    }
    assert_int_equal(h.count, MANY - (MANY + 2) / 3);
    int64_t last = INT64_MIN;
    for (struct heap_node *n; (n = heap_min(&h)) != NULL;) {
        assert_true(n->key >= last);
        last = n->key;
        heap_remove(&h, n);
        assert_int_equal(n->at, 0);
    }
    heap_fini(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gives_the_least_key_whatever_was_removed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
