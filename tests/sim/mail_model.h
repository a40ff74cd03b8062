/* mail_model: what must be true of every letter, kept beside a run of the whole queue (scheduler
 * and all). Copied whole at each point at which the power may be cut. */
#ifndef SIM_MAIL_MODEL_H
#define SIM_MAIL_MODEL_H

#include "queue/private.h"

enum { LETTERS = 48, LETTER_RCPTS = 3 };

/* An act that was asked for and not answered leaves it open. */
enum maybe { NO, YES, OPEN };

struct letter_rcpt {
    bool delivered; /* the next hop has said yes */
    bool failed;    /* it has said no for good */
    bool told;      /* the sender's notice is safe, or not wanted */
    bool safe_done; /* a sync has returned after the state said so */
    bool safe_told;
};

struct letter {
    bool acked;  /* queue_commit has returned NULL */
    bool bounce; /* a notice of ours */
    size_t size;
    unsigned rcpt_count;
    uint64_t seq;
    char id[QUEUE_ID_MAX];
    struct letter_rcpt rcpts[LETTER_RCPTS];
    enum maybe removed, held, expired;
    bool gone; /* a sync has returned after the queue did not have it */
};

struct mail_model {
    struct letter letters[LETTERS];
    uint64_t count;
};

/* Content and envelope of letter n. */
void letter_content(const struct letter *l, uint64_t n, struct buf *out);
struct envelope *letter_envelope(const struct letter *l, uint64_t n, struct arena *a);
/* The letter of a message; fails when none was ever sent, or its envelope is another. */
uint64_t letter_of(const struct mail_model *m, const struct envelope *env);
/* The same of one that may be in memory in part; and which recipient of the letter one of its env->rcpts is. */
uint64_t letter_of_message(const struct mail_model *m, const struct qmsg *msg);
unsigned letter_index(const struct qmsg *msg, uint32_t at);
/* Nobody waits for it any more: everybody has it, or its sender was told. */
bool letter_settled(const struct letter *l);

/* Before a sync: which states the queue shows now; after it: they are safe. */
struct promise {
    bool there[LETTERS], looked[LETTERS];
    uint8_t states[LETTERS][LETTER_RCPTS];
};
void promise_take(const struct mail_model *m, struct queue *q, struct promise *out);
void promise_keep(struct mail_model *m, const struct promise *p);

/* What is in the store agrees with the model. Fiber. */
void mail_check(const struct mail_model *m, struct store *s);

#endif
