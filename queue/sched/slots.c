#include "queue/sched/slots.h"

bool slots_passable(const struct slot_rules *r, const struct slots *s)
{
    return r->cost >= 2 && s->left + s->gone >= r->minimum * r->cost;
}

int64_t slots_ever(const struct slot_rules *r, const struct slots *s)
{
    return r->cost >= 2 ? (s->left + s->gone) / r->cost - s->given : 0;
}

/* gone / cost - given + loan >= need * (100 - discount) / 100 */
bool slots_enough(const struct slot_rules *r, const struct slots *s, int64_t need)
{
    int64_t has = s->gone + (r->loan - s->given) * r->cost;
    int64_t part = r->discount > 100 ? 0 : 100 - r->discount;
    return has * 100 >= need * part * r->cost;
}

double slots_score(const struct slots *s, int64_t waited_ns)
{
    int64_t all = s->left + s->gone;
    return ((double)waited_ns + 1e9) / (double)(all > 0 ? all : 1);
}

void slots_give(struct slots *s, struct slots *by)
{
    s->given += by->left;
    by->payer = s->id;
}
