/* The whole queue on a disk that forgets: scheduler, deliveries, bounces, operators' acts. One seed
 * is one run of two or three lives; then the power is cut at every point of it, and what a start
 * finds is held against the model: every letter that was acknowledged has been delivered, its sender
 * was told, the operator removed it, or it is still there, whole. After some of the cuts the queue
 * runs on with a network that takes everything: then all of it must arrive. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "dice.h"
#include "disk_sim.h"
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "mail_model.h"
#include "ring_sim.h"

#define QUEUE_DIR SIM_ROOT "/queue"

enum {
    SEGMENT = 32 << 10,
    INLINE_MAX = 6 << 10,
    PRODUCERS = 2,
    POINTS_MAX = 4096,
    WORLD_S = 7200,
    FAULT_POINTS = 6,
    CALM_TRIES = 60,
    FAULTS_MAX = 600,
};

struct point {
    struct disk *disk;
    struct mail_model *model;
    int64_t at_ns;
};

static struct {
    uint64_t seed;
    long point;
    uint64_t fault;
    enum fault_at kind;
    bool verbose;
    const char *phase;
    char complaint[200];
} run = {.point = -1};

static struct {
    uint64_t seeds, points, faults, letters, deliveries;
} done;

/* --- telling */

static void say_where(void)
{
    const char *kind = run.kind == FAULT_READ ? "read" : "change";
    fprintf(stderr, "sim: %s: repeat it with: sim.mail --seed %llu", run.phase,
            (unsigned long long)run.seed);
    if (run.fault != 0)
        fprintf(stderr, " --%s %llu", kind, (unsigned long long)run.fault);
    if (run.point >= 0)
        fprintf(stderr, " --point %ld", run.point);
    fprintf(stderr, " --verbose\n");
}

void mail_fail(const char *fmt, ...)
{
    va_list list;
    va_start(list, fmt);
    fprintf(stderr, "sim: FAILED: ");
    vfprintf(stderr, fmt, list);
    fputc('\n', stderr);
    va_end(list);
    say_where();
    fflush(NULL);
    _exit(1);
}

static void on_abort(int number)
{
    (void)number;
    say_where();
    _exit(1);
}

/* What scrub.c says of an index that nobody has touched is a failure. */
static void note_complaint(const char *text)
{
    static const char *const signs[] = {"index table", "index: of", "has a row and no place",
                                        "index row"};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
        if (strstr(text, signs[i]) != NULL)
            str_copy(run.complaint, sizeof run.complaint, str_of(text));
    }
}

void __wrap_log_at(enum log_level level, const char *service, const char *fmt, ...) PRINTF(3, 4);
void __wrap_log_at(enum log_level level, const char *service, const char *fmt, ...)
{
    char text[1000];
    va_list list;
    if (!run.verbose && level == LOG_LEVEL_INFO)
        return;
    va_start(list, fmt);
    vsnprintf(text, sizeof text, fmt, list);
    va_end(list);
    if (level != LOG_LEVEL_INFO)
        note_complaint(text);
    if (run.verbose)
        fprintf(stderr, "%12.6f %d %s: %s\n", (double)clock_mono_ns() / 1e9, (int)level, service,
                text);
}

/* The keys of hash tables are a part of the world too. */
ssize_t __wrap_getrandom(void *to, size_t n, unsigned flags);
ssize_t __wrap_getrandom(void *to, size_t n, unsigned flags)
{
    (void)flags;
    memset(to, 0x5a, n);
    return (ssize_t)n;
}

/* --- points */

static struct point points[POINTS_MAX];
static size_t point_count;
static struct mail_model *model_now;
static bool collecting;

static void point_reached(void)
{
    if (!collecting || point_count == POINTS_MAX)
        return;
    struct point *p = &points[point_count++];
    p->disk = disk_copy(disk_current());
    p->model = malloc(sizeof *p->model);
    memcpy(p->model, model_now, sizeof *p->model);
    p->at_ns = clock_mono_ns();
}

