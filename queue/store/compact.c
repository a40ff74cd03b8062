/* Compaction: what lives in the emptiest segment, or the oldest, is written again at the head of the log, with its
 * present state, and the index rows follow once the copies are safe; then the segment is freed like
 * any other. */
#include "io/base/check.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "queue/store/private.h"

#include <stdio.h>

enum { COPIES_SYNC_BYTES = 1 << 20, WALK_ROWS = 256 };

struct copy {
    struct log_entry entry;
    struct message *m;
    struct copy *next;
};

struct compaction {
    struct store *store;
    uint64_t epoch;
    struct copy *copies;
    size_t bytes; /* since the last sync */
};

/* Segments that the index does not cover yet: what of them stays is not known before the next round. store.lock. */
static uint64_t fresh_segments(const struct store *s)
{
    uint64_t n = 0;
    for (const struct list *node = s->segments.prev; node != &s->segments; node = node->prev) {
        if (CONTAINER(node, struct segment, link)->epoch < s->covered >> 32)
            break;
        n++;
    }
    return n;
}

bool space_wants_compaction(struct store *s)
{
    bool wants = false;
    pthread_mutex_lock(&s->lock);
    uint64_t live = s->rows_bytes;
    uint64_t whole = (s->segment_count - fresh_segments(s)) * s->segment_bytes;
    if (s->segment_count > 1 && whole > 2 * live + SEGMENTS_FLOOR * s->segment_bytes) {
        const struct segment *oldest = CONTAINER(s->segments.next, struct segment, link);
        wants = oldest->rows_bytes != 0 && oldest->epoch < s->covered >> 32 &&
                !segment_unread(s, oldest);
    }
    pthread_mutex_unlock(&s->lock);
    return wants;
}

/* The one with the least to copy, when that is less than what it sets free; else the oldest, so that in the end
 * those go too that can only go as the oldest. */
static uint64_t emptiest(struct store *s)
{
    pthread_mutex_lock(&s->log.lock);
    pthread_mutex_lock(&s->lock);
    const struct segment *best = CONTAINER(s->segments.next, struct segment, link);
    uint64_t half = s->segment_bytes / 2, least = best->rows_bytes < half ? best->rows_bytes : half;
    for (const struct list *node = s->segments.prev; node != &s->segments; node = node->prev) {
        const struct segment *g = CONTAINER(node, struct segment, link);
        if (g->seq_floor == 0)
            break;
        if (g->rows_bytes < least && segment_between(s, g)) {
            best = g;
            least = g->rows_bytes;
        }
    }
    uint64_t epoch = best->epoch;
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_unlock(&s->log.lock);
    return epoch;
}

/* The copies are safe: from now on the messages lie there. One that was removed meanwhile has its
 * REMOVE behind the copy. */
static struct err *settle(struct compaction *c)
{
    struct store *s = c->store;
    struct err *e = log_sync(&s->log);
    while (c->copies != NULL) {
        struct copy *k = c->copies;
        c->copies = k->next;
        if (k->entry.failed && e == NULL)
            e = err_new(k->entry.kind, k->entry.code, "%s", k->entry.why);
        if (!k->entry.failed && !k->m->dead) {
            pthread_mutex_lock(&s->lock);
            k->m->pub.place.epoch = k->entry.epoch;
            k->m->pub.place.at = k->entry.at;
            k->m->pub.place.length = k->entry.length;
            pthread_mutex_unlock(&s->lock);
            store_set_dirty(k->m);
        }
        qmsg_unref(&k->m->pub);
        mem_free(k);
    }
    c->bytes = 0;
    return e;
}

/* Takes the reference. */
static struct err *copy_out(struct compaction *c, struct message *m, const struct message_body *old)
{
    const struct envelope *env;
    struct arena *a;
    struct err *e = part_whole(&m->pub, &a, &env);
    if (e != NULL) {
        arena_free(a);
        qmsg_unref(&m->pub);
        return e;
    }
    struct copy *k = MEM_NEW(struct copy);
    struct buf first = {0};
    struct message_body body = {.bits = BODY_COPY | (m->pub.place.spilled ? BODY_SPILLED : 0),
                                .flags = m->flags,
                                .due_us = m->due_us,
                                .content_size = old->content_size,
                                .content_sum = old->content_sum};
    message_pack(&body, env, &first);
    arena_free(a);
    struct record r = {
        .type = RECORD_MESSAGE, .seq = m->pub.seq, .first = buf_str(&first), .rest = old->content};
    record_sum(&r);
    k->m = m;
    k->next = c->copies;
    c->copies = k;
    c->bytes += record_bytes(&r);
    log_append(&c->store->log, &r, &k->entry);
    buf_fini(&first);
    return NULL;
}

