/* The ring, and what a compiler must not make of it: this file is built with -O2 and
 * without sanitizers (tests/CMakeLists.txt). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/base/list.h"

#define APART  __attribute__((noinline)) /* the optimiser does not see the caller's rings */
#define ENOUGH 10

struct item {
    struct list link;
    int number;
};

struct line {
    struct list first, second;
};

static int number_of(const struct list *node)
{
    return CONTAINER(node, struct item, link)->number;
}

static void keeps_the_order_in_which_it_was_filled(void **state)
{
    (void)state;
    struct list head;
    struct item items[5];
    list_init(&head);
    assert_true(list_empty(&head));
    assert_null(list_pop_front(&head));
    for (int i = 0; i < 5; i++)
        items[i].number = i;
    list_push_back(&head, &items[1].link);
    list_push_back(&head, &items[3].link);
    list_push_front(&head, &items[0].link);
    list_add_before(&items[3].link, &items[2].link);
    list_push_back(&head, &items[4].link);
    int at = 0;
    LIST_EACH(&head, node)
    assert_int_equal(number_of(node), at++);
    assert_int_equal(at, 5);
    LIST_EACH_SAFE(&head, node)
    {
        if (number_of(node) % 2 == 1)
            list_remove(node);
    }
    list_remove(&items[1].link); /* harmless */
    for (int i = 0; i < 5; i += 2)
        assert_int_equal(number_of(list_pop_front(&head)), i);
    assert_true(list_empty(&head));
}

APART static void forget(struct list *head)
{
    list_init(head);
}

/* gcc 12.2 reads second.next once, before the last loop, when types are a hint to it and the same
 * place was read above as that of a list: list_remove writes there, and the loop has no end. */
APART static int drain(struct line *l)
{
    struct list *node;
    int count = 0;
    while (!list_empty(&l->first) && list_empty(&l->second))
        forget(&l->first);
    while (count < ENOUGH && (node = l->second.next) != &l->second) {
        list_remove(node);
        count++;
    }
    return count;
}

static void a_ring_that_is_emptied_is_read_again(void **state)
{
    (void)state;
    struct line l;
    struct item one;
    list_init(&l.first);
    list_init(&l.second);
    list_push_back(&l.second, &one.link);
    assert_int_equal(drain(&l), 1);
    assert_true(list_empty(&l.second));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_the_order_in_which_it_was_filled),
        cmocka_unit_test(a_ring_that_is_emptied_is_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