/* Each run has a worker of its own, and so a clock that begins where it is told. */
static void in_world(int64_t at_ns, void (*fn)(void *arg), void *arg)
{
    static const struct worker_options options = {.name = "sim", .cpu = -1};
    sim_clock_set(at_ns);
    sim_deadline(WORLD_S);
    disk_new_process();
    struct err *e = worker_run_here(&options, fn, arg);
    CHECK(e == NULL);
}

static void points_drop(size_t down_to)
{
    while (point_count > down_to) {
        struct point *p = &points[--point_count];
        disk_free(p->disk);
        free(p->model);
    }
}

/* --- the mail system around the queue */

struct mail {
    struct queue *q;
    struct mail_model *m;
    bool calm;     /* the network takes everything */
    bool after_cut;
    unsigned producing, agents;
    struct event produced;
    const enum queue_act *acting; /* on whatever there is: what comes now may be met */
};

static void rest(int64_t most_ms)
{
    struct err *e = fiber_sleep_until(
        clock_mono_ns() + (int64_t)sim_below((uint64_t)most_ms * (uint64_t)NS_PER_MS + 1));
    (void)e;
}

static size_t some_size(void)
{
    uint64_t kind = sim_below(10);
    return kind < 6   ? 50 + (size_t)sim_below(2500)
           : kind < 8 ? 2500 + (size_t)sim_below(INLINE_MAX - 2500)
                      : INLINE_MAX + 1 + (size_t)sim_below(9000);
}

static struct err *write_all(struct draft *d, const struct letter *l, uint64_t n)
{
    struct buf b = {0};
    struct err *e = NULL;
    letter_content(l, n, &b);
    for (size_t at = 0; e == NULL && at < b.len; at += 3000)
        e = draft_write(d, str_head(str_from(buf_str(&b), at), 3000));
    buf_fini(&b);
    return e;
}

/* A new letter; its number, or LETTERS when there is no more room in the model. */
static uint64_t letter_new(struct mail *w, bool bounce)
{
    if (w->m->count == LETTERS)
        return LETTERS;
    uint64_t n = w->m->count++;
    w->m->letters[n] = (struct letter){
        .bounce = bounce,
        .size = bounce ? 200 : some_size(),
        .rcpt_count = bounce ? 1 : 1 + (unsigned)sim_below(LETTER_RCPTS),
    };
    done.letters++;
    return n;
}

static void open_up(struct letter *l, enum queue_act what)
{
    if (what == QUEUE_ACT_REMOVE)
        l->removed = OPEN;
    else if (what == QUEUE_ACT_EXPIRE)
        l->expired = OPEN;
    else
        l->held = OPEN;
}

static struct err *send(struct mail *w, uint64_t n, bool hold)
{
    struct letter *l = &w->m->letters[n];
    struct arena *a = arena_new(0, 0);
    struct draft *d = NULL;
    struct envelope *env = letter_envelope(l, n, a);
    if (hold) {
        env->flags |= ENV_HOLD;
        l->held = YES;
    }
    if (w->acting != NULL)
        open_up(l, *w->acting);
    struct err *e = queue_begin(w->q, &d);
    if (e == NULL) {
        l->seq = d->seq;
        memcpy(l->id, d->id, sizeof l->id);
        e = write_all(d, l, n);
        if (e != NULL)
            queue_abort(d);
        else
            e = queue_commit(d, env);
    }
    l->acked = e == NULL;
    if (e != NULL && run.fault == 0)
        mail_fail("letter %llu is refused: %s", (unsigned long long)n, e->text);
    arena_free(a);
    return e;
}

static void resolve(void *ctx, struct qmsg *m)
{
    (void)ctx;
    for (size_t i = 0; i < m->env->rcpt_count; i++) {
        struct rcpt *r = &m->env->rcpts[i];
        if (r->state != RCPT_TODO && r->state != RCPT_DEFERRED)
            continue;
        r->transport = "smtp";
        r->nexthop =
            arena_cstr(m->arena, str_from(r->address, (size_t)str_rindex(r->address, '@') + 1));
        r->resolved = r->address;
    }
}

