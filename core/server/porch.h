/* porch: where new connections wait on their worker. In one turn of its loop at most PORCH_PER_TURN of them
 * begin, so that however many knock, the sessions under way come to their turn. One worker's, no locks. */
#ifndef CORE_SERVER_PORCH_H
#define CORE_SERVER_PORCH_H

#include "io/base/list.h"

#define PORCH_PER_TURN 8

struct porch {
    struct list waiting;
    unsigned begun;                   /* since the porter's last turn */
    bool attended;                    /* a porter is there: a fiber, as long as there is work */
    void (*begin)(struct list *link); /* spawns the session, or turns it away; does not wait */
};

void porch_init(struct porch *p, void (*begin)(struct list *link));
/* First come, first begun. On the worker. */
void porch_enter(struct porch *p, struct list *link);

#endif
