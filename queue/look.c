/* look: mailq's and postcat's questions. */
#include "io/base/mem.h"
#include "queue/private.h"

struct looking {
    struct queue *queue;
    uint64_t after;
    size_t max;
    struct arena *arena;
    struct queue_entry *list;
    size_t count;
    struct str id;
    struct qmsg *msg;
    bool found;
    struct err_copy err;
};

/* In place: the envelope is ours. */
static void leave_out_done(struct envelope *env)
{
    size_t n = 0;
    for (size_t i = 0; i < env->rcpt_count; i++) {
        enum rcpt_state st = env->rcpts[i].state;
        if (st != RCPT_DONE && st != RCPT_NOTIFIED)
            env->rcpts[n++] = env->rcpts[i];
    }
    env->rcpt_count = n;
}

/* --- what an operator has told to wait says so, also before its next turn comes */

struct going {
    struct queue *queue;
    const struct store_row *row;
    bool waits;
};

static void goes_there(void *ctx, const char *name, int64_t since_us)
{
    struct going *g = ctx;
    (void)since_us;
    g->waits = g->waits || store_goes_to(g->queue->store, g->row->dests, str_of(name));
}

static void show_suspended(struct queue *q, const struct store_row *row, struct arena *a)
{
    const struct suspensions *p = &q->sched->suspensions;
    struct going g = {.queue = q, .row = row};
    if (p->set.count == 0 || (row->flags & MESSAGE_HOLD))
        return;
    if (row->dests.len > 0)
        suspend_each(p, goes_there, &g);
    for (size_t i = 0; i < row->env->rcpt_count; i++) {
        struct rcpt *r = &row->env->rcpts[i];
        if (g.waits || suspend_find(p, r->address, NULL, NULL))
            r->why = suspend_why(&r->why, a);
    }
}

static void entry_of(struct queue *q, const struct store_row *row, struct arena *a,
                     struct queue_entry *out)
{
    leave_out_done(row->env);
    show_suspended(q, row, a);
    *out = (struct queue_entry){
        .seq = row->seq,
        .queue = queue_name_of(q, row->seq, row->flags, row->env),
        .env = row->env,
        .next_try_us = row->due_us,
        .forced_expire = row->flags & MESSAGE_EXPIRE,
        .importing = row->flags & MESSAGE_IMPORT,
    };
    store_id(row->flags, row->env->arrival_us, row->seq, out->id);
}

static void list_main(void *arg)
{
    struct looking *l = arg;
    struct store_row *rows;
    size_t n;
    struct err *e = store_list(l->queue->store, l->after, l->max, l->arena, &rows, &n);
    if (e) {
        err_copy_take(&l->err, e);
        return;
    }
    l->list = arena_zalloc(l->arena, (n + 1) * sizeof(*l->list));
    for (size_t i = 0; i < n; i++)
        entry_of(l->queue, &rows[i], l->arena, &l->list[i]);
    l->count = n;
}

struct err *queue_list(struct queue *q, uint64_t after_seq, size_t max, struct arena *a,
                       struct queue_entry **out, size_t *count_out)
{
    struct looking l = {.queue = q, .after = after_seq, .max = max, .arena = a};
    queue_on_sched(q, list_main, &l);
    if (l.err.set)
        return err_copy_give(&l.err);
    *out = l.list;
    *count_out = l.count;
    return NULL;
}

static void find_main(void *arg)
{
    struct looking *l = arg;
    struct queue *q = l->queue;
    uint64_t seq;
    uint32_t usec;
    if (!queue_id_parse(l->id, &seq, &usec))
        return;
    struct qmsg *m = NULL;
    struct err *e = store_hidden(q->store, seq) ? store_wait_ready(q->store) : NULL;
    if (!e)
        e = store_get(q->store, seq, &m);
    if (e || !m) {
        err_copy_take(&l->err, e);
        return;
    }
    if (!str_eq(str_of(m->id), l->id)) {
        qmsg_unref(m);
        return;
    }
    if (!m->queue)
        m->queue = q;
    struct store_row row = {.seq = seq, .flags = qmsg_flags(m), .due_us = qmsg_due_us(m)};
    e = store_envelope(m, l->arena, &row.env);
    if (e) {
        err_copy_take(&l->err, e);
        qmsg_unref(m);
        return;
    }
    l->list = ARENA_NEW(l->arena, struct queue_entry);
    entry_of(q, &row, l->arena, l->list);
    l->msg = m;
    l->found = true;
}

struct err *queue_find(struct queue *q, struct str id, struct arena *a,
                       struct queue_entry *entry_out, struct qmsg **msg_out, bool *found_out)
{
    struct looking l = {.queue = q, .id = id, .arena = a};
    queue_on_sched(q, find_main, &l);
    if (l.err.set)
        return err_copy_give(&l.err);
    *found_out = l.found;
    if (l.found) {
        *entry_out = *l.list;
        *msg_out = l.msg;
    }
    return NULL;
}
