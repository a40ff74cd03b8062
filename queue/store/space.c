/* Segment files: making them, taking them, giving them back. queue/README.md has the argument why a
 * segment that space_free takes is needed by nothing any more. */
#include "io/base/check.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/base/rand.h"
#include "io/fiber/offload.h"
#include "io/file/file.h"
#include "io/ring/ring.h"
#include "queue/store/private.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { ZEROS = 1 << 20, CLOSE_AT_ONCE = 16, LOOK_BACK = 4 };

void segments_init(struct store *s)
{
    list_init(&s->segments);
    list_init(&s->spares);
    list_init(&s->raw);
    sem_init_count(&s->raw_turn, 1);
}

static void list_free(struct list *head)
{
    struct list *node;
    while ((node = list_pop_front(head)) != NULL) {
        struct segment *g = CONTAINER(node, struct segment, link);
        if (g->fd >= 0)
            (void)io_close(g->fd);
        buf_fini(&g->said);
        mem_free(g);
    }
}

void segments_fini(struct store *s)
{
    list_free(&s->segments);
    list_free(&s->spares);
    list_free(&s->raw);
    umap_fini(&s->by_epoch);
}

static void known_locked(struct store *s, struct segment *g)
{
    list_push_back(&s->segments, &g->link);
    (void)umap_put(&s->by_epoch, g->epoch, g);
    s->segment_count++;
}

void segment_known(struct store *s, struct segment *g)
{
    pthread_mutex_lock(&s->lock);
    known_locked(s, g);
    pthread_mutex_unlock(&s->lock);
}

static uint64_t newest_epoch(const struct store *s)
{
    return list_empty(&s->segments) ? 0 : CONTAINER(s->segments.prev, struct segment, link)->epoch;
}

struct segment *segment_take(struct store *s)
{
    struct segment *g = NULL;
    pthread_mutex_lock(&s->lock);
    while (g == NULL && !list_empty(&s->spares)) {
        g = CONTAINER(list_pop_front(&s->spares), struct segment, link);
        s->spare_count--;
        if (g->epoch < newest_epoch(s)) {
            /* One that was made in haste has overtaken it; epochs only ever rise. */
            list_push_back(&s->raw, &g->link);
            s->raw_count++;
            g = NULL;
        }
    }
    if (g != NULL)
        known_locked(s, g);
    pthread_mutex_unlock(&s->lock);
    keeper_wake(s);
    return g;
}

/* --- making */

static struct err *open_for_writing(struct store *s, struct segment *g)
{
    bool direct = atomic_load(&s->direct);
    struct err *e =
        io_openat(s->log_dir_fd, g->name, O_WRONLY | O_DSYNC | (direct ? O_DIRECT : 0), 0, &g->fd);
    if (e == NULL || !direct || e->code != EINVAL)
        return e;
    atomic_store(&s->direct, false);
    return open_for_writing(s, g);
}

/* What a batch ends in. A segment that was never written gets whole blocks, else the file system would
 * have to fill each of them up itself. */
static void find_unit(const struct store *s, struct segment *g)
{
    size_t unit = atomic_load(&s->direct) && !g->unwritten ? file_direct_unit(g->fd) : 0;
    g->unit = unit >= UNIT_LEAST && BLOCK % unit == 0 ? (uint32_t)unit : BLOCK;
}

/* A whole header block, aligned as O_DIRECT wants it. */
static struct err *write_header(struct store *s, struct segment *g, uint64_t epoch)
{
    char *memory = mem_zalloc(2 * BLOCK);
    uint8_t *block = (uint8_t *)round_up((uintptr_t)memory, BLOCK);
    struct segment_header h = {.epoch = epoch,
                               .size = s->segment_bytes,
                               .next_seq = atomic_load(&s->next_seq),
                               .secret = s->secret,
                               .first = log_begin_pos(s) >> 32};
    segment_header_put(&h, block);
    struct err *e = io_pwrite(g->fd, block, BLOCK, 0);
    if (e != NULL && e->code == EINVAL && atomic_exchange(&s->direct, false)) {
        (void)io_close(g->fd);
        g->fd = -1;
        e = open_for_writing(s, g);
        if (e == NULL)
            e = io_pwrite(g->fd, block, BLOCK, 0);
    }
    mem_free(memory);
    return e;
}

