/* Changes of the index are made on a thread of their own: a commit waits for the disk, and the scheduler's thread must not.
 * One piece of work at a time; what it touches of struct index (all but what the reading functions use: tables, kv,
 * `looked`) is that thread's as long. Readers have transactions of their own, and go on meanwhile. */
#include "io/base/check.h"
#include "io/fiber/offload.h"
#include "queue/store/private.h"

struct work {
    struct index *index;
    struct err *(*fn)(struct index *x, void *ctx);
    void *ctx;
    bool failed;
    struct err error; /* errors belong to the thread they were made on */
};

static void work(void *arg)
{
    struct work *w = arg;
    const struct err *e = w->fn(w->index, w->ctx);
    w->failed = e != NULL;
    if (e != NULL)
        w->error = *e;
}

struct index *index_turn_begin(struct store *s)
{
    fiber_shield_begin();
    struct err *e = sem_take(&s->index_turn, DEADLINE_NEVER);
    CHECK(e == NULL);
    fiber_shield_end();
    return s->index;
}

void index_turn_end(struct store *s)
{
    sem_give(&s->index_turn);
}

struct err *index_work(struct store *s, struct err *(*fn)(struct index *x, void *ctx), void *ctx)
{
    struct work w = {.index = index_turn_begin(s), .fn = fn, .ctx = ctx};
    offload_to(s->index_thread, work, &w);
    index_turn_end(s);
    if (!w.failed)
        return NULL;
    return err_make(w.error.file, w.error.line, w.error.kind, w.error.code, "%s", w.error.text);
}
