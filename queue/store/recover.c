/* Recovery: find the segments, replay the log behind the position the index covers, into the index.
 * When it is done the index tells of every message; the scheduler needs to know nothing of the log.
 * Without an index (deleted, damaged, of another queue) everything is replayed from the oldest
 * segment. When that is much, it is left to rebuild.c, and only what new mail needs is found out
 * here: the secret, an epoch and numbers that were never given. */
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/base/rand.h"
#include "io/file/file.h"
#include "io/ring/ring.h"
#include "queue/store/recover.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_AT_ONCE = 1 << 20, SEQ_GAP = 65536, SWEEP_SLICE = 256 };

struct err *segment_read(struct store *s, const char *name, uint64_t from, struct buf *out)
{
    int fd = -1;
    size_t got = READ_AT_ONCE;
    struct err *e = io_openat(s->log_dir_fd, name, O_RDONLY, 0, &fd);
    if (e != NULL)
        return e;
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    buf_reset(out);
    while (e == NULL && got == READ_AT_ONCE) {
        char *to = buf_reserve(out, READ_AT_ONCE);
        e = io_pread(fd, to, READ_AT_ONCE, from + out->len, &got);
        if (e == NULL)
            out->len += got;
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    (void)io_close(fd);
    return e != NULL ? err_in(e, "%s", name) : NULL;
}

/* --- which segments there are */

struct found {
    struct segment_header header;
    char name[SEGMENT_NAME_MAX];
    bool named_only;           /* its header block is damaged; the epoch is the name's */
    uint8_t batch[BATCH_HEAD]; /* where the first one would begin */
};

static struct found *founds(const struct recovery *r, size_t *count_out)
{
    *count_out = r->found.len / sizeof(struct found);
    return (struct found *)(void *)r->found.ptr;
}

static struct err *look_at(struct recovery *r, const char *name)
{
    struct store *s = r->store;
    struct found f = {0};
    uint8_t *block = mem_zalloc(2 * BLOCK);
    size_t got = 0;
    int fd = -1;
    struct err *e = io_openat(s->log_dir_fd, name, O_RDONLY, 0, &fd);
    if (e == NULL) {
        e = io_pread(fd, block, 2 * BLOCK, 0, &got);
        (void)io_close(fd);
    }
    if (e == NULL) {
        unsigned long long epoch = 0;
        str_copy(f.name, sizeof f.name, str_of(name));
        memcpy(f.batch, block + BLOCK, BATCH_HEAD);
        if (got >= BLOCK && segment_header_version(block) > SEGMENT_FORMAT)
            e = err_new(ERR_REFUSED, 0,
                        "a newer version of this program has written it (format %u, known here: %u)",
                        segment_header_version(block), (unsigned)SEGMENT_FORMAT);
        f.named_only = got < BLOCK || !segment_header_get(block, &f.header);
        if (f.named_only && sscanf(name, "seg-%16llx", &epoch) == 1)
            f.header.epoch = epoch;
        buf_add(&r->found, &f, sizeof f);
    }
    mem_free(block);
    return e != NULL ? err_in(e, "%s", name) : NULL;
}

static struct err *look_around(struct recovery *r)
{
    struct store *s = r->store;
    struct err *e = NULL;
    const struct dirent *entry;
    DIR *dir = fdopendir(dup(s->log_dir_fd));
    if (dir == NULL)
        return err_errno(errno, "%s/log", s->directory);
    rewinddir(dir);
    while (e == NULL && (entry = readdir(dir)) != NULL) {
        struct str name = str_of(entry->d_name);
        if (str_starts(name, STR("new-")))
            e = io_unlinkat(s->log_dir_fd, entry->d_name, 0); /* was never given an epoch: zeros */
        else if (str_starts(name, STR("seg-")) && name.len < SEGMENT_NAME_MAX)
            e = look_at(r, entry->d_name);
    }
    (void)closedir(dir);
    return e;
}

static bool named_right(const struct found *f)
{
    char name[SEGMENT_NAME_MAX];
    segment_name(f->header.epoch, name);
    return strcmp(name, f->name) == 0;
}

/* Of two of one epoch the one that is named after it comes first, and is believed. */
static int by_epoch(const void *a, const void *b)
{
    const struct found *f = a, *g = b;
    uint64_t x = f->header.epoch, y = g->header.epoch;
    if (x != y)
        return x < y ? -1 : 1;
    return (int)named_right(g) - (int)named_right(f);
}

/* A damaged header block: the bytes behind it decide whether this is a segment of the epoch it is
 * named after. A file whose header was torn while it was being recycled held nothing that is
 * needed. */
static struct err *believe_name(struct recovery *r, struct found *f, bool *keep_out)
{
    struct store *s = r->store;
    struct segment_scan scan;
    struct scan_item item;
    struct buf bytes = {0};
    struct err *e = segment_read(s, f->name, BLOCK, &bytes);
    *keep_out = false;
    if (e == NULL && s->secret != 0 && f->header.epoch != 0) {
        segment_scan_init(&scan, buf_str(&bytes), BLOCK, f->header.epoch, s->secret);
        while (!*keep_out && segment_scan_next(&scan, &item))
            *keep_out = item.kind == SCAN_RECORD;
        f->header.size = bytes.len + BLOCK;
    }
    buf_fini(&bytes);
    if (e == NULL && *keep_out)
        log_warning("queue", "log/%s: the header block is damaged; its records are used", f->name);
    return e;
}

static bool name_is_taken(const struct recovery *r, const char *name)
{
    size_t n;
    const struct found *f = founds(r, &n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(f[i].name, name) == 0)
            return true;
    }
    return false;
}

