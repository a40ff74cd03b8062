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
    list_init(&l->paid);
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

static struct list *place_of(struct line *l, const struct slots *s)
{
    return s->payer != 0 ? &l->paid : &l->classes[class_of(slots_need(s))];
}

/* Nearly always at the end; one that comes back finds its place. */
void line_add(struct line *l, struct line_item *i)
{
    struct list *place = place_of(l, i->slots);
    struct list *at = place->prev;
    CHECK(list_empty(&i->link));
    while (at != place && item_of(at)->since_ns > i->since_ns)
        at = at->prev;
    list_push_front(at, &i->link);
}

void line_remove(struct line_item *i)
{
    list_remove(&i->link);
}

static struct line_item *head_of(const struct list *place, struct line_item *first)
{
    if (list_empty(place))
        return first;
    struct line_item *head = item_of(place->next);
    return !first || head->since_ns < first->since_ns ? head : first;
}

struct line_item *line_first(const struct line *l)
{
    if (!list_empty(&l->stack))
        return item_of(l->stack.next);
    struct line_item *first = head_of(&l->paid, NULL);
    for (size_t i = 0; i < LINE_CLASSES; i++)
        first = head_of(&l->classes[i], first);
    return first;
}

static void raise_up(struct line *l, struct line_item *i)
{
    list_remove(&i->link);
    list_push_front(&l->stack, &i->link);
}

static struct line_item *paid_by(const struct line *l, const struct line_item *first)
{
    LIST_EACH(&l->paid, node)
    {
        if (item_of(node)->slots->payer == first->slots->id)
            return item_of(node);
    }
    return NULL;
}

struct line_item *line_top(struct line *l)
{
    struct line_item *first, *other;
    while ((first = line_first(l)) != NULL && l->stack.next == &first->link &&
           first->slots->payer == 0) {
        line_remove(first);
        line_add(l, first);
    }
    while (first && (other = paid_by(l, first)) != NULL) {
        raise_up(l, other);
        first = other;
    }
    return first;
}

struct line_item *line_newest(const struct line *l, const struct line_item *before)
{
    const struct list *node = before ? before->link.prev : l->classes[0].prev;
    return node == &l->classes[0] ? NULL : item_of(node);
}

/* Of one class, who is a better one than *best. */
static void look_for_best(const struct list *class, const struct line_item *first, int64_t ever,
                          int64_t now_ns, struct line_item **best, double *best_score)
{
    int seen = 0;
    LIST_EACH(class, node)
    {
        struct line_item *i = item_of(node);
        if (++seen > LOOKED_AT)
            break;
        if (i->slots == first->slots || slots_need(i->slots) > ever)
            continue;
        double score = slots_score(i->slots, now_ns - i->since_ns);
        if (!*best || score > *best_score) {
            *best = i;
            *best_score = score;
        }
    }
}

struct line_item *line_candidate(const struct line *l, const struct slot_rules *r,
                                 const struct line_item *first, int64_t now_ns)
{
    struct line_item *best = NULL;
    double best_score = 0;
    if (!slots_passable(r, first->slots))
        return NULL;
    int64_t ever = slots_ever(r, first->slots);
    look_for_best(&l->paid, first, ever, now_ns, &best, &best_score);
    for (size_t c = 0; c < LINE_CLASSES; c++)
        look_for_best(&l->classes[c], first, ever, now_ns, &best, &best_score);
    return best;
}

struct line_item *line_next(struct line *l, const struct slot_rules *r, int64_t now_ns)
{
    struct line_item *first, *other;
    while ((first = line_top(l)) != NULL && (other = line_candidate(l, r, first, now_ns)) != NULL &&
           slots_enough(r, first->slots, slots_need(other->slots))) {
        slots_give(first->slots, other->slots);
        raise_up(l, other);
    }
    return first;
}
