/* The crash driver: the store works on a disk that forgets. One seed is one run of a small workload
 * (accept, deliver, defer, hold, release, delete, compact, recycle, stop and start); then the power
 * is cut at every point of it, recovery runs on what is left, and what it finds is held against the
 * model. In fault runs every operation in turn is answered by an error. See README.md. */
#include <fcntl.h>
#include <getopt.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "dice.h"
#include "disk_sim.h"
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/fiber/wait.h"
#include "model.h"
#include "queue/store/segment.h"
#include "ring_sim.h"

#define QUEUE_DIR SIM_ROOT "/queue"

enum {
    SEGMENT = 32 << 10,
    INLINE_MAX = 6 << 10,
    PRODUCERS = 3,
    POINTS_MAX = 4096,
    WORLD_S = 3600,
    STAYING = 4, /* messages of a streaming seed */
    FAULT_POINTS = 6, /* cuts tried of a fault run */
};

struct point {
    struct disk *disk;
    int64_t at_ns;
    struct model *model;
};

static struct {
    uint64_t seed;
    long point;         /* of a crash; -1: in the workload */
    uint64_t fault;     /* the operation that fails; 0 = none */
    enum fault_at kind; /* of it */
    bool verbose, exhaustive;
    const char *phase, *index;
} run = {.point = -1, .index = ""};

static struct {
    uint64_t seeds, points, faults;
} done;

/* --- telling */

static void say_where(void)
{
    fprintf(stderr, "sim: %s%s: seed %llu", run.phase, run.index, (unsigned long long)run.seed);
    if (run.fault != 0)
        fprintf(stderr, ", %s %llu fails", run.kind == FAULT_READ ? "read" : "change",
                (unsigned long long)run.fault);
    if (run.point >= 0)
        fprintf(stderr, ", power cut at point %ld", run.point);
    fprintf(stderr, "\nsim: repeat it with: sim.queue --seed %llu", (unsigned long long)run.seed);
    if (run.fault != 0)
        fprintf(stderr, " --%s %llu", run.kind == FAULT_READ ? "read" : "change",
                (unsigned long long)run.fault);
    if (run.point >= 0)
        fprintf(stderr, " --point %ld", run.point);
    fprintf(stderr, " --verbose\n");
}

void model_fail(const char *fmt, ...)
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

void __wrap_log_at(enum log_level level, const char *service, const char *fmt, ...) PRINTF(3, 4);
void __wrap_log_at(enum log_level level, const char *service, const char *fmt, ...)
{
    va_list list;
    if (!run.verbose)
        return;
    va_start(list, fmt);
    fprintf(stderr, "%12.6f %d %s: ", (double)clock_mono_ns() / 1e9, (int)level, service);
    vfprintf(stderr, fmt, list);
    fputc('\n', stderr);
    va_end(list);
}

/* --- points */

static struct point points[POINTS_MAX];
static size_t point_count;
static struct model *model_now;
static bool collecting;

static void point_reached(void)
{
    if (!collecting || point_count == POINTS_MAX)
        return;
    struct point *p = &points[point_count++];
    p->disk = disk_copy(disk_current());
    p->at_ns = clock_mono_ns();
    p->model = malloc(sizeof *p->model);
    memcpy(p->model, model_now, sizeof *p->model);
}

/* Each run has a worker of its own, and so a clock that begins where it is told. */
static void in_world(int64_t at_ns, void (*fn)(void *arg), void *arg)
{
    static const struct worker_options options = {.name = "sim", .cpu = -1};
    sim_clock_set(at_ns);
    sim_deadline(WORLD_S);
    struct err *e = worker_run_here(&options, fn, arg);
    CHECK(e == NULL);
}

static void points_free(void)
{
    while (point_count > 0) {
        struct point *p = &points[--point_count];
        disk_free(p->disk);
        free(p->model);
    }
}

/* --- the workload */

struct world {
    struct store *store;
    struct model *model;
    struct qmsg *live[MESSAGES]; /* by number; one reference each */
    unsigned producing;
    struct event produced;
};