static struct err *know(struct recovery *r, const struct found *f, uint64_t first)
{
    struct store *s = r->store;
    struct segment *g = MEM_NEW(struct segment); /* zeros */
    struct err *e = NULL;
    list_init(&g->link);
    g->epoch = f->header.epoch;
    g->size = f->header.size;
    g->fd = -1;
    struct batch_head head;
    g->has_data = f->named_only || batch_head_get(f->batch, g->epoch, s->secret, &head);
    segment_name(g->epoch, g->name);
    /* The rename may have been lost. Nothing is renamed over another file: any name will do that no
     * new segment gets. */
    bool renamed = !named_right(f);
    while (renamed && name_is_taken(r, g->name) && strlen(g->name) + 1 < sizeof g->name)
        g->name[strlen(g->name)] = 'x';
    if (renamed)
        e = io_renameat(s->log_dir_fd, f->name, s->log_dir_fd, g->name);
    if (e != NULL) {
        mem_free(g);
        return e;
    }
    if (g->epoch < first)
        segment_give(s, g);
    else
        segment_known(s, g);
    return NULL;
}

/* Not one of ours, or there twice, or nothing in it can be read: no reason to delete it. */
static struct err *move_aside(struct recovery *r, const struct found *f)
{
    struct store *s = r->store;
    struct buf to = {0};
    const char *why = f->named_only ? "its header block is damaged, and no record in it can be told"
                      : f->header.secret != s->secret ? "it belongs to another log"
                                                      : "there is another one of its epoch";
    buf_printf(&to, "%s.%llx", f->name, (unsigned long long)clock_wall_us());
    log_warning("queue", "log/%s: %s: moved to corrupt/%s", f->name, why, to.ptr);
    struct err *e = io_renameat(s->log_dir_fd, f->name, s->corrupt_dir_fd, to.ptr);
    atomic_fetch_add_explicit(&s->corrupt, 1, memory_order_relaxed);
    buf_fini(&to);
    return e;
}

/* The index's, when a header block has it too; else the one that most of them have. */
static void find_secret(struct recovery *r)
{
    struct store *s = r->store;
    size_t n, votes = 0;
    const struct found *f = founds(r, &n);
    for (size_t i = 0; i < n; i++) {
        if (f[i].named_only)
            continue;
        if (f[i].header.secret == r->index_secret) {
            s->secret = r->index_secret;
            return;
        }
        if (votes == 0)
            s->secret = f[i].header.secret;
        votes = f[i].header.secret == s->secret ? votes + 1 : votes - 1;
    }
    if (s->secret == 0)
        s->secret = r->index_secret;
}

