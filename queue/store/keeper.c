/* The keeper: a fiber on the scheduler's worker that brings the index up to date about once a
 * second, frees and prepares segments, and compacts. */
#include <stdlib.h>

#include "io/base/block.h"
#include "io/base/check.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/fiber/offload.h"
#include "io/ring/ring.h"
#include "queue/store/private.h"

enum {
    ROWS_AT_ONCE = 1000,
    DEAD_AT_ONCE = 3000, /* the same time: neighbours go together */
    WARN_EVERY_S = 60,
    COVER_STEP = 8 << 20,
    TIDY_MS = 200
};

/* One index round. First, in one breath, what is to be written is taken off the lists and the
 * position is noted up to which these lists (and the index as it is) tell all: the end of the safe
 * log, or the first young message that is left out. Then the log is synced, then rows are written:
 * so a row tells only of records that are safe. The position goes in with the last rows; what was
 * appended after it was noted is replayed after a crash, whether or not a row has it already. Rows
 * that could not be written go back where they were. */
struct round {
    struct store *store;
    struct list young, dirty;
    struct buf dead;    /* struct index_dead each */
    struct buf unlinks; /* u64 each */
    uint64_t covered;
    bool rebuilding; /* not all is told by index and lists: how far the index has come is for others to say */
    struct list put; /* young, then dirty ones of the open transaction */
    struct list put_dirty;
    size_t dead_at, dead_to;
};

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
        struct message *m = CONTAINER(node, struct message, link);
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
        struct message *m = CONTAINER(node, struct message, dirty_link);
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
    return CONTAINER(node, struct message, link)->pub.seq;
}

static uint64_t young_pos(struct list *node)
{
    return CONTAINER(node, struct message, link)->batch_pos;
}

