/* dns_unbound: the resolver thread. libunbound in event mode on a libevent base: one context, so one
 * cache for the process. Questions come through a locked list and an eventfd. */
#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unbound-event.h>
#include <unbound.h>
#include <unistd.h>
#include "io/base/check.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/base/thread.h"
#include "io/net/dns_query.h"

enum { ASKED_MAX = 20000, CLASS_IN = 1, SEC_BOGUS = 1, SEC_SECURE = 2 };

static struct {
    pthread_mutex_t lock; /* over all states, the list, and the flags */
    bool running, stopping;
    struct list queued;
    size_t asked; /* queued and in flight */
    int wake_fd;
    pthread_t thread;
    /* The thread's own. */
    struct list in_flight;
    struct event_base *base;
    struct event *wake;
    struct ub_ctx *ctx;
} resolver = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake_fd = -1};

static void query_arrived(struct mbox_msg *m)
{
    struct dns_query *q = CONTAINER(m, struct dns_query, back);
    q->arrived = true;
    fiber_wake(q->waiter);
}

static void query_end(struct dns_query *q)
{
    list_remove(&q->link);
    pthread_mutex_lock(&resolver.lock);
    resolver.asked--;
    bool abandoned = q->state == QUERY_ABANDONED;
    if (!abandoned) {
        q->state = QUERY_POSTED;
        q->back.fn = query_arrived;
        /* Inside the lock: while the fiber may not go away, nor may its worker. */
        worker_post(q->home, &q->back);
    }
    pthread_mutex_unlock(&resolver.lock);
    if (abandoned) {
        mem_free(q->packet);
        mem_free(q);
    }
}

/* May run inside ub_resolve_event when the answer is in the cache. */
static void on_answer(void *arg, int rcode, void *packet, int len, int sec, char *why_bogus,
                      int ratelimited)
{
    struct dns_query *q = arg;
    (void)rcode; /* the packet has it */
    (void)ratelimited;
    q->secure = sec == SEC_SECURE;
    q->bogus = sec == SEC_BOGUS;
    if (q->bogus)
        log_warning("dns", "DNSSEC validation failed for name=%s: %s", q->name,
                    why_bogus ? why_bogus : "no reason given");
    if (packet && len > 0 && !q->bogus) {
        q->packet_len = (size_t)len;
        q->packet = mem_alloc(q->packet_len);
        memcpy(q->packet, packet, q->packet_len);
    }
    query_end(q);
}

static void send_query(struct dns_query *q)
{
    int id;
    pthread_mutex_lock(&resolver.lock);
    bool abandoned = q->state == QUERY_ABANDONED;
    pthread_mutex_unlock(&resolver.lock);
    if (abandoned) {
        query_end(q);
        return;
    }
    int rc = ub_resolve_event(resolver.ctx, q->name, q->type, CLASS_IN, q, on_answer, &id);
    if (rc != 0) {
        log_warning("dns", "cannot look up %s: %s", q->name, ub_strerror(rc));
        query_end(q);
    }
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    uint64_t count;
    (void)what;
    (void)arg;
    if (read(fd, &count, sizeof(count)) != sizeof(count))
        return;
    pthread_mutex_lock(&resolver.lock);
    bool stopping = resolver.stopping;
    struct list *node;
    struct list batch;
    list_init(&batch);
    while ((node = list_pop_front(&resolver.queued)) != NULL)
        list_push_back(&batch, node);
    pthread_mutex_unlock(&resolver.lock);
    while ((node = list_pop_front(&batch)) != NULL) {
        list_push_back(&resolver.in_flight, node);
        if (!stopping)
            send_query(CONTAINER(node, struct dns_query, link));
    }
    if (stopping)
        event_base_loopbreak(resolver.base);
}

static void *resolver_thread(void *unused)
{
    (void)unused;
    check_alt_stack();
    (void)event_base_dispatch(resolver.base);
    ub_ctx_delete(resolver.ctx); /* its callbacks never run after this */
    resolver.ctx = NULL;
    struct list *node;
    while ((node = list_pop_front(&resolver.in_flight)) != NULL)
        query_end(CONTAINER(node, struct dns_query, link));
    event_free(resolver.wake);
    event_base_free(resolver.base);
    return NULL;
}

/* --- set-up, on the starting thread before the other one runs */

static struct err *set(struct ub_ctx *ctx, const char *option, const char *value)
{
    int rc = ub_ctx_set_option(ctx, option, value);
    return rc ? err_new(ERR_CONFIG, rc, "resolver option %s %s: %s", option, value, ub_strerror(rc))
              : NULL;
}

static struct err *set_options(struct ub_ctx *ctx, const struct dns_options *o)
{
    static const char *const rows[][2] = {
        {"do-not-query-localhost:", "no"}, /* a resolver on this host is the usual thing */
        {"unblock-lan-zones:", "yes"},     /* names of private networks are the site's own */
        {"insecure-lan-zones:", "yes"},
        {"outgoing-range:", "4096"},
        {"num-queries-per-thread:", "4096"},
    };
    struct err *e = NULL;
    for (size_t i = 0; !e && i < sizeof(rows) / sizeof(rows[0]); i++)
        e = set(ctx, rows[i][0], rows[i][1]);
    if (!e && !o->dnssec)
        e = set(ctx, "module-config:", "iterator");
    return e;
}

