/* Replay: records of the log behind the position the index covers, applied to rows in memory, which
 * go to the index in transactions. */
#include "queue/store/recover.h"

#include <inttypes.h>
#include <stdio.h>
#include "io/base/log.h"

enum { ROWS_MAX = 4096, ROWS_BYTES_MAX = 64 << 20 };

/* Damage that may turn out to be a torn write. */
struct doubt {
    struct scan_item item;
    uint64_t batches; /* seen before it */
    const char *why;
};

struct replay_row {
    uint64_t seq;
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
        if (e == NULL && row->exists)
            e = envelope_unpack(stored.envelope, r->arena, &row->env);
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

static struct err *rows_flush(struct recovery *r)
{
    struct index *x = r->store->index;
    struct buf packed = {0};
    size_t at = 0;
    uint64_t seq;
    void *value;
    struct err *e = index_begin(x);
    if (e != NULL)
        return e;
    while (e == NULL && umap_next(&r->rows, &at, &seq, &value)) {
        const struct replay_row *row = value;
        if (!row->exists || row->removed) {
            e = index_del(x, seq);
            continue;
        }
        buf_reset(&packed);
        envelope_pack(row->env, &packed);
        e = index_put(x, &(struct index_row){.seq = seq,
                                             .flags = row->flags,
                                             .due_us = row->due_us,
                                             .place = row->place,
                                             .envelope = buf_str(&packed)});
    }
    buf_fini(&packed);
    if (e != NULL) {
        index_abort(x);
        return e;
    }
    umap_fini(&r->rows);
    arena_reset(r->arena);
    return index_commit(x);
}

static void set_aside(struct recovery *r, const struct segment_scan *scan,
                      const struct scan_item *item, const char *why)
{
    struct doubt d = {.item = *item, .batches = scan->batches, .why = why};
    buf_add(&r->doubts, &d, sizeof d);
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
    if (!good) {
        set_aside(r, scan, item, "a message is damaged");
        return NULL;
    }
    struct err *e = row_get(r, item->head.seq, &row);
    if (e != NULL || row->removed)
        return e;
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

/* is_end: no later segment was written to, so the end of this one may be torn. */
static struct err *replay_segment(struct recovery *r, const struct segment *g, uint32_t from,
                                  bool is_end)
{
    struct store *s = r->store;
    struct segment_scan scan;
    struct scan_item item;
    struct buf bytes = {0};
    struct err *e = segment_read(s, g->name, from, &bytes);
    segment_scan_init(&scan, buf_str(&bytes), from, g->epoch, s->secret);
    while (e == NULL && segment_scan_next(&scan, &item)) {
        settle_doubts(r, g->epoch, scan.batches);
        if (item.kind == SCAN_GAP)
            set_aside(r, &scan, &item, "the log is damaged here");
        else
            e = apply(r, &scan, &item);
        if (e == NULL && (r->rows.count >= ROWS_MAX || arena_used(r->arena) >= ROWS_BYTES_MAX))
            e = rows_flush(r);
    }
    if (scan.next_seq > r->next_seq)
        r->next_seq = scan.next_seq;
    settle_doubts(r, g->epoch, is_end ? scan.batches : UINT64_MAX);
    if (r->doubts.len != 0)
        log_info("queue", "log/%s: the last write is torn: %zu damaged places in it are left out",
                 g->name, r->doubts.len / sizeof(struct doubt));
    buf_reset(&r->doubts);
    buf_fini(&bytes);
    return e;
}

static uint64_t last_with_data(const struct store *s)
{
    for (struct list *node = s->segments.prev; node != &s->segments; node = node->prev) {
        const struct segment *g = CONTAINER(node, struct segment, link);
        if (g->has_data)
            return g->epoch;
    }
    return 0;
}

struct err *replay(struct recovery *r)
{
    struct store *s = r->store;
    struct err *e = NULL;
    uint64_t last = last_with_data(s);
    LIST_EACH(&s->segments, node)
    {
        const struct segment *g = CONTAINER(node, struct segment, link);
        uint32_t from = BLOCK;
        if (g->epoch < s->covered >> 32)
            continue;
        if (g->epoch == s->covered >> 32)
            from = (uint32_t)s->covered < BLOCK ? BLOCK : (uint32_t)s->covered;
        if (e == NULL && from < g->size)
            e = replay_segment(r, g, from, g->epoch >= last);
    }
    return e == NULL ? rows_flush(r) : e;
}