static uint64_t dirty_seq(struct list *node)
{
    return CONTAINER(node, struct message, dirty_link)->pub.seq;
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

static void put_back(struct round *r)
{
    struct store *s = r->store;
    splice_front(&r->young, &r->put);
    splice_front(&r->dirty, &r->put_dirty);
    /* Those that were removed meanwhile have left the account; nothing waits for them. */
    LIST_EACH_SAFE(&r->young, node)
    {
        struct message *m = CONTAINER(node, struct message, link);
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

static struct err *put_row(struct round *r, struct message *m)
{
    struct index_row row = {.seq = m->pub.seq,
                            .flags = m->flags,
                            .due_us = m->due_us,
                            .place = m->pub.place,
                            .dests = m->dests,
                            .env = m->pub.env,
                            .part = m->pub.part};
    if (m->pub.part != NULL)
        m->pub.part->put = m->pub.part->changes.len;
    return index_put(r->store->index, &row);
}

static struct err *put_some(struct round *r)
{
    struct err *e = NULL;
    struct list *node;
    size_t n = 0;
    for (; e == NULL && n < ROWS_AT_ONCE && (node = list_pop_front(&r->young)) != NULL; n++) {
        list_push_back(&r->put, node);
        e = put_row(r, CONTAINER(node, struct message, link));
    }
    for (; e == NULL && n < ROWS_AT_ONCE && (node = list_pop_front(&r->dirty)) != NULL; n++) {
        list_push_back(&r->put_dirty, node);
        e = put_row(r, CONTAINER(node, struct message, dirty_link));
    }
    for (r->dead_to = r->dead_at; e == NULL && n < DEAD_AT_ONCE && r->dead_to < dead_count(r); n++)
        e = index_del_dead(r->store->index, &dead_of(r)[r->dead_to++]);
    return e;
}

/* The transaction is committed. */
static void put_done(struct round *r)
{
    struct list *node;
    while ((node = list_pop_front(&r->put)) != NULL) {
        struct message *m = CONTAINER(node, struct message, link);
        if (!m->dead) {
            m->stage = STAGE_INDEXED;
            atomic_fetch_sub_explicit(&r->store->young_bytes, m->pub.place.length,
                                      memory_order_relaxed);
            /* It has waited for a second: the memory is for what comes now. */
            if (store_crowded(r->store))
                qmsg_drop_content(&m->pub);
        } else { /* removed while the round waited: its REMOVE is not safe yet, its row goes with the next */
            store_set_dead(r->store, m->pub.seq, m->due_us);
        }
        qmsg_unref(&m->pub);
    }
    while ((node = list_pop_front(&r->put_dirty)) != NULL) {
        struct message *m = CONTAINER(node, struct message, dirty_link);
        m->dirty = false;
        if (m->pub.part != NULL)
            part_put_done(m->pub.part);
        qmsg_unref(&m->pub);
    }
    for (; r->dead_at < r->dead_to; r->dead_at++)
        (void)umap_del(&r->store->dead, dead_of(r)[r->dead_at].seq);
}

static bool all_put(const struct round *r)
{
    return list_empty(&r->young) && list_empty(&r->dirty) &&
           r->dead_to == dead_count(r);
}

static struct err *write_rows(struct round *r)
{
    struct index *x = r->store->index;
    bool last = false;
    /* Whoever looks through all rows at the same time wants to find each in `due`. */
    if (dead_count(r) >= r->store->purge_rows && r->store->proven) {
        struct err *e = index_purge_due(x, &r->dead);
        if (e != NULL)
            return e;
    }
    while (!last) {
        struct err *e = index_begin(x);
        if (e != NULL)
            return e;
        e = put_some(r);
        last = e == NULL && all_put(r);
        if (last && !r->rebuilding) {
            e = index_set(x, INDEX_COVERED, r->covered);
            if (e == NULL)
                e = index_set(x, INDEX_NEXT_SEQ,
                              atomic_load(&r->store->next_seq) + (r->store->stopping ? 0 : SEQ_GAP));
        }
        if (e != NULL)
            index_abort(x);
        else
            e = index_commit(x);
        if (e != NULL)
            return e;
        put_done(r);
        if (!last)
            fiber_yield();
    }
    if (!r->rebuilding)
        r->store->covered = r->covered;
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
    struct round r = {.store = s};
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
    buf_fini(&r.dead);
    buf_fini(&r.unlinks);
    s->stuck = e != NULL;
    sem_give(&s->round);
    fiber_shield_end();
    return e;
}

/* --- the fiber */

static void wake_arrived(struct mbox_msg *m)
{
    struct store *s = CONTAINER(m, struct store, wake_msg);
    atomic_store(&s->wake_posted, false);
    event_set(&s->keeper_wanted);
}

void keeper_wake(struct store *s)
{
    if (!atomic_exchange(&s->wake_posted, true)) {
        s->wake_msg.fn = wake_arrived;
        worker_post(s->home, &s->wake_msg);
    }
}

static bool spares_short(struct store *s)
{
    pthread_mutex_lock(&s->lock);
    bool is = s->spare_count + s->raw_count < SPARES_WANTED && s->segment_count > 1;
    pthread_mutex_unlock(&s->lock);
    return is;
}

/* Goes on at once when there is more, after the keeper's other duties. */
static struct err *tidy(struct store *s)
{
    int64_t until = clock_in_ms(TIDY_MS);
    struct err *e = NULL;
    bool more = true;
    while (e == NULL && more && !s->stopping && clock_mono_ns() < until) {
        e = index_tidy(s->index, &more);
        if (e == NULL && more)
            fiber_yield();
    }
    if (e == NULL && more)
        event_set(&s->keeper_wanted);
    return e;
}

static struct err *keep(struct store *s)
{
    struct err *e = NULL;
    bool more = true;
    if (spares_short(s) || clock_mono_ns() - s->round_ns >= s->index_delay_ms * NS_PER_MS) {
        e = keeper_round(s, s->index_delay_ms);
        block_trim();
    }
    space_free(s);
    if (e == NULL)
        e = space_free_between(s);
    while (e == NULL && more && !s->stopping)
        e = space_prepare(s, &more);
    if (e == NULL)
        e = index_trouble(s, tidy(s));
    if (e == NULL && !s->stopping && !store_keeps_all(s) && space_wants_compaction(s))
        e = space_compact(s);
    return e;
}

static void keeper(void *arg)
{
    struct store *s = arg;
    fiber_shield_begin();
    while (!s->stopping) {
        struct err *e = keep(s);
        if (e != NULL &&
            (s->warned_ns == 0 || clock_mono_ns() - s->warned_ns > WARN_EVERY_S * NS_PER_S)) {
            s->warned_ns = clock_mono_ns();
            log_warning("queue", "keeping the queue's index and log in order: %s", e->text);
        }
        if (s->stopping)
            break;
        e = event_wait(&s->keeper_wanted, clock_in_ms(s->index_delay_ms));
        event_clear(&s->keeper_wanted);
    }
    fiber_shield_end();
    event_set(&s->keeper_gone);
}

void keeper_start(struct store *s)
{
    s->round_ns = clock_mono_ns();
    worker_spawn(s->home, "queue-keeper", keeper, s);
}

void keeper_stop(struct store *s)
{
    s->stopping = true;
    event_set(&s->keeper_wanted);
    fiber_shield_begin();
    struct err *e = event_wait(&s->keeper_gone, DEADLINE_NEVER);
    fiber_shield_end();
    CHECK(e == NULL);
}
