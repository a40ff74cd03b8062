#include "queue/sched/line.h"

#include <stddef.h>

#include "io/base/check.h"

/* How many of a class are looked at for a candidate: the oldest are the best, but may be too big. */
#define LOOKED_AT 4

static size_t class_of(int64_t left)
{
    size_t class = 0;
    for (int64_t bound = 1; left > bound && class + 1 < LINE_CLASSES; bound *= 8)
        class++;
    return class;
}

static struct line_item *item_of(const struct list *node)
{
    return CONTAINER(node, struct line_item, link);
}

void line_init(struct line *l)
{
    list_init(&l->stack);
    for (size_t i = 0; i < LINE_CLASSES; i++)
        list_init(&l->classes[i]);
}

void line_item_init(struct line_item *i, struct slots *slots)
{
    *i = (struct line_item){.slots = slots};
    list_init(&i->link);
}

bool line_empty(const struct line *l)
{
    return line_first(l) == NULL;
}

/* Nearly always at the end; one that comes back finds its place. */
void line_add(struct line *l, struct line_item *i)
{
    struct list *class = &l->classes[class_of(i->slots->left)];
    struct list *at = class->prev;
    CHECK(list_empty(&i->link));
    while (at != class && item_of(at)->since_ns > i->since_ns)
        at = at->prev;
    list_push_front(at, &i->link);
}

void line_remove(struct line_item *i)
{
    list_remove(&i->link);
}

struct line_item *line_first(const struct line *l)
{
    struct line_item *first = NULL;
    if (!list_empty(&l->stack))
        return item_of(l->stack.next);
    for (size_t i = 0; i < LINE_CLASSES; i++) {
        if (list_empty(&l->classes[i]))
            continue;
        struct line_item *head = item_of(l->classes[i].next);
        if (!first || head->since_ns < first->since_ns)
            first = head;
    }
    return first;
}

struct line_item *line_newest(const struct line *l, const struct line_item *before)
{
    const struct list *node = before ? before->link.prev : l->classes[0].prev;
    return node == &l->classes[0] ? NULL : item_of(node);
}

struct line_item *line_candidate(const struct line *l, const struct slot_rules *r,
                                 const struct line_item *first, int64_t now_ns)
{
    struct line_item *best = NULL;
    double best_score = 0;
    if (!slots_passable(r, first->slots))
        return NULL;
    int64_t ever = slots_ever(r, first->slots);
    for (size_t c = 0; c < LINE_CLASSES; c++) {
        int seen = 0;
        LIST_EACH(&l->classes[c], node)
        {
            struct line_item *i = item_of(node);
            if (++seen > LOOKED_AT)
                break;
            bool paid = i->slots->payer == first->slots->id;
            if (i->slots == first->slots || (!paid && i->slots->left > ever))
                continue;
            double score = slots_score(i->slots, now_ns - i->since_ns);
            if (!best || score > best_score) {
                best = i;
                best_score = score;
            }
        }
    }
    return best;
}

struct line_item *line_next(struct line *l, const struct slot_rules *r, int64_t now_ns)
{
    struct line_item *first = line_first(l), *other;
    while (first && (other = line_candidate(l, r, first, now_ns)) != NULL) {
        bool paid = other->slots->payer == first->slots->id;
        if (!paid && !slots_enough(r, first->slots, other->slots->left))
            break;
        if (!paid)
            slots_give(first->slots, other->slots);
        list_remove(&other->link);
        list_push_front(&l->stack, &other->link);
        first = other;
    }
    return first;
}
