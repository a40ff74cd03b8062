/* Messages in part (queue/store/store.h): of a long list some recipients at a time are in memory. Each has a slot (slice.h) and
 * a seat (seats.h), the message's own or one of its transport; who is settled is marked and leaves both. The store alone says
 * what became of all of them, so what is not in memory is neither lost nor taken for done. When all of this turn have been
 * read and settled, notices get the recipients they name into the slots.
 *
 * Which transport a recipient has is known when it has been resolved. One that finds no seat then is held (held.c): it leaves
 * memory, and is read again when there is one. So the list is read on for the sake of other transports. */
#include <stdlib.h>

#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "queue/sched/slice.h"
#include "queue/sched/state.h"

struct refill {
    struct active *active;
    int64_t since_ns;
    struct seat_pool own_pool; /* qmgr_message_recipient_minimum */
    struct seat_share own;
    struct slice slice;
    uint32_t next;    /* those before this index were read in this turn; some are held */
    int64_t filed;    /* of them, those that were not */
    uint32_t waiting; /* by an operator's word */
    struct buf words; /* which; NUL-terminated, each once */
    uint32_t success_room;
    bool reading;     /* some are being resolved */
    bool failed;      /* no more can be read in this turn */
    int64_t read_ns;  /* when some were read last */
    int64_t looked_ns; /* when as many as may be were, to see what transports they have */
    struct timer delay;
};

struct batch {
    struct active *active;
    struct arena *arena;
    struct qmsg shadow; /* what resolve gets: nobody else touches it */
    struct envelope env;
    struct seat_share **seats; /* that are kept for them; NULL: none, they were not read before */
    struct mbox_msg mbox;
};

/* --- coming and going */

void refill_begin(struct active *a)
{
    if (!a->m->part)
        return;
    const struct sched_options *o = &a->sched->opts;
    struct refill *f = MEM_NEW(struct refill);
    a->refill = f;
    f->active = a;
    f->since_ns = clock_mono_ns();
    f->own_pool.limit = o->recipient_minimum > 0 ? o->recipient_minimum : 1;
    f->own.pool = &f->own_pool;
    slice_begin(&f->slice, a->m);
}

void refill_end(struct active *a)
{
    struct refill *f = a->refill;
    if (!f)
        return;
    timer_clear(&f->delay);
    slice_end(&f->slice);
    for (struct job *j = &a->job; j; j = j->next)
        held_end(j);
    buf_fini(&f->words);
    mem_free(f);
    a->refill = NULL;
    for (struct job *j = &a->job; j && j->transport; j = j->next)
        refill_serve(j->transport);
}

/* --- seats */

/* Who came first has those of a transport first, and who has passed another need not wait. */
static int64_t seats_for(const struct refill *f, struct job *j)
{
    const struct held *first = held_first(j->transport);
    bool turn = !first || first->active == f->active || first->since_ns > f->since_ns;
    if (j->slots.payer != 0)
        seats_pass(&j->seats);
    return turn || j->slots.payer != 0 ? seats_free(&j->seats) : 0;
}

static struct seat_share *find_seat(struct refill *f, struct job *j)
{
    if (seats_take(&f->own))
        return &f->own;
    return seats_for(f, j) > 0 && seats_take(&j->seats) ? &j->seats : NULL;
}

/* The one that was kept, when it is of the transport that the recipient has now. */
static struct seat_share *seat_for(struct refill *f, const struct batch *b, size_t i)
{
    const struct rcpt *r = &b->env.rcpts[i];
    struct active *a = f->active;
    struct job *j = transport_job(transport_get(a->sched, r->transport ? r->transport : "retry"), a);
    struct seat_share *kept = b->seats ? b->seats[i] : NULL;
    if (kept && (kept == &f->own || kept == &j->seats))
        return kept;
    if (kept)
        seats_leave(kept);
    struct seat_share *seat = find_seat(f, j);
    if (!seat)
        held_add(j, a, f->since_ns, r->index);
    return seat;
}

/* --- reading on */

static bool some_held(const struct active *a)
{
    for (const struct job *j = &a->job; j; j = j->next)
        if (j->held && j->held->count > 0)
            return true;
    return false;
}

bool refill_unread(const struct active *a)
{
    return a->refill && (a->refill->next < qmsg_recipients(a->m) || some_held(a));
}

static bool wants_more(const struct active *a)
{
    const struct refill *f = a->refill;
    return refill_unread(a) && !f->failed && !f->reading && a->state != ACTIVE_NOTIFYING &&
           !a->want_remove && !a->want_hold && !a->again && !a->damaged && !a->sched->draining;
}

/* What is not in memory: as many requests as those before needed, by the recipient; of a job that
 * begins, one each. */
