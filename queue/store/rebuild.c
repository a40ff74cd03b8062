/* Rebuilding: the log is replayed into the index while mail is taken, delivered and written behind
 * it; at a start that finds the index missing or far behind, and when the index turns out to be
 * damaged under a running queue. queue/README.md has the argument why no message is lost or comes
 * back.
 *
 * The minder is a fiber on the scheduler's worker that does one thing after the other: set a damaged
 * index aside, rebuild, look through what was found at start (scrub.c). */
#include "io/base/check.h"
#include "io/base/log.h"
#include "io/file/file.h"
#include "io/ring/ring.h"
#include "queue/store/recover.h"

#include <fcntl.h>

#define TRIAL "index.trial" /* in log/ */

enum { TELL_EVERY_S = 10, AGAIN_S = 10, RENEW_EVERY_S = 600, UNREADABLE_TRIES = 6 };

/* --- setting the index aside */

static bool there_is(int dir_fd, const char *path)
{
    int fd = -1;
    struct err *e = io_openat(dir_fd, path, O_RDONLY, 0, &fd);
    if (e == NULL)
        (void)io_close(fd);
    return e == NULL;
}

static struct err *trial_write(struct store *s)
{
    int fd = -1;
    struct err *e = io_openat(s->log_dir_fd, TRIAL, O_WRONLY | O_CREAT, 0600, &fd);
    if (e == NULL) {
        e = io_fsync(fd, false);
        (void)io_close(fd);
    }
    return e == NULL ? io_fsync(s->log_dir_fd, false) : e;
}

/* An index that made the process die is not opened a second time: a file says that it has not been
 * looked through yet. */
void index_trial_begin(struct store *s, struct buf *why)
{
    struct buf data = {0};
    struct err *e = NULL;
    buf_printf(&data, "%s/index/data.mdb", s->directory);
    if (there_is(s->log_dir_fd, TRIAL))
        buf_add_c(why, "the last run ended before it was looked through");
    else if (there_is(AT_FDCWD, data.ptr))
        e = trial_write(s);
    if (e != NULL) /* a full disk: then it is trusted */
        log_warning("queue", "%s", e->text);
    buf_fini(&data);
}

static void remove_quietly(int dir_fd, const char *path)
{
    struct err *e = io_unlinkat(dir_fd, path, 0);
    if (e != NULL && e->kind != ERR_NOTFOUND)
        log_warning("queue", "%s", e->text);
}

void index_trial_end(struct store *s)
{
    remove_quietly(s->log_dir_fd, TRIAL);
}

uint64_t log_begin_pos(struct store *s)
{
    uint64_t pos = 0;
    pthread_mutex_lock(&s->lock);
    if (!list_empty(&s->segments))
        pos = log_pos(CONTAINER(s->segments.next, struct segment, link)->epoch, 0);
    pthread_mutex_unlock(&s->lock);
    return pos;
}

static void accounts_clear(struct store *s)
{
    pthread_mutex_lock(&s->lock);
    LIST_EACH(&s->segments, node)
    {
        CONTAINER(node, struct segment, link)->rows_bytes = 0;
    }
    s->rows_bytes = 0;
    pthread_mutex_unlock(&s->lock);
}

/* The folder stays, for the one above it may be root's. LMDB goes by its lock file when two have one
 * environment open: the old one keeps the file it has, and the new one gets a new one. */
static struct err *move_aside(const char *data, const char *aside, const char *lock, bool *moved_out)
{
    struct err *e = io_renameat(AT_FDCWD, data, AT_FDCWD, aside);
    *moved_out = e == NULL;
    remove_quietly(AT_FDCWD, lock);
    return e != NULL && e->kind == ERR_NOTFOUND ? NULL : e;
}

struct err *index_renew(struct store *s, const char *why)
{
    struct buf path = {0}, data = {0}, aside = {0}, lock = {0};
    struct index *fresh = NULL;
    bool moved = false;
    buf_printf(&path, "%s/index", s->directory);
    buf_printf(&data, "%s/data.mdb", path.ptr);
    buf_printf(&aside, "%s/damaged.mdb", path.ptr);
    buf_printf(&lock, "%s/lock.mdb", path.ptr);
    struct err *e = move_aside(data.ptr, aside.ptr, lock.ptr, &moved);
    if (e == NULL)
        e = index_open(s, path.ptr, &fresh);
    /* If the old one came back after a crash, it could cover more than there was, in segments that have
     * been given its epochs since. */
    if (e == NULL && moved)
        e = file_sync_dir(path.ptr);
    if (e == NULL) {
        log_warning("queue", "%s: %s: it is built again from the log%s", path.ptr, why,
                    moved ? "; what it was is kept in damaged.mdb" : "");
        (void)index_turn_begin(s);
        /* From here on no wait, until the new one has taken its place. */
        index_close(s->index);
        s->index = fresh;
        s->covered = log_begin_pos(s);
        s->unread_epoch = 0;
        s->proven = false;
        accounts_clear(s);
        index_turn_end(s);
        index_trial_end(s);
    } else if (moved) {
        index_close(fresh);
        struct err *back = io_renameat(AT_FDCWD, aside.ptr, AT_FDCWD, data.ptr);
        if (back != NULL)
            log_warning("queue", "%s", back->text);
    }
    struct buf *const all[] = {&path, &data, &aside, &lock};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        buf_fini(all[i]);
    return e;
}