/* Each header block tells with which epoch the log began when it was written. */
static uint64_t first_needed(const struct recovery *r)
{
    size_t n;
    uint64_t first = 0;
    const struct found *f = founds(r, &n);
    for (size_t i = 0; i < n; i++) {
        if (!f[i].named_only && f[i].header.secret == r->store->secret && f[i].header.first > first)
            first = f[i].header.first;
    }
    return first;
}

static struct err *know_all(struct recovery *r)
{
    struct store *s = r->store;
    size_t n;
    struct found *f = founds(r, &n);
    struct err *e = NULL;
    uint64_t last = 0;
    if (n > 0)
        qsort(f, n, sizeof *f, by_epoch);
    find_secret(r);
    uint64_t first = first_needed(r);
    for (size_t i = 0; e == NULL && i < n; i++) {
        bool keep =
            !f[i].named_only && f[i].header.secret == s->secret && f[i].header.epoch != last;
        if (f[i].named_only && f[i].header.epoch != last)
            e = believe_name(r, &f[i], &keep);
        if (e == NULL)
            e = keep ? know(r, &f[i], first) : move_aside(r, &f[i]);
        if (keep) {
            last = f[i].header.epoch;
            if (f[i].header.next_seq > r->next_seq)
                r->next_seq = f[i].header.next_seq;
        }
    }
    return e;
}

/* --- the index's side */

/* Does what the index says fit the log that is there? */
static const char *index_unfit(const struct store *s, uint64_t secret, uint64_t covered)
{
    if (list_empty(&s->segments))
        return "the log is gone";
    if (secret != s->secret)
        return "it belongs to another log";
    if (covered >> 32 < CONTAINER(s->segments.next, struct segment, link)->epoch)
        return "it is older than the log";
    return NULL;
}

static void live_each(void *ctx, uint64_t epoch, uint64_t bytes)
{
    space_rows_add(ctx, epoch, (int64_t)bytes);
}

/* What it says of itself; damage is no error but a reason to build it again. */
static struct err *open_index(struct recovery *r, const char *path)
{
    struct store *s = r->store;
    index_trial_begin(s, &r->index_why);
    if (r->index_why.len != 0)
        return NULL;
    struct err *e = index_open(s, path, &s->index);
    if (e == NULL)
        e = index_meta(s->index, INDEX_SECRET, &r->index_secret);
    if (e == NULL)
        e = index_meta(s->index, INDEX_COVERED, &s->covered);
    if (e == NULL)
        e = index_meta(s->index, INDEX_NEXT_SEQ, &r->next_seq);
    if (e != NULL && e->kind == ERR_DAMAGED) {
        buf_add_c(&r->index_why, e->text);
        e = NULL;
    }
    return e;
}

static struct err *start_anew(struct recovery *r, const char *why)
{
    struct store *s = r->store;
    struct err *e = index_renew(s, why);
    r->anew = true;
    umap_fini(&r->rows);
    arena_reset(r->arena);
    buf_reset(&r->doubts);
    return e;
}

/* There was no index, or nothing in it. */
static struct err *begin_fresh(struct recovery *r)
{
    struct store *s = r->store;
    s->covered = log_begin_pos(s);
    r->anew = !list_empty(&s->segments);
    if (r->anew)
        log_warning("queue", "%s/index is gone: it is built again from the log", s->directory);
    return NULL;
}

static struct err *check_index(struct recovery *r)
{
    struct store *s = r->store;
    struct err *e = NULL;
    if (r->index_why.len == 0 && r->index_secret == 0 && s->covered == 0)
        return begin_fresh(r);
    const char *why =
        r->index_why.len != 0 ? r->index_why.ptr : index_unfit(s, r->index_secret, s->covered);
    if (why != NULL)
        return start_anew(r, why);
    e = index_live(s->index, live_each, s);
    return e != NULL && e->kind == ERR_DAMAGED ? start_anew(r, e->text) : e;
}

