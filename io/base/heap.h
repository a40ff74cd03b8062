/* heap: intrusive binary min-heap by an int64_t key (a due time). Not locked. */
#ifndef IO_BASE_HEAP_H
#define IO_BASE_HEAP_H

#include <stdint.h>
#include <stddef.h>

struct heap_node {
    int64_t key;
    size_t at; /* position + 1; 0 = in no heap */
};
struct heap {
    struct heap_node **nodes;
    size_t count, cap;
};

void heap_fini(struct heap *h);
void heap_push(struct heap *h, struct heap_node *n, int64_t key);
void heap_remove(struct heap *h, struct heap_node *n); /* harmless when in no heap */
struct heap_node *heap_min(const struct heap *h);      /* NULL = empty; stays in */

#endif