struct err *index_trouble(struct store *s, struct err *e)
{
    if (e == NULL || e->kind != ERR_DAMAGED || s->rebuild.damaged)
        return e;
    s->rebuild.damaged = true;
    str_copy(s->rebuild.why, sizeof s->rebuild.why, str_of(e->text));
    event_set(&s->minder_wanted);
    return e;
}

/* Under a running queue. From the first line on, nothing that is removed or changed is written to
 * any index before the replay has ended; then everything that was said before is made safe; so what
 * lies before `end` is what the replay must read, and the rest is in memory. */
static struct err *renew_running(struct store *s)
{
    s->first_new = UINT64_MAX;
    event_clear(&s->ready);
    atomic_store(&s->ready_percent, 0);
    struct err *e = sem_take(&s->round, DEADLINE_NEVER);
    CHECK(e == NULL);
    e = log_sync(&s->log);
    if (e == NULL)
        e = index_renew(s, s->rebuild.why);
    if (e == NULL) {
        pthread_mutex_lock(&s->log.lock);
        s->rebuild.end = s->log.durable;
        pthread_mutex_unlock(&s->log.lock);
        s->first_new = s->rebuild.below = atomic_load(&s->next_seq);
        s->rebuild.last = UINT64_MAX;
        s->rebuild.settle = true;
        s->rebuild.damaged = false;
        s->rebuild.renewed_ns = clock_mono_ns();
    }
    sem_give(&s->round);
    return e;
}

/* --- the end of it */

static int held(uint32_t flags)
{
    return flags & MESSAGE_HOLD ? 1 : 0;
}

struct recount {
    struct store *store;
    uint64_t rows;
    int64_t held;
};

/* m is in memory, and newer than its row, if it has one. */
static struct err *recount_one(struct recount *c, uint64_t seq, const struct message *m)
{
    struct index_row row = {0};
    bool found = false;
    struct err *e = index_get(c->store->index, seq, NULL, &row, &found);
    if (e != NULL)
        return e;
    if (found)
        c->held -= held(row.flags);
    c->rows -= found;
    if (m != NULL) {
        c->held += held(m->flags);
        c->rows++;
    }
    return NULL;
}

/* How many messages there are: the rows, and what is in memory and not in the rows. */
static struct err *recount(struct store *s)
{
    struct recount c = {.store = s};
    uint64_t rows_held = 0, seq;
    size_t at = 0;
    void *value;
    struct err *e = index_count(s->index, &c.rows, &rows_held);
    c.held = (int64_t)rows_held;
    while (e == NULL && umap_next(&s->dead, &at, &seq, &value))
        e = recount_one(&c, seq, NULL);
    LIST_EACH(&s->dirty, node)
    {
        const struct message *m = CONTAINER(node, struct message, dirty_link);
        if (e == NULL && !m->dead)
            e = recount_one(&c, m->pub.seq, m);
    }
    pthread_mutex_lock(&s->log.lock);
    LIST_EACH(&s->log.young, node)
    {
        const struct message *m = CONTAINER(node, struct message, link);
        if (e == NULL && m->batch_pos != 0 && m->batch_pos < s->log.durable)
            e = recount_one(&c, m->pub.seq, m);
    }
    if (e == NULL) {
        atomic_store(&s->alive, c.rows);
        atomic_store(&s->held, c.held);
    }
    pthread_mutex_unlock(&s->log.lock);
    return e;
}

static struct err *rebuild_end(struct store *s)
{
    /* A round that is under way has left old messages out: it must not be the one that says how far
     * the index has come. */
    struct err *e = sem_take(&s->round, DEADLINE_NEVER);
    CHECK(e == NULL);
    e = recount(s);
    if (e == NULL) {
        s->first_new = 0;
        atomic_store(&s->ready_percent, 100);
        event_set(&s->ready);
    }
    sem_give(&s->round);
    if (e != NULL)
        return e;
    log_info("queue", "the index is built again: %llu messages in %lld s",
             (unsigned long long)atomic_load(&s->alive),
             (long long)((clock_mono_ns() - s->rebuild.began_ns) / NS_PER_S));
    keeper_wake(s);
    if (s->on_ready != NULL)
        s->on_ready(s->on_ready_ctx);
    return NULL;
}

