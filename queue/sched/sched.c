#include "queue/sched/sched.h"

#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "queue/sched/state.h"

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
    s->opts.empty_address_recipient = arena_cstr(a, str_of(o->empty_address_recipient));
    if (s->opts_arena)
        arena_free(s->opts_arena);
    s->opts_arena = a;
}

struct sched *sched_new(struct store *store, struct worker **workers, size_t n,
                        const struct queue_hooks *hooks, const struct sched_options *opts)
{
    struct sched *s = MEM_NEW(struct sched);
    s->store = store;
    s->home = worker_self();
    s->workers = workers;
    s->n_workers = n;
    s->hooks = hooks;
    event_init(&s->idle);
    event_init(&s->room);
    copy_options(s, opts);
    return s;
}

/* Running destinations keep window and history; only their limits change. */
void sched_configure(struct sched *s, const struct sched_options *opts)
{
    copy_options(s, opts);
    size_t at = 0;
    struct str key;
    void *value;
    while (hmap_next(&s->transports, &at, &key, &value)) {
        struct transport *t = value;
        const char *name = t->opts.name;
        t->opts = s->opts.fallback;
        for (size_t i = 0; i < s->opts.transport_count; i++)
            if (strcmp(s->opts.transports[i].name, name) == 0)
                t->opts = s->opts.transports[i];
        t->opts.name = name;
        t->opts.why = NULL;
        transport_pump(t);
    }
}

static void free_transport(struct transport *t)
{
    size_t at = 0;
    struct str key;
    void *value;
    while (hmap_next(&t->dests, &at, &key, &value)) {
        struct dest *d = value;
        timer_clear(&d->timer);
        mem_free((char *)d->why.text.ptr);
        mem_free(d->key);
        mem_free(d->nexthop);
        mem_free(d);
    }
    hmap_fini(&t->dests);
    mem_free((char *)t->opts.name);
    mem_free(t);
}

/* Only after the drain: no request is out, no agent waits. */
void sched_free(struct sched *s)
{
    size_t at = 0;
    uint64_t seq;
    void *value;
    while (umap_next(&s->active, &at, &seq, &value)) {
        struct active *a = value;
        active_stop(a);
        struct qmsg *m = a->m;
        mem_free(a->fresh);
        mem_free(a);
        qmsg_unref(m);
    }
    umap_fini(&s->active);
    at = 0;
    struct str key;
    while (hmap_next(&s->transports, &at, &key, &value))
        free_transport(value);
    hmap_fini(&s->transports);
    arena_free(s->opts_arena);
    mem_free(s);
}

/* --- a message comes in */

struct active *sched_admit(struct sched *s, struct qmsg *m)
{
    struct active *a = MEM_NEW(struct active);
    a->m = m;
    a->sched = s;
    a->state = ACTIVE_RESOLVING;
    list_init(&a->entries);
    m->sched = a;
    m->active_since_us = clock_wall_us();
    CHECK(umap_put(&s->active, m->seq, a) == NULL);
    return a;
}

static void resolved_on_sched(struct mbox_msg *msg)
{
    sched_resolved(CONTAINER(msg, struct active, mbox));
}

static void resolve_main(void *arg)
{
    struct active *a = arg;
    a->sched->hooks->resolve(a->sched->hooks->ctx, a->m);
    a->mbox.fn = resolved_on_sched;
    worker_post(a->sched->home, &a->mbox);
}

void sched_resolve(struct active *a)
{
    struct sched *s = a->sched;
    worker_spawn(s->workers[s->next_worker++ % s->n_workers], "resolve", resolve_main, a);
}

/* --- recipients to destinations */

static bool wants_delivery(const struct rcpt *r)
{
    return r->state == RCPT_TODO || r->state == RCPT_DEFERRED;
}

/* Where the recipient limit is 1 the destination is the recipient itself, so that one slow mailbox
 * does not hold the others of its domain (qmgr_message(3) behaviour of Postfix). */
