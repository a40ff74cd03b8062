#include "queue/store/writer.h"

#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/base/metric.h"
#include "queue/store/private.h"

enum { BATCH_CAP_FIRST = 128 * 1024, POOL_MAX = 3, POOL_CAP_MAX = 4 * BATCH_MAX, TRIES_MAX = 2 };
enum { HOLD_SHARE = 2, HOLD_MOST_NS = 1000 * 1000 };

/* --- batches: staging buffers, aligned for O_DIRECT */

static void batch_grow(struct batch *b, size_t need)
{
    size_t cap = b->cap != 0 ? b->cap : BATCH_CAP_FIRST;
    while (cap < need)
        cap *= 2;
    if (cap == b->cap)
        return;
    char *memory = mem_alloc(cap + BLOCK);
    uint8_t *bytes = (uint8_t *)round_up((uintptr_t)memory, BLOCK);
    if (b->len != 0)
        memcpy(bytes, b->bytes, b->len);
    mem_free(b->memory);
    b->memory = memory;
    b->bytes = bytes;
    b->cap = cap;
}

static void batch_free(struct batch *b)
{
    mem_free(b->memory);
    mem_free(b);
}

static struct batch *batch_take(struct log *l)
{
    struct batch *b = l->pool;
    if (b != NULL) {
        l->pool = b->next;
        l->pooled--;
    } else {
        b = MEM_NEW(struct batch);
        batch_grow(b, BATCH_CAP_FIRST);
    }
    b->next = NULL;
    b->len = BATCH_HEAD;
    b->records = b->commits = 0;
    list_init(&b->entries);
    return b;
}

static void batch_give(struct log *l, struct batch *b)
{
    if (l->pooled >= POOL_MAX || b->cap > POOL_CAP_MAX) {
        batch_free(b);
        return;
    }
    b->next = l->pool;
    l->pool = b;
    l->pooled++;
}

static uint32_t batch_add(struct batch *b, const struct record *r)
{
    size_t rel = b->len, n = record_bytes(r);
    batch_grow(b, round_up(rel + n, BLOCK));
    record_put(r, b->bytes + rel);
    b->len += n;
    b->records++;
    return (uint32_t)rel;
}

/* Small segments (tests) must hold several batches. */
static size_t batch_max(const struct log *l)
{
    size_t part = l->store->segment_bytes / 4;
    return part < BATCH_MAX ? part : BATCH_MAX;
}

/* The batch that still takes n more bytes. */
static struct batch *gathering(struct log *l, size_t n)
{
    struct batch *b = l->last;
    if (b != NULL && (b->len == BATCH_HEAD || b->len + n <= batch_max(l)))
        return b;
    b = batch_take(l);
    if (l->last != NULL)
        l->last->next = b;
    else
        l->first = b;
    l->last = b;
    l->waiting++;
    return b;
}

void log_init(struct log *l, struct store *s)
{
    *l = (struct log){.store = s, .state = LOG_IDLE};
    pthread_mutex_init(&l->lock, NULL);
    list_init(&l->young);
    list_init(&l->room);
}

void log_fini(struct log *l)
{
    CHECK(l->state == LOG_IDLE && list_empty(&l->room));
    while (l->first != NULL) {
        struct batch *b = l->first;
        l->first = b->next;
        batch_free(b);
    }
    while (l->pool != NULL) {
        struct batch *b = l->pool;
        l->pool = b->next;
        batch_free(b);
    }
    pthread_mutex_destroy(&l->lock);
}

static void use_segment(struct log *l, struct segment *g)
{
    uint64_t next_seq = atomic_load(&l->store->next_seq);
    g->follows = l->active != NULL && !l->active->poisoned;
    g->seq_floor = next_seq;
    if (l->active != NULL)
        l->active->seq_end = next_seq;
    l->active = g;
    l->at = BLOCK;
    l->number = 0;
}

void log_start_segment(struct log *l, struct segment *g, uint64_t ended)
{
    pthread_mutex_lock(&l->lock);
    use_segment(l, g);
    l->durable = log_pos(g->epoch, BLOCK);
    l->ended = ended;
    pthread_mutex_unlock(&l->lock);
}