static void count_unread(struct active *a)
{
    const struct refill *f = a->refill;
    int64_t unread = f->failed ? 0 : (int64_t)qmsg_recipients(a->m) - f->next;
    for (struct job *j = &a->job; j; j = j->next) {
        int64_t all = unread + (j->held ? j->held->count : 0), made = j->slots.left + j->slots.gone;
        j->slots.unread = f->filed > 0 && made > 0 ? (all * made + f->filed - 1) / f->filed : all;
    }
}

/* Those that have a seat get slots, and the order of all becomes theirs. */
static void seat_batch(struct active *a, struct batch *b, struct filing *file)
{
    struct slice *slice = &a->refill->slice;
    size_t n = b->env.rcpt_count, order_count = 0;
    struct seat_share **seat = arena_alloc(b->arena, n * sizeof(*seat));
    uint32_t *slots = arena_alloc(b->arena, n * sizeof(*slots));
    uint32_t *order = arena_alloc(b->arena, n * sizeof(*order));
    uint32_t *place = arena_alloc(b->arena, n * sizeof(*place));
    for (size_t i = 0; i < n; i++) {
        seat[i] = seat_for(a->refill, b, i);
        place[i] = file->count;
        file->count += seat[i] != NULL;
    }
    slice_make_room(slice, slice->loaded + file->count);
    for (size_t i = 0; i < n; i++)
        if (seat[i])
            slots[place[i]] = slice_take(slice, &b->env.rcpts[i], seat[i]);
    for (size_t i = 0; i < n && b->shadow.order; i++)
        if (seat[b->shadow.order[i]])
            order[order_count++] = place[b->shadow.order[i]];
    file->slots = slots;
    file->order = b->shadow.order ? order : NULL;
    count_unread(a);
    a->refill->filed += file->count;
}

static void stop_reading(struct active *a)
{
    a->refill->failed = true;
    for (struct job *j = &a->job; j; j = j->next)
        held_end(j);
    count_unread(a);
}

static void give_back(struct batch *b)
{
    for (size_t i = 0; b->seats && i < b->env.rcpt_count; i++)
        seats_leave(b->seats[i]);
}

static void arrived(struct mbox_msg *msg)
{
    struct batch *b = CONTAINER(msg, struct batch, mbox);
    struct active *a = b->active;
    struct sched *s = a->sched;
    size_t n = b->env.rcpt_count;
    bool stopped = a->want_remove || a->want_hold || a->again || a->damaged;
    struct filing *f = ARENA_NEW(b->arena, struct filing);
    *f = (struct filing){.active = a, .arena = b->arena};
    s->reading -= n;
    if (a->state == ACTIVE_RESOLVING && !stopped)
        sched_log_active(a, b->env.sender_shown);
    a->state = ACTIVE_RUNNING;
    a->refill->reading = false;
    if (stopped) {
        give_back(b);
    } else {
        seat_batch(a, b, f);
        store_note_destinations(a->m, b->env.rcpts, n);
    }
    refill_maybe(a); /* what is left over, by its time */
    sched_file(f);
    sched_fiber_ended(s);
}

static void resolve_main(void *arg)
{
    struct batch *b = arg;
    const struct sched *s = b->active->sched;
    s->hooks->resolve(s->hooks->ctx, &b->shadow);
    order_recipients(&b->shadow);
    b->mbox.fn = arrived;
    worker_post(s->home, &b->mbox);
}

static struct batch *batch_new(struct active *a, struct arena *arena, size_t n)
{
    struct qmsg *m = a->m;
    struct batch *b = ARENA_NEW(arena, struct batch);
    b->active = a;
    b->arena = arena;
    b->env = *m->env;
    b->env.rcpts = arena_zalloc(arena, (n + 1) * sizeof(*b->env.rcpts));
    b->env.rcpt_count = n;
    b->shadow = (struct qmsg){.queue = m->queue, .seq = m->seq, .arena = arena, .env = &b->env,
                              .active_since_us = m->active_since_us};
    memcpy(b->shadow.id, m->id, sizeof(b->shadow.id));
    return b;
}

/* Those that have not been read. NULL: there are none. */
static struct batch *take_unread(struct active *a, struct arena *arena, size_t max, uint32_t *indexes)
{
    struct refill *f = a->refill;
    size_t n = store_part_find(a->m, f->next, RCPTS_LEFT, indexes, max);
    f->next = n > 0 ? indexes[n - 1] + 1 : (uint32_t)qmsg_recipients(a->m);
    return n > 0 ? batch_new(a, arena, n) : NULL;
}

