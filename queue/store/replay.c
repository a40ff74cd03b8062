/* Replay: records of the log behind the position the index covers, applied to rows in memory, which
 * go to the index in transactions. */
#include "queue/store/corrupt.h"
#include "queue/store/recover.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/file/file.h"

enum { ROWS_MAX = 4096, ROWS_BYTES_MAX = 64 << 20, YIELD_BYTES = 1 << 20 };

/* Damage that may turn out to be a torn write. */
struct doubt {
    struct scan_item item;
    uint64_t batches; /* seen before it */
    const char *why;
};

/* A message whose record is damaged: unless a removal or a whole copy follows. */
struct lost {
    char name[CORRUPT_NAME_MAX]; /* in corrupt/ */
    const char *why;
    size_t bytes;
};

struct replay_row {
    uint64_t seq;
    bool stored; /* there is a row in the index */
    bool exists, removed;
    uint32_t flags;
    int64_t due_us;
    struct qmsg_place place;
    struct envelope *env;
};

static struct err *row_get(struct recovery *r, uint64_t seq, struct replay_row **out)
{
    struct replay_row *row = umap_get(&r->rows, seq);
    if (row == NULL) {
        struct index_row stored;
        row = ARENA_NEW(r->arena, struct replay_row);
        row->seq = seq;
        struct err *e = index_get(r->store->index, seq, r->arena, &stored, &row->exists);
        row->stored = row->exists;
        if (e == NULL && row->exists)
            e = index_envelope(&stored, r->arena, &row->env);
        if (e != NULL)
            return e;
        if (row->exists) {
            row->flags = stored.flags;
            row->due_us = stored.due_us;
            row->place = stored.place;
        }
        (void)umap_put(&r->rows, seq, row);
    }
    *out = row;
    return NULL;
}

void recovery_init(struct recovery *r, struct store *s)
{
    *r = (struct recovery){.store = s, .arena = arena_new(65536, 0), .rows_max = ROWS_MAX};
}

void recovery_fini(struct recovery *r)
{
    umap_fini(&r->rows);
    arena_free(r->arena);
    buf_fini(&r->found);
    buf_fini(&r->doubts);
    buf_fini(&r->empty);
    buf_fini(&r->index_why);
}

static struct err *row_put(struct index *x, const struct replay_row *row)
{
    if (!row->exists || row->removed)
        return row->stored ? index_del(x, row->seq) : NULL;
    return index_put(x, &(struct index_row){.seq = row->seq,
                                            .flags = row->flags,
                                            .due_us = row->due_us,
                                            .place = row->place,
                                            .env = row->env});
}

