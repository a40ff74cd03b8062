/* slice: the recipients of a message in part (queue/store/store.h) that are in memory. Each has a slot, which is its place in
 * m->env->rcpts and stays the same for as long as it is there, with text of its own and the seat (seats.h) it was given. Who
 * is in it, and when, is for refill.c to say. */
#ifndef QUEUE_SCHED_SLICE_H
#define QUEUE_SCHED_SLICE_H

#include "queue/sched/seats.h"
#include "queue/store/store.h"

struct slice {
    struct qmsg *m;
    uint32_t room;            /* of the arrays */
    uint32_t loaded;          /* slots in use */
    uint32_t free_count;
    uint32_t *free;           /* slots that were in use */
    char **text;              /* what the recipient of a slot owns */
    struct seat_share **seat; /* its seat; NULL: it is there for a notice */
    struct buf outgrown;      /* struct rcpt *: smaller m->env->rcpts; agents look into them */
};

/* Nobody is in it; m->env->rcpts is the slice's from here on. */
void slice_begin(struct slice *s, struct qmsg *m);
/* The same as slice_leave_all; then all of it is freed, m->env->rcpts too. */
void slice_end(struct slice *s);
/* There is room for `want` in all. An agent that has a recipient can still read what never changes of it. */
void slice_make_room(struct slice *s, size_t want);
/* A copy of r gets a slot; there must be room for it. seat (or NULL) is the slice's from here on. */
uint32_t slice_take(struct slice *s, const struct rcpt *r, struct seat_share *seat);
/* Whose slot it is goes out of memory: its seat is free, and the slot is for another. */
void slice_leave(struct slice *s, uint32_t slot);
/* Everybody goes, seats too. No agent may be looking at any of them. */
void slice_leave_all(struct slice *s);

#endif