void log_start_without(struct log *l, uint64_t durable)
{
    pthread_mutex_lock(&l->lock);
    l->durable = durable;
    l->ended = l->store->log_ended;
    pthread_mutex_unlock(&l->lock);
}

/* --- the way out. All of these hold the lock. */

static void log_done(struct ring_op *op, int res, bool more);
static void log_slow(void *arg);

struct room_wait {
    struct list link;
    struct completion done;
};

static void room_made(struct log *l)
{
    struct list *node;
    while ((node = list_pop_front(&l->room)) != NULL)
        completion_signal(&CONTAINER(node, struct room_wait, link)->done);
}

/* The epoch is known now: fill it in, and tell everybody where his record goes. */
static void batch_seal(struct log *l, struct batch *b)
{
    uint64_t epoch = l->active->epoch, secret = l->store->secret;
    uint64_t base = log_pos(epoch, l->at);
    struct batch_head head = {.epoch = epoch,
                              .number = l->number + 1,
                              .after = l->ended,
                              .next_seq =
                                  atomic_load_explicit(&l->store->next_seq, memory_order_relaxed),
                              .records = b->records,
                              .bytes = (uint32_t)b->len};
    batch_head_put(&head, secret, b->bytes);
    for (size_t at = BATCH_HEAD; at < b->len; at += record_span(b->bytes + at)) {
        record_seal(b->bytes + at, epoch, secret);
        if (record_type_of(b->bytes + at) != RECORD_MESSAGE)
            segment_said(l->active, record_seq(b->bytes + at));
    }
    memset(b->bytes + b->len, 0, round_up(b->len, BLOCK) - b->len);
    LIST_EACH(&b->entries, node)
    {
        struct log_entry *e = CONTAINER(node, struct log_entry, link);
        e->epoch = epoch;
        e->at = l->at + e->rel;
        if (e->fresh != NULL) {
            e->fresh->pub.place.epoch = epoch;
            e->fresh->pub.place.at = e->at;
            e->fresh->pub.place.length = e->length;
            e->fresh->batch_pos = base;
        }
    }
}

static void write_flying(struct log *l)
{
    struct batch *b = l->flying;
    bool usable = l->active != NULL && !l->active->poisoned;
    if (!usable || l->at + round_up(b->len, BLOCK) > l->store->segment_bytes) {
        struct segment *next = segment_take(l->store);
        if (next == NULL) {
            l->state = LOG_SLOW;
            worker_spawn(l->store->home, "queue-log", log_slow, l);
            return;
        }
        use_segment(l, next);
    }
    batch_seal(l, b);
    l->state = LOG_WRITING;
    l->op.done = log_done;
    l->flying_bytes = batch_written(b->len, l->active->unit);
    ring_pwrite(&l->op, l->active->fd, b->bytes, l->flying_bytes, l->at);
}

/* Of all drafts that are open few have come, and the others may in the turn that follows at once. A worker that
 * would sleep writes, so nobody waits for somebody who is slow; and where few processors are always busy the
 * share of those who wait, or the time, ends it. */
static bool worth_waiting(const struct log *l)
{
    int64_t drafts = atomic_load_explicit(&l->store->drafts, memory_order_relaxed);
    return l->waiting == 1 && (int64_t)l->first->commits * HOLD_SHARE < drafts && worker_goes_on() &&
           clock_mono_ns() - l->due_ns < HOLD_MOST_NS;
}

static void submit_due(struct turn_end *t)
{
    struct log *l = CONTAINER(t, struct log, due);
    pthread_mutex_lock(&l->lock);
    if (worth_waiting(l)) {
        worker_at_turn_end(&l->due, submit_due);
        pthread_mutex_unlock(&l->lock);
        return;
    }
    struct batch *b = l->first;
    l->first = b->next;
    if (l->first == NULL) {
        l->last = NULL;
        l->flush = false;
    }
    l->waiting--;
    l->flying = b;
    l->tries = 0;
    room_made(l);
    write_flying(l);
    pthread_mutex_unlock(&l->lock);
}

static void submit_next(struct log *l)
{
    if (l->state != LOG_IDLE || l->first == NULL)
        return;
    l->state = LOG_DUE;
    l->due_ns = clock_mono_ns();
    worker_at_turn_end(&l->due, submit_due);
}

