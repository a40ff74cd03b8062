#include "queue/sched/sched.h"

#include <stdlib.h>
#include <strings.h>

#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "queue/sched/state.h"

#define AT_ONCE 512 /* recipients filed between two yields */
#define KNOWN_MAX 262144

/* SCHEDULER_README, "Dealing with memory resource limits": the part of its last formula that is no transport's. */
static uint64_t budget_of(const struct sched_options *o)
{
    int64_t all = o->recipient_minimum * o->message_active_limit;
    if (o->message_recipient_limit <= 0)
        return UINT64_MAX;
    return (uint64_t)(all > o->message_recipient_limit ? all : o->message_recipient_limit);
}

static int64_t largest(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* A longer list is in memory in part: the others must have room in the budget. */
static void set_slice(struct sched *s)
{
    const struct sched_options *o = &s->opts;
    int64_t least = largest(o->recipient_minimum, 1), most = largest(o->message_recipient_limit, least);
    int64_t room = s->budget > s->recipients ? (int64_t)(s->budget - s->recipients) : 0;
    int64_t n = room < least ? least : room > most ? most : room;
    if (o->message_recipient_limit <= 0)
        n = 0;
    store_set_slice(s->store, n < UINT32_MAX ? (uint32_t)n : UINT32_MAX);
}

void sched_weigh(struct active *a, uint32_t weight)
{
    struct sched *s = a->sched;
    if (weight == a->weight)
        return;
    s->recipients += weight;
    s->recipients -= a->weight;
    a->weight = weight;
    set_slice(s);
}

static void copy_options(struct sched *s, const struct sched_options *o)
{
    struct arena *a = arena_new(0, 0);
    s->opts = *o;
    struct sched_transport *list = arena_zalloc(a, (o->transport_count + 1) * sizeof(*list));
    for (size_t i = 0; i < o->transport_count; i++) {
        list[i] = o->transports[i];
        list[i].name = arena_cstr(a, str_of(o->transports[i].name));
        list[i].why = arena_cstr(a, str_of(o->transports[i].why));
    }
    s->opts.transports = list;
    s->opts.fallback.name = "";
    s->opts.fallback.why = arena_cstr(a, str_of(o->fallback.why));
    s->opts.defer_transports = arena_cstr(a, str_of(o->defer_transports));
    s->budget = budget_of(&s->opts);
    set_slice(s);
    if (s->opts_arena)
        arena_free(s->opts_arena);
    s->opts_arena = a;
}

struct sched *sched_new(struct queue *queue, struct store *store, struct worker **workers, size_t n,
                        const struct queue_hooks *hooks, const struct sched_options *opts)
{
    struct sched *s = MEM_NEW(struct sched);
    s->queue = queue;
    s->store = store;
    s->home = worker_self();
    s->workers = mem_alloc((n + 1) * sizeof(*s->workers));
    for (size_t i = 0; i < n; i++)
        s->workers[i] = workers[i];
    s->n_workers = n;
    s->hooks = hooks;
    event_init(&s->idle);
    event_init(&s->room);
    list_init(&s->hungry);
    s->known_max = KNOWN_MAX;
    copy_options(s, opts);
    return s;
}

void sched_configure(struct sched *s, const struct sched_options *opts)
{
    copy_options(s, opts);
    size_t at = 0;
    struct str key;
    void *value;
    while (hmap_next(&s->transports, &at, &key, &value))
        transport_configure(value);
    loader_configure(s);
}

/* Only after the drain: no fiber of ours is on a worker. */
void sched_free(struct sched *s)
{
    size_t at = 0;
    uint64_t seq;
    void *value;
    CHECK(s->requests_out == 0);
    while (umap_next(&s->active, &at, &seq, &value)) {
        struct active *a = value;
        struct qmsg *m = a->m;
        active_stop(a);
        active_drop(a);
        qmsg_unref(m);
    }
    umap_fini(&s->active);
    suspend_close(&s->suspensions);
    why_fini(&s->memory);
    at = 0;
    struct str key;
    while (hmap_next(&s->transports, &at, &key, &value))
        transport_free(value);
    hmap_fini(&s->transports);
    umap_fini(&s->full);
    arena_free(s->opts_arena);
    mem_free(s->workers);
    mem_free(s);
}

void sched_fiber_ended(struct sched *s)
{
    CHECK(s->requests_out > 0);
    if (--s->requests_out == 0 && s->draining)
        event_set(&s->idle);
}

/* --- a message comes in */

struct active *sched_admit(struct sched *s, struct qmsg *m)
{
    struct active *a = MEM_NEW(struct active);
    a->m = m;
    a->sched = s;
    a->state = ACTIVE_RESOLVING;
    a->force_expire = qmsg_flags(m) & MESSAGE_EXPIRE;
    list_init(&a->entries);
    m->sched = a;
    m->active_since_us = clock_wall_us();
    refill_begin(a);
    bool counts = !a->refill && (int64_t)m->env->rcpt_count > s->opts.recipient_minimum;
    sched_weigh(a, counts ? (uint32_t)m->env->rcpt_count : 0);
    CHECK(umap_put(&s->active, m->seq, a) == NULL);
    atomic_store_explicit(&s->active_count, s->active.count, memory_order_relaxed);
    return a;
}

static void resolved_on_sched(struct mbox_msg *msg)
{
    struct active *a = CONTAINER(msg, struct active, mbox);
    struct sched *s = a->sched;
    sched_resolved(a);
    sched_fiber_ended(s);
}

static void resolve_main(void *arg)
{
    struct active *a = arg;
    a->sched->hooks->resolve(a->sched->hooks->ctx, a->m);
    order_recipients(a->m);
    a->mbox.fn = resolved_on_sched;
    worker_post(a->sched->home, &a->mbox);
}

void sched_resolve(struct active *a)
{
    struct sched *s = a->sched;
    if (a->refill) {
        if (refill_more(a))
            return;
        a->state = ACTIVE_RUNNING; /* there is nobody to deliver to, or no way to know */
        active_settle(a);
        return;
    }
    s->requests_out++;
    worker_spawn(s->workers[s->next_worker++ % s->n_workers], "resolve", resolve_main, a);
}

/* --- recipients to destinations */

/* Where the recipient limit is 1 the destination is the recipient itself, so that one slow mailbox
 * does not hold the others of its domain (qmgr_message(3) behaviour of Postfix). */
static const char *dest_key(const struct transport *t, const struct rcpt *r, struct buf *scratch)
{
    if (t->opts.recipient_limit != 1 || t->internal)
        return r->nexthop;
    buf_reset(scratch);
    buf_add_str(scratch, r->address);
    buf_add_char(scratch, '@');
    buf_add(scratch, r->nexthop, strlen(r->nexthop) + 1);
    return scratch->ptr;
}

/* Postfix's words: postsuper(1) -e, postconf(5) defer_transports. */
static void redirect(const struct active *a, struct rcpt *r)
{
    const char *why = NULL;
    if (!r->transport || !r->nexthop) /* unknown is temporary */
        why = "4.3.0 address resolver failure";
    else if (a->force_expire)
        why = "4.7.0 message is administratively expired";
    else if (!a->flushed && transport_get(a->sched, r->transport)->deferred)
        why = "4.3.2 deferred transport";
    if (!why)
        return;
    r->transport = "retry";
    r->nexthop = why;
}

/* NULL: it has to wait, and is filed nowhere. */
static struct dest *dest_of(struct active *a, struct rcpt *r, struct buf *scratch)
{
    if (suspend_holds(a, r))
        return NULL;
    redirect(a, r);
    struct transport *t = transport_get(a->sched, r->transport);
    return dest_get(t, dest_key(t, r, scratch), r->nexthop);
}

/* The recipients of one message for one dest, while they are gathered. */
struct bin {
    struct bin *next; /* in the order in which they were met */
    struct dest *dest; /* pinned */
    struct entry *entry;
    uint32_t count, cap;
    uint32_t *rcpts;
};

static struct entry *entry_new(struct active *a, const uint32_t *rcpts, uint32_t count)
{
    struct entry *e = mem_alloc(sizeof(*e) + count * sizeof(e->rcpts[0]));
    *e = (struct entry){.active = a, .count = count};
    memcpy(e->rcpts, rcpts, count * sizeof(e->rcpts[0]));
    list_init(&e->item.link);
    list_init(&e->peers);
    return e;
}

static void bin_add(struct bin *bin, uint32_t index)
{
    if (bin->count == bin->cap) {
        bin->cap = bin->cap ? bin->cap * 2 : 8;
        bin->rcpts = mem_realloc(bin->rcpts, bin->cap * sizeof(bin->rcpts[0]));
    }
    bin->rcpts[bin->count++] = index;
}

/* A long list is filed in pieces, by a fiber: between them others have their turn, and the message
 * may be removed, held, be told to be. */
static void pause_after(const struct filing *f, uint32_t done)
{
    if (f->count > AT_ONCE && done % AT_ONCE == AT_ONCE - 1)
        fiber_yield();
}

struct bins {
    struct umap by_dest;
    struct bin *first, **end;
};

static void file_entry(struct active *a, struct dest *d, struct entry *e)
{
    if (!a->want_remove && !a->want_hold && !a->again && !a->damaged) {
        list_push_back(&a->entries, &e->peers);
        dest_add(d, e);
        return;
    }
    if (e->job)
        dest_uncount(e);
    mem_free(e);
}

static struct bin *bin_of(struct bins *bins, struct dest *d)
{
    uint64_t key = (uintptr_t)d;
    struct bin *bin = umap_get(&bins->by_dest, key);
    if (bin)
        return bin;
    bin = MEM_NEW(struct bin);
    bin->dest = d;
    d->pins++;
    *bins->end = bin;
    bins->end = &bin->next;
    umap_put(&bins->by_dest, key, bin);
    return bin;
}

static uint32_t place_of(const struct filing *f, uint32_t i)
{
    return f->slots ? f->slots[i] : i;
}

/* The bins in the order in which they were met, the recipients in theirs. */
static void gather(const struct filing *f, struct bins *bins, struct bin **of)
{
    struct active *a = f->active;
    struct buf scratch = {0}, waiting = {0};
    for (uint32_t i = 0; i < f->count; i++) {
        struct rcpt *r = &a->m->env->rcpts[place_of(f, i)];
        struct dest *d = active_left(r) ? dest_of(a, r, &scratch) : NULL;
        of[i] = d ? bin_of(bins, d) : NULL;
        if (!d && a->refill)
            buf_add(&waiting, &f->slots[i], sizeof(f->slots[i]));
        pause_after(f, i);
    }
    for (uint32_t i = 0; i < f->count; i++) {
        uint32_t at = f->order ? f->order[i] : i;
        if (of[at])
            bin_add(of[at], place_of(f, at));
        pause_after(f, i);
    }
    if (waiting.len > 0)
        refill_suspended(a, (const uint32_t *)(const void *)waiting.ptr, waiting.len / sizeof(f->slots[0]));
    buf_fini(&waiting);
    buf_fini(&scratch);
}

static void file_many(const struct filing *f)
{
    struct active *a = f->active;
    struct bins bins = {.end = &bins.first};
    struct bin *bin, **of = mem_alloc((f->count + 1) * sizeof(struct bin *));
    uint32_t n = 0;
    gather(f, &bins, of);
    mem_free(of);
    for (bin = bins.first; bin; bin = bin->next) {
        bin->entry = entry_new(a, bin->rcpts, bin->count);
        bin->entry->job = transport_job(bin->dest->transport, a);
        bin->entry->requests = dest_requests(bin->dest, bin->entry);
        bin->entry->job->slots.left += bin->entry->requests;
        pause_after(f, n++);
    }
    while ((bin = bins.first) != NULL) {
        struct dest *d = bin->dest;
        bins.first = bin->next;
        file_entry(a, d, bin->entry);
        d->pins--;
        dest_release(d);
        mem_free(bin->rcpts);
        mem_free(bin);
        pause_after(f, n++);
    }
    umap_fini(&bins.by_dest);
}

static void file_one(struct active *a)
{
    struct buf scratch = {0};
    struct rcpt *r = &a->m->env->rcpts[0];
    struct dest *d = active_left(r) ? dest_of(a, r, &scratch) : NULL;
    uint32_t zero = 0;
    if (d) {
        file_entry(a, d, entry_new(a, &zero, 1));
        dest_release(d); /* it may have been deferred at once */
    }
    buf_fini(&scratch);
}

static void filed(struct active *a)
{
    a->running--;
    active_settle(a);
}

static void file_now(struct filing *f)
{
    struct active *a = f->active;
    struct arena *arena = f->arena;
    if (f->count == 1 && !f->slots)
        file_one(a);
    else if (f->count > 0)
        file_many(f);
    arena_free(arena);
    filed(a);
}

static void file_main(void *arg)
{
    struct filing *f = arg;
    struct sched *s = f->active->sched;
    file_now(f);
    sched_fiber_ended(s);
}

void sched_file(struct filing *f)
{
    struct sched *s = f->active->sched;
    if (f->count <= AT_ONCE) {
        file_now(f);
        return;
    }
    s->requests_out++;
    worker_spawn(s->home, "file", file_main, f);
}

void sched_log_active(const struct active *a, struct str sender_shown)
{
    const struct envelope *env = a->m->env;
    struct str sender = sender_shown.ptr ? sender_shown : env->sender;
    log_info("qmgr", "%s: from=<%.*s>, size=%llu, nrcpt=%zu (queue active)", a->m->id,
             STR_ARG(sender), (unsigned long long)env->data_size, qmsg_recipients(a->m));
}

static void resolved(struct active *a)
{
    struct sched *s = a->sched;
    struct envelope *env = a->m->env;
    struct filing here = {.active = a, .count = (uint32_t)env->rcpt_count, .order = a->m->order}, *f = &here;
    a->state = ACTIVE_RUNNING;
    if (a->want_remove || a->want_hold || a->again) {
        active_settle(a);
        return;
    }
    store_note_destinations(a->m, env->rcpts, env->rcpt_count);
    if (share_leaves(a))
        return;
    sched_log_active(a, env->sender_shown);
    a->running++; /* nothing may end it while its recipients are being filed */
    if (env->rcpt_count > AT_ONCE) { /* by a fiber */
        struct arena *arena = arena_new(0, 0);
        f = ARENA_NEW(arena, struct filing);
        *f = here;
        f->arena = arena;
    }
    sched_file(f);
    share_watch(s);
}

void sched_resolved(struct active *a)
{
    struct dest *d = share_came(a);
    resolved(a);
    if (d) {
        share_eat(d); /* it may have gone elsewhere */
        d->pins--;
        dest_release(d);
    }
}