void rebuild_tell(struct store *s)
{
    struct rebuild *b = &s->rebuild;
    int64_t now = clock_mono_ns();
    uint64_t percent = b->bytes == 0 ? 99 : b->done * 100 / b->bytes;
    atomic_store(&s->ready_percent, percent < 100 ? (int)percent : 99);
    if (now - b->told_ns < TELL_EVERY_S * NS_PER_S)
        return;
    b->told_ns = now;
    log_info("queue", "rebuilding the index: %d %% of the log are read",
             atomic_load(&s->ready_percent));
}

static struct err *rebuild(struct store *s)
{
    struct recovery r;
    recovery_init(&r, s);
    r.behind = true;
    r.rows_max = s->replay_rows;
    /* What cannot be read now may be readable in a minute; but not for ever does all the rest wait. */
    r.around = s->rebuild.unreadable >= UNREADABLE_TRIES;
    r.from = s->covered;
    r.end = s->rebuild.end;
    r.last = s->rebuild.last;
    s->rebuild.began_ns = s->rebuild.told_ns = clock_mono_ns();
    s->rebuild.bytes = bytes_behind(s, r.from, r.end);
    s->rebuild.done = 0;
    log_info("queue", "the index is being built from %llu MiB of log; mail is taken meanwhile",
             (unsigned long long)(s->rebuild.bytes >> 20));
    struct err *e = replay(&r);
    recovery_fini(&r);
    s->rebuild.unreadable = e != NULL && e->code == EIO ? s->rebuild.unreadable + 1 : 0;
    if (e != NULL)
        return e->kind == ERR_CANCELED ? NULL : e;
    return rebuild_end(s);
}

/* --- the minder */

/* An index that goes bad again and again is not the disk's fault alone: once in ten minutes. */
static bool may_renew(const struct store *s)
{
    int64_t last = s->rebuild.renewed_ns;
    return last == 0 || clock_mono_ns() - last >= RENEW_EVERY_S * NS_PER_S;
}

static struct err *mind(struct store *s)
{
    struct err *e = NULL;
    if (s->rebuild.damaged && may_renew(s))
        e = renew_running(s);
    if (e == NULL && s->first_new != 0 && !s->rebuild.damaged)
        e = rebuild(s);
    if (e != NULL || s->first_new != 0 || s->rebuild.damaged || s->stopping)
        return e;
    /* What is in memory and older than the new index goes into it before any segment is compacted. */
    if (s->rebuild.settle) {
        e = keeper_round(s, 0);
        s->rebuild.settle = e != NULL;
    }
    if (e == NULL && !s->proven)
        e = scrub(s);
    /* Not before, nor while some of the log cannot be read: an index that has no row of a message
     * would have its content deleted. */
    if (e == NULL && s->proven && s->rebuild.sweep && s->unread_epoch == 0) {
        e = sweep_content(s, s->rebuild.sweep_below);
        s->rebuild.sweep = e != NULL;
    }
    return e;
}

static void minder(void *arg)
{
    struct store *s = arg;
    fiber_shield_begin();
    while (!s->stopping) {
        event_clear(&s->minder_wanted);
        struct err *e = mind(s);
        if (e != NULL)
            log_warning("queue", "looking after the index: %s", e->text);
        bool again = e != NULL || s->rebuild.damaged;
        (void)index_trouble(s, e);
        if (s->rebuild.damaged && may_renew(s) && e == NULL)
            continue;
        if (!s->stopping)
            e = event_wait(&s->minder_wanted, again ? clock_in_s(AGAIN_S) : DEADLINE_NEVER);
    }
    fiber_shield_end();
    event_set(&s->minder_gone);
}

void minder_start(struct store *s)
{
    worker_spawn(s->home, "queue-minder", minder, s);
}

void minder_stop(struct store *s)
{
    store_end_waits(s);
    event_set(&s->minder_wanted);
    struct err *e = event_wait(&s->minder_gone, DEADLINE_NEVER);
    CHECK(e == NULL);
}

/* --- for those who need to know */

bool store_ready(const struct store *s)
{
    return s->first_new == 0;
}

bool store_hidden(const struct store *s, uint64_t seq)
{
    return store_hides(s, seq);
}

int store_ready_percent(const struct store *s)
{
    return atomic_load(&s->ready_percent);
}

void store_on_ready(struct store *s, void (*fn)(void *ctx), void *ctx)
{
    s->on_ready = fn;
    s->on_ready_ctx = ctx;
}

void store_end_waits(struct store *s)
{
    s->waits_over = true;
    event_set(&s->ready);
}

struct err *store_wait_ready(struct store *s)
{
    struct err *e = NULL;
    if (s->first_new != 0 && !s->waits_over)
        log_info("queue", "a question about older mail waits for the index: %d %% of the log are read",
                 atomic_load(&s->ready_percent));
    while (e == NULL && s->first_new != 0) {
        if (s->waits_over)
            return err_new(ERR_CANCELED, 0, "the index is being built, and the queue is about to be closed");
        e = event_wait(&s->ready, DEADLINE_NEVER);
    }
    return e;
}
