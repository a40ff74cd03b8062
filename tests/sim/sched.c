/* The scheduler in a world of model sites: some slow, some that answer 421 above so many
 * connections, some that greylist, some that are down for hours. The queue is the real one, the
 * disk is memory, the clock is a number. One seed is some hours of traffic; what must always hold
 * is checked at every attempt, and at the end everything has been delivered, once. */
#include <stdio.h>
#include <stdlib.h>
#include "disk_sim.h"
#include "driver.h"
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/mem.h"
#include "queue/private.h"
#include "ring_sim.h"

#define QUEUE_DIR SIM_ROOT "/queue"

enum {
    SITES = 300,
    DOWN_SITE = 0, /* a backlog waits for it: its mail comes in one burst, while it is down */
    BURST = 200,
    LETTERS = 3000,
    LIST_PER_SITE = 100,
    TRAFFIC_S = 4 * 3600,
    WORLD_S = 4 * 86400,
    MINIMAL_S = 300,
    MAXIMAL_S = 4000,
    RUN_S = 10,
    PATIENCE_S = 20, /* of small mail for a healthy site, whatever else is under way */
    SLACK_S = 600,
};

struct site {
    int64_t latency_ns, grey_ns, down_from_ns, down_to_ns;
    int capacity; /* 0: any */
    int busy;
    int64_t begun_ns, ended_ns, probed_ns;
    bool paced; /* by the rate delay of its transport */
};

struct mail {
    int64_t sent_ns, tried_ns; /* tried: the end of the last attempt; small mail only */
    bool list, delivered, waits;
};

static struct {
    struct site sites[SITES];
    struct mail mails[LETTERS + BURST + 2];
    uint8_t list_done[SITES * LIST_PER_SITE];
    uint64_t count, left, list_left, attempts, deferred, probes;
    int64_t longest_ns; /* the worst wait of small mail for a healthy site */
    int out[2], agents;
    uint64_t back[1000]; /* first retries of the burst, by queue run */
    int64_t burst_ns;
    struct queue *q;
    struct sched_transport transports[2];
} w;

/* --- the sites */

static int64_t some_ms(int64_t from, int64_t to)
{
    return (from + (int64_t)sim_below((uint64_t)(to - from + 1))) * NS_PER_MS;
}

static void make_sites(void)
{
    for (int i = 0; i < SITES; i++) {
        struct site *s = &w.sites[i];
        uint64_t kind = i == DOWN_SITE ? 9 : sim_below(10);
        *s = (struct site){.latency_ns = some_ms(20, 1500), .paced = i % 30 == 1};
        if (kind == 6)
            s->grey_ns = some_ms(60000, 900000);
        if (kind == 7)
            s->capacity = 1 + (int)sim_below(6);
        if (kind == 8)
            s->latency_ns = some_ms(5000, 30000);
        if (kind == 9) {
            s->down_from_ns = i == DOWN_SITE ? 0 : some_ms(0, TRAFFIC_S * 500);
            s->down_to_ns = s->down_from_ns + some_ms(1800000, 7200000);
        }
    }
}

static bool healthy(const struct site *s)
{
    return s->capacity == 0 && s->grey_ns == 0 && s->down_to_ns == 0 && !s->paced &&
           s->latency_ns < 2 * NS_PER_S;
}

static void nap(int64_t ns)
{
    CHECK(fiber_sleep_until(clock_mono_ns() + ns) == NULL);
}

/* --- what must hold when an attempt begins */

