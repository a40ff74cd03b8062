/* Recovery: find the segments, replay the log behind the position the index covers, into the index.
 * When it is done the index tells of every message; the scheduler needs to know nothing of the log.
 * Without an index (deleted, damaged, of another queue) everything is replayed from the oldest
 * segment. */
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

enum { READ_AT_ONCE = 1 << 20, SEQ_GAP = 65536 };

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
            e = io_unlinkat(s->log_dir_fd, entry->d_name, 0); /* was never given an epoch */
        else if (str_starts(name, STR("seg-")) && name.len < SEGMENT_NAME_MAX)
            e = look_at(r, entry->d_name);
    }
    (void)closedir(dir);
    return e;
}

static int by_epoch(const void *a, const void *b)
{
    uint64_t x = ((const struct found *)a)->header.epoch,
             y = ((const struct found *)b)->header.epoch;
    return x < y ? -1 : x > y;
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

static struct err *know(struct recovery *r, const struct found *f)
{
    struct store *s = r->store;
    struct segment *g = MEM_NEW(struct segment);
    struct err *e = NULL;
    list_init(&g->link);
    g->epoch = f->header.epoch;
    g->size = f->header.size;
    g->fd = -1;
    struct batch_head head;
    g->has_data = f->named_only || batch_head_get(f->batch, g->epoch, s->secret, &head);
    segment_name(g->epoch, g->name);
    /* The rename may have been lost. */
    if (strcmp(g->name, f->name) != 0)
        e = io_renameat(s->log_dir_fd, f->name, s->log_dir_fd, g->name);
    if (e != NULL) {
        mem_free(g);
        return e;
    }
    segment_known(s, g);
    return NULL;
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
    for (size_t i = 0; i < n; i++) {
        if (!f[i].named_only && s->secret == 0)
            s->secret = f[i].header.secret;
    }
    if (s->secret == 0)
        s->secret = r->index_secret;
    for (size_t i = 0; e == NULL && i < n; i++) {
        bool keep =
            !f[i].named_only && f[i].header.secret == s->secret && f[i].header.epoch != last;
        if (f[i].named_only && f[i].header.epoch != last)
            e = believe_name(r, &f[i], &keep);
        if (e == NULL && !keep)
            e = io_unlinkat(s->log_dir_fd, f[i].name, 0);
        else if (e == NULL)
            e = know(r, &f[i]);
        if (keep) {
            last = f[i].header.epoch;
            if (f[i].header.next_seq > r->next_seq)
                r->next_seq = f[i].header.next_seq;
        }
    }
    return e;
}

/* --- the index's side */

static struct err *index_anew(struct store *s, const char *path, const char *why)
{
    struct buf name = {0};
    static const char *const files[] = {"data.mdb", "lock.mdb"};
    log_warning("queue", "%s: %s: it is built again from the log", path, why);
    index_close(s->index);
    s->index = NULL;
    for (size_t i = 0; i < 2; i++) {
        buf_reset(&name);
        buf_printf(&name, "%s/%s", path, files[i]);
        if (unlink(name.ptr) != 0 && errno != ENOENT) {
            struct err *e = err_errno(errno, "%s", name.ptr);
            buf_fini(&name);
            return e;
        }
    }
    buf_fini(&name);
    s->covered = 0;
    return index_open(s, path, &s->index);
}

/* Does what the index says fit the log that is there? */
static const char *index_unfit(const struct store *s, uint64_t secret, uint64_t covered)
{
    if (secret == 0 && covered == 0)
        return NULL; /* new */
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

static struct err *check_index(struct recovery *r, const char *path)
{
    struct store *s = r->store;
    struct err *e = NULL;
    const char *why =
        r->index_why.len != 0 ? r->index_why.ptr : index_unfit(s, r->index_secret, s->covered);
    if (why != NULL)
        e = index_anew(s, path, why);
    if (e == NULL)
        e = index_live(s->index, live_each, s);
    return e;
}

static struct err *finish(struct recovery *r)
{
    struct store *s = r->store;
    uint64_t last = s->covered >> 32;
    if (!list_empty(&s->segments)) {
        uint64_t newest = CONTAINER(s->segments.prev, struct segment, link)->epoch;
        last = newest > last ? newest : last;
    }
    s->next_epoch = last + 1;
    s->covered = log_pos(s->next_epoch, 0);
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

/* Files of drafts that were never committed, or of messages whose removal is in the log. */
static struct err *sweep_content(struct store *s)
{
    struct err *e = NULL;
    const struct dirent *entry;
    DIR *dir = fdopendir(dup(s->content_dir_fd));
    if (dir == NULL)
        return err_errno(errno, "%s/content", s->directory);
    rewinddir(dir);
    while (e == NULL && (entry = readdir(dir)) != NULL) {
        unsigned long long seq;
        struct index_row row;
        bool found = false;
        if (entry->d_name[0] == '.' || sscanf(entry->d_name, "%16llx", &seq) != 1)
            continue;
        e = index_get(s->index, seq, NULL, &row, &found);
        if (e == NULL && !found)
            e = io_unlinkat(s->content_dir_fd, entry->d_name, 0);
    }
    (void)closedir(dir);
    return e;
}

struct err *recover(struct store *s)
{
    struct recovery r = {.store = s, .arena = arena_new(65536, 0)};
    struct buf path = {0};
    buf_printf(&path, "%s/index", s->directory);
    struct err *e = open_index(&r, path.ptr);
    if (e == NULL)
        e = look_around(&r);
    if (e == NULL)
        e = know_all(&r);
    bool first_time = s->secret == 0;
    while (s->secret == 0)
        s->secret = rand_u64();
    if (e == NULL)
        e = check_index(&r, path.ptr);
    if (e == NULL)
        e = replay(&r);
    if (s->covered == 0 && !first_time)
        r.next_seq += SEQ_GAP; /* numbers may have been given that no record tells of */
    if (r.next_seq < FIRST_SEQ)
        r.next_seq = FIRST_SEQ;
    if (e == NULL)
        e = finish(&r);
    if (e == NULL)
        e = sweep_content(s);
    atomic_store(&s->next_seq, r.next_seq);
    umap_fini(&r.rows);
    arena_free(r.arena);
    buf_fini(&r.found);
    buf_fini(&r.doubts);
    buf_fini(&r.index_why);
    buf_fini(&path);
    return e;
}
