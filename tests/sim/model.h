/* model: what a queue must still know after a power cut, kept beside the run. */
#ifndef SIM_MODEL_H
#define SIM_MODEL_H

#include "queue/store/store.h"

enum { MESSAGES = 72, VERSIONS = 24, RCPTS = 2 };

/* A message as one act left it. */
struct version {
    bool removed;
    uint32_t flags;
    int64_t due_us;
    enum rcpt_state states[RCPTS];
};

/* Its state may be any from `safe` (a sync returned after it) to the last. */
struct model_message {
    bool begun, acked;
    size_t size;
    struct version versions[VERSIONS];
    unsigned count, safe;
};

struct model {
    struct model_message messages[MESSAGES];
    uint64_t count;
};

/* Content and envelope of message n. */
void model_content(struct buf *b, uint64_t n, size_t size);
struct envelope *model_envelope(struct arena *a, uint64_t n);

/* Takes the state of an act that was made. */
void model_act(struct model_message *m, const struct version *v);
/* What is there agrees with the model. Fiber; waits until the store is ready. */
void model_check(const struct model *m, struct store *s);

#endif
