#include "core/server/listener.h"

#include <stdio.h>
#include <unistd.h>

#include "core/smtpd/smtpd.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/fiber/fiber.h"
#include "io/net/sock.h"
#include "io/ring/ring.h"

/* Connections taken but waiting for a process slot of their service (maxproc): more are refused. */
#define WAITING_MAX 4096
#define LIMIT_WARNING_S 60

struct door; /* one service: a session count shared by its sockets */

struct listener {
    struct ring_op op;
    struct listeners *all;
    struct door *door;
    int fd;
    bool armed, closing;
    struct list link;
};

struct door {
    struct listeners *all;
    struct snapshot *snapshot;
    const struct service *service;
    int64_t sessions;        /* acceptor thread */
    size_t waiting_count;
    struct list waiting;     /* struct arrival */
    int64_t warned_ns;
    size_t refs;             /* sockets + sessions + waiting; acceptor thread */
};

/* A connection on its way to a worker and, later, the news of its end on its way back. */
struct arrival {
    struct mbox_msg msg;
    struct list link;
    struct door *door;
    struct worker *worker;
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
    size_t n_workers, next_worker;
    struct list pending; /* main thread */
    struct list active;  /* acceptor thread */
};

static void door_unref(struct door *d)
{
    if (--d->refs > 0)
        return;
    snapshot_unref(d->snapshot);
    mem_free(d);
}

/* --- sessions */

static void arrival_go(struct arrival *a);

static void session_ended(struct mbox_msg *msg)
{
    struct arrival *a = CONTAINER(msg, struct arrival, msg);
    struct door *d = a->door;
    mem_free(a);
    d->sessions--;
    struct list *next = list_pop_front(&d->waiting);
    if (next) {
        d->waiting_count--;
        arrival_go(CONTAINER(next, struct arrival, link));
    }
    door_unref(d);
}

static void session_main(void *arg)
{
    struct arrival *a = arg;
    smtpd_session(a->door->service, a->door->all->queue, a->fd, &a->peer);
    a->msg.fn = session_ended;
    worker_post(a->door->all->acceptor, &a->msg);
}

static void refuse(int fd, const char *myhostname)
{
    char text[256];
    int n = snprintf(text, sizeof(text), "421 4.3.2 %.200s All server ports are busy\r\n", myhostname);
    (void)!send(fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
    close(fd);
}

static void arrival_on_worker(struct mbox_msg *msg)
{
    struct arrival *a = CONTAINER(msg, struct arrival, msg);
    if (fiber_spawn("smtpd", session_main, a))
        return;
    refuse(a->fd, a->door->service->params->myhostname);
    a->msg.fn = session_ended;
    worker_post(a->door->all->acceptor, &a->msg);
}

static struct worker *least_loaded(struct listeners *l)
{
    struct worker *best = l->workers[l->next_worker++ % l->n_workers];
    for (size_t i = 0; i < l->n_workers; i++)
        if (worker_load(l->workers[i]) + 2 < worker_load(best))
            best = l->workers[i];
    return best;
}

static void arrival_go(struct arrival *a)
{
    a->door->sessions++;
    a->worker = least_loaded(a->door->all);
    a->msg.fn = arrival_on_worker;
    worker_post(a->worker, &a->msg);
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

static void accepted(struct ring_op *op, int res, bool more)
{
    struct listener *l = CONTAINER(op, struct listener, op);
    struct door *d = l->door;
    if (res >= 0) {
        struct arrival *a = MEM_NEW(struct arrival);
        a->door = d;
        a->fd = res;
        if (sock_peer(res, &a->peer) || d->waiting_count >= WAITING_MAX) {
            refuse(res, d->service->params->myhostname);
            mem_free(a);
        } else {
            addr_unmap(&a->peer);
            d->refs++;
            if (d->service->maxproc > 0 && d->sessions >= d->service->maxproc) {
                warn_limit(d);
                list_push_back(&d->waiting, &a->link);
                d->waiting_count++;
            } else {
                arrival_go(a);
            }
        }
    }
    if (more)
        return;
    l->armed = false;
    if (l->closing) {
        close(l->fd);
        list_remove(&l->link);
        mem_free(l);
        door_unref(d);
        return;
    }
    if (res < 0 && res != -ECONNABORTED && res != -EINTR)
        log_warning("master", "accept on service %s: %s", d->service->name, strerror(-res));
    l->armed = true;
    ring_accept_multishot(&l->op, l->fd);
}

/* --- coming and going (acceptor thread) */

static void close_listener(struct listener *l)
{
    if (l->closing)
        return;
    l->closing = true;
    ring_cancel(&l->op);
}

struct change {
    struct listeners *all;
    struct snapshot *snapshot; /* NULL = only close */
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
        l->armed = true;
        door->refs++;
        list_push_back(&c->all->active, &l->link);
        ring_accept_multishot(&l->op, l->fd);
        mem_free(p);
    }
    if (c->snapshot)
        snapshot_unref(c->snapshot);
    mem_free(c);
}

void listeners_add(struct listeners *l, size_t service_index, int fd)
{
    struct pending *p = MEM_NEW(struct pending);
    p->service_index = service_index;
    p->fd = fd;
    list_push_back(&l->pending, &p->link);
}

void listeners_commit(struct listeners *l, struct snapshot *snapshot)
{
    struct change *c = MEM_NEW(struct change);
    c->all = l;
    c->snapshot = snapshot_ref(snapshot);
    list_init(&c->added);
    struct list *node;
    while ((node = list_pop_front(&l->pending)) != NULL) {
        struct pending *p = CONTAINER(node, struct pending, link);
        if (p->service_index < snapshot->service_count) {
            list_push_back(&c->added, &p->link);
        } else {
            close(p->fd);
            mem_free(p);
        }
    }
    worker_spawn(l->acceptor, "listen", change_main, c);
}

struct err *listeners_start(struct queue *queue, struct worker **workers, size_t n_workers,
                            struct listeners **out)
{
    struct listeners *l = MEM_NEW(struct listeners);
    l->queue = queue;
    l->workers = workers;
    l->n_workers = n_workers;
    list_init(&l->pending);
    list_init(&l->active);
    struct err *e = worker_start(&(struct worker_options){.name = "accept", .cpu = -1}, NULL, NULL,
                                 &l->acceptor);
    if (e) {
        mem_free(l);
        return e;
    }
    *out = l;
    return NULL;
}

static void drop_waiting(struct door *d)
{
    struct list *node;
    while ((node = list_pop_front(&d->waiting)) != NULL) {
        struct arrival *a = CONTAINER(node, struct arrival, link);
        d->waiting_count--;
        refuse(a->fd, d->service->params->myhostname);
        mem_free(a);
        door_unref(d); /* the listener still holds one */
    }
}

static void close_all_main(void *arg)
{
    struct listeners *l = arg;
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
}

void listeners_free(struct listeners *l)
{
    worker_stop(l->acceptor);
    worker_join(l->acceptor);
    mem_free(l);
}