static void check_limits(const struct request *r, struct site *s)
{
    const struct sched_transport *t = &w.transports[s->paced];
    int64_t now = clock_mono_ns();
    if (s->busy > t->concurrency_limit)
        sim_fail("%s has %d deliveries at once", r->nexthop, s->busy);
    if (t->process_limit > 0 && w.out[s->paced] > t->process_limit)
        sim_fail("%d deliveries of %s at once", w.out[s->paced], t->name);
    if ((int64_t)r->rcpt_count > t->recipient_limit)
        sim_fail("%zu recipients in one request", r->rcpt_count);
    if (s->paced && t->rate_serial && s->busy > 1)
        sim_fail("%s is not served one at a time", r->nexthop);
    /* The thread of the scheduler is this one, but its decision was a moment ago. */
    int64_t last = t->rate_serial ? s->ended_ns : s->begun_ns;
    if (s->paced && last > 0 && now - last < t->rate_delay_ms * NS_PER_MS - 50 * NS_PER_MS)
        sim_fail("%s has no pause: %.3f s", r->nexthop, (double)(now - last) / 1e9);
    /* Its backlog waits: known to be down, it is tried once in a while, whoever comes. */
    if (s == &w.sites[DOWN_SITE] && w.burst_ns > 0 && now < s->down_to_ns &&
        now > w.burst_ns + 5 * NS_PER_S && now - s->begun_ns < MINIMAL_S * NS_PER_S)
        sim_fail("%s is tried again after %.3f s", r->nexthop, (double)(now - s->begun_ns) / 1e9);
    if (!r->dest->window.probing)
        return;
    if (s->busy > 1)
        sim_fail("%s is probed while %d deliveries are out", r->nexthop, s->busy - 1);
    if (s->probed_ns > 0 && now - s->probed_ns < MINIMAL_S * NS_PER_S)
        sim_fail("%s is probed again after %.0f s", r->nexthop, (double)(now - s->probed_ns) / 1e9);
    s->probed_ns = now;
    w.probes++;
}

/* Retries of small mail: none before the shortest wait, none much later than the longest. */
static void check_retry(uint64_t n, int64_t now)
{
    struct mail *m = &w.mails[n];
    if (m->tried_ns == 0)
        return;
    int64_t gap = now - m->tried_ns;
    if (gap < MINIMAL_S * NS_PER_S)
        sim_fail("mail %llu is tried again after %.1f s", (unsigned long long)n, (double)gap / 1e9);
    if (gap > (MAXIMAL_S + RUN_S + SLACK_S) * NS_PER_S)
        sim_fail("mail %llu waited %.1f s", (unsigned long long)n, (double)gap / 1e9);
    if (m->waits) {
        uint64_t run = (uint64_t)(now - w.burst_ns) / (RUN_S * (uint64_t)NS_PER_S);
        w.back[run < 1000 ? run : 999]++;
    }
    m->waits = false;
}

static uint64_t number_of(const struct rcpt *r)
{
    return strtoull(r->address.ptr + 1, NULL, 10);
}

static void answer(struct request *r, size_t i, bool sent, const char *status)
{
    r->rcpts[i].result = sent ? REQUEST_SENT : REQUEST_DEFER;
    str_copy(r->rcpts[i].dsn.status, sizeof r->rcpts[i].dsn.status, str_of(status));
    r->rcpts[i].dsn.text = STR("said so");
    r->rcpts[i].dsn.mta = r->rcpts[i].dsn.diagnostic = STR("");
}

static void arrived(uint64_t n, const struct rcpt *to)
{
    struct mail *m = &w.mails[n];
    if (m->list) {
        uint64_t k = strtoull(strchr(to->address.ptr, '-') + 1, NULL, 10);
        if (w.list_done[k]++ != 0)
            sim_fail("recipient %llu of the list has it twice", (unsigned long long)k);
        w.list_left--;
        return;
    }
    if (m->delivered)
        sim_fail("mail %llu is delivered twice", (unsigned long long)n);
    m->delivered = true;
    w.left--;
}

static void play_rcpt(struct request *r, size_t i, const struct site *s, bool refused)
{
    const struct rcpt *to = r->rcpts[i].rcpt;
    uint64_t n = number_of(to);
    struct mail *m = &w.mails[n];
    int64_t now = clock_mono_ns();
    bool grey = s != NULL && now - m->sent_ns < s->grey_ns;
    if (s != NULL && !refused && !grey)
        arrived(n, to);
    else
        w.deferred++;
    answer(r, i, s != NULL && !refused && !grey, refused ? "4.4.1" : grey ? "4.7.1" : "4.3.0");
    if (!m->list)
        m->tried_ns = now;
}

static struct site *site_of(const struct request *r)
{
    return strcmp(r->transport, "retry") == 0 ? NULL : &w.sites[atoi(r->nexthop + 1)];
}

