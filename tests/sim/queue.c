/* The crash driver of the store: a small workload (accept, deliver, defer, hold, release, delete,
 * compact, recycle, stop and start) on a disk that forgets. After each cut recovery runs, and what
 * it finds is held against the model. cuts.h cuts; see README.md. */
#include <stdio.h>
#include "dice.h"
#include "disk_sim.h"
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/mem.h"
#include "io/fiber/wait.h"
#include "model.h"
#include "work.h"

enum {
    PRODUCERS = 3,
    WORLD_S = 3600,
    STAYING = 4, /* messages of a streaming seed */
};

/* --- the workload */

struct world {
    struct store *store;
    struct model *model;
    struct qmsg *live[MESSAGES]; /* by number; one reference each */
    unsigned producing;
    bool stop_failed;        /* of the life before */
    bool doubtful[MESSAGES]; /* a stop failed, and what had been done to it was not safe */
    struct event produced;
};

static struct store_options options_of_seed(void)
{
    return (struct store_options){.directory = CUTS_QUEUE,
                                  .segment_bytes = WORK_SEGMENT,
                                  .inline_limit_bytes = WORK_INLINE_MAX,
                                  .index_delay_ms = 20,
                                  .mark_delay_ms = 5,
                                  .replay_at_once_bytes = sim.seed % 3 == 0 ? 1 : 0,
                                  .purge_rows = sim.seed % 2};
}

/* Every fourth seed is a long stream of mail past a few messages that stay: what lives in the
 * oldest segment has to be copied. */
static bool streaming(void)
{
    return sim.seed % 4 == 1;
}

static size_t some_size(void)
{
    if (streaming())
        return 2500 + (size_t)sim_below(WORK_INLINE_MAX - 2500);
    uint64_t kind = sim_below(10);
    return kind < 7   ? 100 + (size_t)sim_below(2500)
           : kind < 9 ? 2500 + (size_t)sim_below(WORK_INLINE_MAX - 2500)
                      : WORK_INLINE_MAX + 1 + (size_t)sim_below(9000);
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
    if (e == NULL) {
        e = work_write(d, buf_str(&b));
        if (e == NULL)
            e = store_commit(d, env, out);
        else
            queue_abort(d);
    }
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
    if (e == NULL && sim.verbose && w->live[n] != NULL)
        fprintf(stderr, "sim: message %llu is %llx in %llu at %u\n", (unsigned long long)n,
                (unsigned long long)w->live[n]->seq, (unsigned long long)w->live[n]->place.epoch,
                w->live[n]->place.at);
    if (e == NULL)
        m->acked = true;
    else if (sim.fault == 0)
        sim_fail("message %llu is refused: %s", (unsigned long long)n, e->text);
}

static void producer(void *arg)
{
    struct world *w = arg;
    for (uint64_t left = (streaming() ? 6 : 2) + sim_below(6); left > 0; left--) {
        produce_one(w);
        if (sim_chance(40))
            work_rest(8);
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
        sim_fail("message %llu is alive and cannot be found", (unsigned long long)n);
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
        if (m->acked && !w->doubtful[n] && counts[n] > m->safe)
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
    work_rest(sim_chance(20) ? 60 : 6);
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
        if (w->model->messages[n].acked && !w->doubtful[n])
            w->model->messages[n].safe = counts[n] - 1;
    }
    /* The acts of a write that failed may be read in the next life and be gone after the next cut, or the other
     * way round. They were true, so that at worst something is done once more; but nothing makes them safe. */
    for (uint64_t n = 0; e != NULL && n < w->model->count; n++)
        w->doubtful[n] |= w->model->messages[n].safe + 1 < w->model->messages[n].count;
    w->store = NULL;
    return e == NULL;
}

/* A life that ended with a failing disk may have lost its last acts: what is there now is what the acts of
 * the next life come after. */
static void as_found(struct model_message *m, const struct store_row *row)
{
    struct version v = {.flags = row->flags, .due_us = row->due_us};
    for (int k = 0; k < RCPTS; k++)
        v.states[k] = row->env->rcpts[k].state;
    if (m->count < VERSIONS)
        model_act(m, &v);
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
            if (w->stop_failed && number < MESSAGES && w->model->messages[number].acked)
                as_found(&w->model->messages[number], &rows[i]);
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
    work_rest(60);
}

/* Two or three lives of one queue. */
static void workload(void *arg)
{
    struct world *w = MEM_NEW(struct world);
    w->model = arg;
    for (uint64_t lives = 2 + sim_below(2); lives > 0; lives--) {
        struct err *e = open_store(w);
        if (e != NULL) {
            if (sim.fault == 0)
                sim_fail("start: %s", e->text);
            continue;
        }
        pick_up(w);
        session(w, 6 + (unsigned)sim_below(12));
        w->stop_failed = !close_store(w);
    }
    mem_free(w);
}

/* --- after the cut */

/* The index is only a convenience: it may be gone, or older than the log. */
static void spoil_index(struct disk *d, struct disk *older)
{
    uint64_t dice = sim_below(10);
    disk_use(d);
    if (dice == 0 && disk_unlink(-1, CUTS_QUEUE "/index/data.mdb", false) == 0)
        sim.note = " without index";
    if (dice != 1 || older == NULL)
        return;
    disk_use(older);
    struct kv_image *old = disk_kv(CUTS_QUEUE "/index/data.mdb");
    disk_use(d);
    struct disk_stat st;
    if (old != NULL && disk_stat(-1, CUTS_QUEUE "/index/data.mdb", &st) == 0)
        disk_kv_set(CUTS_QUEUE "/index/data.mdb", kv_image_ref(old));
    sim.note = " with an older index";
}

static void recovery(void *arg)
{
    const struct model *m = arg;
    struct store *s = NULL;
    struct store_options o = options_of_seed();
    struct err *e = store_open(&o, &s);
    if (e != NULL)
        sim_fail("start after the cut: %s", e->text);
    model_check(m, s);
    e = store_close(s);
    if (e != NULL)
        sim_fail("stop after the cut: %s", e->text);
}

static void after_cut(const struct cut *c)
{
    spoil_index(c->disk, c->point > 0 ? cuts_disk((size_t)sim_below(c->point)) : NULL);
    if (sim_chance(10))
        cuts_recover_twice(c);
    else
        cuts_recover(c);
}

int main(int argc, char **argv)
{
    static const struct cut_test test = {.name = "sim.queue",
                                         .seeds = 50,
                                         .model_bytes = sizeof(struct model),
                                         .world_s = WORLD_S,
                                         .workload = workload,
                                         .recovery = recovery,
                                         .after_cut = after_cut};
    return cuts_main(&test, argc, argv);
}
