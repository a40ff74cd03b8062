/* Recovery: find the segments, replay the log behind the position the index covers, into the index.
 * When it is done the index tells of every message; the scheduler needs to know nothing of the log.
 * Without an index (deleted, damaged, of another queue) everything is replayed from the oldest segment. */
#include "io/base/check.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/base/rand.h"
#include "io/file/file.h"
#include "io/ring/ring.h"
#include "queue/store/private.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROWS_MAX = 4096, ROWS_BYTES_MAX = 64 << 20, READ_AT_ONCE = 1 << 20, SEQ_GAP = 65536 };

void corrupt_save(struct store *s, const char *name, struct str bytes, const char *why)
{
    struct buf path = {0};
    buf_printf(&path, "%s/corrupt/%s", s->directory, name);
    struct err *e = file_replace(path.ptr, bytes, 0600);
    if (e != NULL)
        log_warning("queue", "corrupt/%s: %s: %zu bytes could not be set aside: %s", name, why,
                    bytes.len, e->text);
    else
        log_warning("queue", "corrupt/%s: %s: %zu bytes set aside", name, why, bytes.len);
    atomic_fetch_add_explicit(&s->corrupt, 1, memory_order_relaxed);
    buf_fini(&path);
}

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
    bool named_only; /* its header block is damaged; the epoch is the name's */
    uint8_t batch[BATCH_HEAD]; /* where the first one would begin */
};

/* Damage that may turn out to be a torn write. */
struct doubt {
    struct scan_item item;
    uint64_t batches; /* seen before it */
    const char *why;
};

struct recovery {
    struct store *store;
    struct buf found; /* of struct found */
    struct arena *arena;
    struct umap rows; /* seq -> struct replay_row */
    struct buf doubts; /* of struct doubt, in the segment being replayed */
    uint64_t next_seq;
    uint64_t index_secret;
    struct buf index_why; /* why the index is of no use; empty = it is */
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
    uint64_t x = ((const struct found *)a)->header.epoch, y = ((const struct found *)b)->header.epoch;
    return x < y ? -1 : x > y;
}

/* A damaged header block: the bytes behind it decide whether this is a segment of the epoch it is named
 * after. A file whose header was torn while it was being recycled held nothing that is needed. */
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
        bool keep = !f[i].named_only && f[i].header.secret == s->secret && f[i].header.epoch != last;
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

/* --- replay */

struct replay_row {
    uint64_t seq;
    bool exists, removed;
    uint32_t flags;
    int64_t due_us;
    struct qmsg_place place;
    struct envelope *env;
};

static struct err *row_get(struct recovery *r, uint64_t seq, struct replay_row **out)
{
    struct replay_row *row = umap_get(&r->rows, seq);
    if (row == NULL) {
        struct index_row stored;
        row = ARENA_NEW(r->arena, struct replay_row);
        row->seq = seq;
        struct err *e = index_get(r->store->index, seq, r->arena, &stored, &row->exists);
        if (e == NULL && row->exists)
            e = envelope_unpack(stored.envelope, r->arena, &row->env);
        if (e != NULL)
            return e;
        if (row->exists) {
            row->flags = stored.flags;
            row->due_us = stored.due_us;
            row->place = stored.place;
        }
        (void)umap_put(&r->rows, seq, row);
    }
    *out = row;
    return NULL;
}

static struct err *rows_flush(struct recovery *r)
{
    struct index *x = r->store->index;
    struct buf packed = {0};
    size_t at = 0;
    uint64_t seq;
    void *value;
    struct err *e = index_begin(x);
    if (e != NULL)
        return e;
    while (e == NULL && umap_next(&r->rows, &at, &seq, &value)) {
        const struct replay_row *row = value;
        if (!row->exists || row->removed) {
            e = index_del(x, seq);
            continue;
        }
        buf_reset(&packed);
        envelope_pack(row->env, &packed);
        e = index_put(x, &(struct index_row){.seq = seq,
                                             .flags = row->flags,
                                             .due_us = row->due_us,
                                             .place = row->place,
                                             .envelope = buf_str(&packed)});
    }
    buf_fini(&packed);
    if (e != NULL) {
        index_abort(x);
        return e;
    }
    umap_fini(&r->rows);
    arena_reset(r->arena);
    return index_commit(x);
}

static void set_aside(struct recovery *r, const struct segment_scan *scan,
                      const struct scan_item *item, const char *why)
{
    struct doubt d = {.item = *item, .batches = scan->batches, .why = why};
    buf_add(&r->doubts, &d, sizeof d);
}

/* A batch that follows proves that what stood before it had been written. */
static void settle_doubts(struct recovery *r, uint64_t epoch, uint64_t batches)
{
    const struct doubt *d = (const struct doubt *)(const void *)r->doubts.ptr;
    size_t n = r->doubts.len / sizeof *d;
    if (n == 0 || batches <= d[n - 1].batches)
        return;
    for (size_t i = 0; i < n; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "seg-%016" PRIx64 "-%08" PRIx32, epoch, d[i].item.at);
        corrupt_save(r->store, name, d[i].item.bytes, d[i].why);
    }
    buf_reset(&r->doubts);
}