/* Small mail for a healthy site does not wait, whatever list or outage there is. */
static void check_patience(const struct request *r, const struct site *s, int64_t now)
{
    uint64_t n = number_of(r->rcpts[0].rcpt);
    const struct mail *m = &w.mails[n];
    if (m->list || !healthy(s))
        return;
    int64_t waited = now - m->sent_ns;
    w.longest_ns = waited > w.longest_ns ? waited : w.longest_ns;
    if (waited > PATIENCE_S * NS_PER_S)
        sim_fail("mail %llu waits %.0f s for a healthy site", (unsigned long long)n,
             (double)waited / 1e9);
}

static void attempt(struct request *r)
{
    struct site *s = site_of(r);
    int64_t now = clock_mono_ns();
    bool refused = false;
    for (size_t i = 0; i < r->rcpt_count; i++)
        if (!w.mails[number_of(r->rcpts[i].rcpt)].list)
            check_retry(number_of(r->rcpts[i].rcpt), now);
    if (s != NULL) {
        s->busy++;
        w.out[s->paced]++;
        w.attempts++;
        check_limits(r, s);
        check_patience(r, s, now);
        s->begun_ns = now;
        bool down = now >= s->down_from_ns && now < s->down_to_ns;
        refused = down || (s->capacity > 0 && s->busy > s->capacity);
        nap(refused ? 100 * NS_PER_MS : s->latency_ns);
    }
    for (size_t i = 0; i < r->rcpt_count; i++)
        play_rcpt(r, i, s, refused);
    r->dest_dead = refused;
    if (refused)
        r->dest_why = r->rcpts[0].dsn;
    if (s != NULL) {
        s->busy--;
        w.out[s->paced]--;
        s->ended_ns = clock_mono_ns();
    }
}

static void deliver(void *ctx, struct request *r)
{
    (void)ctx;
    w.agents++;
    while (r != NULL) {
        attempt(r);
        if (sim_chance(50)) {
            request_done(r);
            break;
        }
        r = request_next(r, clock_in_ms(2000));
    }
    w.agents--;
}

static void resolve(void *ctx, struct qmsg *m)
{
    (void)ctx;
    for (size_t i = 0; i < m->env->rcpt_count; i++) {
        struct rcpt *r = &m->env->rcpts[i];
        if (r->state != RCPT_TODO && r->state != RCPT_DEFERRED)
            continue;
        r->nexthop =
            arena_cstr(m->arena, str_from(r->address, (size_t)str_rindex(r->address, '@') + 1));
        r->transport = w.sites[atoi(r->nexthop + 1)].paced ? "rate" : "smtp";
        r->resolved = r->address;
    }
}

static struct err *notify(void *ctx, const struct notice *n)
{
    (void)ctx;
    sim_fail("mail is given up: %s", n->msg->id);
}

/* --- traffic */

static void send(uint64_t n, int site, int per_site)
{
    struct arena *a = arena_new(0, 0);
    struct envelope *e = ARENA_NEW(a, struct envelope);
    struct draft *d = NULL;
    bool list = per_site > 0;
    e->sender = STR("from@example.com");
    e->envid = STR("");
    e->rcpt_count = list ? (size_t)(SITES * per_site) : 1;
    e->rcpts = arena_zalloc(a, e->rcpt_count * sizeof *e->rcpts);
    for (size_t i = 0; i < e->rcpt_count; i++) {
        struct rcpt *r = &e->rcpts[i];
        r->address = r->original = arena_printf(a, "m%llu-%zu@s%d", (unsigned long long)n, i,
                                                list ? (int)(i % SITES) : site);
        r->orcpt = STR("");
        r->why = (struct dsn){.text = STR(""), .mta = STR(""), .diagnostic = STR("")};
    }
    w.mails[n] = (struct mail){.sent_ns = clock_mono_ns(), .list = list, .waits = n >= LETTERS + 1};
    if (list)
        w.list_left += e->rcpt_count;
    else
        w.left++;
    CHECK(queue_begin(w.q, &d) == NULL);
    CHECK(draft_write(d, STR("Subject: x\r\n\r\nx\r\n")) == NULL);
    CHECK(queue_commit(d, e) == NULL);
    arena_free(a);
}

/* Numbers: small mail, the list, the burst. */
static void traffic(void)
{
    uint64_t list_at = sim_below(LETTERS), burst_at = sim_below(300);
    for (uint64_t n = 0; n < LETTERS; n++) {
        if (n == list_at)
            send(LETTERS, 0, LIST_PER_SITE);
        for (uint64_t i = 0; n == burst_at && i < BURST; i++)
            send(LETTERS + 1 + i, DOWN_SITE, 0);
        if (n == burst_at)
            w.burst_ns = clock_mono_ns();
        send(n, (int)sim_below(SITES), 0);
        nap(some_ms(0, 2 * TRAFFIC_S * 1000 / LETTERS));
    }
}