static struct store_options options_of_seed(void)
{
    return (struct store_options){.directory = QUEUE_DIR,
                                  .segment_bytes = SEGMENT,
                                  .inline_limit_bytes = INLINE_MAX,
                                  .index_delay_ms = 20,
                                  .mark_delay_ms = 5,
                                  .replay_at_once_bytes = run.seed % 3 == 0 ? 1 : 0};
}

static void rest(int64_t most_ms)
{
    struct err *e = fiber_sleep_until(
        clock_mono_ns() + (int64_t)sim_below((uint64_t)most_ms * (uint64_t)NS_PER_MS + 1));
    CHECK(e == NULL);
}

/* Every fourth seed is a long stream of mail past a few messages that stay: what lives in the oldest
 * segment has to be copied. */
static bool streaming(void)
{
    return run.seed % 4 == 1;
}

static size_t some_size(void)
{
    if (streaming())
        return 2500 + (size_t)sim_below(INLINE_MAX - 2500);
    uint64_t kind = sim_below(10);
    return kind < 7   ? 100 + (size_t)sim_below(2500)
           : kind < 9 ? 2500 + (size_t)sim_below(INLINE_MAX - 2500)
                      : INLINE_MAX + 1 + (size_t)sim_below(9000);
}

static struct err *send(struct world *w, uint64_t n, struct qmsg **out)
{
    struct model_message *m = &w->model->messages[n];
    struct arena *a = arena_new(0, 0);
    struct buf b = {0};
    struct draft *d = NULL;
    struct envelope *env = model_envelope(a, n);
    model_content(&b, n, m->size);
    if (m->versions[0].flags & MESSAGE_HOLD)
        env->flags |= ENV_HOLD;
    struct err *e = store_begin(w->store, NULL, &d);
    for (size_t at = 0; e == NULL && at < b.len; at += 3000) {
        e = draft_write(d, str_head(str_from(buf_str(&b), at), 3000));
        if (e != NULL)
            queue_abort(d);
    }
    if (e == NULL)
        e = store_commit(d, env, out);
    buf_fini(&b);
    arena_free(a);
    return e;
}

static void produce_one(struct world *w)
{
    if (w->model->count == MESSAGES)
        return;
    uint64_t n = w->model->count++;
    struct model_message *m = &w->model->messages[n];
    *m = (struct model_message){.begun = true, .size = some_size()};
    model_act(m, &(struct version){.flags = sim_chance(8) ? MESSAGE_HOLD : 0});
    struct err *e = send(w, n, &w->live[n]);
    if (e == NULL && run.verbose && w->live[n] != NULL)
        fprintf(stderr, "sim: message %llu is %llx in %llu at %u\n", (unsigned long long)n,
                (unsigned long long)w->live[n]->seq, (unsigned long long)w->live[n]->place.epoch,
                w->live[n]->place.at);
    if (e == NULL)
        m->acked = true;
    else if (run.fault == 0)
        model_fail("message %llu is refused: %s", (unsigned long long)n, e->text);
}

static void producer(void *arg)
{
    struct world *w = arg;
    for (uint64_t left = (streaming() ? 6 : 2) + sim_below(6); left > 0; left--) {
        produce_one(w);
        if (sim_chance(40))
            rest(8);
    }
    if (--w->producing == 0)
        event_set(&w->produced);
}

static struct version last_version(const struct model_message *m)
{
    return m->versions[m->count - 1];
}

static void mark(struct world *w, uint64_t n, struct version v, int rcpt)
{
    struct mark_rcpt r = {.index = (uint32_t)rcpt,
                          .why = {.status = "4.4.1",
                                  .text = STR("connection refused"),
                                  .mta = STR("mx"),
                                  .diagnostic = STR("")}};
    struct mark k = {.flags = v.flags, .due_us = v.due_us};
    if (rcpt >= 0) {
        r.state = v.states[rcpt];
        k.rcpts = &r;
        k.rcpt_count = 1;
    }
    model_act(&w->model->messages[n], &v);
    store_mark(w->live[n], &k);
}

