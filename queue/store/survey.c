/* Survey: which segments there are. Those that count become the store's list; of the others none is
 * deleted that could hold mail. segment.h, "Which segments count", is the rule. */
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/ring/ring.h"
#include "queue/store/recover.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { READ_AT_ONCE = 1 << 20, UNREADABLE_MAX = 16 };

/* A place of the disk that has gone bad takes no more with it than what lay there: read block by
 * block, it is zeros, which is damage like any other. */
static struct err *read_around(int fd, const char *name, char *to, uint64_t at, size_t *got_out)
{
    size_t done = 0, got = BLOCK, bad = 0;
    uint64_t first = 0;
    while (done < READ_AT_ONCE && got == BLOCK) {
        struct err *e = io_pread(fd, to + done, BLOCK, at + done, &got);
        if (e != NULL && (e->code != EIO || ++bad > UNREADABLE_MAX))
            return e;
        if (e != NULL) {
            first = bad == 1 ? at + done : first;
            memset(to + done, 0, BLOCK);
            got = BLOCK;
        }
        done += got;
    }
    if (bad > 0)
        log_warning("queue", "log/%s: %zu blocks of 4 KiB cannot be read, the first at byte %llu",
                    name, bad, (unsigned long long)first);
    *got_out = done;
    return NULL;
}

/* around: NULL = no. */
static struct err *read_from(struct store *s, const char *name, uint64_t from, struct buf *out,
                             bool *around)
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
        if (e != NULL && e->code == EIO && around != NULL) {
            *around = true;
            e = read_around(fd, name, to, from + out->len, &got);
        }
        if (e == NULL)
            out->len += got;
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    (void)io_close(fd);
    return e != NULL ? err_in(e, "%s", name) : NULL;
}

struct err *segment_read(struct store *s, const char *name, uint64_t from, struct buf *out)
{
    return read_from(s, name, from, out, NULL);
}

struct err *segment_read_around(struct store *s, const char *name, uint64_t from, struct buf *out,
                                bool *around_out)
{
    *around_out = false;
    return read_from(s, name, from, out, around_out);
}

/* --- which segments there are */

struct found {
    struct segment_header header;
    char name[SEGMENT_NAME_MAX];
    bool named_only;           /* its header block is damaged; the epoch is the name's */
    bool batch_unread;         /* cannot be read: */
    uint8_t batch[BATCH_HEAD]; /* where the first one would begin */
};

static struct found *founds(const struct recovery *r, size_t *count_out)
{
    *count_out = r->found.len / sizeof(struct found);
    return (struct found *)(void *)r->found.ptr;
}

/* The header block and the one behind it. What cannot be read is zeros, and no reason to refuse new
 * mail. */
static struct err *read_head(struct store *s, const char *name, uint8_t *block, size_t *got_out,
                             struct found *f)
{
    int fd = -1;
    struct err *e = io_openat(s->log_dir_fd, name, O_RDONLY, 0, &fd);
    if (e != NULL)
        return e;
    e = io_pread(fd, block, 2 * BLOCK, 0, got_out);
    if (e != NULL && e->code == EIO) {
        size_t got = 0;
        log_warning("queue", "log/%s: its beginning cannot be read", name);
        memset(block, 0, 2 * BLOCK);
        *got_out = 2 * BLOCK;
        if (io_pread(fd, block, BLOCK, 0, &got) != NULL)
            memset(block, 0, BLOCK);
        f->batch_unread = io_pread(fd, block + BLOCK, BLOCK, BLOCK, &got) != NULL;
        if (f->batch_unread)
            memset(block + BLOCK, 0, BLOCK);
        e = NULL;
    }
    (void)io_close(fd);
    return e;
}

static struct err *look_at(struct recovery *r, const char *name)
{
    struct store *s = r->store;
    struct found f = {0};
    uint8_t *block = mem_zalloc(2 * BLOCK);
    size_t got = 0;
    struct err *e = read_head(s, name, block, &got, &f);
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

/* Is there a record of its epoch in it? */
static struct err *look_for_records(struct recovery *r, struct found *f, bool *found_out)
{
    struct store *s = r->store;
    struct segment_scan scan;
    struct scan_item item;
    struct buf bytes = {0};
    bool around = false;
    struct err *e = segment_read_around(s, f->name, BLOCK, &bytes, &around);
    *found_out = false;
    if (e == NULL && s->secret != 0 && f->header.epoch != 0) {
        segment_scan_init(&scan, buf_str(&bytes), BLOCK, f->header.epoch, s->secret);
        while (!*found_out && segment_scan_next(&scan, &item))
            *found_out = item.kind == SCAN_RECORD;
        f->header.size = bytes.len + BLOCK;
    }
    buf_fini(&bytes);
    return e;
}

/* A damaged header block: the bytes behind it decide whether this is a segment of the epoch it is
 * named after. A file whose header was torn while it was being recycled held nothing that is
 * needed. */
static struct err *believe_name(struct recovery *r, struct found *f, bool *keep_out)
{
    struct err *e = look_for_records(r, f, keep_out);
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
    struct batch_head head = {0};
    g->has_data = batch_head_get(f->batch, g->epoch, s->secret, &head) || f->named_only ||
                  f->batch_unread;
    g->after = head.after;
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

/* There is another one of its epoch. A header block of which the disk said that it could not be written may be
 * there after all, when the epoch has long been given to another file: then nothing of it stands behind it, and what
 * the file held before had been freed. */
static struct err *know_twin(struct recovery *r, struct found *f)
{
    bool records = true;
    struct err *e = look_for_records(r, f, &records);
    if (e != NULL || records)
        return e != NULL ? e : move_aside(r, f);
    return io_unlinkat(r->store->log_dir_fd, f->name, 0);
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
        bool twin = !f[i].named_only && f[i].header.secret == s->secret && !keep;
        if (e == NULL)
            e = keep   ? know(r, &f[i], first)
                : twin ? know_twin(r, &f[i])
                       : move_aside(r, &f[i]);
        if (keep) {
            last = f[i].header.epoch;
            if (f[i].header.next_seq > r->next_seq)
                r->next_seq = f[i].header.next_seq;
        }
    }
    return e;
}

struct err *survey(struct recovery *r)
{
    struct err *e = look_around(r);
    return e == NULL ? know_all(r) : e;
}