/* Gives it a new epoch: from here on nothing of what it held counts any more. */
static struct err *arm(struct store *s, struct segment *g)
{
    char name[SEGMENT_NAME_MAX];
    struct err *e = g->fd < 0 ? open_for_writing(s, g) : NULL;
    pthread_mutex_lock(&s->lock);
    g->epoch = s->next_epoch++;
    pthread_mutex_unlock(&s->lock);
    if (e == NULL)
        e = write_header(s, g, g->epoch);
    if (e == NULL)
        find_unit(s, g);
    g->unwritten = false; /* it is by the time it is used again */
    segment_name(g->epoch, name);
    if (e == NULL)
        e = io_renameat(s->log_dir_fd, g->name, s->log_dir_fd, name);
    if (e == NULL) {
        memcpy(g->name, name, sizeof name);
        e = io_fsync(s->log_dir_fd, false);
    }
    g->size = s->segment_bytes;
    g->rows_bytes = g->seq_floor = g->seq_end = g->after = 0;
    g->follows = g->said_much = false;
    buf_reset(&g->said);
    return e;
}

static struct err *sync_names(struct store *s)
{
    return io_fsync(s->log_dir_fd, false);
}

/* The name is gone for good before that of another segment goes. Else it is kept, and is the first to go. */
static bool discard(struct store *s, struct segment *g)
{
    struct err *e = io_unlinkat(s->log_dir_fd, g->name, 0);
    if (e == NULL || e->kind == ERR_NOTFOUND)
        e = sync_names(s);
    if (g->fd >= 0)
        (void)io_close(g->fd);
    g->fd = -1;
    if (e == NULL) {
        buf_fini(&g->said);
        mem_free(g);
        return true;
    }
    log_warning("queue", "%s", e->text);
    g->unusable = true;
    pthread_mutex_lock(&s->lock);
    list_push_front(&s->raw, &g->link);
    s->raw_count++;
    pthread_mutex_unlock(&s->lock);
    return false;
}

struct fill {
    int dir_fd;
    const char *name;
    uint64_t bytes;
    bool whole; /* write it full, so that later syncs need no file-system journal */
    int number; /* errno */
};

static int fill_zeros(int fd, uint64_t bytes)
{
    static _Alignas(BLOCK) char zeros[ZEROS]; /* never touched: the kernel's one page of zeros */
    int number = 0;
    for (uint64_t at = 0; number == 0 && at < bytes;) {
        size_t n = bytes - at < ZEROS ? (size_t)(bytes - at) : ZEROS;
        ssize_t put = pwrite(fd, zeros, n, (off_t)at);
        if (put < 0 && errno != EINTR)
            number = errno;
        if (put > 0)
            at += (uint64_t)put;
    }
    return number;
}

/* Past the page cache where the file system lets us: copying zeros through it costs more CPU than the
 * mail that will lie there. */
static int fill_whole(const struct fill *f, int fd)
{
    int direct = openat(f->dir_fd, f->name, O_WRONLY | O_DIRECT | O_CLOEXEC);
    if (direct < 0)
        return fill_zeros(fd, f->bytes);
    int number = fill_zeros(direct, f->bytes);
    (void)close(direct);
    return number == EINVAL ? fill_zeros(fd, f->bytes) : number;
}

static void fill(void *arg)
{
    struct fill *f = arg;
    int fd = openat(f->dir_fd, f->name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        f->number = errno;
        return;
    }
    if (fallocate(fd, 0, 0, (off_t)f->bytes) != 0) {
        f->number = errno;
        if (f->number == EOPNOTSUPP)
            f->number = ftruncate(fd, (off_t)f->bytes) == 0 ? 0 : errno;
    }
    if (f->number == 0 && f->whole)
        f->number = fill_whole(f, fd);
    if (f->number == 0 && fsync(fd) != 0)
        f->number = errno;
    (void)close(fd);
    if (f->number != 0)
        (void)unlinkat(f->dir_fd, f->name, 0);
}

