#include "queue/store/store.h"

#include "io/base/check.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/fiber/offload.h"
#include "io/file/file.h"
#include "io/ring/ring.h"
#include "queue/store/private.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { MARK_RCPTS_MAX = 1000, SCRUB_ROWS = 1000, REPLAY_ROWS = 1000, PURGE_ROWS = 4000 };
#define SEGMENT_BYTES_DEFAULT ((uint64_t)8 << 20)
#define REPLAY_AT_ONCE_DEFAULT ((uint64_t)64 << 20)
#define SEGMENT_BYTES_MIN     ((uint64_t)32 << 10)
#define SEGMENT_BYTES_MAX     ((uint64_t)1 << 30)

/* --- opening */

static uint64_t or_default(uint64_t v, uint64_t otherwise)
{
    return v != 0 ? v : otherwise;
}

void store_reconfigure(struct store *s, const struct store_options *o)
{
    atomic_store(&s->long_ids, o->long_ids);
    atomic_store(&s->minfree_bytes, o->minfree_bytes);
    /* Inline content must fit a segment together with its envelope. */
    uint64_t limit = or_default(o->inline_limit_bytes, 1 << 20);
    atomic_store(&s->inline_limit_bytes,
                 limit < s->segment_bytes / 4 ? limit : s->segment_bytes / 4);
    atomic_store(&s->memory_limit_bytes, or_default(o->memory_limit_bytes, (uint64_t)256 << 20));
    atomic_store(&s->mark_delay_ms, o->mark_delay_ms > 0 ? o->mark_delay_ms : 100);
}

static struct store *store_new(const struct store_options *o)
{
    struct store *s = MEM_NEW(struct store);
    uint64_t bytes = round_up(or_default(o->segment_bytes, SEGMENT_BYTES_DEFAULT), BLOCK);
    s->magic = STORE_MAGIC;
    s->home = worker_self();
    s->directory = mem_strdup(o->directory);
    s->lock_fd = s->log_dir_fd = s->content_dir_fd = s->corrupt_dir_fd = -1;
    s->segment_bytes = bytes < SEGMENT_BYTES_MIN   ? SEGMENT_BYTES_MIN
                       : bytes > SEGMENT_BYTES_MAX ? SEGMENT_BYTES_MAX
                                                   : bytes;
    atomic_store(&s->direct, !o->no_direct);
    s->index_delay_ms = o->index_delay_ms > 0 ? o->index_delay_ms : 1000;
    store_reconfigure(s, o);
    pthread_mutex_init(&s->lock, NULL);
    log_init(&s->log, s);
    segments_init(s);
    list_init(&s->dirty);
    sem_init_count(&s->round, 1);
    sem_init_count(&s->index_turn, 1);
    event_init(&s->keeper_wanted);
    event_init(&s->keeper_gone);
    event_init(&s->minder_wanted);
    event_init(&s->minder_gone);
    event_init(&s->ready);
    s->scrub_rows = SCRUB_ROWS;
    s->purge_rows = o->purge_rows != 0 ? o->purge_rows : PURGE_ROWS;
    s->replay_rows = o->replay_rows != 0 ? o->replay_rows : REPLAY_ROWS;
    s->replay_at_once = or_default(o->replay_at_once_bytes, REPLAY_AT_ONCE_DEFAULT);
    return s;
}

static void store_free(struct store *s)
{
    offload_thread_stop(s->index_thread);
    index_close(s->index);
    log_fini(&s->log);
    segments_fini(s);
    umap_fini(&s->messages);
    umap_fini(&s->dead);
    buf_fini(&s->dead_new);
    buf_fini(&s->unlinks);
    const int fds[] = {s->log_dir_fd, s->content_dir_fd, s->corrupt_dir_fd, s->lock_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (fds[i] >= 0)
            (void)io_close(fds[i]);
    }
    pthread_mutex_destroy(&s->lock);
    mem_free(s->directory);
    mem_free(s);
}

