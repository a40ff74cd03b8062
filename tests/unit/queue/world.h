/* What the tests of the queue as a whole share: a real queue in a private folder, a scheduler
 * worker, two workers, and hooks that play the rest of the mail system.
 *
 * The agent does what the recipient's local part says (up to the first '-'):
 *     ok defer bounce pending slow     slow: world.slow_ms, then sent
 *     once                             deferred at its first attempt, then sent
 *     dead                             the site cannot be reached while world.sites_down
 *     mute                             the agent dies without a word while world.sites_down
 *     gate                             waits until world.gate_open
 *     read                             reads the content: damaged, or deferred
 *     lie                              says it is damaged, though it is not
 * and checks at each request what must always hold: not more at once for a destination than the
 * limit, no recipient twice at once, none again after it was delivered (but in a copy of the
 * queue), content as it came. The transport is the first label of the domain where that is one of
 * world.transports, else smtp. */
#ifndef TEST_QUEUE_WORLD_H
#define TEST_QUEUE_WORLD_H

#include "tests/unit/queue/store/world.h"

#include <pthread.h>
#include <semaphore.h>
#include "io/base/clock.h"
#include "io/base/hash.h"
#include "io/base/log.h"
#include "queue/private.h"

enum { WORKERS = 2, TRANSPORTS = 8 };

struct site {
    char key[96];
    int busy, max_busy, requests, max_rcpts;
    /* So many requests had begun, to any site, with its first one; with the last one of a message with
     * several recipients, and with one. */
    int first_of_all, last_of_list, last_of_one;
    int64_t ended_ns, min_gap_ns; /* between the end of one and the begin of the next */
};

struct seen_notice {
    enum notice_kind kind;
    bool expired;
    size_t rcpts;
    char id[QUEUE_ID_MAX], status[12], text[200], address[100];
};

struct world {
    struct worker *sched, *workers[WORKERS];
    struct queue *q;
    struct queue_options qo;
    struct sched_options so;
    struct sched_transport transports[TRANSPORTS];
    char dir[80];
    bool up;
    /* --- how the agent behaves */
    atomic_int idle_ms;
    atomic_int slow_ms;
    atomic_bool sites_down, gate_open, notify_fails, repeats_allowed, no_checks;
    /* --- what was seen */
    pthread_mutex_t lock;
    struct hmap sites;  /* transport/nexthop -> struct site */
    struct hmap flying; /* id/address */
    struct hmap done;   /* id/address that were delivered */
    struct hmap tried;  /* id/address */
    struct seen_notice notices[64];
    size_t notice_count;
    uint64_t sent, deferred, bounced, resolved, reused, connections;
    int begun;
    uint64_t most_active;
};

static struct world world;

/* --- running things on the threads of the world */

struct there {
    void (*fn)(void *arg);
    void *arg;
    sem_t done;
};

static inline void there_main(void *arg)
{
    struct there *t = arg;
    t->fn(t->arg);
    sem_post(&t->done);
}

static inline void there(struct worker *w, void (*fn)(void *arg), void *arg)
{
    struct there t = {.fn = fn, .arg = arg};
    sem_init(&t.done, 0, 0);
    worker_spawn(w, "test", there_main, &t);
    while (sem_wait(&t.done) != 0)
        ;
    sem_destroy(&t.done);
}