static struct err *create(struct store *s, bool whole, struct segment **out)
{
    struct segment *g = MEM_NEW(struct segment);
    list_init(&g->link);
    g->fd = -1;
    g->size = s->segment_bytes;
    g->unwritten = !whole;
    (void)snprintf(g->name, sizeof g->name, "new-%016llx", (unsigned long long)rand_u64());
    struct fill f = {
        .dir_fd = s->log_dir_fd, .name = g->name, .bytes = s->segment_bytes, .whole = whole};
    offload(fill, &f);
    if (f.number != 0) {
        mem_free(g);
        return err_errno(f.number, "make a log segment in %s", s->directory);
    }
    *out = g;
    return NULL;
}

/* The first of raw, when it is fit for use (or not: `unusable`). */
static struct segment *take_raw(struct store *s, bool unusable)
{
    struct segment *g = NULL;
    pthread_mutex_lock(&s->lock);
    bool many = s->raw_count + s->spare_count > SPARES_MAX;
    if (!list_empty(&s->raw)) {
        g = CONTAINER(s->raw.next, struct segment, link);
        if (unusable ? !g->unusable && !many : g->unusable)
            g = NULL;
    }
    if (g != NULL) {
        list_remove(&g->link);
        s->raw_count--;
    }
    pthread_mutex_unlock(&s->lock);
    return g;
}

static void raw_turn(struct store *s)
{
    struct err *e = sem_take(&s->raw_turn, DEADLINE_NEVER);
    CHECK(e == NULL);
}

static struct err *armed_raw(struct store *s, struct segment **out)
{
    struct err *e = NULL;
    fiber_shield_begin();
    raw_turn(s);
    struct segment *g = take_raw(s, false);
    if (g != NULL)
        e = arm(s, g);
    if (e != NULL)
        (void)discard(s, g);
    sem_give(&s->raw_turn);
    fiber_shield_end();
    *out = e == NULL ? g : NULL;
    return e;
}

static struct err *armed(struct store *s, bool whole, struct segment **out)
{
    struct segment *g = NULL;
    struct err *e = armed_raw(s, &g);
    if (e == NULL && g == NULL) {
        e = create(s, whole, &g);
        if (e == NULL)
            e = arm(s, g);
        if (e != NULL && g != NULL)
            (void)discard(s, g);
    }
    if (e == NULL)
        *out = g;
    return e;
}

struct err *segment_make(struct store *s, struct segment **out)
{
    struct segment *g = NULL;
    struct err *e = armed(s, false, &g);
    if (e != NULL)
        return e;
    segment_known(s, g);
    *out = g;
    return NULL;
}

/* A new file must leave what queue_minfree promises. */
static bool room_for_new(struct store *s)
{
    uint64_t free_bytes = 0, minfree = atomic_load(&s->minfree_bytes);
    struct err *e = file_free_space(s->directory, &free_bytes);
    return e == NULL && free_bytes >= minfree && free_bytes - minfree >= 2 * s->segment_bytes;
}

/* Most of what was written of late is still wanted: a backlog grows. Its segments are not recycled
 * soon, so to write them full in advance would write every byte twice, for syncs that are a little
 * faster once. store.lock held. */
static bool mail_stays(const struct store *s, uint64_t used)
{
    uint64_t live = atomic_load(&s->young_bytes), whole = used;
    int n = 0;
    for (struct list *node = s->segments.prev; node != &s->segments && n <= LOOK_BACK;
         node = node->prev, n++) {
        live += CONTAINER(node, struct segment, link)->rows_bytes;
        whole += n > 0 ? s->segment_bytes : 0;
    }
    return live > whole / 2;
}