/* Somebody waits for what has gathered, or there is much of it. */
static bool wanted(const struct log *l)
{
    return l->first != NULL && (l->flush || l->waiting > 1 || !list_empty(&l->first->entries));
}

/* --- the way back */

/* Entries that nobody waits on belong to their owner again as soon as the lock is given back: take
 * them off the list while it is held. */
static void entries_settle(struct log *l, struct batch *b, const struct err *e,
                           struct list *waiters)
{
    struct list *node;
    while ((node = list_pop_front(&b->entries)) != NULL) {
        struct log_entry *entry = CONTAINER(node, struct log_entry, link);
        if (e == NULL && entry->fresh != NULL) {
            atomic_fetch_add_explicit(&l->store->young_bytes, entry->length, memory_order_relaxed);
            atomic_fetch_add_explicit(&l->store->alive, 1, memory_order_relaxed);
        }
        if (e != NULL) {
            entry->failed = true;
            entry->kind = e->kind;
            entry->code = e->code;
            str_copy(entry->why, sizeof entry->why, str_of(e->text));
            if (entry->fresh != NULL)
                list_remove(&entry->fresh->link);
        }
        if (entry->waits)
            list_push_back(waiters, node);
    }
}

static void entries_signal(struct list *waiters)
{
    struct list *node;
    while ((node = list_pop_front(waiters)) != NULL)
        completion_signal(&CONTAINER(node, struct log_entry, link)->done);
}

/* What must not be forgotten of a batch that could not be written: marks go to the next batch; and
 * since its bytes may have reached the disk all the same, its messages are taken back there. */
static void batch_carry(const struct log *l, const struct batch *from, struct batch *to,
                        bool written)
{
    size_t max = l->store->segment_bytes / 2, span;
    for (size_t at = BATCH_HEAD; at < from->len; at += span) {
        const uint8_t *rec = from->bytes + at;
        span = record_span(rec);
        if (to->len + span > max)
            return;
        if (record_type_of(rec) != RECORD_MESSAGE) {
            batch_grow(to, round_up(to->len + span, BLOCK));
            memcpy(to->bytes + to->len, rec, span);
            to->len += span;
            to->records++;
        } else if (written && (rec[RECORD_HEAD] & BODY_COPY) == 0) {
            struct record undo = {.type = RECORD_REMOVE, .seq = record_seq(rec)};
            record_sum(&undo);
            (void)batch_add(to, &undo);
        }
    }
}

/* The flying batch cannot be written, nor can what has gathered behind it. */
static void fail_all(struct log *l, const struct err *e, struct list *waiters)
{
    struct batch *carry = batch_take(l), *b;
    entries_settle(l, l->flying, e, waiters);
    batch_carry(l, l->flying, carry, l->tries > 0);
    batch_give(l, l->flying);
    l->flying = NULL;
    while ((b = l->first) != NULL) {
        l->first = b->next;
        entries_settle(l, b, e, waiters);
        batch_carry(l, b, carry, false);
        batch_give(l, b);
    }
    l->first = l->last = carry->len > BATCH_HEAD ? carry : NULL;
    l->waiting = l->first != NULL;
    if (l->first == NULL)
        batch_give(l, carry);
    l->flush = false;
    l->state = LOG_IDLE;
    room_made(l);
}

static void written(struct log *l, struct list *waiters)
{
    struct batch *b = l->flying;
    size_t bytes = l->flying_bytes, room = round_up(b->len, BLOCK);
    metric_add(METRIC_queue_log_writes, 1);
    metric_add(METRIC_queue_log_bytes, (int64_t)bytes);
    metric_add(METRIC_queue_log_records, b->records);
    l->writes++;
    l->bytes_written += bytes;
    uint64_t spare_at = l->store->segment_bytes / SPARE_WHEN_USED;
    if (l->at < spare_at && l->at + room >= spare_at)
        keeper_wake(l->store);
    l->at += (uint32_t)room;
    l->number++;
    l->durable = l->ended = log_pos(l->active->epoch, l->at);
    l->flying = NULL;
    l->state = LOG_IDLE;
    entries_settle(l, b, NULL, waiters);
    batch_give(l, b);
}