static struct err *apply_message(struct recovery *r, const struct segment_scan *scan,
                                 const struct scan_item *item)
{
    uint64_t epoch = scan->epoch;
    struct message_body body;
    struct replay_row *row = NULL;
    bool good = message_unpack(&item->head, item->bytes, &body);
    if (good && (body.bits & BODY_SPILLED) == 0)
        good = content_sum(body.content) == body.content_sum;
    if (!good) {
        set_aside(r, scan, item, "a message is damaged");
        return NULL;
    }
    struct err *e = row_get(r, item->head.seq, &row);
    if (e != NULL || row->removed)
        return e;
    /* A row that is there already may know more than this first record; a copy knows all until here. */
    if (!row->exists || (body.bits & BODY_COPY) != 0) {
        e = envelope_unpack(arena_str(r->arena, body.envelope), r->arena, &row->env);
        if (e != NULL) {
            set_aside(r, scan, item, "an envelope is damaged");
            return NULL;
        }
        row->flags = body.flags;
        row->due_us = body.due_us;
    }
    row->exists = true;
    if (log_pos(epoch, item->at) >= log_pos(row->place.epoch, row->place.at))
        row->place = (struct qmsg_place){.epoch = epoch,
                                         .at = item->at,
                                         .length = RECORD_HEAD + item->head.length,
                                         .spilled = (body.bits & BODY_SPILLED) != 0};
    return NULL;
}

static struct err *apply(struct recovery *r, const struct segment_scan *scan,
                         const struct scan_item *item)
{
    struct replay_row *row = NULL;
    struct mark mark;
    if (item->head.seq >= r->next_seq)
        r->next_seq = item->head.seq + 1;
    if (item->head.type == RECORD_MESSAGE)
        return apply_message(r, scan, item);
    bool good = hash_sum(item->bytes.ptr, item->bytes.len, 0) == item->head.body_sum;
    if (good && item->head.type == RECORD_MARK)
        good = mark_unpack(item->bytes, r->arena, &mark);
    if (!good) {
        set_aside(r, scan, item, "a mark is damaged");
        return NULL;
    }
    struct err *e = row_get(r, item->head.seq, &row);
    if (e != NULL || !row->exists)
        return e;
    if (item->head.type == RECORD_REMOVE) {
        row->removed = true;
    } else {
        mark_apply(&mark, row->env, r->arena);
        row->flags = mark.flags;
        row->due_us = mark.due_us;
    }
    return NULL;
}

/* is_end: no later segment was written to, so the end of this one may be torn. */
static struct err *replay_segment(struct recovery *r, const struct segment *g, uint32_t from,
                                  bool is_end)
{
    struct store *s = r->store;
    struct segment_scan scan;
    struct scan_item item;
    struct buf bytes = {0};
    struct err *e = segment_read(s, g->name, from, &bytes);
    segment_scan_init(&scan, buf_str(&bytes), from, g->epoch, s->secret);
    while (e == NULL && segment_scan_next(&scan, &item)) {
        settle_doubts(r, g->epoch, scan.batches);
        if (item.kind == SCAN_GAP)
            set_aside(r, &scan, &item, "the log is damaged here");
        else
            e = apply(r, &scan, &item);
        if (e == NULL && (r->rows.count >= ROWS_MAX || arena_used(r->arena) >= ROWS_BYTES_MAX))
            e = rows_flush(r);
    }
    if (scan.next_seq > r->next_seq)
        r->next_seq = scan.next_seq;
    settle_doubts(r, g->epoch, is_end ? scan.batches : UINT64_MAX);
    if (r->doubts.len != 0)
        log_info("queue", "log/%s: the last write is torn: %zu damaged places in it are left out", g->name,
                 r->doubts.len / sizeof(struct doubt));
    buf_reset(&r->doubts);
    buf_fini(&bytes);
    return e;
}

static uint64_t last_with_data(const struct store *s)
{
    for (struct list *node = s->segments.prev; node != &s->segments; node = node->prev) {
        const struct segment *g = CONTAINER(node, struct segment, link);
        if (g->has_data)
            return g->epoch;
    }
    return 0;
}

static struct err *replay(struct recovery *r)
{
    struct store *s = r->store;
    struct err *e = NULL;
    uint64_t last = last_with_data(s);
    LIST_EACH(&s->segments, node)
    {
        const struct segment *g = CONTAINER(node, struct segment, link);
        uint32_t from = BLOCK;
        if (g->epoch < s->covered >> 32)
            continue;
        if (g->epoch == s->covered >> 32)
            from = (uint32_t)s->covered < BLOCK ? BLOCK : (uint32_t)s->covered;
        if (e == NULL && from < g->size)
            e = replay_segment(r, g, from, g->epoch >= last);
    }
    return e == NULL ? rows_flush(r) : e;
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
    const char *why = r->index_why.len != 0 ? r->index_why.ptr
                                            : index_unfit(s, r->index_secret, s->covered);
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