struct err *space_prepare(struct store *s, bool *made_out)
{
    struct segment *g = NULL;
    uint64_t used = log_used(&s->log);
    *made_out = false;
    pthread_mutex_lock(&s->lock);
    bool stays = mail_stays(s, used);
    bool enough = s->spare_count >= SPARES_WANTED, recycle = s->raw_count > 0;
    bool early = s->segment_count <= 1;
    pthread_mutex_unlock(&s->lock);
    if (enough || (!recycle && early && used < s->segment_bytes / SPARE_WHEN_USED) ||
        (!recycle && !room_for_new(s)))
        return NULL;
    struct err *e = armed(s, !stays, &g);
    if (e != NULL)
        return e;
    pthread_mutex_lock(&s->lock);
    list_push_back(&s->spares, &g->link);
    s->spare_count++;
    pthread_mutex_unlock(&s->lock);
    *made_out = true;
    return NULL;
}

/* --- giving back */

/* Segments that are no longer written to need no descriptor; there may be thousands. */
static void close_sealed(struct store *s)
{
    int fds[CLOSE_AT_ONCE];
    size_t n = 0;
    pthread_mutex_lock(&s->lock);
    for (struct list *node = s->segments.prev; node != &s->segments && n < CLOSE_AT_ONCE;
         node = node->prev) {
        struct segment *g = CONTAINER(node, struct segment, link);
        if (g->epoch >= s->covered >> 32)
            continue;
        if (g->fd < 0)
            break;
        fds[n++] = g->fd;
        g->fd = -1;
    }
    pthread_mutex_unlock(&s->lock);
    while (n > 0)
        (void)io_close(fds[--n]);
}

/* The oldest one, when no index row points into it, no reader has it open, and the committed index
 * covers the log beyond it. */
static struct segment *detach_oldest(struct store *s)
{
    struct segment *g = NULL;
    pthread_mutex_lock(&s->lock);
    if (s->segment_count > 1 && !store_keeps_all(s)) {
        g = CONTAINER(s->segments.next, struct segment, link);
        if (g->rows_bytes != 0 || g->pins != 0 || g->epoch >= s->covered >> 32 ||
            segment_unread(s, g))
            g = NULL;
    }
    if (g != NULL) {
        list_remove(&g->link);
        (void)umap_del(&s->by_epoch, g->epoch);
        s->segment_count--;
    }
    pthread_mutex_unlock(&s->lock);
    return g;
}

/* For use again, or away. A start without an index that met a MESSAGE, and not its REMOVE in a segment
 * behind it, would bring it back. When this one was freed, what it says of messages in segments freed before it was
 * not kept: so these go first. */
void segment_give(struct store *s, struct segment *g)
{
    bool gone = true;
    fiber_shield_begin();
    raw_turn(s);
    pthread_mutex_lock(&s->lock);
    g->unusable = g->poisoned || g->size != s->segment_bytes;
    list_push_back(&s->raw, &g->link);
    s->raw_count++;
    pthread_mutex_unlock(&s->lock);
    while (gone && (g = take_raw(s, true)) != NULL)
        gone = discard(s, g);
    sem_give(&s->raw_turn);
    fiber_shield_end();
}

void space_free(struct store *s)
{
    struct segment *g;
    close_sealed(s);
    while ((g = detach_oldest(s)) != NULL)
        segment_give(s, g);
}

/* --- accounts */

void space_rows_add(struct store *s, uint64_t epoch, int64_t bytes)
{
    pthread_mutex_lock(&s->lock);
    struct segment *g = umap_get(&s->by_epoch, epoch);
    if (g != NULL)
        g->rows_bytes += (uint64_t)bytes;
    s->rows_bytes += (uint64_t)bytes;
    pthread_mutex_unlock(&s->lock);
}

bool segment_pin(struct store *s, uint64_t epoch, char name_out[SEGMENT_NAME_MAX])
{
    pthread_mutex_lock(&s->lock);
    struct segment *g = umap_get(&s->by_epoch, epoch);
    if (g != NULL) {
        g->pins++;
        memcpy(name_out, g->name, SEGMENT_NAME_MAX);
    }
    pthread_mutex_unlock(&s->lock);
    return g != NULL;
}

void segment_unpin(struct store *s, uint64_t epoch)
{
    pthread_mutex_lock(&s->lock);
    struct segment *g = umap_get(&s->by_epoch, epoch);
    CHECK(g != NULL && g->pins > 0);
    g->pins--;
    pthread_mutex_unlock(&s->lock);
}
