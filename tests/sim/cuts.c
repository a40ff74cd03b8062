#include "cuts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/mem.h"
#include "io/fiber/worker.h"
#include "ring_sim.h"
#include "show.h"

enum {
    POINTS_MAX = 4096,
    FAULTS_MAX = 600,
    FAULT_POINTS = 6, /* cuts tried of a fault run */
};

struct point {
    struct disk *disk;
    int64_t at_ns;
    void *model;
};

static struct {
    uint64_t seeds, points, faults;
} done;

static const struct cut_test *test;

/* --- points */

static struct point points[POINTS_MAX];
static size_t point_count;
static const void *model_now;
static bool collecting;

static void point_reached(void)
{
    if (!collecting || point_count == POINTS_MAX)
        return;
    struct point *p = &points[point_count++];
    p->disk = disk_copy(disk_current());
    p->at_ns = clock_mono_ns();
    p->model = malloc(test->model_bytes);
    memcpy(p->model, model_now, test->model_bytes);
}

static void collect(const void *model)
{
    model_now = model;
    collecting = true;
}

static void points_drop(size_t down_to)
{
    while (point_count > down_to) {
        struct point *p = &points[--point_count];
        disk_free(p->disk);
        free(p->model);
    }
}

struct disk *cuts_disk(size_t point)
{
    return points[point].disk;
}

/* --- after the cut */

void cuts_run(int64_t at_ns, void (*fn)(void *arg), void *arg)
{
    static const struct worker_options options = {.name = "sim", .cpu = -1};
    sim_clock_set(at_ns);
    sim_deadline(test->world_s);
    disk_new_process();
    struct err *e = worker_run_here(&options, fn, arg);
    CHECK(e == NULL);
}

void cuts_recover(const struct cut *c)
{
    disk_use(c->disk);
    if (sim.verbose && sim_asked.point >= 0)
        show_disk(CUTS_QUEUE);
    cuts_run(c->at_ns, test->recovery, c->model);
}

void cuts_recover_twice(const struct cut *c)
{
    size_t before = point_count;
    collect(c->model);
    cuts_recover(c);
    collecting = false;
    if (point_count > before) {
        const struct point *p = &points[before + (size_t)sim_below(point_count - before)];
        struct cut again = {.disk = disk_crash(p->disk), .at_ns = p->at_ns, .model = c->model};
        sim.phase = "second recovery";
        cuts_recover(&again);
        disk_use(c->disk);
        disk_free(again.disk);
    }
    points_drop(before);
}

static void cut_at(size_t i)
{
    struct cut c = {.at_ns = points[i].at_ns, .model = points[i].model, .point = i};
    sim.point = (long)i;
    sim.phase = "recovery";
    sim_seed(sim.seed * 1000003 + i);
    c.disk = disk_crash(points[i].disk);
    done.points++;
    disk_use(c.disk);
    test->after_cut(&c);
    disk_use(NULL);
    disk_free(c.disk);
    sim.point = -1;
    sim.note = "";
}

/* Of a run with a fault some points do. */
static void cut_everywhere(bool hit)
{
    size_t n = point_count;
    if (sim_asked.point >= 0) {
        if ((size_t)sim_asked.point < n)
            cut_at((size_t)sim_asked.point);
    } else if (sim.fault == 0) {
        for (size_t i = 0; i < n; i++)
            cut_at(i);
    } else if (hit) {
        for (int i = 0; i < FAULT_POINTS; i++) {
            sim_seed(sim.seed * 7919 + sim.fault * 31 + (uint64_t)i);
            cut_at(i == 0 ? n - 1 : (size_t)sim_below(n));
        }
    }
}

/* --- one seed */

/* The folder that queue_directory names is the installation's: there, and safe. */
static void make_queue_folder(void)
{
    int rc = disk_mkdir(CUTS_QUEUE);
    int fd = disk_open(-1, SIM_ROOT, O_RDONLY | O_DIRECTORY);
    CHECK(rc == 0 && fd >= 0);
    rc = disk_fsync(fd);
    CHECK(rc == 0);
    (void)disk_close(fd);
}

static void run_workload(enum fault_at kind, uint64_t fault, int number, unsigned times)
{
    struct disk *d = disk_new();
    void *model = mem_zalloc(test->model_bytes);
    sim.phase = "workload";
    sim.fault = fault;
    sim.kind = kind;
    sim_world_begin(sim.seed);
    disk_use(d);
    make_queue_folder();
    sim_fault(kind, fault, number, times);
    collect(model);
    cuts_run(NS_PER_S, test->workload, model);
    bool hit = sim_fault_hit();
    sim_fault(FAULT_NONE, 0, 0, 0);
    point_reached(); /* the end is a point too */
    collecting = false;
    cut_everywhere(hit);
    points_drop(0);
    disk_use(NULL);
    disk_free(d);
    mem_free(model);
    sim.fault = 0;
}

/* A disk that cannot be read for longer is a damaged one. */
static void run_fault(enum fault_at kind, uint64_t n)
{
    static const int numbers[] = {EIO, ENOSPC, EROFS};
    uint64_t dice = sim.seed + n;
    run_workload(kind, n, kind == FAULT_READ ? EIO : numbers[dice % 3],
                 dice % 4 != 0        ? 1
                 : kind == FAULT_READ ? 2
                                      : 25);
    done.faults++;
}

static void one_seed(void)
{
    if (sim_asked.change != 0) {
        run_fault(FAULT_CHANGE, sim_asked.change);
        return;
    }
    if (sim_asked.read != 0) {
        run_fault(FAULT_READ, sim_asked.read);
        return;
    }
    run_workload(FAULT_NONE, 0, 0, 0);
    if (sim_asked.point >= 0)
        return;
    /* One fault a seed, or every one. */
    sim_seed(sim.seed ^ 0x5eed);
    uint64_t n = sim_asked.every_fault ? 1 : 1 + sim_below(250);
    for (uint64_t last = sim_asked.every_fault ? FAULTS_MAX : n; n <= last; n++)
        run_fault((sim.seed + n) % 5 == 0 ? FAULT_READ : FAULT_CHANGE, n);
    done.seeds++;
}

/* --- the program */

static void begin(void)
{
    sim_point_hook(point_reached);
}

static void progress(void)
{
    fprintf(stderr, "%llu seeds, %llu power cuts, %llu faults ", (unsigned long long)done.seeds,
            (unsigned long long)done.points, (unsigned long long)done.faults);
}

static void end(void)
{
    if (test->end != NULL)
        test->end();
    printf("%llu seeds, %llu power cuts, %llu runs with a fault: nothing acknowledged was lost\n",
           (unsigned long long)done.seeds, (unsigned long long)done.points,
           (unsigned long long)done.faults);
}

int cuts_main(const struct cut_test *t, int argc, char **argv)
{
    struct driver driver = {.name = t->name,
                            .seeds = t->seeds,
                            .cuts = true,
                            .begin = begin,
                            .one_seed = one_seed,
                            .progress = progress,
                            .end = end,
                            .logged = t->logged};
    test = t;
    return driver_main(&driver, argc, argv);
}