/* Numbers that were given are told of by the newest batches, and by the header blocks. */
static struct err *find_next_seq(struct recovery *r)
{
    struct store *s = r->store;
    struct err *e = NULL;
    LIST_EACH(&s->segments, node)
    {
        const struct segment *g = CONTAINER(node, struct segment, link);
        struct segment_scan scan;
        struct scan_item item;
        struct buf bytes = {0};
        if (e != NULL || g->epoch < r->last)
            continue;
        e = segment_read(s, g->name, BLOCK, &bytes);
        segment_scan_init(&scan, buf_str(&bytes), BLOCK, g->epoch, s->secret);
        while (e == NULL && segment_scan_next(&scan, &item)) {
            if (item.kind == SCAN_RECORD && item.head.seq >= r->next_seq)
                r->next_seq = item.head.seq + 1;
        }
        if (scan.next_seq > r->next_seq)
            r->next_seq = scan.next_seq;
        if (e == NULL && g->epoch > r->last && scan_found_nothing(&scan))
            buf_add(&r->empty, &g->epoch, sizeof g->epoch);
        buf_fini(&bytes);
    }
    return e;
}

/* Now, or behind the back of those who send mail. */
static struct err *bring_up(struct recovery *r)
{
    struct store *s = r->store;
    r->from = s->covered;
    if (bytes_behind(s, r->from, log_pos(r->last, UINT32_MAX)) > s->replay_at_once) {
        s->first_new = UINT64_MAX; /* until the number is known */
        return find_next_seq(r);
    }
    struct err *e = replay(r);
    if (e == NULL || e->kind != ERR_DAMAGED || r->anew)
        return e;
    e = start_anew(r, e->text);
    return e == NULL ? bring_up(r) : e;
}

static struct err *finish(struct recovery *r)
{
    struct store *s = r->store;
    struct err *e = index_begin(s->index);
    if (e != NULL)
        return e;
    e = index_set(s->index, INDEX_SECRET, s->secret);
    if (e == NULL)
        e = index_set(s->index, INDEX_COVERED, s->covered);
    if (e == NULL)
        e = index_set(s->index, INDEX_NEXT_SEQ, r->next_seq);
    if (e != NULL) {
        index_abort(s->index);
        return e;
    }
    return index_commit(s->index);
}

/* What earlier starts began, and nothing was written to: else each of many starts in a row, none of
 * which lives to free anything, would leave one. */
static void use_empty_again(struct recovery *r)
{
    struct store *s = r->store;
    for (size_t at = 0; at < r->empty.len; at += sizeof(uint64_t)) {
        uint64_t epoch;
        memcpy(&epoch, r->empty.ptr + at, sizeof epoch);
        pthread_mutex_lock(&s->lock);
        struct segment *g = umap_get(&s->by_epoch, epoch);
        if (g != NULL && g->rows_bytes != 0)
            g = NULL;
        if (g != NULL) {
            (void)umap_del(&s->by_epoch, epoch);
            list_remove(&g->link);
            s->segment_count--;
        }
        pthread_mutex_unlock(&s->lock);
        if (g != NULL)
            segment_give(s, g);
    }
}

/* Where the new log begins. */
static uint64_t epoch_to_be(const struct store *s)
{
    uint64_t last = s->covered >> 32;
    if (!list_empty(&s->segments)) {
        uint64_t newest = CONTAINER(s->segments.prev, struct segment, link)->epoch;
        last = newest > last ? newest : last;
    }
    return last + 1;
}

/* --- content without a row */

/* When something was set aside last; 0 = there is nothing. */
static int64_t damage_time(struct store *s)
{
    int64_t latest = 0;
    const struct dirent *entry;
    struct stat st;
    DIR *dir = fdopendir(dup(s->corrupt_dir_fd));
    if (dir == NULL)
        return 0;
    rewinddir(dir);
    while ((entry = readdir(dir)) != NULL) {
        if (!str_ends(str_of(entry->d_name), STR(".content")) && entry->d_name[0] != '.' &&
            fstatat(s->corrupt_dir_fd, entry->d_name, &st, 0) == 0 && st.st_mtime > latest)
            latest = st.st_mtime;
    }
    (void)closedir(dir);
    return latest;
}

