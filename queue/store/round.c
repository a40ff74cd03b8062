/* Index rounds: what has come, changed and gone since the last one goes into the index. */
#include <stdlib.h>

#include "io/base/check.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/fiber/offload.h"
#include "io/ring/ring.h"
#include "queue/store/private.h"

enum {
    ROWS_AT_ONCE = 1000,
    DEAD_AT_ONCE = 3000, /* the same time: neighbours go together */
    COVER_STEP = 8 << 20
};

/* One index round. First, in one breath, what is to be written is taken off the lists and the
 * position is noted up to which these lists (and the index as it is) tell all: the end of the safe
 * log, or the first young message that is left out. Then the log is synced, then rows are written:
 * so a row tells only of records that are safe. The position goes in with the last rows; what was
 * appended after it was noted is replayed after a crash, whether or not a row has it already. Rows
 * that could not be written go back where they were.
 *
 * Rows are written on the index's thread (index_work), a batch at a time, from copies (row_take). Until the batch is known
 * to be committed its messages are `flying`, and stay what they were, young or dirty: whoever looks goes by what is in
 * memory, whether the row shows already or not. What is said of one meanwhile makes it `changed`, and it is dirty
 * once more when it has landed; one that is removed counts as dead at once, for its row may be there. */
struct round {
    struct store *store;
    struct list young, dirty;
    struct buf dead;    /* struct index_dead each */
    struct buf unlinks; /* u64 each */
    uint64_t covered;
    bool stopping;
    bool rebuilding; /* not all is told by index and lists: how far the index has come is for others to say */
    /* --- the batch */
    struct list put; /* young, then dirty ones */
    struct list put_dirty;
    struct arena *arena;
    struct index_row *rows; /* of both */
    size_t row_count;
    size_t dead_at, dead_to;
    bool last;
};

static struct message *of_young(struct list *node)
{
    return CONTAINER(node, struct message, link);
}

static struct message *of_dirty(struct list *node)
{
    return CONTAINER(node, struct message, dirty_link);
}

static void splice_front(struct list *to, struct list *from)
{
    if (list_empty(from))
        return;
    from->prev->next = to->next;
    to->next->prev = from->prev;
    to->next = from->next;
    from->next->prev = to;
    list_init(from);
}

/* Only what is safe already: another thread may still take back what is not. While the index is being
 * rebuilt, old messages stay: their rows come out of the log, and are followed up when all have. */
static void take_young(struct round *r, int64_t born_before_ns)
{
    struct log *l = &r->store->log;
    pthread_mutex_lock(&l->lock);
    LIST_EACH_SAFE(&l->young, node)
    {
        struct message *m = of_young(node);
        if (m->batch_pos == 0 || m->batch_pos >= l->durable || m->born_ns > born_before_ns)
            break;
        if (store_hides(r->store, m->pub.seq))
            continue;
        list_remove(node);
        list_push_back(&r->young, node);
        m->stage = STAGE_ROUND;
    }
    r->covered = l->durable;
    if (!list_empty(&l->young)) {
        const struct message *m = CONTAINER(l->young.next, struct message, link);
        if (m->batch_pos != 0 && m->batch_pos < r->covered)
            r->covered = m->batch_pos;
    }
    pthread_mutex_unlock(&l->lock);
}