static void answer(struct request *r, size_t i, enum request_result result, const char *status)
{
    r->rcpts[i].result = result;
    str_copy(r->rcpts[i].dsn.status, sizeof r->rcpts[i].dsn.status, str_of(status));
    r->rcpts[i].dsn.text = STR("said so");
    r->rcpts[i].dsn.mta = r->rcpts[i].dsn.diagnostic = STR("");
}

/* false: it could not be read now. */
static bool read_letter(struct mail *w, struct qmsg *m, uint64_t n)
{
    struct content_reader *r = NULL;
    struct str piece = STR("x");
    struct buf want = {0}, got = {0};
    struct err *e = content_open(m, &r);
    while (e == NULL && piece.len != 0) {
        e = content_next(r, &piece);
        if (e == NULL)
            buf_add_str(&got, piece);
    }
    content_close(r);
    if (e != NULL && (run.fault == 0 || e->kind == ERR_DAMAGED))
        mail_fail("letter %llu cannot be read for delivery: %s", (unsigned long long)n, e->text);
    letter_content(&w->m->letters[n], n, &want);
    if (e == NULL && !str_eq(buf_str(&want), buf_str(&got)))
        mail_fail("letter %llu is delivered with other content", (unsigned long long)n);
    buf_fini(&want);
    buf_fini(&got);
    return e == NULL;
}

static void deliver_rcpt(struct mail *w, struct request *r, size_t i, uint64_t n)
{
    struct letter_rcpt *to = &w->m->letters[n].rcpts[r->rcpts[i].index];
    uint64_t dice = w->calm ? 0 : sim_below(10);
    if (to->safe_done || to->safe_told || (to->delivered && !w->after_cut && run.fault == 0))
        mail_fail("letter %llu goes to recipient %u again", (unsigned long long)n,
                  (unsigned)r->rcpts[i].index);
    if (dice < 5) {
        to->delivered = true;
        done.deliveries++;
        answer(r, i, REQUEST_SENT, "2.0.0");
    } else if (dice < 9) {
        answer(r, i, REQUEST_DEFER, "4.2.0");
    } else {
        to->failed = true;
        answer(r, i, REQUEST_BOUNCE, "5.1.1");
    }
}

static void attempt(struct mail *w, struct request *r)
{
    uint64_t n = letter_of(w->m, r->msg->env);
    bool retry = strcmp(r->transport, "retry") == 0;
    bool readable = retry || read_letter(w, r->msg, n);
    if (w->m->letters[n].gone)
        mail_fail("letter %llu had ended, and is being delivered", (unsigned long long)n);
    if (!w->calm && sim_chance(30))
        rest(2500);
    for (size_t i = 0; i < r->rcpt_count; i++) {
        if (retry || !readable)
            answer(r, i, REQUEST_DEFER, "4.3.0");
        else
            deliver_rcpt(w, r, i, n);
        if (sim_chance(10))
            rest(50);
    }
}

static void deliver(void *ctx, struct request *r)
{
    struct mail *w = ctx;
    w->agents++;
    while (r != NULL) {
        attempt(w, r);
        if (sim_chance(70)) {
            request_done(r);
            break;
        }
        r = request_next(r, clock_in_ms(400));
    }
    w->agents--;
}

/* As core/bounce does: the notice is a letter of its own, and the sender is told when that is safe.
 * Who has no address to be told at is not told. */
static struct err *notify(void *ctx, const struct notice *t)
{
    struct mail *w = ctx;
    uint64_t n = letter_of(w->m, t->msg->env);
    CHECK(t->kind == NOTICE_BOUNCE);
    if (!w->m->letters[n].bounce) {
        uint64_t bounce = letter_new(w, true);
        if (bounce < LETTERS) {
            struct err *e = send(w, bounce, false);
            if (e != NULL)
                return e;
        }
    }
    for (size_t i = 0; i < t->rcpt_count; i++)
        w->m->letters[n].rcpts[t->rcpts[i]].told = true;
    return NULL;
}

/* --- the queue */

