#include "queue/why.h"

#include <strings.h>

#include "io/base/clock.h"
#include "io/base/mem.h"
#include "queue/private.h"

enum { STEP_PICKS = 64, SLICE_STEPS = 32, ACTIVE_STEP = 500 };

/* --- a destination */

struct looking {
    struct queue *queue;
    struct arena *arena;
    struct queue_route route;
    struct queue_dest *dest;
};

static struct str keep(struct arena *a, struct str s)
{
    return s.len > 0 ? arena_str(a, s) : STR("");
}

static void add_dest(struct looking *l, const struct dest *d)
{
    struct queue_dest *out = l->dest;
    if (out->state == QUEUE_DEST_QUIET || d->state == DEST_DEAD) {
        out->state = d->state == DEST_DEAD     ? QUEUE_DEST_DEAD
                     : d->state == DEST_PAUSED ? QUEUE_DEST_PAUSED
                                               : QUEUE_DEST_READY;
        if (d->state != DEST_READY)
            out->until_us = clock_wall_us() + (d->timer.deadline_ns - clock_mono_ns()) / 1000;
    }
    if (d->state == DEST_DEAD) {
        memcpy(out->why.status, d->why.status, sizeof(out->why.status));
        out->why.text = keep(l->arena, d->why.text);
    }
    out->window += feedback_limit(&d->window);
    out->busy += d->busy;
    out->waiting += (int64_t)d->todo_count;
}

static void add_failure(struct looking *l, const struct transport *t)
{
    struct queue_dest *out = l->dest;
    struct str text = str_of(t->broken), status;
    if (!str_token(&text, " ", &status))
        return;
    out->state = QUEUE_DEST_DEAD;
    out->until_us = clock_wall_us() + (t->retry.deadline_ns - clock_mono_ns()) / 1000;
    str_copy(out->why.status, sizeof(out->why.status), status);
    out->why.text = keep(l->arena, str_trim(text));
}

/* Where the recipient limit is 1 each recipient has one of its own. */
static void look_in(struct looking *l, const struct transport *t)
{
    size_t at = 0;
    struct str key;
    void *value;
    struct dest *d = hmap_get(&t->dests, str_of(l->route.nexthop));
    if (t->opts.recipient_limit != 1 && d)
        add_dest(l, d);
    while (t->opts.recipient_limit == 1 && hmap_next(&t->dests, &at, &key, &value)) {
        const struct dest *one = value;
        if (one->site != one && strcmp(one->nexthop, l->route.nexthop) == 0)
            add_dest(l, one);
    }
}

static bool declared(const struct sched *s, const char *name)
{
    for (size_t i = 0; i < s->opts.transport_count; i++)
        if (strcmp(s->opts.transports[i].name, name) == 0)
            return true;
    return false;
}

static void dest_main(void *arg)
{
    struct looking *l = arg;
    struct sched *s = l->queue->sched;
    struct queue_dest *out = l->dest;
    out->declared = declared(s, l->route.transport);
    if (out->declared) {
        const struct transport *t = transport_get(s, l->route.transport);
        out->concurrency_limit = t->opts.concurrency_limit;
        out->rate_delay_ms = t->opts.rate_delay_ms;
        out->transport_rate_delay_ms = t->opts.transport_rate_delay_ms;
        out->process_limit = t->opts.process_limit;
        out->transport_busy = t->busy;
        out->transport_lingering = transport_lingering(t);
        out->seats = t->seats.limit + t->seats.extra;
        out->seats_taken = t->seats.taken + t->seats.extra_taken;
        out->held = (int64_t)t->held_count;
        out->transport_deferred = t->deferred;
        look_in(l, t);
        if (t->broken)
            add_failure(l, t);
    }
    const char *by = suspend_find(&s->suspensions, STR(""), l->route.transport, l->route.nexthop);
    out->suspended = by ? arena_cstr(l->arena, str_of(by)) : NULL;
    const struct why_reply *r = why_last_reply(&s->memory, l->route.transport, l->route.nexthop);
    if (r) {
        out->replied_us = r->at_us;
        out->sent = r->result == REQUEST_SENT;
        memcpy(out->status, r->status, sizeof(out->status));
        out->reply = keep(l->arena, str_of(r->text));
    }
}

struct err *queue_dest(struct queue *q, struct queue_route route, struct arena *a,
                       struct queue_dest *out)
{
    struct looking l = {.queue = q, .arena = a, .route = route, .dest = out};
    *out = (struct queue_dest){.route = route, .why = {.text = STR("")}, .reply = STR("")};
    queue_on_sched(q, dest_main, &l);
    return NULL;
}

/* --- routes */

struct routing {
    struct queue *queue;
    struct arena *arena;
    struct str domain, transport;
    struct queue_route *list;
    size_t count;
};

