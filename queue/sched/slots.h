/* slots: how far a message with many recipients is passed by those with few (SCHEDULER_README,
 * "preemptive scheduling"). Pure: numbers in, numbers out; tests are tables.
 *
 * Every `cost` requests of a job that have gone out earn it one slot, and it gives others no more
 * slots than it can ever earn. So N requests of its own are followed by no more than N / cost of
 * those that passed it, and with those that passed these by less than N / (cost - 1). Loan and
 * discount let one pass earlier, but nobody passes a job that is in debt, as by Postfix
 * (tests/parity/test_attempts_order.py).
 *
 * One addition. When a large one has passed on credit, by Postfix's rules a letter waits until all
 * of that is earned, which may be thousands of requests. Here half of what a debtor earns is for
 * those that can pay with it, without credit; the other half pays the debt. The bound is not moved.
 */
#ifndef QUEUE_SCHED_SLOTS_H
#define QUEUE_SCHED_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

struct slot_rules {
    int64_t cost;     /* default_delivery_slot_cost; below 2: nobody passes */
    int64_t loan;     /* default_delivery_slot_loan */
    int64_t discount; /* default_delivery_slot_discount, percent */
    int64_t minimum;  /* default_minimum_delivery_slots */
};

/* What one message has to deliver through one transport, counted in requests. */
struct slots {
    uint64_t id;     /* its own; not 0 */
    int64_t left;    /* have not gone out */
    int64_t unread;  /* may be as many more: of recipients that are not in memory */
    int64_t gone;    /* have */
    int64_t given;   /* slots it gave to others */
    int64_t gave_at; /* `gone`, when it gave last */
    uint64_t payer;  /* the one that gave it slots; 0: nobody, or they are used up */
    int64_t paid;    /* of them, not used */
};

/* As much as it may still need. */
int64_t slots_need(const struct slots *s);
/* Would it ever earn enough that others may pass at all? */
bool slots_passable(const struct slot_rules *r, const struct slots *s);
/* As many as it could still give before it ends. */
int64_t slots_ever(const struct slot_rules *r, const struct slots *s);
/* It has earned enough, with what the rules give in advance, for one that needs so many; or twice as
 * much without it, since it gave last. */
bool slots_enough(const struct slot_rules *r, const struct slots *s, int64_t need);
/* Who passes first: the longer it has waited and the less it needs, the sooner. */
double slots_score(const struct slots *s, int64_t waited_ns);
/* `by` passes s, with as many requests as it is known to need. */
void slots_give(struct slots *s, struct slots *by);
/* A request has gone out. */
void slots_sent(struct slots *s);

#endif
