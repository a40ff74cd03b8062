/* Finding messages: by number, by due time, by what they have in common, one after the other. What
 * the index says is a little behind; what was removed since is in `dead`, what changed since is in
 * memory. */
#include <stdlib.h>

#include "queue/store/private.h"

/* Rows that acts may leave for the keeper to write: a message in memory each, a number each. */
enum { DIRTY_MAX = 20000, DEAD_MAX = 300000 };

struct loading {
    struct store *store;
    struct arena *arena;
    struct qmsg *m;
};

static struct err *from_row(void *ctx, const struct index_row *row)
{
    struct loading *l = ctx;
    struct arena *a = l->arena;
    struct envelope *env = NULL;
    struct part *part = NULL;
    struct err *e = part_wanted(l->store, row) ? part_load(l->store, row, a, &env, &part)
                                               : index_envelope(row, a, &env);
    if (e != NULL)
        return e;
    struct message *m = message_new(l->store, row->seq, row->flags, a, env);
    m->pub.place = row->place;
    m->pub.part = part;
    m->due_us = row->due_us;
    m->dests = row->dests.len > 0 ? arena_str(a, row->dests) : STR("");
    m->stage = STAGE_INDEXED;
    message_publish(m);
    l->m = &m->pub;
    return NULL;
}

struct err *store_get(struct store *s, uint64_t seq, struct qmsg **out)
{
    bool found = false;
    struct qmsg *m = store_get_cached(s, seq);
    if (m != NULL || umap_get(&s->dead, seq) != NULL) {
        *out = m;
        return NULL;
    }
    if (store_hides(s, seq))
        return err_new(ERR_TIMEOUT, 0, "the index is being built again");
    struct loading l = {.store = s, .arena = arena_new(0, 0)};
    struct err *e = index_borrow(s->index, seq, from_row, &l, &found);
    if (l.m == NULL)
        arena_free(l.arena);
    if (e == NULL)
        *out = l.m;
    return index_trouble(s, e);
}

static bool due_before(struct store_due a, struct store_due b)
{
    return a.due_us != b.due_us ? a.due_us < b.due_us : a.seq < b.seq;
}

static int by_due(const void *a, const void *b)
{
    const struct store_due *x = a, *y = b;
    return due_before(*x, *y) ? -1 : due_before(*y, *x);
}

/* Its commit has returned, or is about to: before that it may yet be refused. log.lock */
static bool is_safe(const struct log *l, const struct message *m)
{
    return m->stage != STAGE_YOUNG || (m->batch_pos != 0 && m->batch_pos < l->durable);
}

/* Of the messages in memory those the index does not know, or knows otherwise. */
static void due_in_memory(struct store *s, struct store_due after, int64_t until_us, struct buf *list)
{
    size_t at = 0;
    uint64_t seq;
    void *value;
    pthread_mutex_lock(&s->log.lock);
    pthread_mutex_lock(&s->lock);
    while (umap_next(&s->messages, &at, &seq, &value)) {
        const struct message *m = value;
        struct store_due d = {.due_us = m->due_us, .seq = seq};
        if ((m->stage == STAGE_INDEXED && !m->dirty) || m->dead || (m->flags & MESSAGE_HOLD) ||
            m->stage == STAGE_NEW || !is_safe(&s->log, m) || d.due_us > until_us || !due_before(after, d))
            continue;
        buf_add(list, &d, sizeof d);
    }
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_unlock(&s->log.lock);
}

struct err *store_due(struct store *s, struct store_due after, int64_t until_us,
                      struct store_due *out, size_t max, size_t *count_out)
{
    struct err *e = index_due(s->index, after, until_us, out, max, count_out);
    if (e != NULL || !s->stuck)
        return index_trouble(s, e);
    /* No row can be written: mail that came just before must go out all the same. */
    struct buf list = {0};
    buf_add(&list, out, *count_out * sizeof *out);
    due_in_memory(s, after, until_us, &list);
    size_t n = list.len / sizeof *out;
    if (n > 1)
        qsort(list.ptr, n, sizeof *out, by_due);
    const struct store_due *each = (const struct store_due *)(const void *)list.ptr;
    *count_out = 0;
    for (size_t i = 0; i < n && *count_out < max; i++) {
        if (i == 0 || due_before(each[i - 1], each[i])) /* its row may have come just now */
            out[(*count_out)++] = each[i];
    }
    buf_fini(&list);
    return NULL;
}