static void finish(struct world *w, uint64_t n)
{
    struct version v = last_version(&w->model->messages[n]);
    v.removed = true;
    model_act(&w->model->messages[n], &v);
    store_remove(w->live[n]);
    qmsg_unref(w->live[n]);
    w->live[n] = NULL;
}

static void act_on(struct world *w, uint64_t n)
{
    struct model_message *m = &w->model->messages[n];
    struct version v = last_version(m);
    uint64_t what = sim_below(10);
    if (m->count >= VERSIONS - 2 || (streaming() ? n >= STAYING : what < 5)) {
        finish(w, n);
    } else if (what < 9) {
        int rcpt = (int)sim_below(RCPTS);
        v.states[rcpt] = sim_chance(50) ? RCPT_DEFERRED : RCPT_DONE;
        v.due_us = clock_wall_us() + (int64_t)sim_below(1000000);
        mark(w, n, v, rcpt);
    } else {
        v.flags ^= MESSAGE_HOLD;
        mark(w, n, v, -1);
    }
}

/* From the index, as a queue run has it: memory forgets what waits. */
static void forget_and_get(struct world *w, uint64_t n)
{
    struct qmsg *again = NULL;
    uint64_t seq = w->live[n]->seq;
    struct err *e = store_get(w->store, seq, &again);
    if (e != NULL)
        return;
    if (again == NULL)
        model_fail("message %llu is alive and cannot be found", (unsigned long long)n);
    qmsg_unref(w->live[n]);
    w->live[n] = again;
}

static void sync_all(struct world *w)
{
    unsigned counts[MESSAGES];
    for (uint64_t n = 0; n < w->model->count; n++)
        counts[n] = w->model->messages[n].count;
    uint64_t known = w->model->count;
    struct err *e = store_sync(w->store);
    for (uint64_t n = 0; e == NULL && n < known; n++) {
        struct model_message *m = &w->model->messages[n];
        if (m->acked && counts[n] > m->safe)
            m->safe = counts[n] - 1;
    }
}

static void step(struct world *w)
{
    for (int tries = streaming() ? 12 : 3; tries > 0; tries--) {
        uint64_t n = sim_below(w->model->count + 1);
        if (n < w->model->count && w->live[n] != NULL && w->model->messages[n].acked) {
            if (sim_chance(15))
                forget_and_get(w, n);
            else
                act_on(w, n);
        }
    }
    if (sim_chance(15))
        sync_all(w);
    rest(sim_chance(20) ? 60 : 6);
}

static struct err *open_store(struct world *w)
{
    struct store_options o = options_of_seed();
    disk_new_process();
    return store_open(&o, &w->store);
}

static void let_go(struct world *w)
{
    for (uint64_t n = 0; n < MESSAGES; n++) {
        qmsg_unref(w->live[n]);
        w->live[n] = NULL;
    }
}

/* A clean stop makes every act safe. */
static bool close_store(struct world *w)
{
    unsigned counts[MESSAGES];
    let_go(w);
    for (uint64_t n = 0; n < w->model->count; n++)
        counts[n] = w->model->messages[n].count;
    struct err *e = store_close(w->store);
    for (uint64_t n = 0; e == NULL && n < w->model->count; n++) {
        if (w->model->messages[n].acked)
            w->model->messages[n].safe = counts[n] - 1;
    }
    w->store = NULL;
    return e == NULL;
}

/* After a start: references by number again. */
static void pick_up(struct world *w)
{
    struct arena *a = arena_new(0, 0);
    struct store_row *rows = NULL;
    uint64_t after = 0;
    size_t n = 1;
    struct err *e = store_wait_ready(w->store);
    while (e == NULL && n > 0) {
        e = store_list(w->store, after, 16, a, &rows, &n);
        for (size_t i = 0; e == NULL && i < n; i++) {
            after = rows[i].seq;
            uint64_t number = rows[i].env->data_size;
            if (number < MESSAGES && w->live[number] == NULL && w->model->messages[number].acked)
                e = store_get(w->store, after, &w->live[number]);
        }
    }
    arena_free(a);
}