static void log_done(struct ring_op *op, int res, bool more)
{
    struct log *l = CONTAINER(op, struct log, op);
    struct list waiters;
    (void)more;
    list_init(&waiters);
    pthread_mutex_lock(&l->lock);
    if (res >= 0 && (size_t)res == l->flying_bytes) {
        written(l, &waiters);
    } else {
        struct err *e = err_errno(res < 0 ? -res : EIO, "write %s", l->active->name);
        log_warning("queue", "%s: this segment is not used any further", e->text);
        l->active->poisoned = true;
        if (++l->tries < TRIES_MAX)
            write_flying(l);
        else
            fail_all(l, e, &waiters);
    }
    if (wanted(l))
        submit_next(l);
    pthread_mutex_unlock(&l->lock);
    entries_signal(&waiters);
}

/* On the scheduler's worker: no spare was ready. */
static void log_slow(void *arg)
{
    struct log *l = arg;
    struct list waiters;
    struct segment *g = NULL;
    list_init(&waiters);
    fiber_shield_begin();
    struct err *e = segment_make(l->store, &g);
    fiber_shield_end();
    pthread_mutex_lock(&l->lock);
    if (e == NULL) {
        use_segment(l, g);
        write_flying(l);
    } else {
        fail_all(l, e, &waiters);
    }
    pthread_mutex_unlock(&l->lock);
    entries_signal(&waiters);
    keeper_wake(l->store);
}

/* --- the way in */

static void append_locked(struct log *l, const struct record *r, struct log_entry *e)
{
    struct batch *b = gathering(l, record_bytes(r));
    uint32_t rel = batch_add(b, r);
    if (e == NULL)
        return;
    e->rel = rel;
    e->length = (uint32_t)(RECORD_HEAD + r->first.len + r->rest.len);
    list_push_back(&b->entries, &e->link);
    b->commits += e->fresh != NULL;
    if (e->fresh != NULL)
        list_push_back(&l->young, &e->fresh->link);
}

static struct err *entry_err(const struct log_entry *e)
{
    return e->failed ? err_new(e->kind, e->code, "%s", e->why) : NULL;
}

static void wait_for_room(struct log *l)
{
    while (l->waiting >= BATCHES_WAITING_MAX && l->state != LOG_IDLE) {
        struct room_wait w;
        completion_init(&w.done);
        list_push_back(&l->room, &w.link);
        pthread_mutex_unlock(&l->lock);
        completion_wait(&w.done);
        pthread_mutex_lock(&l->lock);
    }
}

struct err *log_append_wait(struct log *l, const struct record *r, struct log_entry *e)
{
    size_t n = record_bytes(r), room = l->store->segment_bytes - BLOCK - BATCH_HEAD;
    if (n > room)
        return err_new(ERR_FULL, 0, "a record of %zu bytes is larger than a log segment", n);
    e->waits = true;
    completion_init(&e->done);
    pthread_mutex_lock(&l->lock);
    wait_for_room(l);
    append_locked(l, r, e);
    l->commits += e->fresh != NULL;
    submit_next(l);
    pthread_mutex_unlock(&l->lock);
    completion_wait(&e->done);
    return entry_err(e);
}

void log_append(struct log *l, const struct record *r, struct log_entry *e)
{
    pthread_mutex_lock(&l->lock);
    append_locked(l, r, e);
    if (l->waiting > 1)
        submit_next(l);
    pthread_mutex_unlock(&l->lock);
}

void log_flush(struct log *l)
{
    pthread_mutex_lock(&l->lock);
    if (l->first != NULL) {
        l->flush = true;
        submit_next(l);
    }
    pthread_mutex_unlock(&l->lock);
}

struct err *log_sync(struct log *l)
{
    struct log_entry e = {.waits = true};
    completion_init(&e.done);
    pthread_mutex_lock(&l->lock);
    struct batch *b = l->last != NULL ? l->last : l->flying;
    if (b != NULL) {
        list_push_back(&b->entries, &e.link);
        l->flush = l->first != NULL;
        submit_next(l);
    }
    pthread_mutex_unlock(&l->lock);
    if (b == NULL)
        return NULL;
    completion_wait(&e.done);
    return entry_err(&e);
}

uint32_t log_used(struct log *l)
{
    pthread_mutex_lock(&l->lock);
    uint32_t at = l->at;
    pthread_mutex_unlock(&l->lock);
    return at;
}
