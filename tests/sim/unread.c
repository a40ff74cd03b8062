/* Places of the disk that cannot be read, for good. A queue full of mail is stopped, or its power
 * is cut; some blocks of its segments go bad, and mostly the index is gone too. The lives after
 * that take mail at once and have everything that lies elsewhere; what lies there is named and
 * kept, whatever comes and goes meanwhile. A start after the repair has all of it. */
#include <stdio.h>
#include "audit.h"
#include "dice.h"
#include "disk_sim.h"
#include "driver.h"
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/mem.h"
#include "io/fiber/fiber.h"
#include "io/fiber/worker.h"
#include "model.h"
#include "ring_sim.h"
#include "work.h"

enum { OLD = 48, SPOTS_MAX = 3, BLOCK_BYTES = 4096, WORLD_S = 7200, SEGMENTS_LEFT = 12 };

struct spot {
    uint64_t epoch, at;
    char name[32], path[64];
    bool told;
};

struct mail {
    struct qmsg_place place;
    size_t size;
    bool there;  /* was acknowledged, and not removed */
    bool hidden; /* lies where nothing can be read */
    bool seen;
};

static struct {
    struct mail mails[MESSAGES];
    uint64_t count;
    struct spot spots[SPOTS_MAX];
    size_t spot_count;
    bool indexed;     /* the index knows of all */
    bool anew;        /* the index is gone */
    struct disk *cut; /* before the stop */
} w;

static struct {
    uint64_t seeds, hidden;
} done;

static void logged(const char *text)
{
    for (size_t i = 0; i < w.spot_count; i++)
        w.spots[i].told |= strstr(text, w.spots[i].name) != NULL;
}

/* --- a life */

static struct store *start(void)
{
    struct store *s = NULL;
    struct store_options o = {.directory = CUTS_QUEUE,
                              .segment_bytes = WORK_SEGMENT,
                              .inline_limit_bytes = WORK_INLINE_MAX,
                              .index_delay_ms = 20,
                              .replay_at_once_bytes = sim.seed % 2};
    struct err *e = store_open(&o, &s);
    if (e != NULL)
        sim_fail("start: %s", e->text);
    return s;
}

static void stop(struct store *s)
{
    struct err *e = store_close(s);
    if (e != NULL)
        sim_fail("stop: %s", e->text);
}

static struct qmsg *send(struct store *s)
{
    uint64_t n = w.count++;
    struct mail *mail = &w.mails[n];
    struct arena *a = arena_new(0, 0);
    struct buf content = {0};
    struct draft *d = NULL;
    struct qmsg *m = NULL;
    CHECK(n < MESSAGES);
    *mail = (struct mail){.there = true, .size = 100 + (size_t)sim_below(WORK_INLINE_MAX + 1000)};
    model_content(&content, n, mail->size);
    struct err *e = store_begin(s, NULL, &d);
    if (e == NULL)
        e = work_write(d, buf_str(&content));
    if (e == NULL)
        e = store_commit(d, model_envelope(a, n), &m);
    if (e != NULL)
        sim_fail("mail is refused: %s", e->text);
    buf_fini(&content);
    arena_free(a);
    return m;
}

static void fill(void *arg)
{
    struct qmsg *all[OLD];
    struct store *s = start();
    (void)arg;
    for (int i = 0; i < OLD; i++) {
        all[i] = send(s);
        if (sim_chance(20))
            work_rest(50);
    }
    for (int i = 0; i < OLD; i++) {
        if (sim_chance(15)) {
            store_remove(all[i]);
            w.mails[i].there = false;
        }
        w.mails[i].place = all[i]->place;
        if (sim.verbose)
            fprintf(stderr, "sim: message %d lies in %llx at %u, %u bytes\n", i,
                    (unsigned long long)all[i]->place.epoch, all[i]->place.at,
                    (unsigned)all[i]->place.length);
        qmsg_unref(all[i]);
    }
    struct err *e = store_sync(s);
    CHECK(e == NULL);
    w.cut = disk_copy(disk_current());
    stop(s);
}

