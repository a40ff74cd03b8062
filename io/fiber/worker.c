/* The loop: run queue -> timers -> submit and wait (until the next timer) -> completions ->
 * mailbox. One io_uring_enter a turn carries everything that was prepared in it. */
#include "io/fiber/worker.h"

#include <sched.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "io/base/check.h"
#include "io/base/mem.h"
#include "io/base/metric.h"
#include "io/base/thread.h"
#include "io/fiber/private.h"
#include "io/fiber/wait.h"
#include "io/ring/private.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
enum { FIBERS_MAX = 300 }; /* TSan keeps 831 KiB a fiber and ends at 8,128 */
#else
enum { FIBERS_MAX = 30000 };
#endif
enum { RING_ENTRIES = 1024 };

static _Thread_local struct worker *thread_worker;

struct worker *worker_self(void)
{
    return thread_worker;
}

const char *worker_name(const struct worker *w)
{
    CHECK_MAGIC(w, WORKER_MAGIC);
    return w->name;
}

size_t worker_load(const struct worker *w)
{
    return atomic_load_explicit(&w->live, memory_order_relaxed);
}

/* --- every worker ever made ---
 * A poster may still look at `sleeping` after its message was taken and the worker ended on it, and
 * may then write to the eventfd. So the struct and its eventfd are never given back: an ended
 * worker's husk waits here for the next worker_start. */

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct worker *) registry;
static struct worker *husks[64]; /* ended; beyond that they are just kept */
static size_t husk_count;

struct worker *worker_registry(void)
{
    return atomic_load(&registry);
}

static struct worker *husk_take(void)
{
    struct worker *w = NULL;
    pthread_mutex_lock(&registry_lock);
    if (husk_count > 0)
        w = husks[--husk_count];
    pthread_mutex_unlock(&registry_lock);
    return w;
}

static void husk_give(struct worker *w)
{
    pthread_mutex_lock(&registry_lock);
    if (husk_count < sizeof husks / sizeof *husks)
        husks[husk_count++] = w;
    pthread_mutex_unlock(&registry_lock);
}

static struct err *husk_new(struct worker **out)
{
    struct worker *w = husk_take();
    if (w == NULL) {
        int fd = eventfd(0, EFD_CLOEXEC);
        if (fd < 0)
            return err_errno(errno, "eventfd");
        w = MEM_NEW(struct worker);
        w->magic = WORKER_MAGIC;
        w->wake_fd = fd;
        pthread_mutex_lock(&registry_lock);
        w->registry_next = atomic_load(&registry);
        atomic_store(&registry, w);
        pthread_mutex_unlock(&registry_lock);
    }
    *out = w;
    return NULL;
}

static struct err *worker_new(const struct worker_options *o, void (*init)(void *arg), void *arg,
                              struct worker **out)
{
    struct worker *w = NULL;
    struct err *e = husk_new(&w);
    if (e != NULL)
        return e;
    str_copy(w->name, sizeof w->name, str_of(o->name != NULL ? o->name : "worker"));
    w->fibers_max = o->fibers_max != 0 ? o->fibers_max : FIBERS_MAX;
    w->ring_entries = o->ring_entries != 0 ? o->ring_entries : RING_ENTRIES;
    w->cpu = o->cpu;
    w->ends_when_empty = false;
    w->state = WORKER_NEW;
    w->current = NULL;
    list_init(&w->ready);
    list_init(&w->fibers);
    list_init(&w->turn_ends);
    w->peak = 0;
    w->stacks = (struct stack_pool){0};
    wheel_init(&w->wheel, clock_mono_ns());
    w->spawns_first = NULL;
    w->spawns_end = &w->spawns_first;
    w->init = init;
    w->init_arg = arg;
    atomic_store(&w->stop_asked, false);
    atomic_store(&w->live, 0);
    atomic_store(&w->running, NULL);
    atomic_store(&w->mailbox, NULL);
    atomic_store(&w->sleeping, 0);
    *out = w;
    return NULL;
}

