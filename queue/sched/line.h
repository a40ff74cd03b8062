/* line: those who wait for the same thing, a place at a destination or a process of a transport,
 * and who of them has it next: the one that came first, but one that needs little passes one that
 * needs much, within the bound of slots.h. Takes the time as an argument. Finding the next costs
 * the same in a long line as in a short one.
 *
 *     out --line_add--> waiting in its class (by size) --it passes somebody--> on top of the stack
 *      ^                   |          ^                                          |  |
 *      |                   |          +---what was paid for it is used up--------+  |
 *      +---line_remove-----+--------------------------------------------------------+
 *
 * One that passed and was out meanwhile (its destination was full) waits among the paid, and is
 * on top again as soon as the one that gave it slots would be next. */
#ifndef QUEUE_SCHED_LINE_H
#define QUEUE_SCHED_LINE_H

#include "io/base/list.h"
#include "queue/sched/slots.h"

#define LINE_CLASSES 6 /* 1, 2..8, 9..64, 65..512, 513..4096, more */

struct line_item {
    struct list link;    /* empty: in no line */
    int64_t since_ns;    /* its place among those that came before and after */
    struct slots *slots; /* shared with the other lines its job waits in */
};

struct line {
    struct list stack; /* those that pass, the last one first */
    struct list paid;  /* those that passed somebody, and came back */
    struct list classes[LINE_CLASSES];
};

void line_init(struct line *l);
void line_item_init(struct line_item *i, struct slots *slots);
bool line_empty(const struct line *l);
void line_add(struct line *l, struct line_item *i);
void line_remove(struct line_item *i);
/* Who would be next if nobody passed; NULL: it is empty. */
struct line_item *line_first(const struct line *l);
/* Of those that need one request, who came last, or the one before `before`; NULL: there is none. */
struct line_item *line_newest(const struct line *l, const struct line_item *before);
/* The same, but those that have paid to pass are before the one they passed. */
struct line_item *line_top(struct line *l);
/* Who wants to pass `first` most, now or when more has been earned; NULL: nobody. */
struct line_item *line_candidate(const struct line *l, const struct slot_rules *r,
                                 const struct line_item *first, int64_t now_ns);
/* Who is next. What it costs to pass is paid. The caller takes it out when it needs no more. */
struct line_item *line_next(struct line *l, const struct slot_rules *r, int64_t now_ns);

#endif
