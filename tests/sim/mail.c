/* The whole queue on a disk that forgets: scheduler, deliveries, bounces, operators' acts. What a
 * start finds after a cut is held against the model: every letter that was acknowledged has been
 * delivered, its sender was told, the operator removed it, or it is still there, whole. After some
 * cuts the queue runs on with a network that takes everything: then all must arrive. See cuts.h. */
#include <stdio.h>
#include "dice.h"
#include "disk_sim.h"
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/mem.h"
#include "mail_act.h"
#include "mail_system.h"
#include "work.h"

enum { PRODUCERS = 2, WORLD_S = 7200, CALM_TRIES = 60 };

/* --- an index that does not fit */

static char complaint[200];

/* What scrub.c says of an index that nobody has touched is a failure. */
static void note_complaint(const char *text)
{
    static const char *const signs[] = {"index table", "index: of", "has a row and no place",
                                        "index row"};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
        if (strstr(text, signs[i]) != NULL)
            str_copy(complaint, sizeof complaint, str_of(text));
    }
}

static void check_complaint(void)
{
    if (complaint[0] != '\0')
        sim_fail("the index does not fit: %s", complaint);
}

/* --- the workload */

static void step(struct mail *w)
{
    static const enum queue_act acts[] = {QUEUE_ACT_REMOVE,  QUEUE_ACT_HOLD,    QUEUE_ACT_HOLD,
                                          QUEUE_ACT_RELEASE, QUEUE_ACT_RELEASE, QUEUE_ACT_REQUEUE,
                                          QUEUE_ACT_EXPIRE};
    enum queue_act what = acts[sim_below(sizeof acts / sizeof *acts)];
    uint64_t n = sim_below(w->m->count + 1), dice = sim_below(20);
    bool found = false;
    if (dice < 9 && n < w->m->count && w->m->letters[n].acked)
        mail_act(w, what, n, QUEUE_ANY);
    else if (dice == 9 && what != QUEUE_ACT_REMOVE)
        mail_act(w, what, LETTERS, QUEUE_DEFERRED);
    else if (dice == 10)
        mail_act(w, QUEUE_ACT_RELEASE, LETTERS, QUEUE_HOLD);
    else if (dice == 11 && queue_flush(w->q, STR(""), STR(""), &found) != NULL)
        CHECK(sim.fault != 0);
    else if (dice < 15)
        mail_sync(w);
    work_rest(sim_chance(30) ? 2500 : 200);
}

static void producer(void *arg)
{
    struct mail *w = arg;
    for (uint64_t left = 2 + sim_below(5); left > 0; left--) {
        uint64_t n = letter_new(w, false);
        if (n < LETTERS)
            (void)letter_send(w, n, sim_chance(8));
        if (sim_chance(60))
            work_rest(700);
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
    work_rest(3000);
}

/* Two or three lives of one queue. */
static void workload(void *model)
{
    struct mail *w = MEM_NEW(struct mail);
    w->m = model;
    complaint[0] = '\0';
    for (uint64_t lives = 2 + sim_below(2); lives > 0; lives--) {
        struct err *e = mail_open(w);
        if (e != NULL) {
            if (sim.fault == 0)
                sim_fail("start: %s", e->text);
            continue;
        }
        session(w, 4 + (unsigned)sim_below(8));
        mail_close(w);
    }
    if (sim.fault == 0)
        check_complaint();
    mem_free(w);
}

/* --- after the cut */

static void recovery(void *model)
{
    struct store *s = NULL;
    struct store_options o = {.directory = CUTS_QUEUE,
                              .segment_bytes = WORK_SEGMENT,
                              .inline_limit_bytes = WORK_INLINE_MAX,
                              .replay_at_once_bytes = sim.seed % 3 == 0 ? 1 : 0};
    struct err *e = store_open(&o, &s);
    if (e != NULL)
        sim_fail("start after the cut: %s", e->text);
    mail_check(model, s);
    e = store_close(s);
    if (e != NULL)
        sim_fail("stop after the cut: %s", e->text);
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
        sim_fail("listing: %s", e->text);
    arena_free(a);
    return left;
}

/* The whole queue starts again, and the network takes everything. */
static void run_calm(void *model)
{
    struct mail w = {.m = model, .calm = true, .after_cut = true};
    int tries = 0;
    struct err *e = mail_open(&w);
    if (e != NULL)
        sim_fail("start after the cut: %s", e->text);
    do {
        (void)fiber_sleep_until(clock_in_s(5));
        if (++tries > CALM_TRIES)
            sim_fail("%llu letters never leave", (unsigned long long)letters_left(&w));
    } while (letters_left(&w) > 0);
    mail_sync(&w);
    mail_close(&w);
}

static void run_on(const struct cut *c)
{
    struct mail_model *model = mem_alloc(sizeof *model);
    struct cut copy = {.disk = disk_copy(c->disk), .at_ns = c->at_ns, .model = model};
    memcpy(model, c->model, sizeof *model);
    cuts_recover(&copy);
    disk_use(c->disk);
    disk_free(copy.disk);
    sim.phase = "running on";
    cuts_run(c->at_ns, run_calm, model);
    sim.phase = "start after running on";
    cuts_run(clock_mono_ns(), recovery, model);
    mem_free(model);
}

static void after_cut(const struct cut *c)
{
    uint64_t dice = sim_below(20);
    complaint[0] = '\0';
    if (sim_chance(8) && disk_unlink(-1, CUTS_QUEUE "/index/data.mdb", false) == 0)
        sim.note = " without index";
    if (dice < 3)
        run_on(c);
    else if (dice < 5)
        cuts_recover_twice(c);
    else
        cuts_recover(c);
    check_complaint();
}

static void end(void)
{
    printf("%llu letters, %llu deliveries; ", (unsigned long long)mail_done.letters,
           (unsigned long long)mail_done.deliveries);
}

int main(int argc, char **argv)
{
    static const struct cut_test test = {.name = "sim.mail",
                                         .seeds = 20,
                                         .model_bytes = sizeof(struct mail_model),
                                         .world_s = WORLD_S,
                                         .workload = workload,
                                         .recovery = recovery,
                                         .after_cut = after_cut,
                                         .logged = note_complaint,
                                         .end = end};
    return cuts_main(&test, argc, argv);
}
