/* Drafts: content on its way in. Up to inline_limit it gathers in memory and goes into the MESSAGE
 * record; beyond that it streams to content/<seq> in pieces of 64 KiB and is synced, file and name,
 * before the record that names it is appended. */
#include "io/base/block.h"
#include "io/base/check.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/file/file.h"
#include "io/ring/ring.h"
#include "queue/store/private.h"

#include <fcntl.h>

enum { ARENA_FIRST = 2048, PACKED_FIRST = 1023 }; /* hold the envelope of usual mail */

struct draft_spill {
    int fd;
    uint64_t written, sum;
};

struct store_draft {
    struct draft pub; /* first */
    struct store *store;
};

static struct store *store_of(struct draft *d)
{
    return ((struct store_draft *)d)->store;
}

/* queue_minfree, looked at once a second by whoever comes first; the rest go by what he found. */
static void space_check(struct store *s)
{
    uint64_t minfree = atomic_load_explicit(&s->minfree_bytes, memory_order_relaxed),
             free_bytes = 0;
    if (minfree == 0) {
        atomic_store_explicit(&s->space_short, false, memory_order_relaxed);
        return;
    }
    int64_t now = clock_coarse_ns(), last = atomic_load(&s->space_checked_ns);
    if (now - last < NS_PER_S || !atomic_compare_exchange_strong(&s->space_checked_ns, &last, now))
        return;
    struct err *e = file_free_space(s->directory, &free_bytes);
    if (e != NULL) {
        log_warning("queue", "cannot tell the free space: %s", e->text);
        return;
    }
    atomic_store_explicit(&s->space_short, free_bytes < minfree, memory_order_relaxed);
}

bool store_full(struct store *s)
{
    space_check(s);
    return atomic_load_explicit(&s->space_short, memory_order_relaxed);
}

struct err *store_begin(struct store *s, struct queue *q, struct draft **out)
{
    if (store_full(s))
        return err_new(ERR_FULL, ENOSPC, "less than queue_minfree left in %s", s->directory);
    struct store_draft *d = MEM_NEW(struct store_draft);
    d->store = s;
    atomic_fetch_add_explicit(&s->drafts, 1, memory_order_relaxed);
    d->pub.queue = q;
    d->pub.seq = atomic_fetch_add_explicit(&s->next_seq, 1, memory_order_relaxed);
    d->pub.arrival_us = clock_wall_us();
    d->pub.arena = arena_new(ARENA_FIRST, 0);
    if (atomic_load_explicit(&s->long_ids, memory_order_relaxed))
        d->pub.flags = MESSAGE_LONG_ID;
    store_id(d->pub.flags, d->pub.arrival_us, d->pub.seq, d->pub.id);
    *out = &d->pub;
    return NULL;
}

static struct err *spill_out(struct draft *d, size_t n)
{
    struct draft_spill *sp = d->spill;
    struct err *e = io_pwrite(sp->fd, d->content.ptr, n, sp->written);
    if (e != NULL)
        return err_in(e, "%s", d->id);
    sp->sum = content_sum_piece(str_make(d->content.ptr, n), sp->sum);
    sp->written += n;
    d->content.len -= n;
    memmove(d->content.ptr, d->content.ptr + n, d->content.len);
    return NULL;
}

static struct err *spill_begin(struct draft *d)
{
    struct store *s = store_of(d);
    char name[24];
    int fd = -1;
    message_name(d->seq, name);
    struct err *e = io_openat(s->content_dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600, &fd);
    if (e != NULL)
        return err_in(e, "%s", d->id);
    d->spill = MEM_NEW(struct draft_spill);
    d->spill->fd = fd;
    /* What has gathered goes out in whole pieces; moving the rest down each time would be
     * quadratic. */
    struct buf all = d->content;
    d->content = (struct buf){0};
    buf_reserve(&d->content, CONTENT_PIECE);
    for (size_t at = 0; e == NULL && at < all.len;) {
        size_t n = all.len - at < CONTENT_PIECE ? all.len - at : CONTENT_PIECE;
        buf_add(&d->content, all.ptr + at, n);
        at += n;
        if (n == CONTENT_PIECE)
            e = spill_out(d, n);
    }
    buf_fini(&all);
    return e;
}

static struct err *spill_add(struct draft *d, struct str bytes)
{
    while (bytes.len > 0) {
        struct str part = str_head(bytes, CONTENT_PIECE - d->content.len);
        buf_add_str(&d->content, part);
        bytes = str_from(bytes, part.len);
        if (d->content.len == CONTENT_PIECE) {
            struct err *e = spill_out(d, CONTENT_PIECE);
            if (e != NULL)
                return e;
        }
    }
    return NULL;
}

struct err *draft_write(struct draft *d, struct str bytes)
{
    uint64_t limit = atomic_load_explicit(&store_of(d)->inline_limit_bytes, memory_order_relaxed);
    d->size += bytes.len;
    if (d->spill == NULL && d->size <= limit) {
        buf_add_str(&d->content, bytes);
        return NULL;
    }
    struct err *e = d->spill == NULL ? spill_begin(d) : NULL;
    return e != NULL ? e : spill_add(d, bytes);
}