static int64_t delay_ns(const struct transport *t)
{
    return (t->opts.refill_delay_s > 0 ? t->opts.refill_delay_s : 1) * NS_PER_S;
}

/* postconf(5), transport_recipient_refill_limit, _delay: so many at once, or after that time as many as there is room for. */
static bool is_enough(const struct refill *f, const struct transport *t, int64_t room)
{
    return room > 0 && (room >= t->opts.refill_limit || f->slice.loaded == 0 ||
                        clock_mono_ns() >= f->read_ns + delay_ns(t));
}

struct wanted {
    uint32_t index;
    struct seat_share *seat;
};

static int by_index(const void *left, const void *right)
{
    uint32_t l = ((const struct wanted *)left)->index, r = ((const struct wanted *)right)->index;
    return (l > r) - (l < r);
}

/* So many seats of its own and its transport's are there for those that it holds. */
static int64_t held_room(struct refill *f, struct job *j)
{
    if (!j->held || j->held->count == 0)
        return 0;
    int64_t room = seats_free(&f->own) + seats_for(f, j);
    return is_enough(f, j->transport, room) ? room : 0;
}

static size_t count_held(struct refill *f, size_t max)
{
    size_t n = 0;
    for (struct job *j = &f->active->job; j; j = j->next) {
        size_t room = (size_t)held_room(f, j);
        n += room > 0 && room > j->held->count ? j->held->count : room;
    }
    return n < max ? n : max;
}

/* Those that are held, as far as there are seats now: these are kept for them. */
static struct batch *take_held(struct active *a, struct arena *arena, size_t max, uint32_t *indexes)
{
    struct refill *f = a->refill;
    struct wanted *list = arena_alloc(arena, max * sizeof(*list));
    size_t n = 0;
    for (struct job *j = &a->job; j; j = j->next) {
        for (int64_t room = held_room(f, j); room > 0 && n < max && j->held->count > 0; room--, n++) {
            list[n].seat = seats_for(f, j) > 0 ? &j->seats : &f->own;
            CHECK(seats_take(list[n].seat));
            list[n].index = held_take(j->held);
        }
    }
    qsort(list, n, sizeof(*list), by_index);
    struct batch *b = batch_new(a, arena, n);
    b->seats = arena_alloc(arena, n * sizeof(struct seat_share *));
    for (size_t i = 0; i < n; i++) {
        indexes[i] = list[i].index;
        b->seats[i] = list[i].seat;
    }
    return b;
}

/* So many may be on their way, of which it is not known what transports they have: qmgr_message_recipient_limit in all, but
 * each message its own. */
static size_t batch_max(const struct refill *f)
{
    const struct sched *s = f->active->sched;
    size_t own = (size_t)f->own_pool.limit, most = (size_t)s->opts.message_recipient_limit;
    return most > s->reading + own ? most - s->reading : own;
}

/* The seats that those may find which come next, when they have the transports of those before them. From time to time
 * as many as may be are looked at: others may be among them. */
static size_t unread_room(struct refill *f)
{
    struct job *j = &f->active->job;
    size_t most = batch_max(f);
    int64_t room = seats_free(&f->own), now = clock_mono_ns();
    bool enough = !j->transport;
    int64_t delay = enough ? 0 : delay_ns(j->transport);
    for (; j && j->transport; j = j->next) {
        if (!j->held || j->held->count == 0)
            room += seats_for(f, j);
        delay = delay_ns(j->transport) < delay ? delay_ns(j->transport) : delay;
        enough |= is_enough(f, j->transport, room);
    }
    if (!f->active->job.transport || now >= f->looked_ns + delay) {
        f->looked_ns = now;
        return most;
    }
    return !enough ? 0 : (size_t)room < most ? (size_t)room : most;
}

static bool read_some(struct active *a)
{
    struct sched *s = a->sched;
    struct refill *f = a->refill;
    size_t held = count_held(f, batch_max(f)), max = held;
    if (held == 0 && f->next < qmsg_recipients(a->m))
        max = unread_room(f);
    if (max == 0)
        return false;
    struct arena *arena = arena_new(0, 0);
    uint32_t *indexes = arena_alloc(arena, max * sizeof(*indexes));
    struct batch *b = held > 0 ? take_held(a, arena, max, indexes) : take_unread(a, arena, max, indexes);
    struct err *e = b ? store_part_read(a->m, indexes, b->env.rcpt_count, arena, b->env.rcpts) : NULL;
    if (e) {
        log_warning("qmgr", "%s: cannot read its recipients: %s", a->m->id, e->text);
        give_back(b);
        stop_reading(a);
    }
    if (e || !b) {
        arena_free(arena);
        return false;
    }
    f->reading = true;
    f->read_ns = clock_mono_ns();
    a->running++; /* until they are filed */
    s->reading += b->env.rcpt_count;
    s->requests_out++;
    worker_spawn(s->workers[s->next_worker++ % s->n_workers], "resolve", resolve_main, b);
    return true;
}

