#include "queue/import.h"

#include "io/base/clock.h"
#include "queue/private.h"

enum { SLICE = 256 };

void queue_import_mark(struct draft *d)
{
    d->flags |= MESSAGE_HOLD | MESSAGE_IMPORT;
}

struct err *queue_import_begin(struct queue *q, const struct import_state *state, struct draft **out)
{
    struct draft *d;
    struct err *e = queue_begin(q, &d);
    if (e)
        return e;
    queue_import_mark(d);
    d->flags |= state->warned ? MESSAGE_WARNED : 0U;
    d->due_us = state->due_us;
    /* The id is made again from the row's envelope whenever the message is read back. */
    d->arrival_us = state->arrival_us;
    store_id(d->flags, d->arrival_us, d->seq, d->id);
    *out = d;
    return NULL;
}

struct ending {
    struct queue *queue;
    const uint64_t *seqs;
    size_t count;
    struct err_copy err;
};

static struct err *end_one(struct queue *q, uint64_t seq, struct buf *due)
{
    struct qmsg *m;
    struct err *e = store_get(q->store, seq, &m);
    if (e || !m)
        return e;
    uint32_t flags = qmsg_flags(m);
    bool hold = m->env->flags & ENV_HOLD;
    if (flags & MESSAGE_IMPORT) {
        flags &= ~(uint32_t)(MESSAGE_IMPORT | (hold ? 0 : MESSAGE_HOLD));
        store_mark(m, &(struct mark){.flags = flags, .due_us = qmsg_due_us(m)});
        if (!hold && qmsg_due_us(m) <= clock_wall_us()) {
            buf_add(due, &m, sizeof(m));
            return NULL;
        }
    }
    qmsg_unref(m);
    return NULL;
}

/* Nothing of a message may go out before it is certain that its import has ended. */
static void end_main(void *arg)
{
    struct ending *n = arg;
    struct queue *q = n->queue;
    struct buf due = {0};
    struct err *e = NULL;
    for (size_t i = 0; i < n->count && !e; i++)
        e = end_one(q, n->seqs[i], &due);
    struct err *sync = store_sync(q->store);
    e = e ? e : sync;
    for (size_t at = 0; at < due.len; at += sizeof(struct qmsg *)) {
        struct qmsg *m;
        memcpy(&m, due.ptr + at, sizeof(m));
        if (!m->queue)
            m->queue = q;
        if (e || q->offline)
            qmsg_unref(m);
        else
            loader_take_or_leave(q->sched, m);
    }
    buf_fini(&due);
    err_copy_take(&n->err, e);
}

struct err *queue_import_end(struct queue *q, const uint64_t *seqs, size_t n)
{
    struct ending ending = {.queue = q, .seqs = seqs, .count = n};
    queue_on_sched(q, end_main, &ending);
    return err_copy_give(&ending.err);
}

struct err *queue_import_open(struct queue *q, void (*each)(void *ctx, const struct queue_entry *e), void *ctx)
{
    struct arena *a = arena_new(16384, 0);
    struct err *e = NULL;
    uint64_t after = 0;
    size_t n = 1;
    while (n > 0 && !e) {
        struct queue_entry *list;
        arena_reset(a);
        e = queue_list(q, after, SLICE, a, &list, &n);
        for (size_t i = 0; !e && i < n; i++) {
            after = list[i].seq;
            if (list[i].importing)
                each(ctx, &list[i]);
        }
    }
    arena_free(a);
    return e;
}