static void add_route(struct routing *r, const char *transport, const char *nexthop)
{
    for (size_t i = 0; i < r->count; i++)
        if (strcmp(r->list[i].transport, transport) == 0 && strcmp(r->list[i].nexthop, nexthop) == 0)
            return;
    if (r->count < QUEUE_ROUTES_MAX)
        r->list[r->count++] = (struct queue_route){arena_cstr(r->arena, str_of(transport)),
                                                   arena_cstr(r->arena, str_of(nexthop))};
}

/* "[name]", "[name]:port", "name:port" or the name alone. */
static bool is_host(const char *nexthop, struct str name)
{
    size_t bracket = nexthop[0] == '[';
    if (strncasecmp(nexthop + bracket, name.ptr, name.len) != 0)
        return false;
    char end = nexthop[bracket + name.len];
    return bracket ? end == ']' : end == '\0' || end == ':';
}

static void routes_of_dests(struct routing *r, const struct transport *t)
{
    size_t at = 0;
    struct str key;
    void *value;
    while (!t->internal && hmap_next(&t->dests, &at, &key, &value)) {
        const struct dest *d = value;
        if (r->transport.len > 0 || is_host(d->nexthop, r->domain))
            add_route(r, t->opts.name, d->nexthop);
    }
}

static void routes_of_message(struct routing *r, const struct active *a)
{
    const struct envelope *env = a->m->env;
    for (size_t i = 0; a->state != ACTIVE_RESOLVING && i < env->rcpt_count; i++) {
        const struct rcpt *rcpt = &env->rcpts[i];
        ssize_t at = str_rindex(rcpt->address, '@');
        if (active_left(rcpt) && at >= 0 && rcpt->transport && rcpt->nexthop && strcmp(rcpt->transport, "retry") != 0 &&
            str_eq_nocase(str_from(rcpt->address, (size_t)at + 1), r->domain))
            add_route(r, rcpt->transport, rcpt->nexthop);
    }
}

static void routes_of_active(struct routing *r)
{
    struct sched *s = r->queue->sched;
    struct buf seqs = {0};
    size_t at = 0, n = 0;
    uint64_t seq;
    void *value;
    while (umap_next(&s->active, &at, &seq, &value))
        buf_add(&seqs, &seq, sizeof(seq));
    for (at = 0; at < seqs.len; at += sizeof(seq)) {
        memcpy(&seq, seqs.ptr + at, sizeof(seq));
        value = umap_get(&s->active, seq);
        if (value)
            routes_of_message(r, value);
        if (++n % ACTIVE_STEP == 0)
            fiber_yield();
    }
    buf_fini(&seqs);
}

static void routes_main(void *arg)
{
    struct routing *r = arg;
    struct hmap *transports = &r->queue->sched->transports;
    size_t at = 0;
    struct str key;
    void *value;
    while (hmap_next(transports, &at, &key, &value))
        if (r->transport.len == 0 || str_eq(key, r->transport))
            routes_of_dests(r, value);
    if (r->transport.len == 0)
        routes_of_active(r);
}

struct err *queue_routes(struct queue *q, struct str domain, struct str transport, struct arena *a,
                         struct queue_route **out, size_t *count_out)
{
    struct routing r = {.queue = q, .arena = a, .domain = domain, .transport = transport};
    r.list = arena_zalloc(a, QUEUE_ROUTES_MAX * sizeof(*r.list));
    queue_on_sched(q, routes_main, &r);
    *out = r.list;
    *count_out = r.count;
    return NULL;
}

/* --- what waits */

struct tallying {
    struct queue *queue;
    struct store_query query;
    struct queue_tally *out;
    int64_t latest_us;
    struct err_copy err;
};

static void tally_pick(struct tallying *t, const struct store_pick *p)
{
    struct queue_tally *out = t->out;
    struct qmsg *m = store_get_cached(t->queue->store, p->seq);
    uint32_t flags = m ? qmsg_flags(m) : p->flags;
    int64_t due_us = m ? qmsg_due_us(m) : p->due_us;
    qmsg_unref(m);
    enum queue_name in = queue_name_by(t->queue, p->seq, flags, p->deferred);
    out->counts[in]++;
    out->messages++;
    out->suspended += (flags & MESSAGE_SUSPENDED) != 0;
    if (out->oldest_us == 0 || p->arrival_us < out->oldest_us)
        out->oldest_us = p->arrival_us;
    if (in != QUEUE_DEFERRED)
        return;
    if (!(flags & MESSAGE_SUSPENDED) && (out->next_try_us == 0 || due_us < out->next_try_us))
        out->next_try_us = due_us;
    if (due_us >= t->latest_us) {
        t->latest_us = due_us;
        store_id(flags, p->arrival_us, p->seq, out->latest);
    }
}

