/* loader: what is due comes from the index into the active queue, as far as there is room
 * (qmgr_message_active_limit), every queue_run_delay, at a flush, and as soon as room comes when
 * mail was left behind. */
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "queue/sched/backoff.h"
#include "queue/sched/state.h"

#define SLICE     128
#define STEP_ROWS 4096
#define STEP_SKIPS 256
/* A mark or a fresh message is in the index about a second later (store.h), more when there is much
 * to write: mail that was left in the log is looked for every two seconds, for ten. */
#define INDEX_LAG_NS (INT64_C(2) * NS_PER_S)
#define STRAYS_NS    (INT64_C(10) * NS_PER_S)
/* A run between those of queue_run_delay goes past so many messages that have no place. */
#define SKIPPED_MAX 2048
/* How long the others wait when there is no room just now, and how often they look. */
#define PATIENCE_NS (INT64_C(10) * NS_PER_S)
#define LOOK_NS (NS_PER_S / 10)
#define ROOM_NS NS_PER_S

size_t loader_limit(const struct sched *s)
{
    return s->opts.message_active_limit > 0 ? (size_t)s->opts.message_active_limit : 1;
}

bool loader_full(const struct sched *s)
{
    return s->active.count >= loader_limit(s);
}

bool loader_fits(const struct sched *s, const struct qmsg *m)
{
    return !loader_full(s) && (m->part || s->recipients < s->budget ||
                               qmsg_recipients(m) <= (size_t)s->opts.recipient_minimum);
}

static bool claim(struct qmsg *m)
{
    return __atomic_exchange_n(&m->claimed, 1, __ATOMIC_ACQ_REL) == 0;
}

/* d: where it is thought to go; NULL: not known. */
static bool take(struct sched *s, struct qmsg *m, bool flushed, struct dest *d)
{
    if (s->draining || !claim(m)) {
        qmsg_unref(m);
        return false;
    }
    if (!m->queue)
        m->queue = s->queue;
    struct active *a = sched_admit(s, m);
    a->flushed = flushed;
    if (d && !a->refill) /* that one is not resolved as a whole */
        share_expect(d, a);
    sched_resolve(a);
    return true;
}

bool loader_take(struct sched *s, struct qmsg *m, bool flushed)
{
    return take(s, m, flushed, NULL);
}

void loader_take_or_leave(struct sched *s, struct qmsg *m)
{
    if (loader_fits(s, m)) {
        (void)loader_take(s, m, false);
        return;
    }
    qmsg_unref(m);
    loader_soon(s);
}

/* A message whose due time has moved on since the row was written is left alone. */
static struct err *load_one(struct sched *s, uint64_t seq, int64_t now_us)
{
    if (umap_get(&s->active, seq) || store_hidden(s->store, seq))
        return NULL;
    struct dest *d;
    if (share_skips(s, seq, &d)) {
        s->run_skipped++;
        s->more = true;
        return NULL;
    }
    struct qmsg *m;
    struct err *e = store_get(s->store, seq, &m);
    if (e || !m)
        return e;
    if (qmsg_due_us(m) > now_us || (qmsg_flags(m) & MESSAGE_HOLD)) {
        qmsg_unref(m);
        return NULL;
    }
    if (loader_fits(s, m)) {
        (void)take(s, m, false, d);
        return NULL;
    }
    qmsg_unref(m);
    s->more = s->wide = true;
    return NULL;
}

/* A whole run finds no place for some because it does not know yet where they go: they are resolved just now, and make
 * room then. */
static bool waits_for_room(const struct sched *s)
{
    return s->run_whole && clock_mono_ns() < s->run_began_ns + PATIENCE_NS;
}

enum step_end {
    STEP_LAST, /* there is no more to load, or no room for it */
    STEP_WAIT, /* there may be room in a moment */
    STEP_NEXT,
};

/* *out: whether and how the run goes on. */
static bool finds_no_room(struct sched *s, enum step_end *out)
{
    bool enough = share_crowded(s) || s->run_skipped > SKIPPED_MAX;
    if (!loader_full(s) && (!enough || s->run_whole))
        return false;
    s->more = true;
    *out = waits_for_room(s) ? STEP_WAIT : STEP_LAST;
    return true;
}

static void load(struct sched *s, uint64_t seq)
{
    struct err *e = load_one(s, seq, s->run_until_us);
    if (e)
        log_warning("qmgr", "cannot load a message: %s", e->text);
}

/* What was due before all of the sheaf came later: mail that is to go at once. It does not wait for the sheaf to be used up. */
static struct err *load_urgent(struct sched *s, enum step_end *out)
{
    struct store_due list[SLICE];
    size_t n = 0;
    struct err *e = store_due(s->store, s->urgent_after, s->sheaf.first_us - 1, list, SLICE, &n);
    for (size_t i = 0; !e && i < n; i++) {
        if (finds_no_room(s, out))
            return NULL;
        s->urgent_after = list[i];
        load(s, list[i].seq);
    }
    if (n < SLICE)
        s->run_step = RUN_LOAD;
    *out = STEP_NEXT;
    return e;
}