static void session(struct world *w, unsigned steps)
{
    event_init(&w->produced);
    w->producing = PRODUCERS;
    for (int i = 0; i < PRODUCERS; i++)
        (void)fiber_spawn("producer", producer, w);
    while (steps-- > 0)
        step(w);
    struct err *e = event_wait(&w->produced, DEADLINE_NEVER);
    CHECK(e == NULL);
    if (sim_chance(50))
        sync_all(w);
    rest(60);
}

/* Two or three lives of one queue. */
static void workload(void *arg)
{
    struct world *w = arg;
    for (uint64_t lives = 2 + sim_below(2); lives > 0; lives--) {
        struct err *e = open_store(w);
        if (e != NULL) {
            if (run.fault == 0)
                model_fail("start: %s", e->text);
            continue;
        }
        pick_up(w);
        session(w, 6 + (unsigned)sim_below(12));
        (void)close_store(w);
    }
}

/* --- after the cut */

/* The index is only a convenience: it may be gone, or older than the log. */
static void spoil_index(struct disk *d, const struct point *older)
{
    uint64_t dice = sim_below(10);
    disk_use(d);
    run.index = "";
    if (dice == 0 && disk_unlink(-1, QUEUE_DIR "/index/data.mdb", false) == 0)
        run.index = " without index";
    if (dice != 1 || older == NULL)
        return;
    disk_use(older->disk);
    struct kv_image *old = disk_kv(QUEUE_DIR "/index/data.mdb");
    disk_use(d);
    struct disk_stat st;
    if (old != NULL && disk_stat(-1, QUEUE_DIR "/index/data.mdb", &st) == 0)
        disk_kv_set(QUEUE_DIR "/index/data.mdb", kv_image_ref(old));
    run.index = " with an older index";
}

static void recovery(void *arg)
{
    const struct model *m = arg;
    struct store *s = NULL;
    struct store_options o = options_of_seed();
    struct err *e = store_open(&o, &s);
    if (e != NULL)
        model_fail("start after the cut: %s", e->text);
    model_check(m, s);
    e = store_close(s);
    if (e != NULL)
        model_fail("stop after the cut: %s", e->text);
}

static void show_records(int fd, const struct segment_header *h)
{
    static char bytes[SEGMENT];
    struct segment_scan scan;
    struct scan_item item;
    ssize_t n = disk_read(fd, bytes, sizeof bytes, 0);
    if (n <= BLOCK)
        return;
    segment_scan_init(&scan, str_make(bytes + BLOCK, (size_t)n - BLOCK), BLOCK, h->epoch, h->secret);
    while (segment_scan_next(&scan, &item)) {
        if (item.kind == SCAN_GAP)
            fprintf(stderr, "    %6u gap of %zu\n", item.at, item.bytes.len);
        else
            fprintf(stderr, "    %6u %s of %llx\n", item.at,
                    item.head.type == RECORD_MESSAGE ? "MESSAGE"
                    : item.head.type == RECORD_MARK  ? "MARK"
                                                     : "REMOVE",
                    (unsigned long long)item.head.seq);
    }
}

/* What recovery finds. */
static void show_log(void)
{
    char name[SIM_NAME_MAX], path[128];
    int dir = disk_open(-1, QUEUE_DIR "/log", O_RDONLY);
    for (size_t i = 0; dir >= 0 && disk_name(dir, i, name); i++) {
        static uint8_t block[2 * BLOCK];
        struct segment_header h = {0};
        snprintf(path, sizeof path, QUEUE_DIR "/log/%s", name);
        int fd = disk_open(-1, path, O_RDONLY);
        if (fd < 0)
            continue;
        (void)disk_read(fd, block, sizeof block, 0);
        bool good = segment_header_get(block, &h);
        fprintf(stderr, "sim: %s: header %s, epoch %llu, log began with %llu, %s\n", name,
                good ? "good" : "bad", (unsigned long long)h.epoch, (unsigned long long)h.first,
                get_u64(block + BLOCK + 8) == h.epoch ? "written to" : "not written to");
        show_records(fd, &h);
        (void)disk_close(fd);
    }
    if (dir >= 0)
        (void)disk_close(dir);
}

