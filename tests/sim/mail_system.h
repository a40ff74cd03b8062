/* mail_system: what stands around the queue in sim.mail: who sends, the network that takes, defers
 * or refuses, the notices, and the queue's start and stop. Each keeps the model. */
#ifndef SIM_MAIL_SYSTEM_H
#define SIM_MAIL_SYSTEM_H

#include "io/fiber/wait.h"
#include "mail_model.h"

struct mail {
    struct queue *q;
    struct mail_model *m;
    bool calm; /* the network takes everything */
    bool after_cut;
    unsigned producing, agents;
    struct event produced;
    const enum queue_act *acting; /* on whatever there is: what comes now may be met */
};

/* All seeds together. */
struct mail_done {
    uint64_t letters, deliveries;
};
extern struct mail_done mail_done;

/* A new letter; its number, or LETTERS when there is no more room in the model. */
uint64_t letter_new(struct mail *w, bool bounce);
struct err *letter_send(struct mail *w, uint64_t n, bool hold);
/* An act on it begins: until it is answered it may be done or not. */
void letter_open(struct letter *l, enum queue_act what);

struct err *mail_open(struct mail *w);
/* Drains. What the queue shows then is safe, but for a fault. */
void mail_close(struct mail *w);
/* What the queue shows now is safe, but for a fault. */
void mail_sync(struct mail *w);

#endif
