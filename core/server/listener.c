#include "core/server/listener.h"

#include <semaphore.h>
#include <stdio.h>
#include <unistd.h>

#include "core/server/porch.h"
#include "core/smtpd/smtpd.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/fiber/fiber.h"
#include "io/net/sock.h"
#include "io/ring/ring.h"

/* Connections of a service that are taken but have not begun: they wait for a process slot (maxproc) or on a
 * porch. More are left to the kernel's backlog, which costs nobody here anything, until half of them are gone. */
#define HELD_MAX 1024
#define LIMIT_WARNING_S 60
/* accept fails at once as long as descriptors are short: then it is asked again after this. */
#define ACCEPT_PAUSE_MS 500

struct door; /* one service: a session count shared by its sockets */

struct listener {
    struct ring_op op;
    struct listeners *all;
    struct door *door;
    int fd;
    bool armed, closing; /* not armed: the timer runs */
    struct timer pause;
    struct list link;
};

struct door {
    struct listeners *all;
    struct snapshot *snapshot;
    const struct service *service;
    int64_t sessions;        /* atomic: running, or about to */
    size_t held;             /* atomic: taken, not begun */
    bool full;               /* atomic: whoever brings held down to the half sends room_msg */
    bool resting;            /* acceptor thread: its sockets are not asked until room_msg comes */
    struct mbox_msg room_msg;
    size_t waiting_count;    /* atomic; written by the acceptor thread */
    struct list waiting;     /* struct arrival; acceptor thread */
    int64_t warned_ns;
    size_t refs;             /* atomic: sockets + sessions + waiting */
};

/* A connection on its way to a worker and, when others wait for its place, the news of its end on its way back. */
struct arrival {
    struct mbox_msg msg;
    struct list link;
    struct door *door;
    size_t worker; /* which */
    int fd;
    struct addr peer;
};

struct pending {
    struct list link;
    size_t service_index;
    int fd;
};

struct listeners {
    struct queue *queue;
    struct worker *acceptor;
    struct worker **workers;
    struct porch *porches; /* one a worker, which alone touches it */
    size_t n_workers, next_worker;
    struct list pending; /* main thread */
    struct list active;  /* acceptor thread */
    bool stopping;       /* acceptor thread */
    sem_t done;          /* what the main thread waits for is done */
};