static int by_seq(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

/* Those that are gone already are deleted in this round. One that goes later is written all the
 * same: its REMOVE is not safe, while the marks before it are, and will lie before the position. */
static void drop_dead(struct list *dirty)
{
    LIST_EACH_SAFE(dirty, node)
    {
        struct message *m = of_dirty(node);
        if (!m->dead)
            continue;
        list_remove(node);
        m->dirty = false;
        qmsg_unref(&m->pub);
    }
}

struct in_order {
    uint64_t key; /* first: by_seq is for these too */
    struct list *node;
};

static uint64_t young_seq(struct list *node)
{
    return of_young(node)->pub.seq;
}

static uint64_t young_pos(struct list *node)
{
    return of_young(node)->batch_pos;
}

static uint64_t dirty_seq(struct list *node)
{
    return of_dirty(node)->pub.seq;
}

static void sort_list(struct list *head, uint64_t (*key)(struct list *node))
{
    struct buf all = {0};
    LIST_EACH(head, node)
    {
        struct in_order one = {key(node), node};
        buf_add(&all, &one, sizeof one);
    }
    const struct in_order *each = (const struct in_order *)(void *)all.ptr;
    size_t n = all.len / sizeof *each;
    if (n > 1)
        qsort(all.ptr, n, sizeof *each, by_seq);
    list_init(head);
    for (size_t i = 0; i < n; i++)
        list_push_back(head, each[i].node);
    buf_fini(&all);
}

/* Rows go in the order of their keys: those that share a page are written together, and fresh ones
 * fill theirs. */
static void sort_rows(struct round *r)
{
    sort_list(&r->young, young_seq);
    sort_list(&r->dirty, dirty_seq);
}

static void sort_dead(void *arg)
{
    index_sort_dead(arg);
}

static size_t dead_count(const struct round *r)
{
    return r->dead.len / sizeof(struct index_dead);
}

static struct index_dead *dead_of(const struct round *r)
{
    return (struct index_dead *)(void *)r->dead.ptr;
}

/* After an act on all mail they are hundreds of thousands: taken as they lie, and sorted elsewhere. While the index is
 * being rebuilt, the old ones stay. */
static void take_dead(struct round *r)
{
    struct store *s = r->store;
    r->dead = s->dead_new;
    s->dead_new = (struct buf){0};
    if (s->first_new == 0)
        return;
    struct index_dead *d = dead_of(r);
    size_t to = 0, n = dead_count(r);
    for (size_t at = 0; at < n; at++) {
        if (store_hides(s, d[at].seq))
            buf_add(&s->dead_new, &d[at], sizeof *d);
        else
            d[to++] = d[at];
    }
    r->dead.len = to * sizeof *d;
}

static void round_take(struct round *r, int64_t born_before_ns)
{
    struct store *s = r->store;
    list_init(&r->young);
    list_init(&r->dirty);
    list_init(&r->put);
    list_init(&r->put_dirty);
    take_young(r, born_before_ns);
    LIST_EACH_SAFE(&s->dirty, node)
    {
        if (store_hides(s, CONTAINER(node, struct message, dirty_link)->pub.seq))
            continue;
        list_remove(node);
        list_push_back(&r->dirty, node);
    }
    drop_dead(&r->dirty);
    take_dead(r);
    sort_rows(r);
    r->rebuilding = s->first_new != 0;
    r->unlinks = s->unlinks;
    s->unlinks = (struct buf){0};
}

static void landed(struct message *m)
{
    m->flying = false;
    if (m->changed && !m->dead)
        store_set_dirty(m);
    m->changed = false;
}

static void turn_back(struct list *to, struct list *from, struct message *(*of)(struct list *node))
{
    LIST_EACH(from, node)
    {
        struct message *m = of(node);
        m->flying = m->changed = false;
    }
    splice_front(to, from);
}

static void put_back(struct round *r)
{
    struct store *s = r->store;
    turn_back(&r->young, &r->put, of_young);
    turn_back(&r->dirty, &r->put_dirty, of_dirty);
    /* Those that were removed meanwhile have left the account; nothing waits for them. */
    LIST_EACH_SAFE(&r->young, node)
    {
        struct message *m = of_young(node);
        if (m->dead) {
            list_remove(node);
            qmsg_unref(&m->pub);
        } else {
            m->stage = STAGE_YOUNG;
        }
    }
    sort_list(&r->young, young_pos); /* what is first in there says how far the index has come */
    pthread_mutex_lock(&s->log.lock);
    splice_front(&s->log.young, &r->young);
    pthread_mutex_unlock(&s->log.lock);
    splice_front(&s->dirty, &r->dirty);
    buf_add(&s->unlinks, r->unlinks.ptr, r->unlinks.len);
    size_t done = r->dead_at * sizeof(struct index_dead);
    buf_add(&s->dead_new, r->dead.ptr + done, r->dead.len - done);
}

/* --- a batch */

static const struct part *part_copy(struct part *p, struct arena *a)
{
    struct part *copy = ARENA_NEW(a, struct part);
    struct str changes = arena_str(a, buf_str(&p->changes));
    p->put = p->changes.len;
    *copy = *p;
    copy->states = NULL;
    copy->changes = (struct buf){.ptr = (char *)(uintptr_t)changes.ptr, .len = changes.len};
    return copy;
}

static struct str states_copy(const struct envelope *env, struct arena *a)
{
    struct buf states = {0};
    envelope_pack_states(env, &states);
    struct str copy = arena_str(a, buf_str(&states));
    buf_fini(&states);
    return copy;
}

/* What may change while the row is written is copied; the rest of an envelope stays as it is. */
static void row_take(struct round *r, struct message *m)
{
    struct index_row *row = &r->rows[r->row_count++];
    *row = (struct index_row){.seq = m->pub.seq,
                              .flags = m->flags,
                              .due_us = m->due_us,
                              .place = m->pub.place,
                              .env = m->pub.env};
    row->dests = m->dests.len > 0 ? arena_str(r->arena, m->dests) : STR("");
    if (m->pub.part != NULL) {
        row->part = part_copy(m->pub.part, r->arena);
    } else {
        row->states = states_copy(m->pub.env, r->arena);
        row->deferred = qmsg_count(&m->pub, 1U << RCPT_DEFERRED) > 0;
    }
    m->flying = true;
    /* Removed while the round waited: its REMOVE is not safe yet, its row goes with the next. */
    if (m->dead && m->stage == STAGE_ROUND)
        store_set_dead(r->store, m->pub.seq, m->due_us);
}

static void take_rows(struct round *r, struct list *from, struct list *to, struct message *(*of)(struct list *node))
{
    struct list *node;
    while (r->row_count < ROWS_AT_ONCE && (node = list_pop_front(from)) != NULL) {
        list_push_back(to, node);
        row_take(r, of(node));
    }
}

static void batch_take(struct round *r)
{
    arena_reset(r->arena);
    r->rows = arena_alloc(r->arena, ROWS_AT_ONCE * sizeof *r->rows);
    r->row_count = 0;
    take_rows(r, &r->young, &r->put, of_young);
    take_rows(r, &r->dirty, &r->put_dirty, of_dirty);
    size_t left = dead_count(r) - r->dead_at, room = DEAD_AT_ONCE - r->row_count;
    r->dead_to = r->dead_at + (left < room ? left : room);
    r->last = list_empty(&r->young) && list_empty(&r->dirty) && r->dead_to == dead_count(r);
}

static struct err *batch_put(struct index *x, const struct round *r)
{
    struct err *e = NULL;
    for (size_t i = 0; e == NULL && i < r->row_count; i++)
        e = index_put(x, &r->rows[i]);
    for (size_t i = r->dead_at; e == NULL && i < r->dead_to; i++)
        e = index_del_dead(x, &dead_of(r)[i]);
    if (e != NULL || !r->last || r->rebuilding)
        return e;
    e = index_set(x, INDEX_COVERED, r->covered);
    if (e == NULL)
        e = index_set(x, INDEX_NEXT_SEQ, atomic_load(&r->store->next_seq) + (r->stopping ? 0 : SEQ_GAP));
    return e;
}

/* On the index's thread. */
static struct err *batch_write(struct index *x, void *ctx)
{
    struct err *e = index_begin(x);
    if (e != NULL)
        return e;
    e = batch_put(x, ctx);
    if (e == NULL)
        return index_commit(x);
    index_abort(x);
    return e;
}

/* The transaction is committed. */
static void batch_done(struct round *r)
{
    struct list *node;
    while ((node = list_pop_front(&r->put)) != NULL) {
        struct message *m = of_young(node);
        if (!m->dead) {
            m->stage = STAGE_INDEXED;
            atomic_fetch_sub_explicit(&r->store->young_bytes, m->pub.place.length,
                                      memory_order_relaxed);
            /* It has waited for a second: the memory is for what comes now. */
            if (store_crowded(r->store))
                qmsg_drop_content(&m->pub);
        }
        landed(m);
        qmsg_unref(&m->pub);
    }
    while ((node = list_pop_front(&r->put_dirty)) != NULL) {
        struct message *m = of_dirty(node);
        m->dirty = false;
        if (m->pub.part != NULL)
            part_put_done(m->pub.part);
        landed(m);
        qmsg_unref(&m->pub);
    }
    for (; r->dead_at < r->dead_to; r->dead_at++)
        (void)umap_del(&r->store->dead, dead_of(r)[r->dead_at].seq);
}

static struct err *write_rows(struct round *r)
{
    struct store *s = r->store;
    /* Whoever looks through all rows at the same time wants to find each in `due`. */
    if (dead_count(r) >= s->purge_rows && s->proven) {
        struct err *e = index_purge_due(s, &r->dead);
        if (e != NULL)
            return e;
    }
    while (!r->last) {
        batch_take(r);
        struct err *e = index_work(s, batch_write, r);
        if (e != NULL)
            return e;
        batch_done(r);
    }
    if (!r->rebuilding)
        s->covered = r->covered;
    return NULL;
}

/* Their REMOVE records are safe now. */
static void unlink_spilled(struct round *r)
{
    for (size_t at = 0; at < r->unlinks.len; at += sizeof(uint64_t)) {
        uint64_t seq;
        char name[24];
        memcpy(&seq, r->unlinks.ptr + at, sizeof seq);
        message_name(seq, name);
        struct err *e = io_unlinkat(r->store->content_dir_fd, name, 0);
        if (e != NULL && e->kind != ERR_NOTFOUND)
            log_warning("queue", "%s", e->text);
    }
    buf_reset(&r->unlinks);
}

static bool worth_it(const struct round *r)
{
    uint64_t old = r->store->covered;
    if (!list_empty(&r->young) || !list_empty(&r->dirty) || r->dead.len != 0)
        return true;
    return !r->rebuilding &&
           (r->covered >> 32 != old >> 32 || r->covered - old >= COVER_STEP || r->store->stopping);
}

struct err *keeper_round(struct store *s, int64_t min_age_ms)
{
    struct round r = {.store = s, .stopping = s->stopping, .arena = arena_new(0, 0)};
    fiber_shield_begin();
    struct err *e = sem_take(&s->round, DEADLINE_NEVER);
    CHECK(e == NULL);
    s->round_ns = clock_mono_ns();
    round_take(&r, s->round_ns - min_age_ms * NS_PER_MS);
    e = log_sync(&s->log);
    if (dead_count(&r) >= s->purge_rows)
        offload(sort_dead, &r.dead);
    else
        sort_dead(&r.dead);
    if (e == NULL) {
        unlink_spilled(&r);
        if (worth_it(&r))
            e = index_trouble(s, write_rows(&r));
    }
    if (e != NULL)
        put_back(&r);
    arena_free(r.arena);
    buf_fini(&r.dead);
    buf_fini(&r.unlinks);
    s->stuck = e != NULL;
    sem_give(&s->round);
    fiber_shield_end();
    return e;
}