/* The bound is for a test that fails; it plays no part in one that passes. */
#define WAIT_FOR(cond)                                                                             \
    do {                                                                                           \
        int64_t wait_until = clock_mono_ns() + 60 * NS_PER_S;                                      \
        bool wait_ok;                                                                              \
        while (!(wait_ok = (cond)) && clock_mono_ns() < wait_until)                                \
            usleep(1000);                                                                          \
        if (!wait_ok) {                                                                            \
            fprintf(stderr, "%s:%d: never came: %s\n", __FILE__, __LINE__, #cond);                 \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static inline uint64_t seen(const uint64_t *n)
{
    pthread_mutex_lock(&world.lock);
    uint64_t v = *n;
    pthread_mutex_unlock(&world.lock);
    return v;
}

static inline size_t notices_seen(void)
{
    pthread_mutex_lock(&world.lock);
    size_t n = world.notice_count;
    pthread_mutex_unlock(&world.lock);
    return n;
}

/* --- hooks */

static inline const char *transport_for(struct str domain)
{
    for (size_t i = 0; i < world.so.transport_count; i++) {
        struct str name = str_of(world.transports[i].name);
        if (str_starts(domain, name) && domain.len > name.len && domain.ptr[name.len] == '.')
            return world.transports[i].name;
    }
    return "smtp";
}

static inline void hook_resolve(void *ctx, struct qmsg *m)
{
    (void)ctx;
    pthread_mutex_lock(&world.lock);
    world.resolved++;
    pthread_mutex_unlock(&world.lock);
    for (size_t i = 0; i < m->env->rcpt_count; i++) {
        struct rcpt *r = &m->env->rcpts[i];
        if (r->state != RCPT_TODO && r->state != RCPT_DEFERRED)
            continue;
        ssize_t at = str_rindex(r->address, '@');
        MUST(at >= 0);
        struct str domain = str_from(r->address, (size_t)at + 1);
        bool silent = str_eq(domain, STR("nowhere"));
        r->transport = silent ? NULL : transport_for(domain);
        r->nexthop = silent ? NULL : arena_cstr(m->arena, domain);
        r->resolved = r->address;
    }
}

static inline const struct sched_transport *options_named(const char *name)
{
    for (size_t i = 0; i < world.so.transport_count; i++)
        if (strcmp(world.transports[i].name, name) == 0)
            return &world.transports[i];
    return &world.so.fallback;
}

static inline struct site *site_of(const char *transport, const char *nexthop)
{
    char key[96];
    snprintf(key, sizeof key, "%s/%s", transport, nexthop);
    struct site *s = hmap_get(&world.sites, str_of(key));
    if (s == NULL) {
        s = calloc(1, sizeof *s);
        memcpy(s->key, key, sizeof key);
        s->min_gap_ns = INT64_MAX;
        hmap_put(&world.sites, str_of(key), s);
    }
    return s;
}

static inline struct site site_seen(const char *transport, const char *nexthop)
{
    pthread_mutex_lock(&world.lock);
    struct site s = *site_of(transport, nexthop);
    pthread_mutex_unlock(&world.lock);
    return s;
}

static inline bool delivering(const char *nexthop)
{
    return site_seen("smtp", nexthop).busy > 0;
}

/* Of a transport, all its sites together: what is out, and what has been. */
struct sum {
    int busy, requests;
};

static inline struct sum sum_of(const char *prefix)
{
    struct sum n = {0};
    size_t at = 0;
    struct str key;
    void *value;
    pthread_mutex_lock(&world.lock);
    while (hmap_next(&world.sites, &at, &key, &value)) {
        const struct site *s = value;
        if (!str_starts(key, str_of(prefix)))
            continue;
        n.busy += s->busy;
        n.requests += s->requests;
    }
    pthread_mutex_unlock(&world.lock);
    return n;
}

static inline void rcpt_key(const struct request *r, size_t i, char out[160])
{
    snprintf(out, 160, "%s/%.*s", r->msg->id, STR_ARG(r->rcpts[i].rcpt->address));
}

static inline void request_begins(struct request *r)
{
    char key[160];
    const struct sched_transport *o = options_named(r->transport);
    pthread_mutex_lock(&world.lock);
    struct site *s = site_of(r->transport, r->nexthop);
    int64_t gap = clock_mono_ns() - s->ended_ns;
    if (s->ended_ns != 0 && gap < s->min_gap_ns)
        s->min_gap_ns = gap;
    s->busy++;
    world.begun++;
    if (s->requests++ == 0)
        s->first_of_all = world.begun;
    *(qmsg_recipients(r->msg) > 1 ? &s->last_of_list : &s->last_of_one) = world.begun;
    if (s->busy > s->max_busy)
        s->max_busy = s->busy;
    if ((int)r->rcpt_count > s->max_rcpts)
        s->max_rcpts = (int)r->rcpt_count;
    MUST(o->concurrency_limit == 0 || o->recipient_limit == 1 || s->busy <= o->concurrency_limit);
    MUST(r->rcpt_count > 0);
    MUST(o->recipient_limit == 0 || (int64_t)r->rcpt_count <= o->recipient_limit);
    for (size_t i = 0; !world.no_checks && i < r->rcpt_count; i++) {
        rcpt_key(r, i, key);
        MUST(hmap_put(&world.flying, str_of(key), s) == NULL);
        MUST(world.repeats_allowed || hmap_get(&world.done, str_of(key)) == NULL);
    }
    pthread_mutex_unlock(&world.lock);
}

static inline void request_ends(struct request *r)
{
    char key[160];
    pthread_mutex_lock(&world.lock);
    struct site *s = site_of(r->transport, r->nexthop);
    s->busy--;
    s->ended_ns = clock_mono_ns();
    for (size_t i = 0; i < r->rcpt_count; i++) {
        struct request_rcpt *rr = &r->rcpts[i];
        world.sent += rr->result == REQUEST_SENT;
        world.deferred += rr->result == REQUEST_DEFER;
        world.bounced += rr->result == REQUEST_BOUNCE;
        if (world.no_checks)
            continue;
        rcpt_key(r, i, key);
        MUST(hmap_del(&world.flying, str_of(key)) != NULL);
        (void)hmap_put(&world.tried, str_of(key), s);
        if (rr->result == REQUEST_SENT)
            (void)hmap_put(&world.done, str_of(key), s);
    }
    pthread_mutex_unlock(&world.lock);
}

static inline void answer_rcpt(struct request *r, size_t i, enum request_result result,
                               const char *status, const char *text)
{
    r->rcpts[i].result = result;
    str_copy(r->rcpts[i].dsn.status, sizeof r->rcpts[i].dsn.status, str_of(status));
    r->rcpts[i].dsn.text = arena_str(r->arena, str_of(text));
    r->rcpts[i].dsn.mta = r->rcpts[i].dsn.diagnostic = STR("");
}

static inline bool tried_before(struct request *r, size_t i)
{
    char key[160];
    rcpt_key(r, i, key);
    pthread_mutex_lock(&world.lock);
    bool yes = hmap_get(&world.tried, str_of(key)) != NULL;
    pthread_mutex_unlock(&world.lock);
    return yes;
}

static inline void read_content(struct request *r, size_t i)
{
    const struct err *e = content_check(r->msg);
    MUST(e == NULL || e->kind == ERR_DAMAGED);
    r->damaged = e != NULL || str_starts(r->rcpts[i].rcpt->address, STR("lie"));
    answer_rcpt(r, i, REQUEST_DEFER, r->damaged ? "5.3.0" : "4.2.0",
                r->damaged ? "unreadable mail queue entry" : "mailbox busy");
}

static inline void play_rcpt(struct request *r, size_t i)
{
    struct str address = r->rcpts[i].rcpt->address;
    if (str_starts(address, STR("defer")))
        answer_rcpt(r, i, REQUEST_DEFER, "4.2.0", "mailbox busy");
    else if (str_starts(address, STR("bounce")))
        answer_rcpt(r, i, REQUEST_BOUNCE, "5.1.1", "no such user");
    else if (str_starts(address, STR("once")) && !tried_before(r, i))
        answer_rcpt(r, i, REQUEST_DEFER, "4.7.1", "greylisted");
    else if (str_starts(address, STR("read")) || str_starts(address, STR("lie")))
        read_content(r, i);
    else if (!str_starts(address, STR("pending")))
        answer_rcpt(r, i, REQUEST_SENT, "2.0.0", "ok");
}

static inline void site_is_down(struct request *r)
{
    for (size_t i = 0; i < r->rcpt_count; i++)
        answer_rcpt(r, i, REQUEST_DEFER, "4.4.1", "connect to it: Connection refused");
    r->dest_dead = true;
    r->dest_why = r->rcpts[0].dsn;
}

static inline void play(struct request *r)
{
    struct str first = r->rcpts[0].rcpt->address;
    if (strcmp(r->transport, "retry") == 0) {
        const char *space = strchr(r->nexthop, ' ');
        MUST(space != NULL);
        for (size_t i = 0; i < r->rcpt_count; i++) {
            answer_rcpt(r, i, REQUEST_DEFER, "", space + 1);
            str_copy(r->rcpts[i].dsn.status, 12,
                     str_make(r->nexthop, (size_t)(space - r->nexthop)));
        }
        return;
    }
    if (!world.no_checks && r->msg->content != NULL)
        check_content(r->msg);
    if (str_starts(first, STR("slow")))
        (void)fiber_sleep_until(clock_in_ms(world.slow_ms));
    while (str_starts(first, STR("gate")) && !world.gate_open)
        if (fiber_sleep_until(clock_in_ms(1)) != NULL)
            return; /* canceled: unknown, so deferred */
    if (str_starts(first, STR("mute")) && world.sites_down)
        return;
    if (str_starts(first, STR("dead")) && world.sites_down) {
        site_is_down(r);
        return;
    }
    for (size_t i = 0; i < r->rcpt_count; i++)
        play_rcpt(r, i);
}

static inline void hook_deliver(void *ctx, struct request *r)
{
    (void)ctx;
    pthread_mutex_lock(&world.lock);
    world.connections++;
    pthread_mutex_unlock(&world.lock);
    while (r != NULL) {
        request_begins(r);
        play(r);
        request_ends(r);
        if (world.idle_ms == 0) {
            request_done(r);
            return;
        }
        r = request_next(r, clock_in_ms(world.idle_ms));
        if (r != NULL) {
            pthread_mutex_lock(&world.lock);
            world.reused++;
            pthread_mutex_unlock(&world.lock);
        }
    }
}

static inline struct err *hook_notify(void *ctx, const struct notice *n)
{
    (void)ctx;
    if (world.notify_fails)
        return err_new(ERR_FULL, 0, "no room for a notice");
    const struct rcpt *first = &n->msg->env->rcpts[n->rcpts[0]];
    pthread_mutex_lock(&world.lock);
    MUST(world.notice_count < 64);
    struct seen_notice *s = &world.notices[world.notice_count++];
    *s = (struct seen_notice){.kind = n->kind, .expired = n->expired, .rcpts = n->rcpt_count};
    memcpy(s->id, n->msg->id, sizeof s->id);
    memcpy(s->status, first->why.status, sizeof s->status);
    str_copy(s->text, sizeof s->text, first->why.text);
    str_copy(s->address, sizeof s->address, first->address);
    pthread_mutex_unlock(&world.lock);
    return NULL;
}

/* --- the world's life */

#define FEEDBACK .positive_per_window = 1, .negative_per_window = 1, .failed_cohort_limit = 1, SLOTS, .rate_serial = true
#define SLOTS    .slot_cost = 5, .slot_loan = 3, .slot_discount = 50, .minimum_slots = 3

static inline void world_defaults(void)
{
    world.so = (struct sched_options){
        .transports = world.transports,
        .transport_count = 1,
        .fallback = {.name = "",
                     .why = "mail transport unavailable",
                     .initial_concurrency = 5,
                     .concurrency_limit = 20,
                     .recipient_limit = 50,
                     FEEDBACK},
        .message_active_limit = 20000,
        .queue_run_delay_s = 1,
        .minimal_backoff_s = 1,
        .maximal_backoff_s = 1,
        .maximal_lifetime_s = 1000,
        .bounce_lifetime_s = 1000,
        .defer_transports = "",
    };
    world.transports[0] = world.so.fallback;
    world.transports[0].name = "smtp";
    world.qo = (struct queue_options){
        .directory = world.dir, .segment_bytes = 1 << 20, .mark_delay_ms = 5, .sched = &world.so};
}

/* Another transport, like smtp but for what the caller changes. */
static inline struct sched_transport *transport_add(const char *name)
{
    struct sched_transport *t = &world.transports[world.so.transport_count++];
    MUST(world.so.transport_count <= TRANSPORTS);
    *t = world.transports[0];
    t->name = name;
    return t;
}

static inline void open_main(void *arg)
{
    (void)arg;
    static const struct queue_hooks hooks = {
        .resolve = hook_resolve, .deliver = hook_deliver, .notify = hook_notify};
    OK(queue_open(&world.qo, &hooks, world.workers, WORKERS, &world.q));
}

static inline void queue_up(void)
{
    for (int i = 0; i < WORKERS; i++) {
        char name[16];
        snprintf(name, sizeof name, "worker-%d", i);
        OK(worker_start(&(struct worker_options){.name = name, .cpu = -1}, NULL, NULL,
                        &world.workers[i]));
    }
    OK(worker_start(&(struct worker_options){.name = "sched", .cpu = -1}, NULL, NULL,
                    &world.sched));
    there(world.sched, open_main, NULL);
    world.up = true;
}

struct drained {
    int64_t wait_ms;
    bool timeout;
};

static inline void drain_main(void *arg)
{
    struct drained *d = arg;
    struct err *e = queue_drain(world.q, clock_in_ms(d->wait_ms));
    d->timeout = e != NULL && e->kind == ERR_TIMEOUT;
    MUST(e == NULL || d->timeout);
}

static inline void close_main(void *arg)
{
    (void)arg;
    OK(queue_close(world.q));
}

/* True: all deliveries ended by themselves. */
static inline bool queue_down(int64_t wait_ms)
{
    struct drained d = {.wait_ms = wait_ms};
    there(world.sched, drain_main, &d);
    for (int i = 0; i < WORKERS; i++)
        worker_stop(world.workers[i]);
    for (int i = 0; i < WORKERS; i++)
        worker_join(world.workers[i]);
    there(world.sched, close_main, NULL);
    worker_stop(world.sched);
    worker_join(world.sched);
    world.up = false;
    return !d.timeout;
}

static inline int queue_world_setup(void **state)
{
    (void)state;
    memset(&world, 0, sizeof world);
    pthread_mutex_init(&world.lock, NULL);
    if (world_setup(state) != 0)
        return 1;
    str_copy(world.dir, sizeof world.dir, str_of(world_dir));
    world_defaults();
    return 0;
}

static inline void forget_sites(void)
{
    size_t at = 0;
    struct str key;
    void *value;
    while (hmap_next(&world.sites, &at, &key, &value))
        free(value);
    hmap_fini(&world.sites);
}

static inline int queue_world_teardown(void **state)
{
    /* A test failed with its queue at work: the next ones would see nonsense. */
    MUST(!world.up);
    forget_sites();
    hmap_fini(&world.flying);
    hmap_fini(&world.done);
    hmap_fini(&world.tried);
    clock_replace(NULL, NULL);
    return world_teardown(state);
}

/* Lines of the log with this text; the logger writes a little later. */
static char world_log[96];
static inline size_t logged(const char *text)
{
    char line[2200];
    size_t n = 0;
    FILE *f = fopen(world_log, "r");
    MUST(f != NULL);
    while (fgets(line, sizeof line, f) != NULL)
        n += strstr(line, text) != NULL;
    fclose(f);
    return n;
}

static inline int log_setup(void **state)
{
    (void)state;
    snprintf(world_log, sizeof world_log, "/var/tmp/rp-queue-log-XXXXXX");
    int fd = mkstemp(world_log);
    MUST(fd >= 0);
    close(fd);
    OK(log_start(
        &(struct log_options){.file = world_log, .syslog_name = "postfix", .host = "test"}));
    return 0;
}

static inline int log_teardown(void **state)
{
    (void)state;
    log_stop();
    return unlink(world_log);
}

#define QUEUE_TEST(f) cmocka_unit_test_setup_teardown(f, queue_world_setup, queue_world_teardown)

#include "tests/unit/queue/mail.h"

#endif