static struct err *gather(struct sched *s, enum step_end *out)
{
    struct store_due *list = mem_alloc(SHEAF_PART * sizeof(*list));
    size_t n = 0;
    struct err *e = store_due(s->store, s->run_after, s->run_until_us, list, SHEAF_PART, &n);
    if (!e) {
        sheaf_add(&s->sheaf, list, n);
        if (n > 0)
            s->run_after = list[n - 1];
        s->run_read = n < SHEAF_PART;
        s->run_step = s->run_read || sheaf_full(&s->sheaf) ? RUN_LOAD : RUN_GATHER;
        *out = STEP_NEXT;
    }
    mem_free(list);
    return e;
}

static void load_some(struct sched *s, enum step_end *out)
{
    size_t rows = 0, active = s->active.count, skipped = s->run_skipped;
    uint64_t seq;
    while (rows++ < STEP_ROWS && s->run_skipped < skipped + STEP_SKIPS && s->active.count < active + SLICE) {
        if (s->sheaf.left > 0 && finds_no_room(s, out))
            return;
        if (!sheaf_next(&s->sheaf, &seq)) {
            *out = s->run_read ? STEP_LAST : STEP_NEXT;
            s->run_step = RUN_GATHER;
            return;
        }
        load(s, seq);
    }
    *out = STEP_NEXT;
}

/* One step of a run: not so long that deliveries would notice. */
static struct err *load_step(struct sched *s, enum step_end *out)
{
    struct err *e = NULL;
    *out = STEP_LAST;
    if (s->run_step == RUN_URGENT)
        e = load_urgent(s, out);
    else if (s->run_step == RUN_GATHER)
        e = gather(s, out);
    if (!e && s->run_step == RUN_LOAD)
        load_some(s, out);
    return e;
}

static void look_again(struct timer *t);

static void step(struct timer *t)
{
    struct sched *s = CONTAINER(t, struct sched, step_timer);
    enum step_end end;
    int64_t now = clock_mono_ns();
    struct err *e = load_step(s, &end);
    s->loading = !e && end != STEP_LAST;
    if (e) {
        log_error("qmgr", "queue run: %s", e->text);
        s->more = true;
    }
    if (s->loading)
        timer_set(&s->step_timer, end == STEP_WAIT ? now + LOOK_NS : now, step);
    else if (!e && s->more)
        timer_set(&s->step_timer, now + LOOK_NS, look_again);
}

static void run_now(struct sched *s, int64_t until_us, bool whole)
{
    if (s->loading || s->draining)
        return;
    s->loading = true;
    s->run_whole = whole;
    s->run_skipped = 0;
    s->run_began_ns = clock_mono_ns();
    s->urgent_after = (struct store_due){0};
    s->run_step = RUN_URGENT;
    /* One that is not whole goes on where the last one was, unless that has passed by something for the number of its
     * recipients. */
    if (whole || s->wide || s->sheaf.left == 0) {
        sheaf_clear(&s->sheaf);
        s->run_after = (struct store_due){0};
        s->run_until_us = until_us;
        s->run_step = RUN_GATHER;
    }
    s->more = s->wide = false;
    step(&s->step_timer);
}

/* What left the active queue while the run went on called for none. */
static void look_again(struct timer *t)
{
    loader_room(CONTAINER(t, struct sched, step_timer));
}

static void run_due(struct timer *t);

static int64_t run_delay_ns(const struct sched *s)
{
    return (s->opts.queue_run_delay_s > 0 ? s->opts.queue_run_delay_s : 1) * NS_PER_S;
}

static void set_timer(struct sched *s)
{
    int64_t now = clock_mono_ns();
    int64_t at = now + run_delay_ns(s);
    if (now < s->strays_until_ns && now + INDEX_LAG_NS < at)
        at = now + INDEX_LAG_NS;
    timer_set(&s->run_timer, at, run_due);
}

static void run_due(struct timer *t)
{
    struct sched *s = CONTAINER(t, struct sched, run_timer);
    int64_t now = clock_mono_ns();
    bool whole = now >= s->whole_next_ns;
    if (whole)
        s->whole_next_ns = now + run_delay_ns(s);
    run_now(s, backoff_run_until_us(clock_wall_us()), whole);
    set_timer(s);
}

/* The index was being built again: what was there before is known now. */
static void index_ready(void *ctx)
{
    run_now(ctx, clock_wall_us(), true);
}

void loader_start(struct sched *s)
{
    s->started = true;
    store_on_ready(s->store, index_ready, s);
    run_due(&s->run_timer);
}

void loader_stop(struct sched *s)
{
    s->started = s->loading = false;
    sheaf_clear(&s->sheaf);
    store_on_ready(s->store, NULL, NULL);
    timer_clear(&s->run_timer);
    timer_clear(&s->step_timer);
}

void loader_configure(struct sched *s)
{
    if (s->started)
        run_due(&s->run_timer);
}