static struct err *drop_content(struct store *s, const char *name, int64_t damage_s)
{
    struct stat st;
    struct buf to = {0};
    if (damage_s == 0 || fstatat(s->content_dir_fd, name, &st, 0) != 0 || st.st_mtime > damage_s)
        return io_unlinkat(s->content_dir_fd, name, 0);
    buf_printf(&to, "%s.content", name);
    log_warning("queue", "corrupt/%s: no whole record tells of it, and the log was damaged: set aside",
                to.ptr);
    struct err *e = io_renameat(s->content_dir_fd, name, s->corrupt_dir_fd, to.ptr);
    buf_fini(&to);
    return e;
}

/* Numbers of drafts that were never committed: their files are not to be written over, nor taken for a new
 * draft's when they are swept out. */
static void number_above_content(struct recovery *r)
{
    const struct dirent *entry;
    uint64_t most = r->next_seq + SEQ_GAP;
    DIR *dir = fdopendir(dup(r->store->content_dir_fd));
    if (dir == NULL)
        return;
    rewinddir(dir);
    while ((entry = readdir(dir)) != NULL) {
        unsigned long long seq;
        if (entry->d_name[0] != '.' && sscanf(entry->d_name, "%16llx", &seq) == 1 &&
            seq >= r->next_seq && seq < most)
            r->next_seq = seq + 1;
    }
    (void)closedir(dir);
}

struct err *sweep_content(struct store *s, uint64_t below)
{
    struct err *e = NULL;
    const struct dirent *entry;
    int64_t damage_s = damage_time(s);
    size_t n = 0;
    DIR *dir = fdopendir(dup(s->content_dir_fd));
    if (dir == NULL)
        return err_errno(errno, "%s/content", s->directory);
    rewinddir(dir);
    while (e == NULL && !s->stopping && (entry = readdir(dir)) != NULL) {
        unsigned long long seq;
        struct index_row row;
        bool found = false;
        if (entry->d_name[0] == '.' || sscanf(entry->d_name, "%16llx", &seq) != 1 || seq >= below)
            continue;
        e = index_get(s->index, seq, NULL, &row, &found);
        if (e == NULL && !found)
            e = drop_content(s, entry->d_name, damage_s);
        if (e != NULL && e->kind == ERR_NOTFOUND)
            e = NULL;
        if (++n % SWEEP_SLICE == 0)
            fiber_yield();
    }
    (void)closedir(dir);
    return e;
}

static struct err *recover_with(struct recovery *r, const char *path)
{
    struct store *s = r->store;
    struct err *e = open_index(r, path);
    if (e == NULL)
        e = look_around(r);
    if (e == NULL)
        e = know_all(r);
    bool first_time = s->secret == 0;
    while (s->secret == 0)
        s->secret = rand_u64();
    if (e == NULL)
        e = check_index(r);
    if (e != NULL)
        return e;
    s->next_epoch = epoch_to_be(s);
    r->end = log_pos(s->next_epoch, 0);
    r->last = last_with_data(s);
    e = bring_up(r);
    if (e != NULL)
        return e;
    use_empty_again(r);
    if ((r->anew || s->first_new != 0) && !first_time)
        r->next_seq += SEQ_GAP; /* numbers may have been given that no record tells of */
    if (r->next_seq < FIRST_SEQ)
        r->next_seq = FIRST_SEQ;
    number_above_content(r);
    atomic_store(&s->next_seq, r->next_seq);
    s->rebuild.end = r->end;
    s->rebuild.last = r->last;
    s->rebuild.sweep = true;
    s->rebuild.sweep_below = r->next_seq;
    if (s->first_new != 0)
        s->first_new = r->next_seq;
    else
        s->covered = r->end;
    return finish(r);
}

struct err *recover(struct store *s)
{
    struct recovery r;
    struct buf path = {0};
    recovery_init(&r, s);
    buf_printf(&path, "%s/index", s->directory);
    struct err *e = recover_with(&r, path.ptr);
    recovery_fini(&r);
    buf_fini(&path);
    return e;
}