static void tally_main(void *arg)
{
    struct tallying *t = arg;
    struct err *e = NULL;
    for (size_t step = 0; !e && step < SLICE_STEPS && !t->query.ended; step++) {
        struct store_pick picks[STEP_PICKS];
        size_t n = 0;
        if (step > 0)
            fiber_yield();
        e = store_query(t->queue->store, &t->query, picks, STEP_PICKS, &n);
        for (size_t i = 0; !e && i < n; i++)
            tally_pick(t, &picks[i]);
    }
    err_copy_take(&t->err, e);
}

struct err *queue_tally(struct queue *q, struct str domain, struct str destination,
                        struct queue_tally *out)
{
    struct tallying t = {.queue = q, .out = out};
    t.query = (struct store_query){.domain = domain, .destination = destination};
    *out = (struct queue_tally){0};
    while (!t.query.ended && !t.err.set)
        queue_on_sched(q, tally_main, &t);
    return err_copy_give(&t.err);
}

/* --- a message */

struct asking {
    struct queue *queue;
    struct arena *arena;
    struct qmsg *m;
    struct queue_why *out;
};

static void show_route(struct asking *k, size_t i, const struct rcpt *r)
{
    if (r->transport && r->nexthop && strcmp(r->transport, "retry") != 0)
        k->out->routes[i] = (struct queue_route){arena_cstr(k->arena, str_of(r->transport)),
                                                 arena_cstr(k->arena, str_of(r->nexthop))};
}

/* Of a message in part: those that are in memory, in any order. */
static void routes_of_some(struct asking *k)
{
    const struct envelope *env = k->m->env, *shown = k->out->entry.env;
    struct hmap by_address = {0};
    for (size_t i = 0; i < env->rcpt_count; i++)
        if (env->rcpts[i].address.len > 0)
            (void)hmap_put(&by_address, env->rcpts[i].address, &env->rcpts[i]);
    for (size_t i = 0; i < shown->rcpt_count; i++) {
        const struct rcpt *r = hmap_get(&by_address, shown->rcpts[i].address);
        if (r)
            show_route(k, i, r);
    }
    hmap_fini(&by_address);
}

/* Both lists have the same order; the queue's may hold more. */
static void routes_of_entry(struct asking *k)
{
    const struct envelope *env = k->m->env, *shown = k->out->entry.env;
    for (size_t i = 0, at = 0; i < shown->rcpt_count; i++, at++) {
        while (at < env->rcpt_count && !str_eq(env->rcpts[at].address, shown->rcpts[i].address))
            at++;
        if (at == env->rcpt_count)
            return;
        show_route(k, i, &env->rcpts[at]);
    }
}

static void why_main(void *arg)
{
    struct asking *k = arg;
    struct queue_why *out = k->out;
    const struct active *a = umap_get(&k->queue->sched->active, k->m->seq);
    out->tried_us = why_last_tried_us(&k->queue->sched->memory, k->m->seq);
    out->suspended = qmsg_flags(k->m) & MESSAGE_SUSPENDED;
    out->no_room = !a && !__atomic_load_n(&k->m->claimed, __ATOMIC_ACQUIRE) &&
                   qmsg_due_us(k->m) <= clock_wall_us();
    if (!a)
        return;
    out->resolving = a->state == ACTIVE_RESOLVING;
    out->running = a->running;
    out->waiting = !list_empty(&a->entries);
    out->suspended = a->suspended;
    if (a->refill)
        routes_of_some(k);
    else if (!out->resolving)
        routes_of_entry(k);
}

struct err *queue_why(struct queue *q, struct str id, struct arena *a, struct queue_why *out,
                      bool *found_out)
{
    struct asking k = {.queue = q, .arena = a, .out = out};
    *out = (struct queue_why){0};
    struct err *e = queue_find(q, id, a, &out->entry, &k.m, found_out);
    if (e || !*found_out)
        return e;
    out->routes = arena_zalloc(a, (out->entry.env->rcpt_count + 1) * sizeof(*out->routes));
    queue_on_sched(q, why_main, &k);
    qmsg_unref(k.m);
    return NULL;
}

/* --- suspended */

struct suspending {
    struct queue *queue;
    struct arena *arena;
    struct str what, name;
    enum suspend_kind kind;
    bool changed;
    uint64_t count;
    void (*each)(void *ctx, const char *name, int64_t since_us);
    void *ctx;
    struct err_copy err;
};

static bool is_transport(const void *ctx, struct str name)
{
    const struct sched *s = ctx;
    for (size_t i = 0; i < s->opts.transport_count; i++)
        if (str_eq_nocase(str_of(s->opts.transports[i].name), name))
            return true;
    return false;
}