static struct err *open_dir(struct store *s, const char *name, int *fd_out)
{
    struct buf path = {0};
    buf_printf(&path, "%s/%s", s->directory, name);
    struct err *e = file_mkdirs(path.ptr, 0700);
    if (e == NULL)
        e = io_openat(AT_FDCWD, path.ptr, O_RDONLY | O_DIRECTORY, 0, fd_out);
    buf_fini(&path);
    return e;
}

static struct err *open_dirs(struct store *s)
{
    struct err *e = open_dir(s, "log", &s->log_dir_fd);
    if (e == NULL)
        e = open_dir(s, "content", &s->content_dir_fd);
    if (e == NULL)
        e = open_dir(s, "corrupt", &s->corrupt_dir_fd);
    /* The names of these folders must last as long as what is in them. */
    return e == NULL ? file_sync_dir(s->directory) : e;
}

/* Two processes that write one queue would destroy it. */
static struct err *lock_queue(struct store *s)
{
    struct err *e = io_openat(s->log_dir_fd, "lock", O_RDWR | O_CREAT, 0600, &s->lock_fd);
    if (e == NULL)
        e = file_lock(s->lock_fd, FILE_LOCK_FCNTL, clock_mono_ns());
    if (e != NULL && e->kind == ERR_TIMEOUT)
        e = err_new(ERR_REFUSED, EWOULDBLOCK, "another process has the queue open");
    return e;
}

static struct err *begin_log(struct store *s)
{
    struct segment *g = NULL;
    /* What the index covers already may be free: it is taken before a new file is made. */
    space_free(s);
    struct err *e = segment_make(s, &g);
    if (e != NULL && e->kind == ERR_FULL) {
        /* What is there can be listed, delivered and deleted; that makes room, and then mail is taken again. */
        log_warning("queue", "%s: no mail is taken until there is room", e->text);
        log_start_without(&s->log, s->rebuild.end);
        return NULL;
    }
    if (e == NULL)
        log_start_segment(&s->log, g, s->log_ended);
    return e;
}

struct err *store_open(const struct store_options *options, struct store **out)
{
    CHECK(fiber_self() != NULL);
    struct store *s = store_new(options);
    fiber_shield_begin();
    struct err *e = open_dirs(s);
    if (e == NULL)
        e = lock_queue(s);
    if (e == NULL)
        e = offload_thread_start("index", &s->index_thread);
    if (e == NULL)
        e = recover(s);
    uint64_t messages = 0, held = 0;
    if (e == NULL)
        e = index_count(s->index, &messages, &held);
    atomic_store(&s->alive, messages);
    atomic_store(&s->held, (int64_t)held);
    if (e == NULL)
        e = begin_log(s);
    if (e == NULL) {
        atomic_store(&s->ready_percent, s->first_new == 0 ? 100 : 0);
        keeper_start(s);
        minder_start(s);
        *out = s;
    } else {
        store_free(s);
        e = err_in(e, "queue %s", options->directory);
    }
    fiber_shield_end();
    return e;
}

/* After a clean stop all that is there was safe, so nothing that is damaged is a torn write: a batch
 * behind the last one says so. */
static struct err *say_the_end(struct store *s)
{
    struct record r = {.type = RECORD_REMOVE, .seq = 0};
    struct err *e = log_sync(&s->log);
    if (e != NULL || s->log.writes == 0)
        return e;
    record_sum(&r);
    log_append(&s->log, &r, NULL);
    return log_sync(&s->log);
}