static void recover_and_check(struct disk *d, int64_t at_ns, struct model *m)
{
    disk_use(d);
    if (run.verbose)
        show_log();
    in_world(at_ns, recovery, m);
}

/* Recovery is cut too, at one of its points, and then runs to its end. */
static void recover_twice(struct disk *d, int64_t at_ns, struct model *m)
{
    size_t before = point_count;
    model_now = m;
    collecting = true;
    recover_and_check(d, at_ns, m);
    collecting = false;
    if (point_count > before) {
        size_t at = before + (size_t)sim_below(point_count - before);
        struct disk *again = disk_crash(points[at].disk);
        run.phase = "second recovery";
        recover_and_check(again, points[at].at_ns, m);
        disk_use(NULL);
        disk_free(again);
    }
    while (point_count > before) {
        disk_free(points[--point_count].disk);
        free(points[point_count].model);
    }
}

static void cut_at(size_t i)
{
    run.point = (long)i;
    run.phase = "recovery";
    sim_seed(run.seed * 1000003 + i);
    struct disk *d = disk_crash(points[i].disk);
    spoil_index(d, i > 0 ? &points[sim_below(i)] : NULL);
    done.points++;
    if (sim_chance(10))
        recover_twice(d, points[i].at_ns, points[i].model);
    else
        recover_and_check(d, points[i].at_ns, points[i].model);
    disk_use(NULL);
    disk_free(d);
    run.point = -1;
}

/* --- one seed */

static long only_point = -1;

/* The folder that queue_directory names is there and safe. */
static struct disk *disk_with_folder(void)
{
    struct disk *d = disk_new();
    disk_use(d);
    int rc = disk_mkdir(QUEUE_DIR);
    int fd = disk_open(-1, SIM_ROOT, O_RDONLY | O_DIRECTORY);
    CHECK(rc == 0 && fd >= 0 && disk_fsync(fd) == 0);
    (void)disk_close(fd);
    return d;
}

static void run_workload(enum fault_at kind, uint64_t fault, int number, unsigned times)
{
    struct disk *d = disk_with_folder();
    struct world *w = MEM_NEW(struct world);
    run.phase = "workload";
    run.index = "";
    run.fault = fault;
    run.kind = kind;
    sim_world_begin(run.seed);
    sim_fault(fault != 0 ? kind : FAULT_NONE, fault, number, times);
    model_now = w->model = MEM_NEW(struct model);
    collecting = true;
    in_world(NS_PER_S, workload, w);
    collecting = false;
    bool hit = fault == 0 || sim_fault_hit();
    uint64_t changes = sim_ops(FAULT_CHANGE), reads = sim_ops(FAULT_READ);
    sim_fault(FAULT_NONE, 0, 0, 0);
    point_reached();
    collecting = true;
    point_reached(); /* the end is a point too */
    collecting = false;
    size_t n = point_count;
    if (only_point >= 0) {
        if ((size_t)only_point < n)
            cut_at((size_t)only_point);
    } else if (fault == 0) {
        for (size_t i = 0; i < n; i++)
            cut_at(i);
    } else if (hit) {
        for (int i = 0; i < FAULT_POINTS; i++) {
            sim_seed(run.seed * 7919 + fault * 31 + (uint64_t)i);
            cut_at(i == 0 ? n - 1 : (size_t)sim_below(n));
        }
    }
    run.point = -1;
    points_free();
    disk_use(NULL);
    disk_free(d);
    mem_free(w->model);
    mem_free(w);
    run.fault = 0;
    sim_fault(FAULT_NONE, hit ? changes : 0, 0, (unsigned)reads);
}

static uint64_t only_change, only_read;