static struct sched_transport smtp = {
    .name = "smtp", .initial_concurrency = 3, .concurrency_limit = 5, .recipient_limit = 2,
    .failed_cohort_limit = 1, .positive_per_window = 1, .negative_per_window = 1,
    .slot_cost = 5, .slot_loan = 3, .slot_discount = 50, .minimum_slots = 1};

static void open_queue(struct mail *w, struct err **e_out)
{
    static const struct queue_hooks hooks = {
        .resolve = resolve, .deliver = deliver, .notify = notify};
    struct queue_hooks own = hooks;
    own.ctx = w;
    struct sched_options so = {
        .transports = &smtp,
        .transport_count = 1,
        .fallback = smtp,
        .message_active_limit = run.seed % 4 == 0 ? 3 : 100,
        .queue_run_delay_s = 1,
        .minimal_backoff_s = 1,
        .maximal_backoff_s = 4,
        .maximal_lifetime_s = 100000,
        .bounce_lifetime_s = 100000,
        .defer_transports = "",
    };
    so.fallback.name = "";
    so.fallback.why = "mail transport unavailable";
    struct queue_options o = {.directory = QUEUE_DIR,
                              .segment_bytes = SEGMENT,
                              .inline_limit_bytes = INLINE_MAX,
                              .long_ids = run.seed % 2,
                              .mark_delay_ms = 5,
                              .replay_at_once_bytes = run.seed % 3 == 0 ? 1 : 0,
                              .memory_limit_bytes = run.seed % 5 == 0 ? 1 : 0,
                              .sched = &so};
    struct worker *self = worker_self();
    disk_new_process(); /* each life is a process of its own */
    *e_out = queue_open(&o, &own, &self, 1, &w->q);
}

static void sync_all(struct mail *w)
{
    struct promise *p = MEM_NEW(struct promise);
    promise_take(w->m, w->q, p);
    struct err *e = store_sync(w->q->store);
    if (e == NULL)
        promise_keep(w->m, p);
    log_info("sim", "sync: %s", e == NULL ? "safe" : e->text);
    mem_free(p);
}

static bool close_queue(struct mail *w)
{
    struct promise *p = MEM_NEW(struct promise);
    struct err *e = queue_drain(w->q, clock_in_s(300));
    if (e != NULL)
        mail_fail("the queue does not come to rest: %s", e->text);
    /* The last of them are closing their connections; queue_close wants them gone. */
    for (int tries = 0; w->agents > 0; tries++) {
        CHECK(tries < 1000);
        rest(2);
    }
    promise_take(w->m, w->q, p);
    e = queue_close(w->q);
    w->q = NULL;
    log_info("sim", "stop: %s", e == NULL ? "safe" : e->text);
    if (e == NULL)
        promise_keep(w->m, p);
    else if (run.fault == 0)
        mail_fail("stop: %s", e->text);
    mem_free(p);
    return e == NULL;
}

/* --- operators */

struct act {
    struct mail *mail;
    enum queue_act what;
    bool told[LETTERS];
};

static void touched(void *ctx, const char *id)
{
    struct act *a = ctx;
    for (uint64_t n = 0; n < a->mail->m->count; n++) {
        if (strcmp(a->mail->m->letters[n].id, id) != 0)
            continue;
        a->told[n] = true;
        log_info("sim", "letter %llu is touched", (unsigned long long)n);
    }
}

/* Of one that was told of it is known what it is now; of another, when all went well, that nothing
 * was changed. */
static void close_up(struct letter *l, const struct letter *before, bool told, bool well,
                     enum queue_act what)
{
    if (!told && !well)
        return;
    if (what == QUEUE_ACT_REMOVE)
        l->removed = told ? YES : before->removed;
    else if (what == QUEUE_ACT_EXPIRE)
        l->expired = told ? YES : before->expired;
    else
        l->held = !told ? before->held : what == QUEUE_ACT_HOLD ? YES : NO;
}

