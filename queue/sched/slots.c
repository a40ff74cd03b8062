#include "queue/sched/slots.h"

int64_t slots_need(const struct slots *s)
{
    return s->left + s->unread;
}

bool slots_passable(const struct slot_rules *r, const struct slots *s)
{
    return r->cost >= 2 && slots_need(s) + s->gone >= r->minimum * r->cost;
}

int64_t slots_ever(const struct slot_rules *r, const struct slots *s)
{
    return r->cost >= 2 ? (slots_need(s) + s->gone) / r->cost - s->given : 0;
}

/* gone / cost - given > 0, and with whole slots, + loan >= need * (100 - discount) / 100. The
 * second way is open to a debtor only: one that owes nothing has enough by the first, long before.
 */
bool slots_enough(const struct slot_rules *r, const struct slots *s, int64_t need)
{
    int64_t has = s->gone - s->given * r->cost;
    int64_t part = r->discount > 100 ? 0 : 100 - r->discount;
    return (has > 0 && (has / r->cost + r->loan) * 100 >= need * part) ||
           s->gone - s->gave_at >= 2 * need * r->cost;
}

double slots_score(const struct slots *s, int64_t waited_ns)
{
    int64_t all = slots_need(s) + s->gone;
    return ((double)waited_ns + 1e9) / (double)(all > 0 ? all : 1);
}

void slots_give(struct slots *s, struct slots *by)
{
    int64_t need = slots_need(by);
    s->given += need;
    s->gave_at = s->gone;
    by->payer = s->id;
    by->paid = need;
}

void slots_sent(struct slots *s)
{
    s->gone++;
    if (s->payer != 0 && --s->paid <= 0)
        s->payer = 0;
}