/* The record is not whole. Its content may be: the envelope is known from the index. */
static struct err *copy_damaged(struct compaction *c, struct message *m, const struct scan_item *item)
{
    struct message_body body;
    uint32_t len = 0;
    struct err *e = content_check(&m->pub);
    if (e != NULL && e->kind == ERR_DAMAGED)
        e = store_quarantine(&m->pub, "content is damaged: checksum");
    else if (e == NULL && !m->dead && /* it may have been removed while it was read */
             message_unpack_fixed(item->bytes, &body, &len) &&
             len <= item->bytes.len - MESSAGE_FIXED) {
        body.content = str_from(item->bytes, MESSAGE_FIXED + (size_t)len);
        if (m->pub.place.spilled)
            body.content = STR("");
        if (m->pub.place.spilled || content_sum(body.content) == body.content_sum) {
            return copy_out(c, m, &body);
        }
    }
    qmsg_unref(&m->pub);
    return e;
}

static struct err *copy_if_live(struct compaction *c, const struct scan_item *item)
{
    struct qmsg *pub = NULL;
    struct message_body body;
    struct err *e = store_get(c->store, item->head.seq, &pub);
    if (e != NULL || pub == NULL)
        return e;
    struct message *m = message_of(pub);
    if (pub->place.epoch != c->epoch || pub->place.at != item->at || m->stage != STAGE_INDEXED) {
        qmsg_unref(pub);
        return NULL;
    }
    if (!message_unpack(&item->head, item->bytes, &body) ||
        (!pub->place.spilled && content_sum(body.content) != body.content_sum))
        return copy_damaged(c, m, item);
    e = copy_out(c, m, &body);
    if (e != NULL)
        return e;
    return c->bytes >= COPIES_SYNC_BYTES ? settle(c) : NULL;
}

static struct err *copy_all(struct compaction *c, struct str bytes)
{
    struct segment_scan scan;
    struct scan_item item;
    struct err *e = NULL;
    segment_scan_init(&scan, bytes, BLOCK, c->epoch, c->store->secret);
    while (e == NULL && segment_scan_next(&scan, &item)) {
        if (item.kind == SCAN_RECORD && item.head.type == RECORD_MESSAGE)
            e = copy_if_live(c, &item);
    }
    struct err *settled = settle(c);
    return e != NULL ? e : settled;
}

/* Rows that still point into the segment though all of it was copied: their records are damaged.
 * Rare, so a walk over the whole index is fine. */
static struct err *give_up_lost(struct store *s, uint64_t epoch)
{
    struct index_row *rows = mem_alloc(WALK_ROWS * sizeof *rows);
    struct arena *a = arena_new(0, 0);
    uint64_t after = 0;
    size_t n = WALK_ROWS;
    struct err *e = NULL;
    while (e == NULL && n == WALK_ROWS) {
        arena_reset(a);
        e = index_trouble(s, index_walk(s->index, after, a, rows, WALK_ROWS, &n));
        for (size_t i = 0; e == NULL && i < n; i++) {
            struct qmsg *m = NULL;
            after = rows[i].seq;
            if (rows[i].place.epoch != epoch)
                continue;
            e = store_get(s, rows[i].seq, &m);
            if (e == NULL && m != NULL && m->place.epoch == epoch)
                e = content_check(m);
            if (e != NULL && e->kind == ERR_DAMAGED && m != NULL)
                e = store_quarantine(m, "no whole record in the log");
            qmsg_unref(m);
        }
    }
    arena_free(a);
    mem_free(rows);
    return e;
}

static uint64_t rows_left(struct store *s, uint64_t epoch)
{
    pthread_mutex_lock(&s->lock);
    const struct segment *g = umap_get(&s->by_epoch, epoch);
    uint64_t bytes = g != NULL ? g->rows_bytes : 0;
    pthread_mutex_unlock(&s->lock);
    return bytes;
}

struct err *space_compact(struct store *s)
{
    char name[SEGMENT_NAME_MAX];
    struct buf bytes = {0};
    struct compaction c = {.store = s, .epoch = emptiest(s)};
    if (!segment_pin(s, c.epoch, name))
        return NULL;
    struct err *e = segment_read(s, name, BLOCK, &bytes);
    if (e == NULL)
        e = copy_all(&c, buf_str(&bytes));
    segment_unpin(s, c.epoch);
    buf_fini(&bytes);
    if (e == NULL)
        e = keeper_round(s, s->index_delay_ms);
    if (e == NULL && !store_keeps_all(s) && rows_left(s, c.epoch) != 0)
        e = give_up_lost(s, c.epoch);
    space_free(s);
    if (e == NULL)
        e = space_free_between(s);
    return e != NULL ? err_in(e, "compact %s", name) : NULL;
}
