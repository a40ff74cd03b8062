/* What a message costs between its acceptance and its removal: fibers on two workers commit
 * messages of 10 KiB to one recipient, an agent that takes no time delivers each, the scheduler
 * thread removes it. Prints, for some numbers of senders and sites, with and without reuse of
 * connections: messages/s, CPU time (the whole process), wake-ups, allocations, log writes and
 * index commits per message.
 *
 *     queue DIR [messages [backlog]]     DIR: an empty folder on the disk to measure; backlog: so
 * many messages are deferred and in the queue meanwhile */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include "io/base/log.h"
#include "io/base/metric.h"
#include "io/fiber/offload.h"
#include "io/fiber/wait.h"
#include "queue/private.h"

enum { WORKERS = 2, BYTES = 10240 };

/* Allocations are counted under everything, whatever allocator is linked below. */
static atomic_ullong allocations;
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
__attribute__((visibility("default"))) void *malloc(size_t n)
{
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    return __libc_malloc(n);
}
__attribute__((visibility("default"))) void *calloc(size_t n, size_t size)
{
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    return __libc_calloc(n, size);
}
__attribute__((visibility("default"))) void *realloc(void *p, size_t n)
{
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    return __libc_realloc(p, n);
}

struct bench {
    struct worker *sched, *workers[WORKERS];
    struct queue *queue;
    struct queue_options options;
    struct sched_options so;
    struct sched_transport smtp;
    char content[BYTES];
    int sites;
    bool reuse, defer;
    atomic_llong left;
    atomic_ullong delivered;
    sem_t senders_done, done;
};
static struct bench bench;

static void must(struct err *e)
{
    if (e == NULL)
        return;
    fprintf(stderr, "%s\n", e->text);
    exit(1);
}

static void resolve(void *ctx, struct qmsg *m)
{
    struct bench *b = ctx;
    struct rcpt *r = &m->env->rcpts[0];
    struct str site = arena_printf(m->arena, "site%llu.example",
                                   (unsigned long long)(m->seq % (uint64_t)b->sites));
    r->transport = "smtp";
    r->nexthop = site.ptr;
    r->resolved = r->address;
}

static void deliver(void *ctx, struct request *r)
{
    struct bench *b = ctx;
    while (r != NULL) {
        r->rcpts[0].result = b->defer ? REQUEST_DEFER : REQUEST_SENT;
        atomic_fetch_add_explicit(&b->delivered, 1, memory_order_relaxed);
        if (!b->reuse) {
            request_done(r);
            return;
        }
        r = request_next(r, clock_in_ms(2000));
    }
}

static struct err *notify(void *ctx, const struct notice *n)
{
    (void)ctx;
    (void)n;
    return NULL;
}

static void sender(void *arg)
{
    struct bench *b = arg;
    static struct rcpt rcpt = {.address = STR("recipient@example.org"),
                               .original = STR("recipient@example.org")};
    static struct envelope env = {
        .sender = STR("sender@example.com"), .rcpts = &rcpt, .rcpt_count = 1};
    while (atomic_fetch_sub(&b->left, 1) > 0) {
        struct draft *d;
        must(queue_begin(b->queue, &d));
        must(draft_write(d, str_make(b->content, BYTES)));
        must(queue_commit(d, &env));
    }
    sem_post(&b->senders_done);
}

static void open_queue(void *arg)
{
    struct bench *b = arg;
    static struct queue_hooks hooks = {.resolve = resolve, .deliver = deliver, .notify = notify};
    hooks.ctx = b;
    must(queue_open(&b->options, &hooks, b->workers, WORKERS, &b->queue));
    sem_post(&b->done);
}

static void drain_queue(void *arg)
{
    struct bench *b = arg;
    must(queue_drain(b->queue, clock_in_s(20)));
    sem_post(&b->done);
}

static void close_queue(void *arg)
{
    struct bench *b = arg;
    must(queue_close(b->queue));
    sem_post(&b->done);
}

static void wait_for(sem_t *s)
{
    while (sem_wait(s) != 0)
        ;
}