struct err *store_close(struct store *s)
{
    CHECK_MAGIC(s, STORE_MAGIC);
    CHECK(worker_self() == s->home);
    fiber_shield_begin();
    timer_clear(&s->mark_timer);
    keeper_stop(s);
    minder_stop(s);
    while (s->lookers > 0)
        fiber_yield();
    struct err *e = say_the_end(s);
    if (e == NULL)
        e = keeper_round(s, 0);
    if (e == NULL)
        index_trial_end(s);
    /* A message that could not be indexed is in the log all the same. */
    struct list *node;
    while ((node = list_pop_front(&s->log.young)) != NULL)
        qmsg_unref(&CONTAINER(node, struct message, link)->pub);
    while ((node = list_pop_front(&s->dirty)) != NULL)
        qmsg_unref(&CONTAINER(node, struct message, dirty_link)->pub);
    /* Wake-ups on their way to this worker must find the store still there. */
    while (atomic_load(&s->wake_posted))
        fiber_yield();
    if (s->messages.count == 0) {
        store_free(s);
    } else {
        /* Deliveries that outlasted the deadline still refer to it; the process is about to end. */
        log_warning("queue", "%zu messages were in use when the queue was closed",
                    s->messages.count);
        offload_thread_stop(s->index_thread);
        s->index_thread = NULL;
        index_close(s->index);
        s->index = NULL;
    }
    fiber_shield_end();
    return e;
}

/* --- changes */

static void marks_due(struct timer *t)
{
    struct store *s = CONTAINER(t, struct store, mark_timer);
    s->mark_timer_set = false;
    log_flush(&s->log);
}

static void append_lazy(struct store *s, const struct record *r)
{
    log_append(&s->log, r, NULL);
    if (!s->mark_timer_set) {
        s->mark_timer_set = true;
        timer_set(&s->mark_timer, clock_in_ms(atomic_load(&s->mark_delay_ms)), marks_due);
    }
}

void store_set_dead(struct store *s, uint64_t seq, int64_t due_us)
{
    struct index_dead d = {.seq = seq, .due_us = due_us};
    (void)umap_put(&s->dead, seq, s);
    buf_add(&s->dead_new, &d, sizeof d);
}

void store_set_dirty(struct message *m)
{
    m->changed = m->flying;
    if (m->stage != STAGE_INDEXED || m->dirty)
        return;
    m->dirty = true;
    (void)qmsg_ref(&m->pub);
    list_push_back(&m->store->dirty, &m->dirty_link);
}

static void count_held(struct store *s, uint32_t before, uint32_t after)
{
    int64_t change = (after & MESSAGE_HOLD ? 1 : 0) - (before & MESSAGE_HOLD ? 1 : 0);
    if (change != 0)
        atomic_fetch_add_explicit(&s->held, change, memory_order_relaxed);
}

static void append_mark(struct store *s, uint64_t seq, const struct mark *k, bool lazy)
{
    size_t at = 0;
    do {
        struct buf body = {0};
        size_t left = k->rcpt_count - at, n = left < MARK_RCPTS_MAX ? left : MARK_RCPTS_MAX;
        struct mark part = *k;
        part.rcpts = k->rcpts + at;
        part.rcpt_count = n;
        mark_pack(&part, &body);
        struct record r = {.type = RECORD_MARK, .seq = seq, .first = buf_str(&body)};
        record_sum(&r);
        if (lazy)
            append_lazy(s, &r);
        else
            log_append(&s->log, &r, NULL);
        buf_fini(&body);
        at += n;
    } while (at < k->rcpt_count);
}

void store_mark(struct qmsg *pub, const struct mark *k)
{
    struct message *m = message_of(pub);
    struct store *s = m->store;
    CHECK_MAGIC(pub, MESSAGE_MAGIC);
    if (m->dead)
        return;
    uint32_t flags = (k->flags & ~(uint32_t)MESSAGE_LONG_ID) | (m->flags & MESSAGE_LONG_ID);
    count_held(s, m->flags, flags);
    m->flags = flags;
    m->due_us = k->due_us;
    if (pub->part != NULL)
        part_mark(pub->part, k);
    else
        mark_apply(k, pub->env, pub->arena);
    struct mark whole = *k;
    whole.flags = flags;
    append_mark(s, pub->seq, &whole, true);
    store_set_dirty(m);
}

