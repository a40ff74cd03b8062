/* The scheduler in a world of model sites: some slow, some that answer 421 above so many
 * connections, some that greylist, some that are down for hours, some with a dead host of two. The
 * queue is the real one, the disk is memory, the clock is a number. One seed is some hours of traffic,
 * or days (--days); what must always hold is checked at every attempt, and at the end everything has
 * been delivered, once. */
#include <stdio.h>
#include <stdlib.h>
#include "disk_sim.h"
#include "driver.h"
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/mem.h"
#include "queue/private.h"
#include "ring_sim.h"
#include "sched_model.h"
#include "sched_report.h"

#define QUEUE_DIR SIM_ROOT "/queue"

enum {
    BURST = 200,  /* for DOWN_SITE, at once */
    FLOOD = 1500, /* for those that stall: more than a small active queue holds */
    LETTERS = 3000, /* in TRAFFIC_S */
    LIST = 30000,   /* recipients */
    LISTS = 3,
    AFTER_S = 4 * DAY_S, /* for what is left when no more comes */
    RUN_S = 10,
    /* Of small mail for a healthy site, whatever else is under way; for one that had no mail before. */
    PATIENCE_S = 20,
    UNKNOWN_S = 120,
    SLACK_S = 600,
    BACK_STEPS = 1000,
    SAMPLES = 1500,
    DAYS_MAX = 100,
};

struct mail {
    int64_t sent_ns, tried_ns; /* tried: the end of the last attempt; small mail only */
    bool list, delivered, burst, waits; /* waits: it was not tried again so far */
    bool unknown; /* its site, when it was sent */
    uint32_t first; /* of a list: in w.list_done */
};

static const char *days_text = "0", *sites_text = "300", *report_dir;

/* Mails are numbered: small mail, the lists (one a day), the burst, the flood. */
static struct {
    int days;
    int64_t traffic_s;
    uint64_t letters, lists;
    struct mail *mails;
    uint8_t *list_done;
    uint64_t left, list_left, attempts, deferred;
    size_t most_seats;  /* recipients of lists that were in memory at once, for a transport */
    int64_t longest_ns; /* the worst wait of small mail for a healthy site */
    int agents;
    bool ended;
    uint64_t back[BACK_STEPS]; /* first retries of the burst, by queue run */
    struct queue *q;
} w;

/* --- what must hold of one message */

/* Retries of small mail: none a second before the shortest wait, none much later than the longest. */
static void check_retry(uint64_t n, int64_t now)
{
    struct mail *m = &w.mails[n];
    if (m->tried_ns == 0)
        return;
    int64_t gap = now - m->tried_ns;
    if (gap < (MINIMAL_S - EARLY_S) * NS_PER_S)
        sim_fail("mail %llu is tried again after %.1f s", (unsigned long long)n, (double)gap / 1e9);
    if (gap > (MAXIMAL_S + RUN_S + SLACK_S) * NS_PER_S)
        sim_fail("mail %llu waited %.1f s", (unsigned long long)n, (double)gap / 1e9);
    if (m->burst)
        report_retry(now - model.burst_ns);
    if (m->waits) {
        uint64_t run = (uint64_t)(now - model.burst_ns) / (RUN_S * (uint64_t)NS_PER_S);
        w.back[run < BACK_STEPS ? run : BACK_STEPS - 1]++;
    }
    m->waits = false;
}

static uint64_t number_of(const struct rcpt *r)
{
    return strtoull(r->address.ptr + 1, NULL, 10);
}

/* Small mail for a healthy site does not wait, whatever list or outage there is. */
static void check_patience(const struct request *r, const struct site *s, int64_t now)
{
    uint64_t n = number_of(r->rcpts[0].rcpt);
    const struct mail *m = &w.mails[n];
    if (m->list || !site_is_healthy(s))
        return;
    int64_t waited = now - m->sent_ns;
    w.longest_ns = waited > w.longest_ns ? waited : w.longest_ns;
    if (waited > (m->unknown ? UNKNOWN_S : PATIENCE_S) * NS_PER_S)
        sim_fail("mail %llu waits %.0f s for a healthy site", (unsigned long long)n,
                 (double)waited / 1e9);
}

static void arrived(uint64_t n, const struct rcpt *to, const struct site *s)
{
    struct mail *m = &w.mails[n];
    if (m->list) {
        uint64_t k = strtoull(strchr(to->address.ptr, '-') + 1, NULL, 10);
        if (w.list_done[m->first + k]++ != 0)
            sim_fail("recipient %llu of the list has it twice", (unsigned long long)k);
        w.list_left--;
        return;
    }
    if (m->delivered)
        sim_fail("mail %llu is delivered twice", (unsigned long long)n);
    m->delivered = true;
    w.left--;
    report_arrival(s, m->sent_ns);
}