/* to: one letter, or LETTERS: all that are in `in`. */
static void act(struct mail *w, enum queue_act what, uint64_t to, enum queue_name in)
{
    struct act *a = MEM_NEW(struct act);
    struct letter *before = mem_alloc(sizeof w->m->letters);
    struct queue_select select = {.queue = in};
    char id[QUEUE_ID_MAX];
    uint64_t count = 0, known = w->m->count;
    a->mail = w;
    memcpy(before, w->m->letters, sizeof w->m->letters);
    if (to < LETTERS) {
        memcpy(id, w->m->letters[to].id, sizeof id);
        select.id = str_of(id);
    }
    for (uint64_t n = 0; n < known; n++) {
        if (to == LETTERS || to == n)
            open_up(&w->m->letters[n], what);
    }
    log_info("sim", "act %d on %s", (int)what, to < LETTERS ? id : "all");
    w->acting = to == LETTERS ? &what : NULL;
    struct err *e = queue_do(w->q, what, &select, touched, a, &count);
    w->acting = NULL;
    if (e != NULL && run.fault == 0)
        mail_fail("an act fails: %s", e->text);
    log_info("sim", "act %d on %s: %llu touched%s%s", (int)what, to < LETTERS ? id : "all",
             (unsigned long long)count, e != NULL ? ": " : "", e != NULL ? e->text : "");
    for (uint64_t n = 0; n < w->m->count; n++) {
        /* Of one that came meanwhile and was not touched it stays open. */
        if (n < known ? to == LETTERS || to == n : a->told[n])
            close_up(&w->m->letters[n], &before[n], a->told[n], e == NULL, what);
    }
    mem_free(before);
    mem_free(a);
}

static void step(struct mail *w)
{
    static const enum queue_act acts[] = {QUEUE_ACT_REMOVE,  QUEUE_ACT_HOLD,    QUEUE_ACT_HOLD,
                                          QUEUE_ACT_RELEASE, QUEUE_ACT_RELEASE, QUEUE_ACT_REQUEUE,
                                          QUEUE_ACT_EXPIRE};
    enum queue_act what = acts[sim_below(sizeof acts / sizeof *acts)];
    uint64_t n = sim_below(w->m->count + 1), dice = sim_below(20);
    bool found = false;
    if (dice < 9 && n < w->m->count && w->m->letters[n].acked)
        act(w, what, n, QUEUE_ANY);
    else if (dice == 9 && what != QUEUE_ACT_REMOVE)
        act(w, what, LETTERS, QUEUE_DEFERRED);
    else if (dice == 10)
        act(w, QUEUE_ACT_RELEASE, LETTERS, QUEUE_HOLD);
    else if (dice == 11 && queue_flush(w->q, STR(""), STR(""), &found) != NULL)
        CHECK(run.fault != 0);
    else if (dice < 15)
        sync_all(w);
    rest(sim_chance(30) ? 2500 : 200);
}

static void producer(void *arg)
{
    struct mail *w = arg;
    for (uint64_t left = 2 + sim_below(5); left > 0; left--) {
        uint64_t n = letter_new(w, false);
        if (n < LETTERS)
            (void)send(w, n, sim_chance(8));
        if (sim_chance(60))
            rest(700);
    }
    if (--w->producing == 0)
        event_set(&w->produced);
}

static void session(struct mail *w, unsigned steps)
{
    event_init(&w->produced);
    w->producing = PRODUCERS;
    for (int i = 0; i < PRODUCERS; i++)
        CHECK(fiber_spawn("producer", producer, w) != NULL);
    while (steps-- > 0)
        step(w);
    struct err *e = event_wait(&w->produced, DEADLINE_NEVER);
    CHECK(e == NULL);
    rest(3000);
}

static void workload(void *arg)
{
    struct mail *w = arg;
    for (uint64_t lives = 2 + sim_below(2); lives > 0; lives--) {
        struct err *e = NULL;
        open_queue(w, &e);
        if (e != NULL) {
            if (run.fault == 0)
                mail_fail("start: %s", e->text);
            continue;
        }
        session(w, 4 + (unsigned)sim_below(8));
        (void)close_queue(w);
    }
}

/* --- after the cut */