/* --- mailbox ---
 * A stack of messages, pushed by anyone, taken whole and turned round by the worker: since nobody
 * pops single ones, a push that was overtaken merely tries again.
 *
 * No wake-up is lost. The worker, before it sleeps, (1) stores sleeping = 1, then (2) loads the
 * mailbox, and sleeps only when it is empty. A poster (3) pushes, then (4) loads sleeping. All four
 * are sequentially consistent, so in their one order either (3) is before (2), and the worker sees
 * the message and does not sleep, or (2) is before (3), hence (1) before (4): the poster sees 1,
 * unless another poster has exchanged it for 0 in between, who then owes the wake-up and sends it.
 * A wake-up by MSG_RING leaves with the poster's next enter, which comes before it sleeps itself.
 */

void worker_post(struct worker *w, struct mbox_msg *m)
{
    struct mbox_msg *newest = atomic_load_explicit(&w->mailbox, memory_order_relaxed);
    do
        m->next = newest;
    while (!atomic_compare_exchange_weak(&w->mailbox, &newest, m));
    /* m is the receiver's from here on. */
    if (w == thread_worker)
        return; /* it looks before it sleeps */
    if (atomic_load(&w->sleeping) == 0 || atomic_exchange(&w->sleeping, 0) == 0)
        return;
    metric_add(METRIC_worker_wakeups, 1);
    struct ring *mine = ring_of_worker();
    if (mine != NULL) {
        ring_wake(mine, atomic_load(&w->ring_fd));
    } else {
        int rc = eventfd_write(w->wake_fd, 1);
        CHECK(rc == 0);
    }
}

static void mailbox_drain(struct worker *w)
{
    if (atomic_load_explicit(&w->mailbox, memory_order_relaxed) == NULL)
        return;
    struct mbox_msg *newest = atomic_exchange(&w->mailbox, NULL), *oldest = NULL;
    while (newest != NULL) {
        struct mbox_msg *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct mbox_msg *m = oldest;
        oldest = m->next;
        m->fn(m);
    }
}

/* The eventfd's read, for posters without a ring. */

static void wake_done(struct ring_op *op, int res, bool more);

static void wake_arm(struct worker *w)
{
    w->wake_op.done = wake_done;
    w->wake_armed = true;
    ring_start(&w->wake_op, &(struct ring_call){.code = RING_READ,
                                                .fd = w->wake_fd,
                                                .ptr = &w->wake_count,
                                                .n = sizeof w->wake_count,
                                                .background = true});
}

static void wake_done(struct ring_op *op, int res, bool more)
{
    struct worker *w = CONTAINER(op, struct worker, wake_op);
    (void)more;
    w->wake_armed = false;
    if (res != -ECANCELED)
        wake_arm(w);
}

/* A read left behind could swallow the wake-ups of the husk's next life. */
static void wake_disarm(struct worker *w)
{
    ring_cancel(&w->wake_op);
    while (w->wake_armed)
        ring_turn(w->ring, DEADLINE_NEVER);
}

/* --- fibers on other workers --- */

struct spawn_msg {
    struct mbox_msg msg;
    const char *entry;
    void (*fn)(void *arg);
    void *arg;
};

static bool spawn_now(struct mbox_msg *m)
{
    struct spawn_msg *s = CONTAINER(m, struct spawn_msg, msg);
    if (fiber_new(thread_worker, s->entry, s->fn, s->arg) == NULL)
        return false;
    mem_free(s);
    return true;
}

static void spawn_arrived(struct mbox_msg *m)
{
    struct worker *w = thread_worker;
    if (w->spawns_first == NULL && spawn_now(m))
        return;
    m->next = NULL;
    *w->spawns_end = m;
    w->spawns_end = &m->next;
}

static void spawns_retry(struct worker *w)
{
    while (w->spawns_first != NULL) {
        struct mbox_msg *m = w->spawns_first, *next = m->next;
        if (!spawn_now(m))
            return;
        w->spawns_first = next;
        if (next == NULL)
            w->spawns_end = &w->spawns_first;
    }
}

void worker_spawn(struct worker *w, const char *entry, void (*fn)(void *arg), void *arg)
{
    struct spawn_msg *s = MEM_NEW(struct spawn_msg);
    *s = (struct spawn_msg){.msg.fn = spawn_arrived, .entry = entry, .fn = fn, .arg = arg};
    worker_post(w, &s->msg);
}