/* What was deferred together does not come back together. */
static void check_spread(void)
{
    uint64_t all = 0, most = 0;
    for (size_t i = 0; i < BACK_STEPS; i++) {
        all += w.back[i];
        most = w.back[i] > most ? w.back[i] : most;
    }
    if (all != BURST || most > BURST / 2)
        sim_fail("of %llu that were deferred together %llu come back together",
                 (unsigned long long)all, (unsigned long long)most);
}

/* Of long lists, SCHEDULER_README's bound for a transport; counted anew, not believed. */
static void check_seats(const struct sched *s)
{
    size_t at = 0, lists = 0, count[2] = {0};
    uint64_t seq;
    void *value;
    while (umap_next(&s->active, &at, &seq, &value)) {
        const struct active *a = value;
        const struct envelope *env = a->m->env;
        lists += a->refill != NULL;
        for (size_t i = 0; a->refill && i < env->rcpt_count; i++)
            for (size_t t = 0; t < 2 && env->rcpts[i].address.len > 0; t++)
                count[t] += strcmp(env->rcpts[i].transport, model.transports[t].name) == 0;
    }
    for (size_t t = 0; t < 2; t++) {
        const struct sched_transport *o = &model.transports[t];
        if ((int64_t)count[t] > o->pool + o->extra_pool + (int64_t)lists * s->opts.recipient_minimum)
            sim_fail("%zu recipients of %zu lists are in memory for %s", count[t], lists, o->name);
        w.most_seats = count[t] > w.most_seats ? count[t] : w.most_seats;
    }
}

static void check_nothing_is_taken(const struct sched *s)
{
    size_t at = 0;
    struct str key;
    void *value;
    while (hmap_next(&s->transports, &at, &key, &value)) {
        const struct transport *t = value;
        if (t->seats.taken != 0 || t->seats.extra_taken != 0 || t->held_count != 0)
            sim_fail("%s: %lld seats are taken, %zu recipients wait for one", t->opts.name,
                     (long long)(t->seats.taken + t->seats.extra_taken), t->held_count);
    }
    if (s->reading != 0 || s->recipients != 0)
        sim_fail("%zu recipients are being read, %llu in memory", s->reading,
                 (unsigned long long)s->recipients);
}

/* --- attempts */

static void answer(struct request *r, size_t i, bool sent, const char *status)
{
    r->rcpts[i].result = sent ? REQUEST_SENT : REQUEST_DEFER;
    str_copy(r->rcpts[i].dsn.status, sizeof r->rcpts[i].dsn.status, str_of(status));
    r->rcpts[i].dsn.text = STR("said so");
    r->rcpts[i].dsn.mta = r->rcpts[i].dsn.diagnostic = STR("");
}

static void play_rcpt(struct request *r, size_t i, const struct site *s, bool refused)
{
    const struct rcpt *to = r->rcpts[i].rcpt;
    uint64_t n = number_of(to);
    struct mail *m = &w.mails[n];
    int64_t now = clock_mono_ns();
    bool grey = s != NULL && now - m->sent_ns < s->grey_ns;
    bool sent = s != NULL && !refused && !grey;
    if (sent)
        arrived(n, to, s);
    else
        w.deferred++;
    answer(r, i, sent, refused ? "4.4.1" : grey ? "4.7.1" : "4.3.0");
    if (!m->list)
        m->tried_ns = now;
}

static struct site *site_of(const struct request *r)
{
    return strcmp(r->transport, "retry") == 0 ? NULL : &model.sites[atoi(r->nexthop + 1)];
}

static void attempt(struct request *r)
{
    struct site *s = site_of(r);
    int64_t now = clock_mono_ns();
    for (size_t i = 0; i < r->rcpt_count; i++)
        if (!w.mails[number_of(r->rcpts[i].rcpt)].list)
            check_retry(number_of(r->rcpts[i].rcpt), now);
    if (s != NULL && agent_dies(s, r)) {
        for (size_t i = 0; i < r->rcpt_count; i++)
            w.mails[number_of(r->rcpts[i].rcpt)].tried_ns = now;
        return;
    }
    if (s != NULL) {
        if (w.attempts++ % 8 == 0)
            check_seats(w.q->sched);
        check_patience(r, s, now);
        report_attempt(s, r);
        r->dest_dead = !site_attempt(s, r);
    }
    for (size_t i = 0; i < r->rcpt_count; i++)
        play_rcpt(r, i, s, r->dest_dead);
    if (r->dest_dead)
        r->dest_why = r->rcpts[0].dsn;
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
        r->transport = model.sites[atoi(r->nexthop + 1)].paced ? "rate" : "smtp";
        r->resolved = r->address;
    }
}