static struct err *set_servers(struct ub_ctx *ctx, const struct dns_options *o)
{
    int rc;
    if (o->forward && *o->forward) {
        rc = ub_ctx_set_fwd(ctx, o->forward);
        return rc ? err_new(ERR_CONFIG, rc, "DNS server %s: %s", o->forward, ub_strerror(rc)) : NULL;
    }
    const char *path = o->resolv_conf ? o->resolv_conf : "/etc/resolv.conf";
    rc = ub_ctx_resolvconf(ctx, path);
    return rc ? err_new(ERR_CONFIG, rc, "%s: %s", path, ub_strerror(rc)) : NULL;
}

/* unbound answers these itself; the site's name server, like libc's resolver, is to be asked. */
static void unblock_names(struct ub_ctx *ctx)
{
    (void)ub_ctx_zone_remove(ctx, "test.");
    (void)ub_ctx_zone_remove(ctx, "invalid.");
    (void)ub_ctx_zone_remove(ctx, "home.arpa.");
}

static struct err *context_new(const struct dns_options *o)
{
    resolver.ctx = ub_ctx_create_event(resolver.base);
    if (!resolver.ctx)
        return err_new(ERR_IO, 0, "cannot set up the resolver");
    struct err *e = set_options(resolver.ctx, o);
    if (!e)
        e = set_servers(resolver.ctx, o);
    if (!e && o->dnssec && o->anchor_file && *o->anchor_file) {
        int rc = ub_ctx_add_ta_file(resolver.ctx, o->anchor_file);
        if (rc)
            e = err_new(ERR_CONFIG, rc, "trust anchors %s: %s", o->anchor_file, ub_strerror(rc));
    }
    if (!e)
        unblock_names(resolver.ctx);
    return e;
}

static struct err *loop_new(void)
{
    resolver.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (resolver.wake_fd < 0)
        return err_errno(errno, "eventfd");
    resolver.base = event_base_new();
    resolver.wake = resolver.base ? event_new(resolver.base, resolver.wake_fd, EV_READ | EV_PERSIST,
                                              on_wake, NULL)
                                  : NULL;
    if (!resolver.wake || event_add(resolver.wake, NULL) != 0)
        return err_new(ERR_IO, 0, "cannot set up the resolver's loop");
    return NULL;
}

static void undo_start(void)
{
    if (resolver.ctx)
        ub_ctx_delete(resolver.ctx);
    if (resolver.wake)
        event_free(resolver.wake);
    if (resolver.base)
        event_base_free(resolver.base);
    if (resolver.wake_fd >= 0)
        close(resolver.wake_fd);
    resolver.ctx = NULL;
    resolver.wake = NULL;
    resolver.base = NULL;
    resolver.wake_fd = -1;
}

struct err *dns_thread_start(const struct dns_options *options)
{
    CHECK(!resolver.running);
    list_init(&resolver.queued);
    list_init(&resolver.in_flight);
    resolver.stopping = false;
    resolver.asked = 0;
    struct err *e = loop_new();
    if (!e)
        e = context_new(options);
    if (!e) {
        int rc = thread_start(&resolver.thread, "resolver", resolver_thread, NULL);
        if (rc)
            e = err_errno(rc, "start the resolver thread");
    }
    if (e) {
        undo_start();
        return e;
    }
    pthread_mutex_lock(&resolver.lock);
    resolver.running = true;
    pthread_mutex_unlock(&resolver.lock);
    return NULL;
}

static void wake_thread(void)
{
    uint64_t one = 1;
    ssize_t n = write(resolver.wake_fd, &one, sizeof(one));
    CHECK(n == (ssize_t)sizeof(one) || errno == EAGAIN); /* EAGAIN: it is awake already */
}

void dns_thread_stop(void)
{
    pthread_mutex_lock(&resolver.lock);
    bool was = resolver.running;
    resolver.running = false;
    resolver.stopping = true;
    pthread_mutex_unlock(&resolver.lock);
    if (!was)
        return;
    wake_thread();
    pthread_join(resolver.thread, NULL);
    close(resolver.wake_fd);
    resolver.wake_fd = -1;
    resolver.wake = NULL;
    resolver.base = NULL;
}

bool dns_thread_ask(struct dns_query *q)
{
    pthread_mutex_lock(&resolver.lock);
    bool fine = resolver.running && resolver.asked < ASKED_MAX;
    if (fine) {
        bool edge = list_empty(&resolver.queued);
        list_push_back(&resolver.queued, &q->link);
        resolver.asked++;
        if (edge)
            wake_thread();
    }
    pthread_mutex_unlock(&resolver.lock);
    return fine;
}

bool dns_thread_abandon(struct dns_query *q)
{
    pthread_mutex_lock(&resolver.lock);
    bool waiting = q->state == QUERY_WAITING;
    if (waiting)
        q->state = QUERY_ABANDONED;
    pthread_mutex_unlock(&resolver.lock);
    return waiting;
}