static void suspend_main(void *arg)
{
    struct suspending *u = arg;
    struct sched *s = u->queue->sched;
    struct err *e = suspend_parse(u->what, is_transport, s, u->arena, &u->name, &u->kind);
    if (!e)
        e = suspend_set(&s->suspensions, u->name, true, &u->changed);
    err_copy_take(&u->err, e);
    if (!u->err.set && u->changed)
        suspend_pull(s);
}

struct err *queue_suspend(struct queue *q, struct str what, struct arena *a, struct str *name_out,
                          bool *changed_out)
{
    struct suspending u = {.queue = q, .arena = a, .what = what};
    queue_on_sched(q, suspend_main, &u);
    if (u.err.set)
        return err_copy_give(&u.err);
    *name_out = u.name;
    *changed_out = u.changed;
    return NULL;
}

struct resume_job {
    struct queue *queue;
    enum suspend_kind kind;
    struct str name;
    char text[];
};

/* It goes on behind the answer: a long backlog comes as there is room for it. */
static void resume_job_main(void *arg)
{
    struct resume_job *j = arg;
    struct sched *s = j->queue->sched;
    fiber_shield_begin();
    suspend_pull(s);
    loader_resume(s, j->kind, j->name);
    fiber_shield_end();
    mem_free(j);
    sched_fiber_ended(s);
}

/* The server is down: it will be due when it starts. */
static struct err *due_at_once(struct queue *q, enum suspend_kind kind, struct str name)
{
    struct store_query query = suspend_query(kind, name);
    struct err *e = NULL;
    while (!e && !query.ended) {
        struct store_pick picks[STEP_PICKS];
        size_t n = 0;
        e = store_query(q->store, &query, picks, STEP_PICKS, &n);
        for (size_t i = 0; !e && i < n; i++) {
            struct qmsg *m = NULL;
            if (picks[i].flags & MESSAGE_SUSPENDED)
                e = store_get(q->store, picks[i].seq, &m);
            if (m)
                store_mark(m, &(struct mark){.flags = qmsg_flags(m) & ~(uint32_t)MESSAGE_SUSPENDED});
            qmsg_unref(m);
        }
        if (!e)
            e = store_catch_up(q->store);
    }
    return e ? e : store_sync(q->store);
}

static void bring_back(struct queue *q, enum suspend_kind kind, struct str name)
{
    if (q->sched->draining)
        return;
    struct resume_job *j = mem_zalloc(sizeof(*j) + name.len + 1);
    j->queue = q;
    j->kind = kind;
    memcpy(j->text, name.ptr, name.len);
    j->name = str_make(j->text, name.len);
    q->sched->requests_out++;
    worker_spawn(q->home, "resume", resume_job_main, j);
}

/* A name that is there is taken as it is: master.cf may have changed since. */
static struct err *resume_one(struct suspending *u)
{
    struct sched *s = u->queue->sched;
    struct err *e = NULL;
    if (hmap_get(&s->suspensions.set, arena_lower(u->arena, u->what))) {
        u->name = arena_lower(u->arena, u->what);
        u->kind = suspend_kind_of(u->name);
    } else {
        e = suspend_parse(u->what, is_transport, s, u->arena, &u->name, &u->kind);
    }
    bool changed = false;
    if (!e)
        e = suspend_set(&s->suspensions, u->name, false, &changed);
    if (e || !changed)
        return e;
    u->count++;
    if (u->queue->offline)
        return due_at_once(u->queue, u->kind, u->name);
    bring_back(u->queue, u->kind, u->name);
    return NULL;
}

static void add_name(void *ctx, const char *name, int64_t since_us)
{
    (void)since_us;
    buf_add(ctx, name, strlen(name) + 1);
}

static void resume_main(void *arg)
{
    struct suspending *u = arg;
    struct buf names = {0};
    struct err *e = NULL;
    if (u->what.len > 0)
        e = resume_one(u);
    else
        suspend_each(&u->queue->sched->suspensions, add_name, &names);
    for (size_t at = 0; !e && at < names.len; at += u->what.len + 1) {
        u->what = str_of(names.ptr + at);
        e = resume_one(u);
    }
    buf_fini(&names);
    err_copy_take(&u->err, e);
}

struct err *queue_resume(struct queue *q, struct str what, struct arena *a, uint64_t *count_out)
{
    struct suspending u = {.queue = q, .arena = a, .what = what};
    queue_on_sched(q, resume_main, &u);
    if (!u.err.set)
        *count_out = u.count;
    return err_copy_give(&u.err);
}

static void each_main(void *arg)
{
    struct suspending *u = arg;
    suspend_each(&u->queue->sched->suspensions, u->each, u->ctx);
}

struct err *queue_suspended(struct queue *q, void (*each)(void *ctx, const char *name, int64_t since_us),
                            void *ctx)
{
    struct suspending u = {.queue = q, .each = each, .ctx = ctx};
    queue_on_sched(q, each_main, &u);
    return NULL;
}