static struct err *notify(void *ctx, const struct notice *n)
{
    (void)ctx;
    sim_fail("mail is given up: %s", n->msg->id);
}

/* --- traffic */

static void send(uint64_t n, size_t site, bool list)
{
    struct arena *a = arena_new(0, 0);
    struct envelope *e = ARENA_NEW(a, struct envelope);
    struct draft *d = NULL;
    e->sender = STR("from@example.com");
    e->envid = STR("");
    e->rcpt_count = list ? LIST : 1;
    e->rcpts = arena_zalloc(a, e->rcpt_count * sizeof *e->rcpts);
    for (size_t i = 0; i < e->rcpt_count; i++) {
        struct rcpt *r = &e->rcpts[i];
        r->address = r->original = arena_printf(a, "m%llu-%zu@s%zu", (unsigned long long)n, i,
                                                list ? i % model.count : site);
        r->orcpt = STR("");
        r->why = (struct dsn){.text = STR(""), .mta = STR(""), .diagnostic = STR("")};
    }
    bool burst = n >= w.letters + w.lists && n < w.letters + w.lists + BURST;
    w.mails[n] = (struct mail){
        .sent_ns = clock_mono_ns(), .list = list, .burst = burst, .waits = burst,
        .unknown = model.sites[site].attempts == 0};
    if (list) {
        w.mails[n].first = (uint32_t)(n - w.letters) * LIST;
        w.list_left += e->rcpt_count;
    } else {
        w.left++;
    }
    CHECK(queue_begin(w.q, &d) == NULL);
    CHECK(draft_write(d, STR("Subject: x\r\n\r\nx\r\n")) == NULL);
    CHECK(queue_commit(d, e) == NULL);
    arena_free(a);
}

static void traffic(void)
{
    uint64_t per_list = w.letters / w.lists, list_at = sim_below(per_list < LETTERS ? per_list : LETTERS), burst_at = sim_below(300),
             flood_at = sim_below(1000);
    for (uint64_t n = 0; n < w.letters; n++) {
        if (n % per_list == list_at && n / per_list < w.lists)
            send(w.letters + n / per_list, 0, true);
        for (uint64_t i = 0; n == burst_at && i < BURST; i++)
            send(w.letters + w.lists + i, DOWN_SITE, false);
        if (n == burst_at)
            model.burst_ns = clock_mono_ns();
        for (uint64_t i = 0; n == flood_at && i < FLOOD; i++)
            send(w.letters + w.lists + BURST + i, STALL_SITE + i % STALL_SITES, false);
        send(n, (size_t)sim_below(model.count), false);
        model_nap(model_ms(0, 2 * TRAFFIC_S * 1000 / LETTERS));
    }
}

static void sample_main(void *arg)
{
    (void)arg;
    while (!w.ended) {
        report_sample(w.q->sched->active.count);
        model_nap((w.traffic_s + DAY_S / 4) * NS_PER_S / SAMPLES);
    }
    w.agents--;
}

