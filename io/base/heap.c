#include "io/base/heap.h"

#include "io/base/check.h"
#include "io/base/mem.h"

#define HEAP_FIRST_NODES 16U

void heap_fini(struct heap *h)
{
    mem_free(h->nodes);
    *h = (struct heap){0};
}

static void place(struct heap *h, size_t i, struct heap_node *n)
{
    h->nodes[i] = n;
    n->at = i + 1;
}

static void sift_up(struct heap *h, size_t i, struct heap_node *n)
{
    while (i > 0) {
        size_t parent = (i - 1) / 2;
        if (h->nodes[parent]->key <= n->key)
            break;
        place(h, i, h->nodes[parent]);
        i = parent;
    }
    place(h, i, n);
}

static void sift_down(struct heap *h, size_t i, struct heap_node *n)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= h->count)
            break;
        if (child + 1 < h->count && h->nodes[child + 1]->key < h->nodes[child]->key)
            child++;
        if (h->nodes[child]->key >= n->key)
            break;
        place(h, i, h->nodes[child]);
        i = child;
    }
    place(h, i, n);
}

void heap_push(struct heap *h, struct heap_node *n, int64_t key)
{
    CHECK(n->at == 0);
    if (h->count == h->cap) {
        h->cap = h->cap ? h->cap * 2 : HEAP_FIRST_NODES;
        h->nodes = mem_realloc(h->nodes, h->cap * sizeof(struct heap_node *));
    }
    n->key = key;
    sift_up(h, h->count++, n);
}

void heap_remove(struct heap *h, struct heap_node *n)
{
    if (n->at == 0)
        return;
    size_t i = n->at - 1;
    CHECK(i < h->count && h->nodes[i] == n);
    n->at = 0;
    struct heap_node *last = h->nodes[--h->count];
    if (last == n)
        return;
    if (i > 0 && last->key < h->nodes[(i - 1) / 2]->key)
        sift_up(h, i, last);
    else
        sift_down(h, i, last);
}

struct heap_node *heap_min(const struct heap *h)
{
    return h->count ? h->nodes[0] : NULL;
}