/* What was deferred together does not come back together. */
static void check_spread(void)
{
    uint64_t all = 0, most = 0;
    for (size_t i = 0; i < 1000; i++) {
        all += w.back[i];
        most = w.back[i] > most ? w.back[i] : most;
    }
    if (all != BURST || most > BURST / 2)
        sim_fail("of %llu that were deferred together %llu come back together",
             (unsigned long long)all, (unsigned long long)most);
}

static void options_of(struct sched_options *o)
{
    static const int64_t processes[] = {0, 30, 100};
    w.transports[0] = (struct sched_transport){
        .name = "smtp", .initial_concurrency = 5, .concurrency_limit = 20, .recipient_limit = 4,
        .failed_cohort_limit = 1, .positive_per_window = 1, .negative_per_window = 1,
        .slot_cost = 5, .slot_loan = 3, .slot_discount = 50, .minimum_slots = 3,
        .pool = 20000, .extra_pool = 1000, .rate_serial = true,
        .process_limit = processes[sim.seed % 3]};
    w.transports[1] = w.transports[0];
    w.transports[1].name = "rate";
    w.transports[1].rate_delay_ms = 2500;
    w.transports[1].rate_serial = sim.seed % 2 == 0;
    *o = (struct sched_options){
        .transports = w.transports,
        .transport_count = 2,
        .fallback = w.transports[0],
        .message_active_limit = sim.seed % 4 == 0 ? 1000 : 20000,
        .message_recipient_limit = 20000,
        .recipient_minimum = 10,
        .queue_run_delay_s = RUN_S,
        .minimal_backoff_s = MINIMAL_S,
        .maximal_backoff_s = MAXIMAL_S,
        .backoff_jitter = 20,
        .maximal_lifetime_s = 5 * 86400,
        .bounce_lifetime_s = 5 * 86400,
        .defer_transports = "",
    };
    o->fallback.name = "";
    o->fallback.why = "mail transport unavailable";
}

static void live(void *arg)
{
    static const struct queue_hooks hooks = {
        .resolve = resolve, .deliver = deliver, .notify = notify};
    (void)arg;
    struct sched_options so;
    options_of(&so);
    struct queue_options o = {.directory = QUEUE_DIR, .sched = &so};
    struct worker *self = worker_self();
    CHECK(queue_open(&o, &hooks, &self, 1, &w.q) == NULL);
    make_sites();
    traffic();
    while (w.left + w.list_left > 0) {
        nap(60 * NS_PER_S);
        if (clock_mono_ns() > WORLD_S * NS_PER_S)
            sim_fail("%llu letters and %llu of the list never leave", (unsigned long long)w.left,
                 (unsigned long long)w.list_left);
    }
    check_spread();
    CHECK(queue_drain(w.q, clock_in_s(300)) == NULL);
    while (w.agents > 0)
        nap(NS_PER_S);
    CHECK(queue_close(w.q) == NULL);
}

static void one_seed(void)
{
    static const struct worker_options options = {.name = "sim", .cpu = -1};
    struct disk *d = disk_new();
    memset(&w, 0, sizeof w);
    sim_world_begin(sim.seed);
    sim_deadline(WORLD_S + 86400);
    disk_use(d);
    disk_new_process();
    CHECK(disk_mkdir(QUEUE_DIR) == 0);
    CHECK(worker_run_here(&options, live, NULL) == NULL);
    disk_use(NULL);
    disk_free(d);
    printf("seed %llu: %llu attempts, %llu deferrals, %llu probes, small mail for healthy sites "
           "waits %.3f s at most\n",
           (unsigned long long)sim.seed, (unsigned long long)w.attempts,
           (unsigned long long)w.deferred, (unsigned long long)w.probes,
           (double)w.longest_ns / 1e9);
}

int main(int argc, char **argv)
{
    static const struct driver driver = {.name = "sim.sched", .seeds = 5, .one_seed = one_seed};
    return driver_main(&driver, argc, argv);
}