static long only_point = -1;

struct after_cut {
    struct mail_model *model;
};

static void check_store(void *arg)
{
    const struct after_cut *c = arg;
    struct store *s = NULL;
    struct store_options o = {.directory = QUEUE_DIR,
                              .segment_bytes = SEGMENT,
                              .inline_limit_bytes = INLINE_MAX,
                              .replay_at_once_bytes = run.seed % 3 == 0 ? 1 : 0};
    struct err *e = store_open(&o, &s);
    if (e != NULL)
        mail_fail("start after the cut: %s", e->text);
    mail_check(c->model, s);
    e = store_close(s);
    if (e != NULL)
        mail_fail("stop after the cut: %s", e->text);
}

/* What is left but for held mail; 0: all has arrived. */
static uint64_t letters_left(struct mail *w)
{
    struct arena *a = arena_new(0, 0);
    struct store_row *rows = NULL;
    uint64_t after = 0, left = 0;
    size_t n = 1;
    struct err *e = NULL;
    while (e == NULL && n > 0) {
        e = store_list(w->q->store, after, 16, a, &rows, &n);
        for (size_t i = 0; e == NULL && i < n; i++) {
            after = rows[i].seq;
            left += !(rows[i].flags & MESSAGE_HOLD);
        }
    }
    if (e != NULL)
        mail_fail("listing: %s", e->text);
    arena_free(a);
    return left;
}

/* The whole queue starts again, and the network takes everything. */
static void run_calm(void *arg)
{
    struct after_cut *c = arg;
    struct mail w = {.m = c->model, .calm = true, .after_cut = true};
    struct err *e = NULL;
    int tries = 0;
    open_queue(&w, &e);
    if (e != NULL)
        mail_fail("start after the cut: %s", e->text);
    do {
        (void)fiber_sleep_until(clock_in_s(5));
        if (++tries > CALM_TRIES)
            mail_fail("%llu letters never leave", (unsigned long long)letters_left(&w));
    } while (letters_left(&w) > 0);
    sync_all(&w);
    (void)close_queue(&w);
}

static void run_on(struct disk *d, int64_t at_ns, const struct mail_model *m)
{
    struct after_cut c = {.model = mem_alloc(sizeof *m)};
    memcpy(c.model, m, sizeof *m);
    struct disk *copy = disk_copy(d);
    disk_use(copy);
    in_world(at_ns, check_store, &c);
    disk_use(d);
    disk_free(copy);
    run.phase = "running on";
    in_world(at_ns, run_calm, &c);
    run.phase = "start after running on";
    in_world(clock_mono_ns(), check_store, &c);
    mem_free(c.model);
}

static void recover_twice(int64_t at_ns, struct mail_model *m)
{
    size_t before = point_count;
    struct after_cut c = {.model = m};
    model_now = m;
    collecting = true;
    in_world(at_ns, check_store, &c);
    collecting = false;
    if (point_count > before) {
        size_t at = before + (size_t)sim_below(point_count - before);
        struct disk *again = disk_crash(points[at].disk), *first = disk_current();
        run.phase = "second recovery";
        disk_use(again);
        in_world(points[at].at_ns, check_store, &c);
        disk_use(first);
        disk_free(again);
    }
    points_drop(before);
}

static void show_folder(const char *path)
{
    char name[SIM_NAME_MAX], full[200];
    struct disk_stat st = {0};
    int fd = disk_open(-1, path, 0);
    for (size_t at = 0; fd >= 0 && disk_name(fd, at, name); at++) {
        snprintf(full, sizeof full, "%s/%s", path, name);
        if (disk_stat(-1, full, &st) == 0)
            fprintf(stderr, "after the cut: %s %llu\n", full, (unsigned long long)st.size);
        if (st.is_dir)
            show_folder(full);
    }
    (void)disk_close(fd);
}