struct call_msg {
    struct mbox_msg msg;
    void (*fn)(void *arg);
    void *arg;
    struct completion done;
};

static void call_arrived(struct mbox_msg *m)
{
    struct call_msg *c = CONTAINER(m, struct call_msg, msg);
    c->fn(c->arg);
    completion_signal(&c->done);
}

void worker_call(struct worker *w, void (*fn)(void *arg), void *arg)
{
    struct call_msg c = {.msg.fn = call_arrived, .fn = fn, .arg = arg};
    completion_init(&c.done);
    worker_post(w, &c.msg);
    completion_wait(&c.done);
}

/* --- timers --- */

void timer_clear(struct timer *t)
{
    if (t->link.next != NULL)
        list_remove(&t->link);
}

void timer_set(struct timer *t, int64_t deadline_ns, void (*fn)(struct timer *t))
{
    struct worker *w = thread_worker;
    CHECK(w != NULL);
    timer_clear(t);
    t->deadline_ns = deadline_ns;
    t->fn = fn;
    if (deadline_ns != DEADLINE_NEVER)
        wheel_set(&w->wheel, t);
}

/* --- the end of a turn --- */

void worker_at_turn_end(struct turn_end *t, void (*fn)(struct turn_end *t))
{
    struct worker *w = thread_worker;
    CHECK(w != NULL);
    t->fn = fn;
    if (t->link.next == NULL || list_empty(&t->link))
        list_push_back(&w->turn_ends, &t->link);
}

bool worker_goes_on(void)
{
    struct worker *w = thread_worker;
    return !list_empty(&w->ready) || atomic_load(&w->mailbox) != NULL || ring_has_more(w->ring);
}

/* Those that are asked for now; who is asked for meanwhile waits for the next turn. */
static void run_turn_ends(struct worker *w)
{
    struct list batch, *node;
    if (list_empty(&w->turn_ends))
        return;
    list_init(&batch);
    list_add_before(&w->turn_ends, &batch);
    list_remove(&w->turn_ends);
    while ((node = list_pop_front(&batch)) != NULL) {
        struct turn_end *t = CONTAINER(node, struct turn_end, link);
        t->fn(t);
    }
}

/* --- the loop --- */

/* Those that are ready now; who becomes ready meanwhile waits for the next turn, so that fibers
 * that wake each other do not keep the ring waiting. */
static void run_ready(struct worker *w)
{
    struct list batch, *node;
    if (list_empty(&w->ready))
        return;
    list_init(&batch);
    list_add_before(&w->ready, &batch);
    list_remove(&w->ready);
    while ((node = list_pop_front(&batch)) != NULL)
        fiber_run(w, CONTAINER(node, struct fiber, run_link));
    atomic_store_explicit(&w->running, NULL, memory_order_relaxed);
}

static bool worker_empty(struct worker *w)
{
    return worker_load(w) == 0 && w->spawns_first == NULL && ring_pending(w->ring) == 0 &&
           list_empty(&w->turn_ends) &&
           atomic_load(&w->mailbox) == NULL;
}

static bool worker_ends(struct worker *w)
{
    return w->ends_when_empty && worker_empty(w);
}

static void worker_turn(struct worker *w)
{
    atomic_fetch_add_explicit(&w->turns, 1, memory_order_relaxed);
    run_ready(w);
    spawns_retry(w);
    wheel_advance(&w->wheel, clock_mono_ns());
    run_turn_ends(w);
    int64_t until = 0;
    if (list_empty(&w->ready) && list_empty(&w->turn_ends) && !worker_ends(w)) {
        atomic_store(&w->sleeping, 1);
        if (atomic_load(&w->mailbox) == NULL)
            until = wheel_next_ns(&w->wheel);
        else
            atomic_store(&w->sleeping, 0);
    }
    ring_turn(w->ring, until);
    atomic_store_explicit(&w->sleeping, 0, memory_order_relaxed);
    mailbox_drain(w);
}

static void worker_drain(struct worker *w)
{
    w->state = WORKER_DRAINING;
    w->ends_when_empty = true;
    LIST_EACH(&w->fibers, node)
    {
        fiber_cancel(CONTAINER(node, struct fiber, all_link));
    }
}

static void stop_arrived(struct mbox_msg *m)
{
    worker_drain(CONTAINER(m, struct worker, stop_msg));
}