/* A disk that cannot be read for longer is a damaged one. */
static unsigned fault_times(enum fault_at kind, uint64_t dice)
{
    return dice % 4 != 0 ? 1 : kind == FAULT_READ ? 2 : 25;
}

static void one_seed(void)
{
    static const int numbers[] = {EIO, ENOSPC, EROFS};
    uint64_t s = run.seed;
    if (only_change != 0 || only_read != 0) {
        enum fault_at kind = only_change != 0 ? FAULT_CHANGE : FAULT_READ;
        uint64_t n = only_change != 0 ? only_change : only_read;
        run_workload(kind, n, kind == FAULT_READ ? EIO : numbers[(s + n) % 3],
                     fault_times(kind, s + n));
        return;
    }
    run_workload(FAULT_NONE, 0, 0, 0);
    if (only_point < 0) {
        /* One fault a seed, or every one. */
        sim_seed(s ^ 0x5eed);
        for (uint64_t n = run.exhaustive ? 1 : 1 + sim_below(250);; n++) {
            enum fault_at kind = (s + n) % 5 == 0 ? FAULT_READ : FAULT_CHANGE;
            run_workload(kind, n, kind == FAULT_READ ? EIO : numbers[(s + n) % 3],
                         fault_times(kind, s + n));
            done.faults++;
            if (!run.exhaustive || n > 600)
                break;
        }
    }
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
    "usage: sim.queue [options]\n"
    "  --seeds A-B     run these (default 1-50)\n"
    "  --seed N        run one\n"
    "  --point K       cut the power at this point only\n"
    "  --change N      in this run the N-th change of the disk fails; --read N: the N-th read\n"
    "  --faults        every operation in turn fails, not one a seed\n"
    "  --minutes M     go on from A for so long\n"
    "  --must-fail     succeed only if some seed fails (for mutated stores)\n"
    "  --verbose       show what the store logs\n";

static void parse(int argc, char **argv, struct range *r, bool *must_fail)
{
    static const struct option options[] = {
        {"seeds", 1, NULL, 's'},   {"seed", 1, NULL, 'n'},    {"point", 1, NULL, 'p'},
        {"change", 1, NULL, 'c'},  {"read", 1, NULL, 'r'},    {"faults", 0, NULL, 'f'},
        {"minutes", 1, NULL, 'm'}, {"must-fail", 0, NULL, 'x'}, {"verbose", 0, NULL, 'v'},
        {"help", 0, NULL, 'h'},    {0}};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        char *end = optarg;
        switch (option) {
        case 's':
            r->from = r->to = strtoull(optarg, &end, 10);
            if (*end == '-')
                r->to = strtoull(end + 1, &end, 10);
            break;
        case 'n':
            r->from = r->to = strtoull(optarg, &end, 10);
            break;
        case 'p':
            only_point = strtol(optarg, &end, 10);
            break;
        case 'c':
            only_change = strtoull(optarg, &end, 10);
            break;
        case 'r':
            only_read = strtoull(optarg, &end, 10);
            break;
        case 'm':
            r->minutes = strtol(optarg, &end, 10);
            break;
        case 'f':
            run.exhaustive = true;
            break;
        case 'x':
            *must_fail = true;
            break;
        case 'v':
            run.verbose = true;
            break;
        default:
            fputs(help, option == 'h' ? stdout : stderr);
            exit(option == 'h' ? 0 : 2);
        }
        if (end != NULL && *end != '\0') {
            fprintf(stderr, "sim.queue: not a number: %s\n", optarg);
            exit(2);
        }
    }
}

static int drive(struct range *r)
{
    signal(SIGABRT, on_abort);
    sim_world_begin(r->from);
    sim_point_hook(point_reached);
    all_seeds(r);
    printf("%llu seeds, %llu power cuts, %llu runs with a fault: nothing acknowledged was lost\n",
           (unsigned long long)done.seeds, (unsigned long long)done.points,
           (unsigned long long)done.faults);
    return 0;
}

int main(int argc, char **argv)
{
    struct range r = {.from = 1, .to = 50};
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