static void cut_at(size_t i)
{
    struct after_cut c = {.model = points[i].model};
    run.point = (long)i;
    run.phase = "recovery";
    run.complaint[0] = '\0';
    sim_seed(run.seed * 1000003 + i);
    struct disk *d = disk_crash(points[i].disk);
    uint64_t dice = sim_below(20);
    done.points++;
    disk_use(d);
    if (run.verbose && only_point >= 0)
        show_folder(SIM_ROOT);
    if (sim_chance(8))
        (void)disk_unlink(-1, QUEUE_DIR "/index/data.mdb", false);
    if (dice < 3)
        run_on(d, points[i].at_ns, points[i].model);
    else if (dice < 5)
        recover_twice(points[i].at_ns, points[i].model);
    else
        in_world(points[i].at_ns, check_store, &c);
    if (run.complaint[0] != '\0')
        mail_fail("the index does not fit: %s", run.complaint);
    disk_use(NULL);
    disk_free(d);
    run.point = -1;
}

/* --- one seed */

static uint64_t only_change, only_read;
static bool every_fault;

static void cut_everywhere(bool hit)
{
    size_t n = point_count;
    if (only_point >= 0) {
        if ((size_t)only_point < n)
            cut_at((size_t)only_point);
    } else if (run.fault == 0) {
        for (size_t i = 0; i < n; i++)
            cut_at(i);
    } else if (hit) {
        for (int i = 0; i < FAULT_POINTS; i++) {
            sim_seed(run.seed * 7919 + run.fault * 31 + (uint64_t)i);
            cut_at(i == 0 ? n - 1 : (size_t)sim_below(n));
        }
    }
}

/* It is the installation's, and there for good. */
static void make_queue_directory(void)
{
    int rc = disk_mkdir(QUEUE_DIR);
    int fd = disk_open(-1, SIM_ROOT, 0);
    CHECK(rc == 0 && fd >= 0);
    rc = disk_fsync(fd);
    CHECK(rc == 0);
    (void)disk_close(fd);
}

static void run_workload(enum fault_at kind, uint64_t fault, int number, unsigned times)
{
    struct disk *d = disk_new();
    struct mail *w = MEM_NEW(struct mail);
    run.phase = "workload";
    run.fault = fault;
    run.kind = kind;
    run.complaint[0] = '\0';
    sim_world_begin(run.seed);
    disk_use(d);
    sim_fault(FAULT_NONE, 0, 0, 0);
    make_queue_directory();
    sim_fault(fault != 0 ? kind : FAULT_NONE, fault, number, times);
    model_now = w->m = MEM_NEW(struct mail_model);
    collecting = true;
    in_world(NS_PER_S, workload, w);
    bool hit = fault != 0 && sim_fault_hit();
    sim_fault(FAULT_NONE, 0, 0, 0);
    point_reached(); /* the end is a point too */
    collecting = false;
    if (run.complaint[0] != '\0' && fault == 0)
        mail_fail("the index does not fit: %s", run.complaint);
    cut_everywhere(hit);
    points_drop(0);
    disk_use(NULL);
    disk_free(d);
    mem_free(w->m);
    mem_free(w);
    run.fault = 0;
}

static void run_fault(enum fault_at kind, uint64_t n)
{
    static const int numbers[] = {EIO, ENOSPC, EROFS};
    run_workload(kind, n, kind == FAULT_READ ? EIO : numbers[(run.seed + n) % 3],
                 (run.seed + n) % 4 != 0 ? 1 : kind == FAULT_READ ? 2 : 25);
    done.faults++;
}

static void one_seed(void)
{
    if (only_change != 0 || only_read != 0) {
        run_fault(only_change != 0 ? FAULT_CHANGE : FAULT_READ,
                  only_change != 0 ? only_change : only_read);
        return;
    }
    run_workload(FAULT_NONE, 0, 0, 0);
    if (only_point >= 0)
        return;
    /* One fault a seed, or every one. */
    sim_seed(run.seed ^ 0x5eed);
    uint64_t n = every_fault ? 1 : 1 + sim_below(250), last = every_fault ? FAULTS_MAX : n;
    for (; n <= last; n++)
        run_fault((run.seed + n) % 5 == 0 ? FAULT_READ : FAULT_CHANGE, n);
    done.seeds++;
}