struct err *draft_take(struct draft *d, struct buf *bytes)
{
    uint64_t limit = atomic_load_explicit(&store_of(d)->inline_limit_bytes, memory_order_relaxed);
    if (d->size == 0 && bytes->len <= limit && bytes->len >= bytes->cap / 2) {
        buf_fini(&d->content);
        d->size = bytes->len;
        d->content = *bytes;
        *bytes = (struct buf){0};
        return NULL;
    }
    struct err *e = draft_write(d, buf_str(bytes));
    buf_reset(bytes);
    return e;
}

static void draft_free(struct draft *d)
{
    atomic_fetch_sub_explicit(&store_of(d)->drafts, 1, memory_order_relaxed);
    if (d->spill != NULL) {
        (void)io_close(d->spill->fd);
        mem_free(d->spill);
    }
    block_buf_fini(&d->content);
    arena_free(d->arena);
    mem_free(d);
}

void queue_abort(struct draft *d)
{
    if (d == NULL)
        return;
    if (d->spill != NULL) {
        char name[24];
        message_name(d->seq, name);
        fiber_shield_begin();
        struct err *e = io_unlinkat(store_of(d)->content_dir_fd, name, 0);
        fiber_shield_end();
        if (e != NULL)
            log_warning("queue", "%s: %s", d->id, e->text);
    }
    draft_free(d);
}

static struct err *spill_sync(struct draft *d)
{
    struct err *e = d->content.len > 0 ? spill_out(d, d->content.len) : NULL;
    if (e == NULL)
        e = io_fsync(d->spill->fd, false);
    if (e == NULL)
        e = io_fsync(store_of(d)->content_dir_fd, false);
    return e != NULL ? err_in(e, "%s", d->id) : NULL;
}

/* --- commit */

static struct envelope *own_envelope(struct draft *d, const struct envelope *env)
{
    if (!d->envelope_inside)
        return envelope_copy(env, d->arena);
    struct envelope *own = arena_alloc(d->arena, sizeof *own);
    *own = *env;
    return own;
}

static struct message *message_of_draft(struct draft *d, const struct envelope *env)
{
    struct store *s = store_of(d);
    struct arena *a = d->arena;
    struct envelope *own = own_envelope(d, env);
    d->arena = NULL;
    own->size = d->size;
    if (own->arrival_us == 0)
        own->arrival_us = d->arrival_us;
    uint32_t flags = d->flags | (env->flags & ENV_HOLD ? MESSAGE_HOLD : 0U);
    struct message *m = message_new(s, d->seq, flags, a, own);
    memcpy(m->pub.id, d->id, sizeof m->pub.id);
    m->pub.queue = d->queue;
    m->pub.place.spilled = d->spill != NULL;
    m->due_us = d->due_us;
    m->born_ns = clock_mono_ns();
    m->stage = STAGE_YOUNG;
    uint64_t limit = atomic_load_explicit(&s->memory_limit_bytes, memory_order_relaxed);
    if (d->spill == NULL &&
        atomic_load_explicit(&s->content_bytes, memory_order_relaxed) + d->content.cap <= limit)
        m->pub.content = content_new(s, &d->content);
    return m;
}

/* The record is made and summed here, in the caller's thread; under the log's lock it is only
 * copied. */
static struct err *append_message(struct draft *d, struct message *m)
{
    struct store *s = store_of(d);
    struct buf first = {0};
    struct message_body body = {
        .bits = d->spill != NULL ? BODY_SPILLED : 0,
        .flags = m->flags,
        .due_us = m->due_us,
        .content_size = d->size};
    struct record r = {.type = RECORD_MESSAGE, .seq = d->seq};
    if (d->spill == NULL)
        r.rest = buf_str(m->pub.content != NULL ? &m->pub.content->bytes : &d->content);
    buf_reserve(&first, PACKED_FIRST);
    body.content_sum = d->spill != NULL ? d->spill->sum : content_sum(r.rest);
    message_pack(&body, m->pub.env, &first);
    r.first = buf_str(&first);
    record_sum(&r);
    struct log_entry entry = {.fresh = m};
    struct err *e = log_append_wait(&s->log, &r, &entry);
    buf_fini(&first);
    return e;
}

struct err *store_commit(struct draft *d, const struct envelope *env, struct qmsg **out)
{
    fiber_shield_begin();
    struct err *e = d->spill != NULL ? spill_sync(d) : NULL;
    if (e == NULL) {
        struct message *m = message_of_draft(d, env);
        /* Asked for now: once it is published, its flags are the scheduler thread's. */
        bool held = m->flags & MESSAGE_HOLD;
        /* log.young has a reference of its own; it goes with the index row or the removal. */
        (void)qmsg_ref(&m->pub);
        /* Known before it is safe: once it is, an index row may appear, and whoever finds the row
         * must find this object and not make a second one. */
        message_publish(m);
        e = append_message(d, m);
        if (e == NULL) {
            if (held)
                atomic_fetch_add_explicit(&store_of(d)->held, 1, memory_order_relaxed);
            draft_free(d);
            *out = &m->pub;
        } else {
            qmsg_unref(&m->pub);
            qmsg_unref(&m->pub);
        }
    }
    fiber_shield_end();
    if (e != NULL) {
        e = err_in(e, "commit");
        queue_abort(d);
    }
    return e;
}
