/* Messages in part (queue/store/store.h): a list that is longer than qmgr_message_recipient_limit is in the active queue
 * with so many of its recipients at a time. Each has a slot, which is its place in env->rcpts; who is settled is marked and
 * leaves it to one that has not been read. The store alone says what became of all of them, so what a slot does not hold is
 * neither lost nor taken for done. When all of this turn have been read and settled, notices get the recipients they
 * name into the slots. */
#include <stdlib.h>

#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "queue/sched/state.h"

struct refill {
    struct active *active;
    uint32_t slots;   /* so many at a time */
    uint32_t room;    /* of the arrays; more for a long notice */
    uint32_t next;    /* those before this index were read in this turn */
    uint32_t loaded;  /* slots in use */
    uint32_t free_count;
    uint32_t *free;   /* slots that were in use */
    char **text;      /* what the recipient of a slot owns */
    uint32_t waiting; /* by an operator's word */
    uint32_t success_room;
    bool reading;     /* some are being resolved */
    bool failed;      /* no more can be read in this turn */
    int64_t read_ns;  /* when some were read last */
    struct timer delay;
};

struct batch {
    struct active *active;
    struct arena *arena;
    struct qmsg shadow; /* what resolve gets: nobody else touches it */
    struct envelope env;
    struct mbox_msg mbox;
};

static uint32_t slots_for(const struct sched *s, const struct qmsg *m)
{
    size_t all = qmsg_recipients(m), some = store_slice(s->store);
    return (uint32_t)(some > 0 && some < all ? some : all);
}

/* --- slots */

static void make_room(struct active *a, uint32_t room)
{
    struct refill *f = a->refill;
    if (room <= f->room)
        return;
    CHECK(f->loaded == 0);
    struct envelope *env = a->m->env;
    mem_free(env->rcpts);
    mem_free(f->text);
    mem_free(f->free);
    env->rcpts = mem_zalloc(room * sizeof(*env->rcpts));
    f->text = mem_zalloc(room * sizeof(*f->text));
    f->free = mem_alloc(room * sizeof(*f->free));
    f->room = room;
}

static void leave_slot(struct active *a, uint32_t slot)
{
    struct refill *f = a->refill;
    mem_free(f->text[slot]);
    f->text[slot] = NULL;
    a->m->env->rcpts[slot] = (struct rcpt){.state = RCPT_DONE}; /* nobody's */
    f->free[f->free_count++] = slot;
    f->loaded--;
}

static void leave_all(struct active *a)
{
    struct refill *f = a->refill;
    for (size_t i = 0; i < a->m->env->rcpt_count; i++)
        mem_free(f->text[i]);
    if (f->text)
        memset(f->text, 0, a->m->env->rcpt_count * sizeof(*f->text));
    a->m->env->rcpt_count = 0;
    f->loaded = f->free_count = 0;
}

static struct str put(char **to, struct str s)
{
    if (s.len == 0)
        return STR("");
    char *at = *to;
    memcpy(at, s.ptr, s.len);
    *to += s.len;
    return str_make(at, s.len);
}

static const char *put_cstr(char **to, const char *s)
{
    if (!s)
        return NULL;
    char *at = *to;
    size_t n = strlen(s) + 1;
    memcpy(at, s, n);
    *to += n;
    return at;
}

/* All text of one recipient in one piece. */
static char *own(const struct rcpt *from, struct rcpt *to)
{
    bool original = !str_eq(from->original, from->address), resolved = !str_eq(from->resolved, from->address);
    size_t n = from->address.len + from->original.len + from->orcpt.len + from->resolved.len +
               from->why.text.len + from->why.mta.len + from->why.diagnostic.len +
               (from->transport ? strlen(from->transport) + 1 : 0) + (from->nexthop ? strlen(from->nexthop) + 1 : 0);
    if (!original)
        n -= from->address.len;
    if (!resolved)
        n -= from->address.len;
    char *text = mem_alloc(n + 1), *at = text;
    *to = *from;
    to->address = put(&at, from->address);
    to->original = original ? put(&at, from->original) : to->address;
    to->orcpt = put(&at, from->orcpt);
    to->resolved = resolved ? put(&at, from->resolved) : to->address;
    to->why.text = put(&at, from->why.text);
    to->why.mta = put(&at, from->why.mta);
    to->why.diagnostic = put(&at, from->why.diagnostic);
    to->transport = put_cstr(&at, from->transport);
    to->nexthop = put_cstr(&at, from->nexthop);
    return text;
}

static uint32_t take_slot(struct active *a, const struct rcpt *r)
{
    struct refill *f = a->refill;
    struct envelope *env = a->m->env;
    uint32_t slot = f->free_count > 0 ? f->free[--f->free_count] : (uint32_t)env->rcpt_count++;
    CHECK(slot < f->room);
    f->text[slot] = own(r, &env->rcpts[slot]);
    f->loaded++;
    return slot;
}

/* --- coming and going */

void refill_begin(struct active *a)
{
    if (!a->m->part)
        return;
    a->refill = MEM_NEW(struct refill);
    a->refill->active = a;
    a->refill->slots = slots_for(a->sched, a->m);
    a->m->env->rcpts = NULL;
    a->m->env->rcpt_count = 0;
}

void refill_end(struct active *a)
{
    struct refill *f = a->refill;
    if (!f)
        return;
    timer_clear(&f->delay);
    leave_all(a);
    mem_free(a->m->env->rcpts);
    a->m->env->rcpts = NULL;
    mem_free(f->text);
    mem_free(f->free);
    mem_free(f);
    a->refill = NULL;
}