static const char *dest_key(const struct transport *t, const struct rcpt *r, struct buf *scratch)
{
    if (t->opts.recipient_limit != 1 || strcmp(t->opts.name, "retry") == 0 ||
        strcmp(t->opts.name, "error") == 0 || strcmp(t->opts.name, "discard") == 0)
        return r->nexthop;
    buf_reset(scratch);
    buf_add_str(scratch, r->address);
    buf_add_char(scratch, '\0');
    return scratch->ptr;
}

struct bin {
    struct dest *dest;
    uint32_t count, cap;
    uint32_t *rcpts;
};

static struct entry *entry_new(struct active *a, const uint32_t *rcpts, uint32_t count)
{
    struct entry *e = mem_zalloc(sizeof(*e) + count * sizeof(e->rcpts[0]));
    e->active = a;
    e->count = count;
    memcpy(e->rcpts, rcpts, count * sizeof(e->rcpts[0]));
    list_init(&e->link);
    list_push_back(&a->entries, &e->peers);
    return e;
}

static void bin_flush(struct active *a, struct bin *bin)
{
    if (bin->count == 0)
        return;
    struct entry *e = entry_new(a, bin->rcpts, bin->count);
    bin->count = 0;
    dest_add(bin->dest, e);
}

static void bin_add(struct active *a, struct bin *bin, uint32_t index)
{
    int64_t limit = bin->dest->transport->opts.recipient_limit;
    if (bin->count == bin->cap) {
        bin->cap = bin->cap ? bin->cap * 2 : 8;
        bin->rcpts = mem_realloc(bin->rcpts, bin->cap * sizeof(bin->rcpts[0]));
    }
    bin->rcpts[bin->count++] = index;
    if (limit > 0 && bin->count >= limit)
        bin_flush(a, bin);
}

static struct dest *dest_of(struct sched *s, struct rcpt *r, struct buf *scratch)
{
    if (!r->transport || !r->nexthop) { /* unknown is temporary */
        r->transport = "retry";
        r->nexthop = "4.3.0 address resolver failure";
    }
    struct transport *t = transport_get(s, r->transport);
    return dest_get(t, dest_key(t, r, scratch), r->nexthop);
}

static void file_many(struct active *a)
{
    struct envelope *env = a->m->env;
    struct umap bins = {0};
    struct buf scratch = {0};
    for (uint32_t i = 0; i < env->rcpt_count; i++) {
        if (!wants_delivery(&env->rcpts[i]))
            continue;
        struct dest *d = dest_of(a->sched, &env->rcpts[i], &scratch);
        struct bin *bin = umap_get(&bins, (uint64_t)(uintptr_t)d);
        if (!bin) {
            bin = MEM_NEW(struct bin);
            bin->dest = d;
            d->busy++; /* keeps it alive until the bin is flushed */
            umap_put(&bins, (uint64_t)(uintptr_t)d, bin);
        }
        bin_add(a, bin, i);
    }
    size_t at = 0;
    uint64_t key;
    void *value;
    while (umap_next(&bins, &at, &key, &value)) {
        struct bin *bin = value;
        bin->dest->busy--;
        bin_flush(a, bin);
        dest_pump(bin->dest);
        dest_release(bin->dest);
        mem_free(bin->rcpts);
        mem_free(bin);
    }
    umap_fini(&bins);
    buf_fini(&scratch);
}

static void file_one(struct active *a)
{
    struct buf scratch = {0};
    struct rcpt *r = &a->m->env->rcpts[0];
    if (wants_delivery(r)) {
        uint32_t zero = 0;
        struct dest *d = dest_of(a->sched, r, &scratch);
        dest_add(d, entry_new(a, &zero, 1));
    }
    buf_fini(&scratch);
}

void sched_resolved(struct active *a)
{
    struct envelope *env = a->m->env;
    a->state = ACTIVE_RUNNING;
    if (a->want_remove || a->want_hold) {
        active_settle(a);
        return;
    }
    log_info("qmgr", "%s: from=<%.*s>, size=%llu, nrcpt=%zu (queue active)", a->m->id,
             STR_ARG(env->sender), (unsigned long long)env->data_size, env->rcpt_count);
    a->running++; /* nothing may end it while its recipients are being filed */
    if (env->rcpt_count == 1)
        file_one(a);
    else
        file_many(a);
    a->running--;
    active_settle(a);
}