static int by_seq(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

/* In the order of their keys: that fills pages, and takes each but once. */
static struct err *rows_put(struct index *x, const struct recovery *r)
{
    struct buf seqs = {0};
    struct err *e = NULL;
    size_t at = 0;
    uint64_t seq;
    void *value;
    while (umap_next(&r->rows, &at, &seq, &value))
        buf_add(&seqs, &seq, sizeof seq);
    if (seqs.len > 0)
        qsort(seqs.ptr, seqs.len / sizeof seq, sizeof seq, by_seq);
    for (at = 0; e == NULL && at < seqs.len; at += sizeof seq) {
        memcpy(&seq, seqs.ptr + at, sizeof seq);
        e = row_put(x, umap_get(&r->rows, seq));
    }
    buf_fini(&seqs);
    return e;
}

/* The records of the batch at r->batch may be in these rows already: applying them again changes
 * nothing. */
static struct err *rows_write(struct index *x, void *ctx)
{
    struct recovery *r = ctx;
    struct store *s = r->store;
    uint64_t next_seq = atomic_load(&s->next_seq);
    struct err *e = index_begin(x);
    if (e != NULL)
        return e;
    e = rows_put(x, r);
    if (e == NULL)
        e = index_set(x, INDEX_SECRET, s->secret);
    if (e == NULL)
        e = index_set(x, INDEX_COVERED, r->batch);
    if (e == NULL)
        e = index_set(x, INDEX_UNREAD, s->unread_epoch);
    if (e == NULL)
        e = index_set(x, INDEX_NEXT_SEQ, (next_seq > r->next_seq ? next_seq : r->next_seq) + SEQ_GAP);
    if (e != NULL) {
        index_abort(x);
        return e;
    }
    return index_commit(x);
}

static struct err *rows_flush(struct recovery *r)
{
    struct err *e = index_work(r->store, rows_write, r);
    if (e != NULL)
        return e;
    r->store->covered = r->batch;
    umap_fini(&r->rows);
    arena_reset(r->arena);
    if (!r->behind)
        return NULL;
    fiber_yield();
    return r->store->stopping ? err_new(ERR_CANCELED, 0, "the queue is closed") : NULL;
}

/* --- damaged messages */

static void lost_add(struct recovery *r, uint64_t epoch, const struct scan_item *item, const char *why)
{
    const struct replay_row *row = umap_get(&r->rows, item->head.seq);
    if (row != NULL && (row->exists || row->removed))
        return; /* said in the same batch */
    struct lost *l = MEM_NEW(struct lost);
    l->why = why;
    l->bytes = item->bytes.len + RECORD_HEAD;
    corrupt_keep(r->store, epoch, item, l->name);
    mem_free(umap_put(&r->lost, item->head.seq, l));
}

static void lost_drop(struct recovery *r, uint64_t seq)
{
    struct lost *l = r->lost.count != 0 ? umap_del(&r->lost, seq) : NULL;
    if (l == NULL)
        return;
    corrupt_drop(r->store, l->name);
    mem_free(l);
}

static void lost_tell(struct recovery *r)
{
    size_t at = 0;
    uint64_t seq;
    void *value;
    char id[QUEUE_ID_MAX];
    while (umap_next(&r->lost, &at, &seq, &value)) {
        struct lost *l = value;
        /* Its end tells the message, its begin only the time. */
        store_id(atomic_load(&r->store->long_ids) ? MESSAGE_LONG_ID : 0, 0, seq, id);
        if (str_starts(str_of(l->name), STR("seg-")))
            log_warning("queue", "corrupt/%s: %s, its queue id ends in %s: %zu bytes set aside",
                        l->name, l->why, id + (strlen(id) > 10 ? 10 : 5), l->bytes);
        else
            log_warning("queue", "corrupt/%s: %s: %zu bytes set aside", l->name, l->why, l->bytes);
        mem_free(l);
    }
    umap_fini(&r->lost);
}

static void set_aside(struct recovery *r, const struct segment_scan *scan,
                      const struct scan_item *item, const char *why)
{
    struct doubt d = {.item = *item, .batches = scan->batches, .why = why};
    buf_add(&r->doubts, &d, sizeof d);
}

/* What stands behind the end of the log as it was when the next segment was begun: a write that was
 * torn in an earlier crash, or that failed. */
static bool behind_the_end(const struct store *s, uint64_t epoch, uint32_t at)
{
    LIST_EACH(&s->segments, node)
    {
        const struct segment *g = CONTAINER(node, struct segment, link);
        if (g->epoch > epoch && g->has_data)
            return g->after != 0 && log_pos(epoch, at) >= g->after;
    }
    return false;
}

/* A batch that follows proves that what stood before it had been written. */
static void settle_doubts(struct recovery *r, uint64_t epoch, uint64_t batches)
{
    const struct doubt *d = (const struct doubt *)(const void *)r->doubts.ptr;
    size_t n = r->doubts.len / sizeof *d;
    if (n == 0 || batches <= d[n - 1].batches)
        return;
    for (size_t i = 0; i < n; i++) {
        char name[64];
        if (behind_the_end(r->store, epoch, d[i].item.at))
            continue;
        if (d[i].item.kind == SCAN_RECORD && d[i].item.head.type == RECORD_MESSAGE) {
            lost_add(r, epoch, &d[i].item, d[i].why);
            continue;
        }
        (void)snprintf(name, sizeof name, "seg-%016" PRIx64 "-%08" PRIx32, epoch, d[i].item.at);
        corrupt_save(r->store, name, d[i].item.bytes, d[i].why);
    }
    buf_reset(&r->doubts);
}

static struct err *apply_message(struct recovery *r, const struct segment_scan *scan,
                                 const struct scan_item *item)
{
    uint64_t epoch = scan->epoch;
    struct message_body body;
    struct replay_row *row = NULL;
    bool good = message_unpack(&item->head, item->bytes, &body);
    if (good && (body.bits & BODY_SPILLED) == 0)
        good = content_sum(body.content) == body.content_sum;
    struct err *e = row_get(r, item->head.seq, &row);
    if (e != NULL || row->removed)
        return e;
    if (!good) {
        /* A row that stands for this very record will have it looked at. */
        if (!row->exists || row->place.epoch != epoch || row->place.at != item->at)
            set_aside(r, scan, item, "a message is damaged");
        return NULL;
    }
    lost_drop(r, item->head.seq);
    /* A row that is there already may know more than this first record; a copy knows all until
     * here. */
    if (!row->exists || (body.bits & BODY_COPY) != 0) {
        e = envelope_unpack(arena_str(r->arena, body.envelope), r->arena, &row->env);
        if (e != NULL) {
            set_aside(r, scan, item, "an envelope is damaged");
            return NULL;
        }
        row->flags = body.flags;
        row->due_us = body.due_us;
    }
    row->exists = true;
    if (log_pos(epoch, item->at) >= log_pos(row->place.epoch, row->place.at))
        row->place = (struct qmsg_place){.epoch = epoch,
                                         .at = item->at,
                                         .length = RECORD_HEAD + item->head.length,
                                         .spilled = (body.bits & BODY_SPILLED) != 0};
    return NULL;
}

static struct err *apply(struct recovery *r, const struct segment_scan *scan,
                         const struct scan_item *item)
{
    struct replay_row *row = NULL;
    struct mark mark;
    if (item->head.seq >= r->next_seq)
        r->next_seq = item->head.seq + 1;
    if (item->head.type == RECORD_MESSAGE)
        return apply_message(r, scan, item);
    bool good = hash_sum(item->bytes.ptr, item->bytes.len, 0) == item->head.body_sum;
    if (good && item->head.type == RECORD_MARK)
        good = mark_unpack(item->bytes, r->arena, &mark);
    if (!good) {
        set_aside(r, scan, item, "a mark is damaged");
        return NULL;
    }
    struct err *e = row_get(r, item->head.seq, &row);
    if (item->head.type == RECORD_REMOVE)
        lost_drop(r, item->head.seq);
    if (e != NULL || !row->exists)
        return e;
    if (item->head.type == RECORD_REMOVE) {
        row->removed = true;
    } else {
        mark_apply(&mark, row->env, r->arena);
        row->flags = mark.flags;
        row->due_us = mark.due_us;
    }
    return NULL;
}

/* The last batch of all, when not all of it is there: a write that was cut short, which nobody was told
 * is safe; or one that was safe and has gone bad since. Nobody can tell, so the bytes are kept. */
static void keep_torn(struct recovery *r, const struct segment_scan *scan)
{
    struct batch_head h;
    struct buf path = {0};
    struct str batch = str_from(scan->bytes, scan->batch_at);
    uint32_t at = scan->base + (uint32_t)scan->batch_at;
    uint64_t good = scan->batches == r->batches_seen ? r->good : 0;
    if (batch.len < BATCH_HEAD ||
        !batch_head_get((const uint8_t *)batch.ptr, scan->epoch, scan->secret, &h) ||
        good >= h.records)
        return;
    buf_printf(&path, "%s/corrupt/torn-%016" PRIx64 "-%08" PRIx32, r->store->directory, scan->epoch,
               at);
    struct err *e = file_replace(path.ptr, str_head(batch, h.bytes), 0600);
    log_warning("queue",
                "%s: %llu of %u records of the last write before the crash are whole. Most likely it "
                "was cut short and nobody was told that it is safe; if it has gone bad since, this "
                "is what is left%s%s",
                path.ptr, (unsigned long long)good, h.records, e != NULL ? ": " : "",
                e != NULL ? e->text : "");
    buf_fini(&path);
}

static struct err *scan_bytes(struct recovery *r, struct segment_scan *scan)
{
    struct scan_item item;
    struct err *e = NULL;
    size_t yielded_at = 0;
    while (e == NULL && segment_scan_next(scan, &item)) {
        settle_doubts(r, scan->epoch, scan->batches);
        if (scan->batches != r->batches_seen)
            r->good = 0;
        r->batches_seen = scan->batches;
        r->batch = log_pos(scan->epoch, scan->base + (uint32_t)scan->batch_at);
        size_t doubts = r->doubts.len;
        if (item.kind == SCAN_GAP)
            set_aside(r, scan, &item, "the log is damaged here");
        else
            e = apply(r, scan, &item);
        r->good += item.kind == SCAN_RECORD && r->doubts.len == doubts;
        if (e != NULL)
            break;
        if (r->rows.count >= r->rows_max || arena_used(r->arena) >= ROWS_BYTES_MAX) {
            e = rows_flush(r);
            yielded_at = scan->at;
        } else if (r->behind && scan->at - yielded_at >= YIELD_BYTES) {
            fiber_yield();
            yielded_at = scan->at;
        }
    }
    return e;
}

bool scan_found_nothing(const struct segment_scan *scan)
{
    return scan->batches == 0 && !scan->found;
}

uint64_t scan_ended(const struct segment_scan *scan, uint64_t good)
{
    struct batch_head h;
    struct str batch = str_from(scan->bytes, scan->batch_at);
    uint32_t at = scan->base + (uint32_t)scan->batch_at;
    if (scan->batches == 0)
        return log_pos(scan->epoch, scan->base);
    if (batch.len < BATCH_HEAD ||
        !batch_head_get((const uint8_t *)batch.ptr, scan->epoch, scan->secret, &h))
        return 0;
    return log_pos(scan->epoch, good >= h.records ? at + (uint32_t)round_up(h.bytes, BLOCK) : at);
}

/* The index will not know of what lies there. No REMOVE behind it may go before it does. */
static void note_unread(struct store *s, const struct segment *g)
{
    pthread_mutex_lock(&s->lock);
    if (s->unread_epoch == 0 || g->epoch < s->unread_epoch)
        s->unread_epoch = g->epoch;
    pthread_mutex_unlock(&s->lock);
    log_warning("queue", "log/%s and what came after it are kept until a start can read all of it: "
                "the mail that lies there waits for that",
                g->name);
}

/* is_end: no later segment was written to, so the end of this one may be torn. */
static struct err *replay_segment(struct recovery *r, const struct segment *g, uint32_t from,
                                  uint64_t to, bool is_end)
{
    struct store *s = r->store;
    struct segment_scan scan;
    struct buf bytes = {0};
    bool around = false;
    struct err *e = r->around ? segment_read_around(s, g->name, from, &bytes, &around)
                              : segment_read(s, g->name, from, &bytes);
    if (around)
        note_unread(s, g);
    if (e == NULL && bytes.len > to - from)
        bytes.len = to - from;
    segment_scan_init(&scan, buf_str(&bytes), from, g->epoch, s->secret);
    r->batch = log_pos(g->epoch, from);
    r->batches_seen = r->good = 0;
    if (e == NULL)
        e = scan_bytes(r, &scan);
    if (scan.next_seq > r->next_seq)
        r->next_seq = scan.next_seq;
    if (e == NULL && !around && g->epoch > r->last && from == BLOCK && scan_found_nothing(&scan))
        buf_add(&r->empty, &g->epoch, sizeof g->epoch);
    if (e == NULL) {
        settle_doubts(r, g->epoch, is_end ? scan.batches : UINT64_MAX);
        if (is_end)
            keep_torn(r, &scan);
        if (g->epoch == r->last)
            r->ended = scan_ended(&scan, scan.batches == r->batches_seen ? r->good : 0);
        r->batch = log_pos(g->epoch, (uint32_t)g->size);
    }
    buf_reset(&r->doubts);
    buf_fini(&bytes);
    return e;
}

uint64_t last_with_data(const struct store *s)
{
    for (struct list *node = s->segments.prev; node != &s->segments; node = node->prev) {
        const struct segment *g = CONTAINER(node, struct segment, link);
        if (g->has_data)
            return g->epoch;
    }
    return 0;
}

/* The first segment of this epoch or a later one, as it is now: others are being added behind it. */
static bool segment_from(struct store *s, uint64_t epoch, struct segment *out)
{
    bool found = false;
    pthread_mutex_lock(&s->lock);
    for (struct list *node = s->segments.next; !found && node != &s->segments; node = node->next) {
        const struct segment *g = CONTAINER(node, struct segment, link);
        found = g->epoch >= epoch;
        if (found)
            *out = *g;
    }
    pthread_mutex_unlock(&s->lock);
    return found;
}

uint64_t bytes_behind(struct store *s, uint64_t from, uint64_t end)
{
    uint64_t bytes = 0;
    pthread_mutex_lock(&s->lock);
    LIST_EACH(&s->segments, node)
    {
        const struct segment *g = CONTAINER(node, struct segment, link);
        uint64_t at = g->epoch == from >> 32 ? (uint32_t)from : 0;
        uint64_t to = g->epoch == end >> 32 && (uint32_t)end < g->size ? (uint32_t)end : g->size;
        if (g->epoch >= from >> 32 && g->epoch <= end >> 32 && to > at)
            bytes += to - at;
    }
    pthread_mutex_unlock(&s->lock);
    return bytes;
}

struct err *replay(struct recovery *r)
{
    struct store *s = r->store;
    struct segment g;
    struct err *e = NULL;
    uint64_t epoch = r->from >> 32, end = r->end >> 32;
    r->batch = r->from;
    while (e == NULL && segment_from(s, epoch, &g) && g.epoch <= end) {
        uint64_t from = g.epoch == r->from >> 32 ? (uint32_t)r->from : 0;
        uint64_t to = g.epoch == end && (uint32_t)r->end < g.size ? (uint32_t)r->end : g.size;
        if (from < BLOCK)
            from = BLOCK;
        if (from < to)
            e = replay_segment(r, &g, (uint32_t)from, to, g.epoch >= r->last);
        epoch = g.epoch + 1;
        s->rebuild.done += to > from ? to - from : 0;
        if (r->behind)
            rebuild_tell(s);
        if (e == NULL && r->behind) /* however little there was in it, it need not be read again */
            e = rows_flush(r);
    }
    r->batch = r->end;
    lost_tell(r);
    return e == NULL ? rows_flush(r) : e;
}