size_t refill_weight(const struct active *a)
{
    return a->refill ? a->refill->slots : a->m->env->rcpt_count;
}

/* --- reading on */

bool refill_unread(const struct active *a)
{
    return a->refill && a->refill->next < qmsg_recipients(a->m);
}

static bool wants_more(const struct active *a)
{
    const struct refill *f = a->refill;
    return refill_unread(a) && !f->failed && !f->reading && !a->want_remove && !a->want_hold &&
           !a->again && !a->damaged && !a->sched->draining;
}

static void arrived(struct mbox_msg *msg)
{
    struct batch *b = CONTAINER(msg, struct batch, mbox);
    struct active *a = b->active;
    struct sched *s = a->sched;
    size_t n = b->env.rcpt_count;
    bool stopped = a->want_remove || a->want_hold || a->again || a->damaged;
    struct filing *f = ARENA_NEW(b->arena, struct filing);
    uint32_t *slots = arena_alloc(b->arena, n * sizeof(*slots));
    *f = (struct filing){.active = a, .slots = slots, .order = b->shadow.order, .arena = b->arena};
    if (a->state == ACTIVE_RESOLVING && !stopped)
        sched_log_active(a, b->env.sender_shown);
    a->state = ACTIVE_RUNNING;
    a->refill->reading = false;
    if (!stopped) {
        f->count = (uint32_t)n;
        for (size_t i = 0; i < n; i++)
            slots[i] = take_slot(a, &b->env.rcpts[i]);
        store_note_destinations(a->m, b->env.rcpts, n);
    }
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

static struct err *read_batch(struct active *a, size_t max, struct batch **out)
{
    struct refill *f = a->refill;
    struct qmsg *m = a->m;
    struct arena *arena = arena_new(0, 0);
    struct batch *b = ARENA_NEW(arena, struct batch);
    uint32_t *indexes = arena_alloc(arena, max * sizeof(*indexes));
    size_t n = store_part_find(m, f->next, RCPTS_LEFT, indexes, max);
    b->env = *m->env;
    b->env.rcpts = arena_zalloc(arena, (n + 1) * sizeof(*b->env.rcpts));
    b->env.rcpt_count = n;
    struct err *e = n > 0 ? store_part_read(m, indexes, n, arena, b->env.rcpts) : NULL;
    if (e || n == 0) {
        if (!e)
            f->next = (uint32_t)qmsg_recipients(m);
        arena_free(arena);
        return e;
    }
    f->next = indexes[n - 1] + 1;
    b->active = a;
    b->arena = arena;
    b->shadow = (struct qmsg){.queue = m->queue, .seq = m->seq, .arena = arena, .env = &b->env,
                              .active_since_us = m->active_since_us};
    memcpy(b->shadow.id, m->id, sizeof(b->shadow.id));
    *out = b;
    return NULL;
}

bool refill_more(struct active *a)
{
    struct sched *s = a->sched;
    struct refill *f = a->refill;
    struct batch *b = NULL;
    if (!wants_more(a) || f->loaded >= f->slots)
        return false;
    make_room(a, f->slots);
    struct err *e = read_batch(a, f->slots - f->loaded, &b);
    f->failed = e != NULL;
    if (e)
        log_warning("qmgr", "%s: cannot read its recipients: %s", a->m->id, e->text);
    if (!b)
        return false;
    timer_clear(&f->delay);
    f->reading = true;
    f->read_ns = clock_mono_ns();
    a->running++; /* until they are filed */
    s->requests_out++;
    worker_spawn(s->workers[s->next_worker++ % s->n_workers], "resolve", resolve_main, b);
    return true;
}

static void delay_over(struct timer *t)
{
    (void)refill_more(CONTAINER(t, struct refill, delay)->active);
}

/* postconf(5), transport_recipient_refill_limit, _delay: so many at once, or after that time as many as there is room
 * for. */
void refill_maybe(struct active *a, const struct transport *t)
{
    struct refill *f = a->refill;
    if (!wants_more(a))
        return;
    uint32_t room = f->slots - f->loaded;
    int64_t at = f->read_ns + t->opts.refill_delay_s * NS_PER_S;
    if (room >= t->opts.refill_limit || room == f->slots || (room > 0 && clock_mono_ns() >= at))
        (void)refill_more(a);
    else if (room > 0)
        timer_set(&f->delay, at, delay_over);
}

/* --- settled */

void refill_settled(struct active *a, const struct request *r)
{
    for (size_t i = 0; i < r->rcpt_count; i++)
        leave_slot(a, r->rcpts[i].index);
}

void refill_suspended(struct active *a, const uint32_t *slots, size_t n)
{
    active_mark(a, slots, n);
    for (size_t i = 0; i < n; i++)
        leave_slot(a, slots[i]);
    a->refill->waiting += (uint32_t)n;
}

uint32_t refill_waiting(const struct active *a)
{
    return a->refill->waiting;
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
    leave_all(a);
    if (n == 0)
        return NULL;
    struct arena *arena = arena_new(0, 0);
    struct rcpt *rcpts = arena_zalloc(arena, n * sizeof(*rcpts));
    struct err *e = store_part_read(a->m, indexes, n, arena, rcpts);
    if (!e)
        make_room(a, (uint32_t)n);
    for (size_t i = 0; i < n && !e; i++)
        (void)take_slot(a, &rcpts[i]);
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