struct err *store_say_again(struct qmsg *pub)
{
    const struct message *m = message_of(pub);
    const struct envelope *env;
    struct arena *a;
    struct err *e = part_whole(pub, &a, &env);
    if (e != NULL) {
        arena_free(a);
        return e;
    }
    struct mark_rcpt *rcpts = mem_zalloc((env->rcpt_count + 1) * sizeof *rcpts);
    for (size_t i = 0; i < env->rcpt_count; i++)
        rcpts[i] = (struct mark_rcpt){
            .index = (uint32_t)i, .state = env->rcpts[i].state, .why = env->rcpts[i].why};
    append_mark(m->store, pub->seq,
                &(struct mark){.flags = m->flags,
                               .due_us = m->due_us,
                               .rcpts = rcpts,
                               .rcpt_count = env->rcpt_count},
                false);
    mem_free(rcpts);
    arena_free(a);
    return NULL;
}

static struct record removal(uint64_t seq)
{
    struct record r = {.type = RECORD_REMOVE, .seq = seq};
    record_sum(&r);
    return r;
}

void store_say_removed(struct store *s, uint64_t seq)
{
    struct record r = removal(seq);
    log_append(&s->log, &r, NULL);
}

void store_remove(struct qmsg *pub)
{
    struct message *m = message_of(pub);
    struct store *s = m->store;
    CHECK_MAGIC(pub, MESSAGE_MAGIC);
    if (m->dead)
        return;
    m->dead = true;
    count_held(s, m->flags, 0);
    atomic_fetch_sub_explicit(&s->alive, 1, memory_order_relaxed);
    pthread_mutex_lock(&s->lock);
    if (umap_get(&s->messages, pub->seq) == m)
        (void)umap_del(&s->messages, pub->seq);
    pthread_mutex_unlock(&s->lock);
    struct record r = removal(pub->seq);
    append_lazy(s, &r);
    if (pub->place.spilled)
        buf_add(&s->unlinks, &pub->seq, sizeof pub->seq);
    /* Out of the log the young ones have come to rows too; or one is on its way. */
    if (m->stage == STAGE_INDEXED || m->flying || pub->seq < s->rebuild.below || store_hides(s, pub->seq))
        store_set_dead(s, pub->seq, m->due_us);
    if (m->stage == STAGE_INDEXED)
        return;
    atomic_fetch_sub_explicit(&s->young_bytes, pub->place.length, memory_order_relaxed);
    if (m->stage == STAGE_YOUNG) {
        pthread_mutex_lock(&s->log.lock);
        list_remove(&m->link);
        pthread_mutex_unlock(&s->log.lock);
        m->stage = STAGE_NEW;
        qmsg_unref(pub);
    }
}

void store_remove_row(struct store *s, uint64_t seq, uint32_t flags, int64_t due_us, bool spilled)
{
    count_held(s, flags, 0);
    atomic_fetch_sub_explicit(&s->alive, 1, memory_order_relaxed);
    struct record r = removal(seq);
    append_lazy(s, &r);
    if (spilled)
        buf_add(&s->unlinks, &seq, sizeof seq);
    store_set_dead(s, seq, due_us);
}

struct err *store_sync(struct store *s)
{
    return log_sync(&s->log);
}

struct store_counts store_counts(struct store *s)
{
    struct store_counts c = {0};
    pthread_mutex_lock(&s->log.lock);
    c.commits = s->log.commits;
    c.writes = s->log.writes;
    c.bytes_written = s->log.bytes_written;
    pthread_mutex_unlock(&s->log.lock);
    pthread_mutex_lock(&s->lock);
    c.segments = s->segment_count;
    c.log_bytes = (s->segment_count + s->spare_count + s->raw_count) * s->segment_bytes;
    c.live_bytes = s->rows_bytes + atomic_load(&s->young_bytes);
    pthread_mutex_unlock(&s->lock);
    c.messages = atomic_load(&s->alive);
    int64_t held = atomic_load(&s->held); /* a message may be counted out before it is counted in */
    c.held = held > 0 ? (uint64_t)held : 0;
    c.corrupt = atomic_load(&s->corrupt);
    c.content_bytes = atomic_load(&s->content_bytes);
    return c;
}