/* --- the disk goes bad */

static bool lies_in(const struct qmsg_place *p, const struct spot *t)
{
    return p->epoch == t->epoch && p->at < t->at + BLOCK_BYTES && p->at + p->length > t->at;
}

/* The first block of a message, or that of a segment. One spot in a file. */
static void spoil_one(void)
{
    const struct qmsg_place *p = &w.mails[sim_below(OLD)].place;
    struct spot t = {.epoch = p->epoch};
    t.at = sim_chance(10) ? 0 : p->at / BLOCK_BYTES * BLOCK_BYTES;
    for (size_t i = 0; i < w.spot_count; i++)
        if (w.spots[i].epoch == t.epoch)
            return;
    snprintf(t.name, sizeof t.name, "seg-%016llx", (unsigned long long)t.epoch);
    snprintf(t.path, sizeof t.path, CUTS_QUEUE "/log/%s", t.name);
    if (!disk_unreadable(t.path, t.at, BLOCK_BYTES))
        return;
    for (uint64_t n = 0; n < w.count; n++)
        w.mails[n].hidden |= w.mails[n].there && lies_in(&w.mails[n].place, &t);
    if (sim.verbose)
        fprintf(stderr, "sim: %s cannot be read at %llu\n", t.name, (unsigned long long)t.at);
    w.spots[w.spot_count++] = t;
}

static void spoil(bool stopped)
{
    for (uint64_t left = 1 + sim_below(SPOTS_MAX); left > 0; left--)
        spoil_one();
    for (uint64_t n = 0; n < w.count; n++)
        done.hidden += w.mails[n].hidden;
    /* After a cut the index may be behind what lies there. */
    w.indexed = stopped && sim_chance(30);
    w.anew = !w.indexed && sim_chance(80);
    if (w.anew)
        (void)disk_unlink(-1, CUTS_QUEUE "/index/data.mdb", false);
}

/* --- looking */

static void look_at(struct store *s, const struct store_row *row, bool repaired)
{
    struct qmsg *m = NULL;
    struct buf want = {0}, got = {0};
    unsigned long long n = row->env->data_size;
    CHECK(n < w.count && !w.mails[n].seen);
    w.mails[n].seen = true;
    struct err *e = store_get(s, row->seq, &m);
    CHECK(e == NULL && m != NULL);
    e = audit_read(m, &got);
    if (e != NULL && (repaired || !w.mails[n].hidden || e->kind != ERR_IO))
        sim_fail("message %llu: %s", n, e->text);
    model_content(&want, n, w.mails[n].size);
    if (e == NULL && !str_eq(buf_str(&want), buf_str(&got)))
        sim_fail("message %llu has other content", n);
    qmsg_unref(m);
    buf_fini(&want);
    buf_fini(&got);
}

/* A removal that lies there may be forgotten for as long. */
static void check_all(bool repaired)
{
    for (uint64_t n = 0; n < w.count; n++) {
        const struct mail *m = &w.mails[n];
        bool known = repaired || w.indexed;
        if (m->there && (known || !m->hidden) && !m->seen)
            sim_fail("message %llu is not there", (unsigned long long)n);
        if (!m->there && known && m->seen)
            sim_fail("message %llu was removed, and is back", (unsigned long long)n);
    }
}

static void look(struct store *s, bool repaired)
{
    struct arena *a = arena_new(0, 0);
    struct store_row *rows = NULL;
    size_t count = 0;
    struct err *e = store_wait_ready(s);
    if (e == NULL)
        e = store_list(s, 0, MESSAGES, a, &rows, &count);
    if (e != NULL)
        sim_fail("listing: %s", e->text);
    for (uint64_t n = 0; n < w.count; n++)
        w.mails[n].seen = false;
    for (size_t i = 0; i < count; i++)
        look_at(s, &rows[i], repaired);
    check_all(repaired);
    arena_free(a);
}