struct range {
    uint64_t from, to;
    int64_t minutes;
};

static int64_t real_s(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static void all_seeds(const struct range *r)
{
    int64_t began = real_s(), told = began;
    for (run.seed = r->from; r->minutes > 0 || run.seed <= r->to; run.seed++) {
        one_seed();
        int64_t now = real_s();
        if (isatty(STDERR_FILENO) && now != told) {
            told = now;
            fprintf(stderr, "\r%llu seeds, %llu power cuts, %llu faults ",
                    (unsigned long long)done.seeds, (unsigned long long)done.points,
                    (unsigned long long)done.faults);
        }
        if (r->minutes > 0 && now - began >= r->minutes * 60)
            break;
    }
}

static const char help[] =
    "usage: sim.mail [options]\n"
    "  --seeds A-B     run these (default 1-20)\n"
    "  --seed N        run one\n"
    "  --point K       cut the power at this point only\n"
    "  --change N      in this run the N-th change of the disk fails; --read N: the N-th read\n"
    "  --faults        every operation in turn fails, not one a seed\n"
    "  --minutes M     go on from A for so long\n"
    "  --must-fail     succeed only if some seed fails (for mutated queues)\n"
    "  --verbose       show what the queue logs\n";

static uint64_t number(const char *text, char **end)
{
    return strtoull(text, end, 10);
}

static void parse(int argc, char **argv, struct range *r, bool *must_fail)
{
    static const struct option options[] = {
        {"seeds", 1, NULL, 's'}, {"seed", 1, NULL, 's'},    {"point", 1, NULL, 'p'},
        {"change", 1, NULL, 'c'}, {"read", 1, NULL, 'r'},   {"minutes", 1, NULL, 'm'},
        {"verbose", 0, NULL, 'v'}, {"must-fail", 0, NULL, 'x'},
        {"faults", 0, NULL, 'f'}, {"help", 0, NULL, 'h'}, {0}};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        char *end = optarg;
        if (option == 's') {
            r->from = r->to = number(optarg, &end);
            if (*end == '-')
                r->to = number(end + 1, &end);
        } else if (option == 'p') {
            only_point = (long)number(optarg, &end);
        } else if (option == 'c') {
            only_change = number(optarg, &end);
        } else if (option == 'r') {
            only_read = number(optarg, &end);
        } else if (option == 'm') {
            r->minutes = (int64_t)number(optarg, &end);
        } else if (option == 'f') {
            every_fault = true;
        } else if (option == 'x') {
            *must_fail = true;
        } else if (option == 'v') {
            run.verbose = true;
        } else {
            fputs(help, option == 'h' ? stdout : stderr);
            exit(option == 'h' ? 0 : 2);
        }
        if (end != NULL && *end != '\0') {
            fprintf(stderr, "sim.mail: not a number: %s\n", optarg);
            exit(2);
        }
    }
}

static int drive(const struct range *r)
{
    signal(SIGABRT, on_abort);
    sim_point_hook(point_reached);
    all_seeds(r);
    printf("%llu seeds, %llu letters, %llu deliveries, %llu power cuts, %llu runs with a fault: "
           "nothing acknowledged was lost\n",
           (unsigned long long)done.seeds, (unsigned long long)done.letters,
           (unsigned long long)done.deliveries, (unsigned long long)done.points,
           (unsigned long long)done.faults);
    return 0;
}

int main(int argc, char **argv)
{
    struct range r = {.from = 1, .to = 20};
    bool must_fail = false;
    int status = 0;
    parse(argc, argv, &r, &must_fail);
    if (!must_fail)
        return drive(&r);
    pid_t child = fork();
    if (child == 0)
        exit(drive(&r));
    if (child < 0 || waitpid(child, &status, 0) != child)
        return 2;
    bool failed = WIFEXITED(status) && WEXITSTATUS(status) == 1;
    printf(failed ? "the mutation was caught\n" : "THE MUTATION WAS NOT CAUGHT\n");
    return failed ? 0 : 1;
}