/* --- listing: the index, and what is newer than it, from memory. No round of the keeper is waited
 * for, which may take a second under load. */

static struct err *show_message(const struct message *m, struct arena *a, struct store_row *out)
{
    *out = (struct store_row){.seq = m->pub.seq, .flags = m->flags, .due_us = m->due_us};
    out->dests = m->dests.len > 0 ? arena_str(a, m->dests) : STR("");
    return store_envelope(&m->pub, a, &out->env);
}

static struct err *show_row(struct store *s, const struct index_row *row, struct arena *a,
                            struct store_row *out)
{
    struct qmsg *pub = store_get_cached(s, row->seq);
    struct err *e;
    if (pub != NULL && (message_of(pub)->dirty || message_of(pub)->stage == STAGE_ROUND)) {
        e = show_message(message_of(pub), a, out);
    } else {
        *out = (struct store_row){
            .seq = row->seq, .flags = row->flags, .due_us = row->due_us, .dests = row->dests};
        e = index_envelope(row, a, &out->env);
    }
    qmsg_unref(pub);
    return e;
}

static int by_seq(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

/* Messages that have no row, and are safe: seqs behind `after`, up to `to`. */
static void rowless(struct store *s, uint64_t after, uint64_t to, struct buf *seqs)
{
    struct log *l = &s->log;
    size_t at = 0;
    uint64_t seq;
    void *value;
    pthread_mutex_lock(&l->lock);
    LIST_EACH(&l->young, node)
    {
        const struct message *m = CONTAINER(node, struct message, link);
        seq = m->pub.seq;
        if (m->batch_pos != 0 && m->batch_pos < l->durable && seq > after && seq <= to)
            buf_add(seqs, &seq, sizeof seq);
    }
    pthread_mutex_unlock(&l->lock);
    if (s->round.count <= 0) { /* some are on their way to the index */
        pthread_mutex_lock(&s->lock);
        while (umap_next(&s->messages, &at, &seq, &value)) {
            const struct message *m = value;
            if (m->stage == STAGE_ROUND && !m->dead && seq > after && seq <= to)
                buf_add(seqs, &seq, sizeof seq);
        }
        pthread_mutex_unlock(&s->lock);
    }
    if (seqs->len > 0)
        qsort(seqs->ptr, seqs->len / sizeof seq, sizeof seq, by_seq);
}

struct slice {
    struct store *store;
    struct arena *arena;
    struct store_row *list;
    size_t max, shown;
};

static struct err *show_young(struct slice *l, uint64_t seq)
{
    struct qmsg *m = store_get_cached(l->store, seq);
    if (m == NULL)
        return NULL;
    struct err *e = show_message(message_of(m), l->arena, &l->list[l->shown++]);
    qmsg_unref(m);
    return e;
}

/* Both are in order. */
static struct err *merge(struct slice *l, const struct index_row *rows, size_t n,
                         const struct buf *young)
{
    struct err *e = NULL;
    size_t i = 0, at = 0;
    while (e == NULL && l->shown < l->max && (i < n || at < young->len)) {
        uint64_t seq = UINT64_MAX;
        if (at < young->len)
            memcpy(&seq, young->ptr + at, sizeof seq);
        if (i == n || seq < rows[i].seq) {
            at += sizeof seq;
            e = show_young(l, seq);
            continue;
        }
        if (seq == rows[i].seq) /* a round that failed at its end has put it in all the same */
            at += sizeof seq;
        if (umap_get(&l->store->dead, rows[i].seq) == NULL)
            e = show_row(l->store, &rows[i], l->arena, &l->list[l->shown++]);
        i++;
    }
    return e;
}

struct err *store_list(struct store *s, uint64_t after_seq, size_t max, struct arena *a,
                       struct store_row **out, size_t *count_out)
{
    struct slice l = {.store = s, .arena = a, .max = max};
    struct buf young = {0};
    size_t n = max;
    struct err *e = store_wait_ready(s);
    struct index_row *rows = arena_alloc(a, max * sizeof *rows);
    l.list = arena_zalloc(a, max * sizeof *l.list);
    /* None at all means the end, so a slice of removed ones only is not given out. */
    while (e == NULL && l.shown == 0 && n == max) {
        e = index_walk(s->index, after_seq, a, rows, max, &n);
        if (e != NULL)
            break;
        buf_reset(&young);
        rowless(s, after_seq, n == max ? rows[n - 1].seq : UINT64_MAX, &young);
        if (n > 0)
            after_seq = rows[n - 1].seq;
        e = merge(&l, rows, n, &young);
    }
    buf_fini(&young);
    if (e != NULL)
        return index_trouble(s, e);
    *out = l.list;
    *count_out = l.shown;
    return NULL;
}

struct err *store_show(struct store *s, uint64_t seq, struct arena *a, struct store_row **out)
{
    struct qmsg *m = NULL;
    struct err *e = store_get(s, seq, &m);
    if (e != NULL)
        return e;
    struct store_row *row = NULL;
    if (m != NULL) {
        row = ARENA_NEW(a, struct store_row);
        *row = (struct store_row){.seq = seq,
                                  .flags = qmsg_flags(m),
                                  .due_us = qmsg_due_us(m)};
        if (m->part != NULL)
            e = store_envelope(m, a, &row->env);
        else
            row->env = envelope_copy(m->env, a);
        qmsg_unref(m);
    }
    if (e == NULL)
        *out = row;
    return e;
}

/* --- bulk */

/* A list is at the most so long. */
static bool at_most(const struct list *head, size_t max)
{
    const struct list *node = head->next;
    for (; node != head && max > 0; max--)
        node = node->next;
    return node == head;
}

struct err *store_query(struct store *s, struct store_query *q, struct store_pick *out, size_t max,
                        size_t *count_out)
{
    struct err *e = store_wait_ready(s);
    if (e == NULL && q->until == 0) {
        q->until = atomic_load(&s->next_seq);
        e = keeper_round(s, 0);
        if (e != NULL && (e->kind == ERR_IO || e->kind == ERR_FULL))
            e = NULL; /* what the index knows can be found on a disk that takes nothing, too */
    }
    if (e == NULL)
        e = index_query(s->index, q, out, max, count_out);
    return index_trouble(s, e);
}

bool store_remove_pick(struct store *s, const struct store_pick *p)
{
    struct qmsg *m = store_get_cached(s, p->seq);
    qmsg_unref(m);
    if (m != NULL || umap_get(&s->dead, p->seq) != NULL)
        return false;
    store_remove_row(s, p->seq, p->flags, p->due_us, p->spilled);
    return true;
}

struct err *store_catch_up(struct store *s)
{
    if (s->dead.count <= DEAD_MAX && at_most(&s->dirty, DIRTY_MAX))
        return NULL;
    return keeper_round(s, s->index_delay_ms);
}

void store_note_destinations(struct qmsg *pub, const struct rcpt *rcpts, size_t n)
{
    struct message *m = message_of(pub);
    const struct rcpt *last = NULL;
    struct buf dests = {0};
    if (pub->part != NULL)
        buf_add_str(&dests, m->dests);
    for (size_t i = 0; i < n; i++) {
        const struct rcpt *r = &rcpts[i];
        if ((r->state != RCPT_TODO && r->state != RCPT_DEFERRED) || r->transport == NULL ||
            r->nexthop == NULL ||
            (last != NULL && strcmp(last->nexthop, r->nexthop) == 0 &&
             strcmp(last->transport, r->transport) == 0))
            continue;
        index_dest_add(m->store->secret, str_of(r->transport), str_of(r->nexthop), &dests);
        last = r;
    }
    if (!str_eq(buf_str(&dests), m->dests)) {
        m->dests = arena_str(pub->arena, buf_str(&dests));
        m->dests_new = true;
    }
    buf_fini(&dests);
}

void store_keep_destinations(struct qmsg *pub)
{
    struct message *m = message_of(pub);
    if (m->dests_new && !m->dead)
        store_set_dirty(m); /* one without a row gets one with them */
    m->dests_new = false;
}