static double cpu_us(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

struct figures {
    double cpu, wakeups, allocations, writes, commits;
};

static struct figures figures(struct bench *b)
{
    (void)b;
    return (struct figures){.cpu = cpu_us(),
                            .wakeups = (double)metric_sum(METRIC_worker_wakeups),
                            .allocations = (double)atomic_load(&allocations),
                            .writes = (double)metric_sum(METRIC_queue_log_writes),
                            .commits = (double)metric_sum(METRIC_queue_index_commits)};
}

static bool busy(struct bench *b)
{
    struct queue_counts c = queue_counts(b->queue);
    return c.active + c.incoming > 0;
}

static void round_of(struct bench *b, int senders, int sites, bool reuse, uint64_t messages)
{
    struct figures f = figures(b);
    int64_t start = clock_mono_ns();
    b->sites = sites;
    b->reuse = reuse;
    atomic_store(&b->left, (long long)messages);
    for (int i = 0; i < senders; i++)
        worker_spawn(b->workers[i % WORKERS], "sender", sender, b);
    for (int i = 0; i < senders; i++)
        wait_for(&b->senders_done);
    while (busy(b))
        (void)nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    double s = (double)(clock_mono_ns() - start) / 1e9, n = (double)messages;
    struct figures g = figures(b);
    printf("%4d senders %5d sites %s: %7.0f messages/s %6.1f us CPU  per message: %.2f wake-ups "
           "%.1f allocations %.3f writes %.4f index commits\n",
           senders, sites, reuse ? "reuse" : "fresh", n / s, (g.cpu - f.cpu) / n,
           (g.wakeups - f.wakeups) / n, (g.allocations - f.allocations) / n,
           (g.writes - f.writes) / n, (g.commits - f.commits) / n);
    fflush(stdout);
}

static void set_up(struct bench *b, const char *dir)
{
    b->smtp = (struct sched_transport){.name = "smtp",
                                       .initial_concurrency = 5,
                                       .concurrency_limit = 20,
                                       .recipient_limit = 50,
                                       .positive_per_window = 1,
                                       .negative_per_window = 1,
                                       .failed_cohort_limit = 1,
                                       .pool = 20000,
                                       .extra_pool = 1000,
                                       .slot_cost = 5,
                                       .slot_loan = 3,
                                       .slot_discount = 50,
                                       .minimum_slots = 3,
                                       .rate_serial = true};
    b->so = (struct sched_options){.transports = &b->smtp,
                                   .transport_count = 1,
                                   .fallback = b->smtp,
                                   .message_active_limit = 20000,
                                   .message_recipient_limit = 20000,
                                   .recipient_minimum = 10,
                                   .queue_run_delay_s = 300,
                                   .minimal_backoff_s = 300,
                                   .maximal_backoff_s = 4000,
                                   .maximal_lifetime_s = 432000,
                                   .bounce_lifetime_s = 432000,
                                   .defer_transports = ""};
    b->options = (struct queue_options){.directory = dir, .sched = &b->so};
    memset(b->content, 'x', BYTES);
    sem_init(&b->senders_done, 0, 0);
    sem_init(&b->done, 0, 0);
}

int main(int argc, char **argv)
{
    static const struct {
        int senders, sites;
        bool reuse;
    } rounds[] = {{1, 1, false},  {20, 1, false},     {20, 1, true},    {100, 1, false},
                  {100, 1, true}, {100, 1000, false}, {100, 1000, true}};
    struct bench *b = &bench;
    if (argc < 2)
        return 1;
    uint64_t messages = argc > 2 ? strtoull(argv[2], NULL, 10) : 20000;
    set_up(b, argv[1]);
    must(log_start(&(struct log_options){.file = "/dev/null", .syslog_name = "postfix"}));
    must(offload_start(2));
    struct worker_options o = {.name = "worker", .cpu = -1};
    for (int i = 0; i < WORKERS; i++)
        must(worker_start(&o, NULL, NULL, &b->workers[i]));
    o.name = "sched";
    must(worker_start(&o, NULL, NULL, &b->sched));
    worker_spawn(b->sched, "open", open_queue, b);
    wait_for(&b->done);
    /* Until segments are recycled, writes go to blocks that were never written: another story. */
    round_of(b, 64, 1, false, messages * 2);
    printf("---- warm\n");
    uint64_t backlog = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
    if (backlog > 0) {
        b->defer = true;
        round_of(b, 100, 1000, false, backlog);
        b->defer = false;
        printf("---- %llu deferred\n", (unsigned long long)queue_counts(b->queue).deferred);
    }
    for (size_t i = 0; i < sizeof(rounds) / sizeof(rounds[0]); i++)
        round_of(b, rounds[i].senders, rounds[i].sites, rounds[i].reuse,
                 rounds[i].senders == 1 ? messages / 4 : messages);
    worker_spawn(b->sched, "drain", drain_queue, b);
    wait_for(&b->done);
    for (int i = 0; i < WORKERS; i++)
        worker_stop(b->workers[i]);
    for (int i = 0; i < WORKERS; i++)
        worker_join(b->workers[i]);
    worker_spawn(b->sched, "close", close_queue, b);
    wait_for(&b->done);
    worker_stop(b->sched);
    worker_join(b->sched);
    offload_stop();
    log_stop();
    return 0;
}