/* Others come, and of what can be read some is done with: segments are freed, if they may be. */
static void go_on(struct store *s, uint64_t new_mail, unsigned ending)
{
    struct arena *a = arena_new(0, 0);
    struct store_row *rows = NULL;
    size_t count = 0;
    for (; new_mail > 0 && w.count < MESSAGES; new_mail--)
        qmsg_unref(send(s));
    struct err *e = store_list(s, 0, MESSAGES, a, &rows, &count);
    CHECK(e == NULL);
    for (size_t i = 0; i < count; i++) {
        struct mail *mail = &w.mails[rows[i].env->data_size];
        struct qmsg *m = NULL;
        if (mail->hidden || !mail->there || !sim_chance(ending))
            continue;
        e = store_get(s, rows[i].seq, &m);
        CHECK(e == NULL && m != NULL);
        store_remove(m);
        qmsg_unref(m);
        mail->there = false;
    }
    arena_free(a);
    e = store_sync(s);
    CHECK(e == NULL);
    e = fiber_sleep_until(clock_in_s(60));
    CHECK(e == NULL);
}

static void bad_life(void *arg)
{
    struct store *s = start();
    (void)arg;
    qmsg_unref(send(s)); /* at once */
    look(s, false);
    for (size_t i = 0; i < w.spot_count && w.anew; i++)
        if (!w.spots[i].told)
            sim_fail("%s is not named", w.spots[i].name);
    go_on(s, 8, 80);
    look(s, false);
    stop(s);
}

static size_t segments(void)
{
    char name[SIM_NAME_MAX];
    size_t n = 0;
    int fd = disk_open(-1, CUTS_QUEUE "/log", 0);
    CHECK(fd >= 0);
    for (size_t at = 0; disk_name(fd, at, name); at++)
        n += strncmp(name, "seg-", 4) == 0;
    (void)disk_close(fd);
    return n;
}

static void good_life(void *arg)
{
    struct store *s = start();
    (void)arg;
    look(s, true);
    for (uint64_t n = 0; n < w.count; n++)
        w.mails[n].hidden = false;
    go_on(s, 4, 100);
    look(s, true);
    stop(s);
    if (segments() > SEGMENTS_LEFT)
        sim_fail("an empty queue keeps %zu segments", segments());
}

/* --- one seed */

static void live(const char *phase, void (*fn)(void *arg))
{
    static const struct worker_options options = {.name = "sim", .cpu = -1};
    sim.phase = phase;
    sim_deadline(WORLD_S);
    disk_new_process();
    struct err *e = worker_run_here(&options, fn, NULL);
    CHECK(e == NULL);
}

static void one_seed(void)
{
    struct disk *first = disk_new(), *after_cut;
    memset(&w, 0, sizeof w);
    sim_world_begin(sim.seed);
    disk_use(first);
    CHECK(disk_mkdir(CUTS_QUEUE) == 0);
    int root = disk_open(-1, SIM_ROOT, 0);
    CHECK(root >= 0 && disk_fsync(root) == 0);
    live("filling", fill);
    after_cut = disk_crash(w.cut);
    bool stopped = sim_chance(50);
    disk_use(stopped ? first : after_cut);
    spoil(stopped);
    for (uint64_t lives = 1 + sim_below(2); lives > 0; lives--)
        live("unreadable", bad_life);
    disk_repair();
    live("after the repair", good_life);
    disk_use(NULL);
    disk_free(first);
    disk_free(w.cut);
    disk_free(after_cut);
    done.seeds++;
}

static void end(void)
{
    printf("%llu seeds, %llu messages lay where nothing could be read: all of them came back\n",
           (unsigned long long)done.seeds, (unsigned long long)done.hidden);
}

int main(int argc, char **argv)
{
    static const struct driver driver = {
        .name = "sim.unread", .seeds = 50, .one_seed = one_seed, .end = end, .logged = logged};
    return driver_main(&driver, argc, argv);
}