static void options_of(struct sched_options *o)
{
    static const int64_t processes[] = {0, 60, 100};
    model.transports[0] = (struct sched_transport){
        .name = "smtp", .initial_concurrency = 5, .concurrency_limit = 20, .recipient_limit = 4,
        .failed_cohort_limit = 1, .positive_per_window = 1, .negative_per_window = 1,
        .slot_cost = 5, .slot_loan = 3, .slot_discount = 50, .minimum_slots = 3,
        .pool = sim.seed % 4 < 2 ? 20000 : 300, .extra_pool = sim.seed % 4 < 2 ? 1000 : 60, .refill_limit = 100, .refill_delay_s = 5, .rate_serial = true,
        .process_limit = processes[sim.seed % 3], .patience_ms = 5000};
    model.transports[1] = model.transports[0];
    model.transports[1].name = "rate";
    model.transports[1].rate_delay_ms = 2500;
    model.transports[1].rate_serial = sim.seed % 2 == 0;
    *o = (struct sched_options){
        .transports = model.transports,
        .transport_count = 2,
        .fallback = model.transports[0],
        .message_active_limit = sim.seed % 4 == 0 ? 1000 : 20000,
        /* The list is in memory in part; so many dead destinations are remembered, too. */
        .message_recipient_limit = sim.seed % 2 && model.count < 2000 ? 2000 : 20000,
        .recipient_minimum = 10,
        .queue_run_delay_s = RUN_S,
        .minimal_backoff_s = MINIMAL_S,
        .maximal_backoff_s = MAXIMAL_S,
        .backoff_jitter = 20,
        .maximal_lifetime_s = 5 * DAY_S,
        .bounce_lifetime_s = 5 * DAY_S,
        .transport_retry_s = AGENT_RETRY_S,
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
    model_begin(w.days, (size_t)atoi(sites_text));
    options_of(&so);
    struct queue_options o = {.directory = QUEUE_DIR, .sched = &so};
    struct worker *self = worker_self();
    CHECK(queue_open(&o, &hooks, &self, 1, &w.q) == NULL);
    if (report_dir) {
        w.agents++;
        worker_spawn(self, "sample", sample_main, NULL);
    }
    traffic();
    while (w.left + w.list_left > 0) {
        model_nap(60 * NS_PER_S);
        if (clock_mono_ns() > (w.traffic_s + AFTER_S) * NS_PER_S)
            sim_fail("%llu letters and %llu of the list never leave", (unsigned long long)w.left,
                     (unsigned long long)w.list_left);
    }
    check_spread();
    if (!report_write(clock_mono_ns()))
        sim_fail("the report cannot be written");
    w.ended = true;
    model_nap(NS_PER_S); /* the last of them go */
    check_nothing_is_taken(w.q->sched);
    CHECK(queue_drain(w.q, clock_in_s(300)) == NULL);
    while (w.agents > 0)
        model_nap(NS_PER_S);
    CHECK(queue_close(w.q) == NULL);
}

static void say_what_was(void)
{
    uint64_t probes = 0, asked = 0, passed = 0, refused = 0, limited = 0;
    for (size_t i = 0; i < model.count; i++) {
        const struct site *s = &model.sites[i];
        probes += s->probes;
        asked += s->asked_dead;
        passed += s->passed_by;
        refused += s->kind == SITE_LIMITED ? s->refused : 0;
        limited += s->kind == SITE_LIMITED ? s->attempts : 0;
    }
    printf("seed %llu: %llu attempts, %llu deferrals, %llu probes; dead hosts asked %llu times and "
           "passed by %llu times; %llu deaths of an agent; 421 over a limit %.1f %%; %zu recipients of lists in memory; small mail for healthy sites "
           "waits %.3f s at most\n",
           (unsigned long long)sim.seed, (unsigned long long)w.attempts,
           (unsigned long long)w.deferred, (unsigned long long)probes, (unsigned long long)asked,
           (unsigned long long)passed,
           (unsigned long long)model.agent_deaths,
           limited > 0 ? 100.0 * (double)refused / (double)limited : 0.0, w.most_seats,
           (double)w.longest_ns / 1e9);
}

static void world_new(void)
{
    memset(&w, 0, sizeof w);
    w.days = atoi(days_text);
    if (w.days < 0 || w.days > DAYS_MAX)
        w.days = 0;
    w.traffic_s = w.days > 0 ? (int64_t)w.days * DAY_S : TRAFFIC_S;
    w.letters = (uint64_t)(w.traffic_s / TRAFFIC_S) * LETTERS;
    w.lists = w.days > 0 ? (uint64_t)w.days : LISTS;
    w.mails = mem_zalloc((w.letters + w.lists + BURST + FLOOD) * sizeof *w.mails);
    w.list_done = mem_zalloc(w.lists * LIST);
}

static void one_seed(void)
{
    static const struct worker_options options = {.name = "sim", .cpu = -1};
    struct disk *d = disk_new();
    world_new();
    report_begin(report_dir);
    sim_world_begin(sim.seed);
    sim_deadline(w.traffic_s + AFTER_S + DAY_S);
    disk_use(d);
    disk_new_process();
    CHECK(disk_mkdir(QUEUE_DIR) == 0);
    CHECK(worker_run_here(&options, live, NULL) == NULL);
    disk_use(NULL);
    disk_free(d);
    say_what_was();
    mem_free(w.mails);
    mem_free(w.list_done);
}

int main(int argc, char **argv)
{
    static const struct driver_option options[] = {
        {"days", "N        days of traffic, not hours", &days_text},
        {"sites", "N       that many, not 300", &sites_text},
        {"report", "DIR    figures and charts of the last seed", &report_dir},
        {0}};
    static const struct driver driver = {
        .name = "sim.sched", .seeds = 5, .one_seed = one_seed, .options = options};
    return driver_main(&driver, argc, argv);
}