void worker_stop(struct worker *w)
{
    CHECK_MAGIC(w, WORKER_MAGIC);
    if (atomic_exchange(&w->stop_asked, true))
        return;
    w->stop_msg.fn = stop_arrived;
    worker_post(w, &w->stop_msg);
}

static struct err *worker_open(struct worker *w)
{
    struct err *e = ring_new(w->ring_entries, &w->ring);
    if (e != NULL)
        return e;
    thread_worker = w;
    ring_bind_thread(w->ring);
    atomic_store(&w->ring_fd, ring_fd(w->ring));
    context_init_thread(&w->loop);
    wake_arm(w);
    w->state = WORKER_RUNNING;
    return NULL;
}

static void worker_loop(struct worker *w)
{
    struct fiber *f = fiber_new(w, "init", w->init, w->init_arg);
    CHECK(f != NULL);
    do
        worker_turn(w);
    while (!worker_ends(w));
    wake_disarm(w);
    w->state = WORKER_ENDED;
    stack_pool_fini(&w->stacks);
    ring_bind_thread(NULL);
    ring_free(w->ring);
    w->ring = NULL;
    thread_worker = NULL;
}

struct err *worker_run_here(const struct worker_options *options, void (*init)(void *arg),
                            void *arg)
{
    static const struct worker_options defaults = {.name = "main", .cpu = -1};
    struct worker *w;
    CHECK(thread_worker == NULL && init != NULL);
    struct err *e = worker_new(options != NULL ? options : &defaults, init, arg, &w);
    if (e != NULL)
        return e;
    e = worker_open(w);
    if (e == NULL) {
        w->ends_when_empty = true;
        worker_loop(w);
    }
    husk_give(w);
    return e;
}

/* --- threads --- */

/* How the new thread tells worker_start whether its ring came to be. */
struct birth {
    struct worker *worker;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool answered, failed;
    enum err_kind kind;
    int code;
    char text[ERR_TEXT_MAX];
};

static void birth_answer(struct birth *b, const struct err *e)
{
    pthread_mutex_lock(&b->lock);
    if (e != NULL) {
        b->failed = true;
        b->kind = e->kind;
        b->code = e->code;
        str_copy(b->text, sizeof b->text, str_of(e->text));
    }
    b->answered = true;
    pthread_cond_signal(&b->cond);
    pthread_mutex_unlock(&b->lock);
}

static void nothing(void *arg)
{
    (void)arg;
}

static void *worker_thread(void *arg)
{
    struct birth *b = arg;
    struct worker *w = b->worker;
    check_alt_stack(); /* a fiber that runs off its stack still leaves a trace */
    if (w->cpu >= 0) {
        cpu_set_t cpus;
        CPU_ZERO(&cpus);
        CPU_SET((size_t)w->cpu, &cpus);
        (void)pthread_setaffinity_np(pthread_self(), sizeof cpus, &cpus);
    }
    struct err *e = worker_open(w);
    birth_answer(b, e);
    if (e == NULL)
        worker_loop(w);
    return NULL;
}

struct err *worker_start(const struct worker_options *options, void (*init)(void *arg), void *arg,
                         struct worker **out)
{
    struct worker *w;
    struct err *e = worker_new(options, init != NULL ? init : nothing, arg, &w);
    if (e != NULL)
        return e;
    struct birth b = {
        .worker = w, .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    int rc = thread_start(&w->thread, w->name, worker_thread, &b);
    if (rc != 0) {
        husk_give(w);
        return err_errno(rc, "start thread %s", w->name);
    }
    pthread_mutex_lock(&b.lock);
    while (!b.answered)
        pthread_cond_wait(&b.cond, &b.lock);
    pthread_mutex_unlock(&b.lock);
    if (b.failed) {
        pthread_join(w->thread, NULL);
        husk_give(w);
        return err_new(b.kind, b.code, "start %s: %s", w->name, b.text);
    }
    *out = w;
    return NULL;
}

void worker_join(struct worker *w)
{
    CHECK_MAGIC(w, WORKER_MAGIC);
    CHECK(thread_worker == NULL);
    pthread_join(w->thread, NULL);
    husk_give(w);
}
