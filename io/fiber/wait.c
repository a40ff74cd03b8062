#include "io/fiber/wait.h"

#include "io/base/check.h"
#include "io/base/mem.h"

/* On the waiting fiber's stack. `given` decides, not the wake-up: wake-ups may be early, and what
 * was handed over must not be lost to a deadline or cancellation that came at the same moment. */
struct waiter {
    struct list link;
    struct fiber *fiber;
    bool given;
};

/* Out of line, or GCC takes the ring for a place where the address of a local stays behind. */
__attribute__((noinline)) static void waiter_enter(struct list *waiters, struct waiter *me)
{
    list_push_back(waiters, &me->link);
}

static struct err *waiter_wait(struct list *waiters, int64_t deadline_ns)
{
    struct waiter me = {.fiber = fiber_self()};
    CHECK(me.fiber != NULL);
    waiter_enter(waiters, &me);
    struct err *e = NULL;
    while (!me.given && e == NULL)
        e = fiber_park(deadline_ns);
    list_remove(&me.link); /* done already when something was given */
    return me.given ? NULL : e;
}

static bool waiter_give_first(struct list *waiters)
{
    struct list *node = list_pop_front(waiters);
    if (node == NULL)
        return false;
    struct waiter *w = CONTAINER(node, struct waiter, link);
    w->given = true;
    fiber_wake(w->fiber);
    return true;
}

/* --- event --- */

void event_init(struct event *e)
{
    list_init(&e->waiters);
    e->set = false;
}

void event_set(struct event *e)
{
    e->set = true;
    while (waiter_give_first(&e->waiters))
        ;
}

void event_clear(struct event *e)
{
    e->set = false;
}

struct err *event_wait(struct event *e, int64_t deadline_ns)
{
    return e->set ? NULL : waiter_wait(&e->waiters, deadline_ns);
}

/* --- sem --- */

void sem_init_count(struct sem *s, int64_t count)
{
    list_init(&s->waiters);
    s->count = count;
}

struct err *sem_take(struct sem *s, int64_t deadline_ns)
{
    if (s->count > 0) {
        s->count--;
        return NULL;
    }
    return waiter_wait(&s->waiters, deadline_ns);
}

/* The permit goes straight to the first waiter, so that nobody overtakes it. */
void sem_give(struct sem *s)
{
    if (s->count < 0 || !waiter_give_first(&s->waiters))
        s->count++;
}

/* --- group --- */

struct group_member {
    struct list link;
    struct group *group;
    struct fiber *fiber;
    void (*fn)(void *arg);
    void *arg;
};

void group_init(struct group *g)
{
    list_init(&g->members);
    g->live = 0;
    event_init(&g->done);
    g->done.set = true;
}

static void group_member_run(void *arg)
{
    struct group_member *m = arg;
    struct group *g = m->group;
    m->fn(m->arg);
    list_remove(&m->link);
    mem_free(m);
    if (--g->live == 0)
        event_set(&g->done);
}

bool group_spawn(struct group *g, const char *entry, void (*fn)(void *arg), void *arg)
{
    struct group_member *m = MEM_NEW(struct group_member);
    *m = (struct group_member){.group = g, .fn = fn, .arg = arg};
    m->fiber = fiber_spawn(entry, group_member_run, m);
    if (m->fiber == NULL) {
        mem_free(m);
        return false;
    }
    list_push_back(&g->members, &m->link);
    g->live++;
    event_clear(&g->done);
    return true;
}

void group_cancel(struct group *g)
{
    LIST_EACH(&g->members, node)
    {
        fiber_cancel(CONTAINER(node, struct group_member, link)->fiber);
    }
}

struct err *group_join(struct group *g, int64_t deadline_ns)
{
    struct err *e = NULL;
    while (g->live > 0 && e == NULL)
        e = event_wait(&g->done, deadline_ns);
    return g->live == 0 ? NULL : e;
}

/* --- completion --- */

void completion_init(struct completion *c)
{
    *c = (struct completion){.home = worker_self(), .waiter = fiber_self()};
    CHECK(c->waiter != NULL);
}

static void completion_arrived(struct mbox_msg *m)
{
    struct completion *c = CONTAINER(m, struct completion, msg);
    c->done = true;
    fiber_wake(c->waiter);
}

/* Once the message is in the mailbox the fiber may return and its stack be used again, so nothing
 * here may look at c after the push; worker_post promises the same for the message. */
void completion_signal(struct completion *c)
{
    c->msg.fn = completion_arrived;
    worker_post(c->home, &c->msg);
}

void completion_wait(struct completion *c)
{
    CHECK(fiber_self() == c->waiter);
    fiber_shield_begin();
    while (!c->done) {
        struct err *e = fiber_park(DEADLINE_NEVER);
        CHECK(e == NULL);
    }
    fiber_shield_end();
}