bool refill_more(struct active *a)
{
    if (!wants_more(a) || !read_some(a))
        return false;
    timer_clear(&a->refill->delay);
    return true;
}

static void delay_over(struct timer *t)
{
    refill_maybe(CONTAINER(t, struct refill, delay)->active);
}

void refill_maybe(struct active *a)
{
    struct refill *f = a->refill;
    if (!wants_more(a) || refill_more(a) || f->failed || !a->job.transport)
        return;
    int64_t delay = INT64_MAX, now = clock_mono_ns();
    for (const struct job *j = &a->job; j && j->transport; j = j->next)
        delay = delay_ns(j->transport) < delay ? delay_ns(j->transport) : delay;
    int64_t at = f->read_ns + delay;
    timer_set(&f->delay, at > now ? at : now + delay, delay_over);
}

void refill_serve(struct transport *t)
{
    const struct held *first, *before = NULL;
    while ((first = held_first(t)) != NULL && first != before) {
        before = first;
        refill_maybe(first->active);
    }
}

/* --- settled */

void refill_settled(struct active *a, const struct request *r)
{
    for (size_t i = 0; i < r->rcpt_count; i++)
        slice_leave(&a->refill->slice, r->rcpts[i].index);
}

void refill_suspended(struct active *a, const uint32_t *slots, size_t n)
{
    active_mark(a, slots, n);
    for (size_t i = 0; i < n; i++)
        slice_leave(&a->refill->slice, slots[i]);
    a->refill->waiting += (uint32_t)n;
}

uint32_t refill_waiting(const struct active *a)
{
    return a->refill->waiting;
}

void refill_waits_by(struct active *a, const char *name)
{
    struct buf *words = &a->refill->words;
    for (size_t at = 0; at < words->len; at += strlen(words->ptr + at) + 1)
        if (strcmp(words->ptr + at, name) == 0)
            return;
    buf_add(words, name, strlen(name) + 1);
}

bool refill_some_freed(const struct active *a)
{
    const struct buf *words = &a->refill->words;
    size_t n;
    for (size_t at = 0; at < words->len; at += n + 1) {
        n = strlen(words->ptr + at);
        if (!hmap_get(&a->sched->suspensions.set, str_make(words->ptr + at, n)))
            return true;
    }
    return false;
}

void refill_note_success(struct active *a, uint32_t index)
{
    struct refill *f = a->refill;
    if (a->fresh_count == f->success_room) {
        f->success_room = f->success_room ? f->success_room * 2 : 64;
        a->fresh = mem_realloc(a->fresh, f->success_room * sizeof(*a->fresh));
    }
    a->fresh[a->fresh_count++] = index;
}

/* --- for a notice */

static struct err *pick_these(struct active *a, const uint32_t *indexes, size_t n)
{
    struct slice *slice = &a->refill->slice;
    slice_leave_all(slice);
    if (n == 0)
        return NULL;
    struct arena *arena = arena_new(0, 0);
    struct rcpt *rcpts = arena_zalloc(arena, n * sizeof(*rcpts));
    struct err *e = store_part_read(a->m, indexes, n, arena, rcpts);
    if (!e)
        slice_make_room(slice, n);
    for (size_t i = 0; i < n && !e; i++)
        (void)slice_take(slice, &rcpts[i], NULL);
    arena_free(arena);
    if (e)
        log_warning("qmgr", "%s: cannot read its recipients: %s", a->m->id, e->text);
    return e;
}

bool refill_pick(struct active *a, unsigned states)
{
    if (!a->refill)
        return true;
    size_t n = qmsg_count(a->m, states);
    uint32_t *indexes = mem_alloc((n + 1) * sizeof(*indexes));
    n = store_part_find(a->m, 0, states, indexes, n);
    struct err *e = pick_these(a, indexes, n);
    mem_free(indexes);
    return e == NULL;
}

static int by_number(const void *left, const void *right)
{
    uint32_t l = *(const uint32_t *)left, r = *(const uint32_t *)right;
    return (l > r) - (l < r);
}

bool refill_pick_fresh(struct active *a)
{
    if (!a->refill)
        return true;
    a->refill->success_room = 0; /* the list is given away */
    qsort(a->fresh, a->fresh_count, sizeof(*a->fresh), by_number);
    struct err *e = pick_these(a, a->fresh, a->fresh_count);
    for (uint32_t i = 0; i < a->fresh_count && !e; i++)
        a->fresh[i] = i;
    return e == NULL;
}