static void door_unref(struct door *d)
{
    if (__atomic_sub_fetch(&d->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    snapshot_unref(d->snapshot);
    mem_free(d);
}

/* --- sessions */

static void arrival_go(struct arrival *a);

static bool place_free(struct door *d)
{
    int64_t limit = d->service->maxproc;
    return limit <= 0 || __atomic_load_n(&d->sessions, __ATOMIC_SEQ_CST) < limit;
}

/* Acceptor thread. */
static void admit_waiting(struct door *d)
{
    struct list *next;
    while (place_free(d) && (next = list_pop_front(&d->waiting)) != NULL) {
        __atomic_sub_fetch(&d->waiting_count, 1, __ATOMIC_SEQ_CST);
        arrival_go(CONTAINER(next, struct arrival, link));
    }
}

static void place_came(struct mbox_msg *msg)
{
    struct arrival *a = CONTAINER(msg, struct arrival, msg);
    struct door *d = a->door;
    mem_free(a);
    admit_waiting(d);
    door_unref(d);
}

/* On the worker. The acceptor is woken only when somebody waits: it adds to waiting_count before it looks at
 * sessions again, we take from sessions before we look at waiting_count, so one of us sees the other. */
static void session_ended(struct arrival *a)
{
    struct door *d = a->door;
    __atomic_sub_fetch(&d->sessions, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&d->waiting_count, __ATOMIC_SEQ_CST) > 0) {
        a->msg.fn = place_came;
        worker_post(d->all->acceptor, &a->msg);
        return;
    }
    mem_free(a);
    door_unref(d);
}

static void session_main(void *arg)
{
    struct arrival *a = arg;
    smtpd_session(a->door->service, a->door->all->queue, a->fd, &a->peer);
    session_ended(a);
}

static void refuse(int fd, const char *myhostname)
{
    char text[256];
    int n = snprintf(text, sizeof(text), "421 4.3.2 %.200s All server ports are busy\r\n", myhostname);
    (void)!send(fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
    close(fd);
}

static void room_came(struct mbox_msg *msg);

static void no_longer_held(struct door *d)
{
    size_t left = __atomic_sub_fetch(&d->held, 1, __ATOMIC_SEQ_CST);
    if (left > HELD_MAX / 2 || !__atomic_exchange_n(&d->full, false, __ATOMIC_SEQ_CST))
        return;
    __atomic_add_fetch(&d->refs, 1, __ATOMIC_RELAXED);
    d->room_msg.fn = room_came;
    worker_post(d->all->acceptor, &d->room_msg);
}

static void arrival_begin(struct list *link)
{
    struct arrival *a = CONTAINER(link, struct arrival, link);
    no_longer_held(a->door);
    if (fiber_spawn("smtpd", session_main, a))
        return;
    refuse(a->fd, a->door->service->params->myhostname);
    session_ended(a);
}

static void arrival_on_worker(struct mbox_msg *msg)
{
    struct arrival *a = CONTAINER(msg, struct arrival, msg);
    porch_enter(&a->door->all->porches[a->worker], &a->link);
}

static size_t least_loaded(struct listeners *l)
{
    size_t best = l->next_worker++ % l->n_workers;
    for (size_t i = 0; i < l->n_workers; i++)
        if (worker_load(l->workers[i]) + 2 < worker_load(l->workers[best]))
            best = i;
    return best;
}

static void arrival_go(struct arrival *a)
{
    struct listeners *l = a->door->all;
    __atomic_add_fetch(&a->door->sessions, 1, __ATOMIC_SEQ_CST);
    a->worker = least_loaded(l);
    a->msg.fn = arrival_on_worker;
    worker_post(l->workers[a->worker], &a->msg);
}

static void warn_limit(struct door *d)
{
    int64_t now = clock_mono_ns();
    if (d->warned_ns && now - d->warned_ns < LIMIT_WARNING_S * NS_PER_S)
        return;
    d->warned_ns = now;
    const struct service *s = d->service;
    log_warning("master", "service \"%s\" has reached its process limit \"%lld\": new clients may "
                "experience noticeable delays", s->name, (long long)s->maxproc);
    log_warning("master", "to avoid this condition, increase the process count in master.cf or reduce "
                "the service time per client");
    log_warning("master", "see https://www.postfix.org/STRESS_README.html for examples of stress-adapting "
                "configuration settings");
}

static void rest_when_full(struct door *d);

/* A session's way in: a process slot of its service, or the queue for one. */
static void arrive(struct door *d, int fd)
{
    struct addr peer;
    struct err *gone = sock_peer(fd, &peer); /* as port scanners are by now */
    if (gone || d->all->stopping) {
        if (!gone)
            refuse(fd, d->service->params->myhostname);
        else
            close(fd);
        return;
    }
    struct arrival *a = MEM_NEW(struct arrival);
    a->door = d;
    a->fd = fd;
    a->peer = peer;
    addr_unmap(&a->peer);
    __atomic_add_fetch(&d->refs, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&d->held, 1, __ATOMIC_SEQ_CST);
    if (place_free(d) && d->waiting_count == 0) {
        arrival_go(a);
    } else {
        warn_limit(d);
        list_push_back(&d->waiting, &a->link);
        __atomic_add_fetch(&d->waiting_count, 1, __ATOMIC_SEQ_CST);
        admit_waiting(d);
    }
    rest_when_full(d);
}

static void listener_gone(struct listener *l)
{
    struct listeners *all = l->all;
    close(l->fd);
    list_remove(&l->link);
    door_unref(l->door);
    mem_free(l);
    if (all->stopping && list_empty(&all->active))
        sem_post(&all->done);
}

static void listener_arm(struct listener *l)
{
    l->armed = true;
    ring_accept_multishot(&l->op, l->fd);
}

static void pause_over(struct timer *t)
{
    struct listener *l = CONTAINER(t, struct listener, pause);
    if (!l->door->resting)
        listener_arm(l);
}

/* --- a door that has enough for now (acceptor thread) */

static bool of_door(const struct listener *l, const struct door *d)
{
    return l->door == d && !l->closing;
}

static void ask_again(struct door *d)
{
    d->resting = false;
    LIST_EACH(&d->all->active, it)
    {
        struct listener *l = CONTAINER(it, struct listener, link);
        if (of_door(l, d) && !l->armed) {
            timer_clear(&l->pause);
            listener_arm(l);
        }
    }
}

static void room_came(struct mbox_msg *msg)
{
    struct door *d = CONTAINER(msg, struct door, room_msg);
    ask_again(d);
    door_unref(d);
}

/* `full` is set before `held` is looked at again, and whoever takes from `held` looks at `full` after it: one of
 * both sees the other, and the exchange lets only one act. */
static void rest_when_full(struct door *d)
{
    if (d->resting || __atomic_load_n(&d->held, __ATOMIC_SEQ_CST) < HELD_MAX)
        return;
    d->resting = true;
    LIST_EACH(&d->all->active, it)
    {
        struct listener *l = CONTAINER(it, struct listener, link);
        if (of_door(l, d) && l->armed)
            ring_cancel(&l->op);
    }
    __atomic_store_n(&d->full, true, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&d->held, __ATOMIC_SEQ_CST) <= HELD_MAX / 2 &&
        __atomic_exchange_n(&d->full, false, __ATOMIC_SEQ_CST))
        ask_again(d);
}

static void accepted(struct ring_op *op, int res, bool more)
{
    struct listener *l = CONTAINER(op, struct listener, op);
    if (res >= 0)
        arrive(l->door, res);
    if (more)
        return;
    l->armed = false;
    if (l->closing) {
        listener_gone(l);
    } else if (l->door->resting) {
        return;
    } else if (res >= 0 || res == -ECONNABORTED || res == -EINTR || res == -ECANCELED) {
        listener_arm(l);
    } else {
        log_warning("master", "accept on service %s: %s: trying again", l->door->service->name,
                    strerror(-res));
        timer_set(&l->pause, clock_in_ms(ACCEPT_PAUSE_MS), pause_over);
    }
}

/* --- coming and going (acceptor thread) */

static void close_listener(struct listener *l)
{
    if (l->closing)
        return;
    l->closing = true;
    if (l->armed) {
        ring_cancel(&l->op);
        return;
    }
    timer_clear(&l->pause);
    listener_gone(l);
}

struct change {
    struct listeners *all;
    struct snapshot *snapshot;
    struct list added;         /* struct pending */
};

static struct door *door_new(struct listeners *all, struct snapshot *s, const struct service *svc)
{
    struct door *d = MEM_NEW(struct door);
    d->all = all;
    d->snapshot = snapshot_ref(s);
    d->service = svc;
    list_init(&d->waiting);
    return d;
}

static void change_main(void *arg)
{
    struct change *c = arg;
    LIST_EACH_SAFE(&c->all->active, it)
        close_listener(CONTAINER(it, struct listener, link));
    struct door *door = NULL;
    struct list *node;
    while ((node = list_pop_front(&c->added)) != NULL) {
        struct pending *p = CONTAINER(node, struct pending, link);
        const struct service *svc = &c->snapshot->services[p->service_index];
        if (!door || door->service != svc)
            door = door_new(c->all, c->snapshot, svc);
        struct listener *l = MEM_NEW(struct listener);
        l->op.done = accepted;
        l->all = c->all;
        l->door = door;
        l->fd = p->fd;
        __atomic_add_fetch(&door->refs, 1, __ATOMIC_RELAXED);
        list_push_back(&c->all->active, &l->link);
        listener_arm(l);
        mem_free(p);
    }
    sem_post(&c->all->done);
}

void listeners_add(struct listeners *l, size_t service_index, int fd)
{
    struct pending *p = MEM_NEW(struct pending);
    p->service_index = service_index;
    p->fd = fd;
    list_push_back(&l->pending, &p->link);
}

static void drop_pending(struct pending *p)
{
    close(p->fd);
    mem_free(p);
}

void listeners_forget(struct listeners *l)
{
    struct list *node;
    while ((node = list_pop_front(&l->pending)) != NULL)
        drop_pending(CONTAINER(node, struct pending, link));
}

static void wait_done(struct listeners *l)
{
    while (sem_wait(&l->done) != 0)
        continue;
}

void listeners_commit(struct listeners *l, struct snapshot *snapshot)
{
    struct change c = {.all = l, .snapshot = snapshot};
    list_init(&c.added);
    struct list *node;
    while ((node = list_pop_front(&l->pending)) != NULL) {
        struct pending *p = CONTAINER(node, struct pending, link);
        if (p->service_index < snapshot->service_count)
            list_push_back(&c.added, &p->link);
        else
            drop_pending(p);
    }
    worker_spawn(l->acceptor, "listen", change_main, &c);
    wait_done(l);
}

struct err *listeners_start(struct queue *queue, struct worker **workers, size_t n_workers,
                            struct listeners **out)
{
    struct listeners *l = MEM_NEW(struct listeners);
    l->queue = queue;
    l->workers = workers;
    l->n_workers = n_workers;
    l->porches = mem_zalloc(n_workers * sizeof *l->porches);
    for (size_t i = 0; i < n_workers; i++)
        porch_init(&l->porches[i], arrival_begin);
    list_init(&l->pending);
    list_init(&l->active);
    const struct worker_options options = {.name = "accept", .cpu = -1, .ring_entries = 128};
    struct err *e = worker_start(&options, NULL, NULL, &l->acceptor);
    if (e) {
        mem_free(l->porches);
        mem_free(l);
        return e;
    }
    sem_init(&l->done, 0, 0);
    *out = l;
    return NULL;
}

static void drop_waiting(struct door *d)
{
    struct list *node;
    while ((node = list_pop_front(&d->waiting)) != NULL) {
        struct arrival *a = CONTAINER(node, struct arrival, link);
        __atomic_sub_fetch(&d->waiting_count, 1, __ATOMIC_SEQ_CST);
        __atomic_sub_fetch(&d->held, 1, __ATOMIC_SEQ_CST);
        refuse(a->fd, d->service->params->myhostname);
        mem_free(a);
        door_unref(d); /* the listener still holds one */
    }
}

static void close_all_main(void *arg)
{
    struct listeners *l = arg;
    l->stopping = true;
    if (list_empty(&l->active))
        sem_post(&l->done);
    LIST_EACH_SAFE(&l->active, it)
    {
        struct listener *one = CONTAINER(it, struct listener, link);
        drop_waiting(one->door);
        close_listener(one);
    }
}

void listeners_stop(struct listeners *l)
{
    worker_spawn(l->acceptor, "close", close_all_main, l);
    wait_done(l);
}

void listeners_free(struct listeners *l)
{
    listeners_forget(l);
    worker_stop(l->acceptor);
    worker_join(l->acceptor);
    sem_destroy(&l->done);
    mem_free(l->porches);
    mem_free(l);
}