void loader_soon(struct sched *s)
{
    int64_t now = clock_mono_ns();
    s->more = true;
    s->strays_until_ns = now + STRAYS_NS;
    if (s->started && now + INDEX_LAG_NS < s->run_timer.deadline_ns)
        timer_set(&s->run_timer, now + INDEX_LAG_NS, run_due);
}

void loader_room(struct sched *s)
{
    event_set(&s->room);
    /* In batches: a run for each message that leaves would look through the same rows again. */
    size_t limit = loader_limit(s);
    bool room = s->active.count <= limit - limit * 3 / 8 &&
                (!s->wide || s->recipients <= s->budget - s->budget / 4);
    if (!s->started || !s->more || !room || s->loading)
        return;
    int64_t now = clock_mono_ns();
    if (s->dests_left > 0 && now < s->room_next_ns) { /* most of what was left is fetched by its destination */
        timer_set(&s->step_timer, s->room_next_ns, look_again);
        return;
    }
    s->room_next_ns = now + ROOM_NS;
    run_now(s, clock_wall_us(), false);
}

static struct err *wait_until(struct sched *s, bool (*no_room)(const struct sched *s, const struct qmsg *m),
                              const struct qmsg *m)
{
    while (no_room(s, m) && !s->draining) {
        event_clear(&s->room);
        struct err *e = event_wait(&s->room, DEADLINE_NEVER);
        if (e)
            return e;
    }
    return NULL;
}

static bool is_full(const struct sched *s, const struct qmsg *m)
{
    (void)m;
    return loader_full(s);
}

/* What an operator asks for has no share: it leaves room for the others all the same. */
static bool is_crowded(const struct sched *s, const struct qmsg *m)
{
    (void)m;
    return share_crowded(s);
}

static bool is_too_large(const struct sched *s, const struct qmsg *m)
{
    return !loader_fits(s, m);
}

/* What is brought of what a query finds. */
enum bringing { BRING_ALL, BRING_SUSPENDED, BRING_DUE };

static bool is_wanted(enum bringing what, uint32_t flags, int64_t due_us)
{
    if (flags & MESSAGE_HOLD)
        return false;
    if (what == BRING_DUE)
        return due_us <= clock_wall_us();
    return what == BRING_ALL || (flags & MESSAGE_SUSPENDED);
}

/* *n_out counts it, when it is taken. */
static struct err *bring_one(struct sched *s, const struct store_pick *p, enum bringing what, struct dest *d,
                             size_t *n_out)
{
    struct qmsg *m = NULL;
    if (!is_wanted(what, p->flags, p->due_us) || umap_get(&s->active, p->seq))
        return NULL;
    struct err *e = wait_until(s, what == BRING_DUE ? is_full : is_crowded, NULL);
    if (!e && !s->draining)
        e = store_get(s->store, p->seq, &m);
    if (!e && m)
        e = wait_until(s, is_too_large, m);
    if (e || !m) {
        if (m)
            qmsg_unref(m);
        return e;
    }
    if (!is_wanted(what, qmsg_flags(m), qmsg_due_us(m)) || qmsg_removed(m))
        qmsg_unref(m);
    else
        *n_out += take(s, m, what == BRING_ALL, d);
    return NULL;
}

static void complain(struct err *e)
{
    if (e && e->kind != ERR_CANCELED)
        log_error("qmgr", "flush: %s", e->text);
}

/* What comes in, or is deferred again, meanwhile is not met: the walk does not go by due time. */
static struct err *bring(struct sched *s, struct store_query *q, enum bringing what, struct dest *d, size_t want)
{
    struct err *e = NULL;
    size_t taken = 0;
    while (!e && !q->ended && taken < want && !s->draining) {
        struct store_pick picks[SLICE / 2];
        size_t n = 0;
        e = store_query(s->store, q, picks, SLICE / 2, &n);
        for (size_t i = 0; !e && i < n; i++)
            e = bring_one(s, &picks[i], what, d, &taken);
        fiber_yield();
    }
    complain(e);
    return e;
}

size_t loader_fetch_these(struct sched *s, struct dest *d, const uint64_t *seqs, size_t n)
{
    size_t taken = 0;
    struct err *e = store_wait_ready(s->store);
    for (size_t i = 0; !e && i < n && !s->draining; i++)
        e = bring_one(s, &(struct store_pick){.seq = seqs[i]}, BRING_DUE, d, &taken);
    fiber_yield();
    complain(e);
    return taken;
}

bool loader_fetch(struct sched *s, struct dest *d, struct store_query *q, size_t want)
{
    q->brief = true;
    return !bring(s, q, BRING_DUE, d, want) && !q->ended;
}

void loader_flush(struct sched *s, struct str site)
{
    struct store_query q = {.domain = site, .brief = true};
    (void)bring(s, &q, BRING_ALL, NULL, SIZE_MAX);
}

void loader_resume(struct sched *s, enum suspend_kind kind, struct str name)
{
    struct store_query q = suspend_query(kind, name);
    q.brief = true;
    (void)bring(s, &q, BRING_SUSPENDED, NULL, SIZE_MAX);
}
