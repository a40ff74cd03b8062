/* check: one message is read from end to end, and set aside when it is damaged; and what was set aside is
 * shown. */
#include "io/base/check.h"
#include "io/base/log.h"
#include "queue/private.h"
#include "queue/store/corrupt.h"

struct checking {
    struct queue *queue;
    struct str id;
    bool aside;
    struct err_copy err;
};

/* It may have come into the active queue, or gone, while it was read. */
static struct err *set_aside(struct queue *q, struct qmsg *m, const char *why, bool *aside_out)
{
    struct active *a = umap_get(&q->sched->active, m->seq);
    *aside_out = true;
    if (a) {
        active_damaged(a);
        active_settle(a);
        return NULL;
    }
    if (__atomic_exchange_n(&m->claimed, 1, __ATOMIC_ACQ_REL) != 0) { /* on its way there: it will be seen to */
        *aside_out = false;
        return NULL;
    }
    struct err *e = store_quarantine(m, why);
    __atomic_store_n(&m->claimed, 0, __ATOMIC_RELEASE);
    if (!e)
        e = store_sync(q->store);
    return e;
}

static void check_main(void *arg)
{
    struct checking *c = arg;
    struct qmsg *m;
    uint64_t seq;
    if (!queue_id_parse(c->id, &seq, NULL))
        return;
    m = NULL;
    struct err *e = store_hidden(c->queue->store, seq) ? store_wait_ready(c->queue->store) : NULL;
    if (!e)
        e = store_get(c->queue->store, seq, &m);
    if (e || !m) {
        err_copy_take(&c->err, e);
        return;
    }
    if (!m->queue)
        m->queue = c->queue;
    if (str_eq(str_of(m->id), c->id))
        e = content_check(m);
    if (e && e->kind == ERR_DAMAGED) {
        char why[ERR_TEXT_MAX];
        str_copy(why, sizeof(why), str_of(e->text));
        e = set_aside(c->queue, m, why, &c->aside);
    }
    qmsg_unref(m);
    err_copy_take(&c->err, e);
}

struct err *queue_check(struct queue *q, struct str id, bool *aside_out)
{
    struct checking c = {.queue = q, .id = id};
    queue_on_sched(q, check_main, &c);
    *aside_out = c.aside;
    return err_copy_give(&c.err);
}

struct err *queue_find_corrupt(struct queue *q, struct str id, struct arena *a, struct queue_entry *entry_out,
                               struct corrupt_reader **reader_out, bool *found_out)
{
    struct store_row row;
    struct err *e = corrupt_open(q->store, id, a, &row, reader_out, found_out);
    if (e || !*found_out)
        return e;
    *entry_out = (struct queue_entry){.seq = row.seq, .queue = QUEUE_CORRUPT, .env = row.env};
    str_copy(entry_out->id, sizeof(entry_out->id), id);
    return NULL;
}
