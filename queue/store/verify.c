/* verify: the log's side. */
#include "queue/store/verify_private.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "io/base/arena.h"
#include "io/base/mem.h"
#include "io/ring/ring.h"

enum { READ_AT_ONCE = 1 << 20 };

/* --- telling */

void verify_tell(struct checking *c, enum finding_kind kind, const char *where, uint64_t seq,
                 const char *id, const char *fmt, ...)
{
    struct finding f = {.kind = kind, .seq = seq};
    va_list ap;
    str_copy(f.where, sizeof f.where, str_of(where));
    str_copy(f.id, sizeof f.id, str_of(id));
    va_start(ap, fmt);
    (void)vsnprintf(f.why, sizeof f.why, fmt, ap);
    va_end(ap);
    verify_pass_on(c, &f);
}

void verify_pass_on(struct checking *c, const struct finding *f)
{
    c->v->damaged += f->kind >= FINDING_HEADER;
    c->v->index_unfit |= f->kind == FINDING_INDEX;
    c->v->found(c->v->ctx, f);
}

void verify_at(char where[64], const char *segment, uint32_t at)
{
    (void)snprintf(where, 64, "log/%s:%" PRIu32, segment, at);
}

/* --- segments */

static struct verify_segment *segments(const struct checking *c, size_t *count_out)
{
    *count_out = c->segments.len / sizeof(struct verify_segment);
    return (struct verify_segment *)(void *)c->segments.ptr;
}

const struct verify_segment *verify_segment_of(const struct checking *c, uint64_t epoch)
{
    size_t n;
    const struct verify_segment *g = segments(c, &n);
    for (size_t low = 0; low < n;) {
        size_t mid = low + (n - low) / 2;
        if (g[mid].epoch == epoch)
            return &g[mid];
        if (g[mid].epoch < epoch)
            low = mid + 1;
        else
            n = mid;
    }
    return NULL;
}

static int by_epoch(const void *left, const void *right)
{
    const struct verify_segment *l = left, *r = right;
    return (l->epoch > r->epoch) - (l->epoch < r->epoch);
}

static struct err *read_at(int dir_fd, const char *name, uint64_t from, size_t most, struct buf *out)
{
    int fd = -1;
    size_t got = 1;
    struct err *e = io_openat(dir_fd, name, O_RDONLY, 0, &fd);
    if (e != NULL)
        return e;
    (void)posix_fadvise(fd, 0, 0, most > BLOCK ? POSIX_FADV_SEQUENTIAL : POSIX_FADV_RANDOM);
    buf_reset(out);
    while (e == NULL && out->len < most && got > 0) {
        size_t n = most - out->len < READ_AT_ONCE ? most - out->len : READ_AT_ONCE;
        e = io_pread(fd, buf_reserve(out, n), n, from + out->len, &got);
        if (e == NULL)
            out->len += got;
    }
    /* A server writes past the page cache: it must not find old blocks there later. */
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    (void)io_close(fd);
    return e;
}

/* The header block decides which segment it is, and the name where that is damaged. */
static struct err *add_segment(struct checking *c, const char *name)
{
    struct verify_segment g = {0};
    struct segment_header h;
    struct buf head = {0};
    unsigned long long named = 0;
    struct stat st;
    struct err *e = read_at(c->log_fd, name, 0, BLOCK + BATCH_HEAD, &head);
    if (e == NULL && fstatat(c->log_fd, name, &st, 0) == 0)
        g.bytes = (uint64_t)st.st_size;
    if (e != NULL && e->kind != ERR_IO) /* what cannot be read may still be told of by its name */
        return e->kind == ERR_NOTFOUND && c->v->running ? NULL : err_in(e, "log/%s", name);
    str_copy(g.name, sizeof g.name, str_of(name));
    (void)sscanf(name, "seg-%16llx", &named);
    g.epoch = named;
    g.header_bad = head.len < BLOCK || !segment_header_get((const uint8_t *)head.ptr, &h);
    if (!g.header_bad) {
        g.epoch = h.epoch;
        if (c->v->running) /* it may be about to be renamed: the header block is written first */
            segment_name(g.epoch, g.name);
        c->secret = c->secret != 0 ? c->secret : h.secret;
        c->first = h.first > c->first ? h.first : c->first;
    }
    struct batch_head batch = {0};
    g.has_data = (head.len >= BLOCK + BATCH_HEAD &&
                  batch_head_get((const uint8_t *)head.ptr + BLOCK, g.epoch, h.secret, &batch)) ||
                 g.header_bad;
    g.after = batch.after;
    buf_fini(&head);
    buf_add(&c->segments, &g, sizeof g);
    return NULL;
}

static struct err *find_segments(struct checking *c)
{
    struct err *e = NULL;
    const struct dirent *entry;
    DIR *dir = fdopendir(dup(c->log_fd));
    if (dir == NULL)
        return err_errno(errno, "%s/log", c->v->directory);
    while (e == NULL && (entry = readdir(dir)) != NULL) {
        if (strncmp(entry->d_name, "seg-", 4) == 0 && strlen(entry->d_name) < SEGMENT_NAME_MAX)
            e = add_segment(c, entry->d_name);
    }
    (void)closedir(dir);
    size_t n;
    struct verify_segment *g = segments(c, &n);
    if (n > 0)
        qsort(g, n, sizeof *g, by_epoch);
    /* What is older than the log's begin, as the newest header block knows it, is only waiting to be
     * used again. */
    size_t old = 0;
    while (old < n && g[old].epoch < c->first)
        old++;
    if (old > 0)
        memmove(g, g + old, (n - old) * sizeof *g);
    c->segments.len = (n - old) * sizeof *g;
    c->v->segments = n - old;
    return e;
}

/* --- records */

static const char *message_bad(const struct scan_item *item, struct message_body *body)
{
    if (!message_unpack(&item->head, item->bytes, body))
        return "the envelope of a message is damaged";
    if ((body->bits & BODY_SPILLED) == 0 && content_sum(body->content) != body->content_sum)
        return "the content of a message is damaged";
    return NULL;
}

/* body_out is filled in for messages. NULL: nothing is wrong. */
static const char *record_bad(const struct scan_item *item, struct message_body *body_out)
{
    if (item->kind == SCAN_GAP)
        return "the log is damaged";
    if (item->head.type == RECORD_MESSAGE)
        return message_bad(item, body_out);
    if (hash_sum(item->bytes.ptr, item->bytes.len, 0) != item->head.body_sum)
        return item->head.type == RECORD_MARK ? "a mark is damaged" : "a removal is damaged";
    return NULL;
}

static void take(struct checking *c, uint64_t epoch, const struct scan_item *item, const char *bad,
                 const struct message_body *body)
{
    uint64_t pos = epoch << 32 | item->at, seq = item->head.seq;
    if (item->kind == SCAN_GAP)
        return;
    c->v->records++;
    if (item->head.type == RECORD_REMOVE && bad == NULL) {
        see(c, seq, pos | SEEN_REMOVED);
    } else if (item->head.type == RECORD_MESSAGE && !(seen(c, seq) & SEEN_REMOVED)) {
        if (bad != NULL)
            see(c, seq, pos | SEEN_DAMAGED);
        else
            see(c, seq, pos | (body->bits & BODY_SPILLED ? SEEN_SPILLED : 0));
    }
}

static struct finding finding_of(const struct verify_segment *g, const struct scan_item *item,
                                 const char *bad, const struct message_body *body)
{
    struct finding f = {.kind = FINDING_GAP, .pos = g->epoch << 32 | item->at};
    verify_at(f.where, g->name, item->at);
    if (item->kind == SCAN_GAP) {
        f.bytes = item->bytes.len;
        (void)snprintf(f.why, sizeof f.why, "%s: %zu bytes", bad, item->bytes.len);
        return f;
    }
    (void)snprintf(f.why, sizeof f.why, "%s", bad);
    f.seq = item->head.seq;
    f.kind = item->head.type == RECORD_MESSAGE ? FINDING_RECORD : FINDING_MARK;
    struct arena *a = arena_new(0, 0);
    struct envelope *env;
    if (item->head.type == RECORD_MESSAGE && body->envelope.len > 0 &&
        envelope_unpack(body->envelope, a, &env) == NULL)
        store_id(body->flags, env->arrival_us, f.seq, f.id);
    arena_free(a);
    return f;
}

/* --- one segment */

struct doubt {
    struct finding f;
    uint64_t batches; /* seen before it */
    uint32_t at;
};

static void scan(struct checking *c, const struct verify_segment *g, struct str bytes, bool first,
                 struct buf *doubts, uint64_t *batches_out)
{
    struct segment_scan s;
    struct scan_item item;
    segment_scan_init(&s, bytes, BLOCK, g->epoch, c->secret);
    while (segment_scan_next(&s, &item)) {
        struct message_body body = {0};
        const char *bad = record_bad(&item, &body);
        if (bad != NULL) {
            struct doubt d = {.f = finding_of(g, &item, bad, &body), .batches = s.batches,
                              .at = item.at};
            buf_add(doubts, &d, sizeof d);
        }
        if (first)
            take(c, g->epoch, &item, bad, &body);
        if (first && c->v->item != NULL)
            c->v->item(c->v->ctx, &s, &item, bad);
    }
    *batches_out = s.batches;
}

/* Where the log ended when the next segment was begun; what stands behind it was torn then, or failed. */
static uint64_t end_before(const struct checking *c, uint64_t epoch)
{
    size_t n;
    const struct verify_segment *g = segments(c, &n);
    for (size_t i = 0; i < n; i++) {
        if (g[i].epoch > epoch && g[i].has_data)
            return g[i].after != 0 ? g[i].after : UINT64_MAX;
    }
    return UINT64_MAX;
}

/* A batch that follows proves that what stood before it had been written. It is told when the index has
 * said what the ids are, and whether anybody misses it. */
static void settle(struct checking *c, const struct buf *doubts, uint64_t epoch, uint64_t batches)
{
    uint64_t end = end_before(c, epoch);
    const struct doubt *d = (const struct doubt *)(const void *)doubts->ptr;
    for (size_t n = doubts->len / sizeof *d; n > 0; n--, d++) {
        const struct finding *f = &d->f;
        if (d->batches >= batches || log_pos(epoch, d->at) >= end)
            verify_tell(c, FINDING_TORN, f->where, f->seq, f->id, "the last write is cut short: %s",
                        f->why);
        else
            buf_add(&c->bad, f, sizeof *f);
    }
}

/* 0: it is damaged, or gone. */
static uint64_t epoch_now(const struct checking *c, const struct verify_segment *g)
{
    struct segment_header h = {0};
    struct buf head = {0};
    struct err *e = read_at(c->log_fd, g->name, 0, BLOCK, &head);
    if (e != NULL || head.len < BLOCK || !segment_header_get((const uint8_t *)head.ptr, &h))
        h.epoch = 0;
    buf_fini(&head);
    return h.epoch;
}

/* While a server writes, what was damaged must be so a second time, in a segment that is still the
 * same. */
static void keep_what_stays(struct checking *c, const struct verify_segment *g, struct buf *doubts,
                            uint64_t *batches)
{
    struct buf bytes = {0}, again = {0}, both = {0};
    struct err *e = read_at(c->log_fd, g->name, BLOCK, SIZE_MAX, &bytes);
    if (e == NULL)
        scan(c, g, buf_str(&bytes), false, &again, batches);
    bool same = e == NULL && epoch_now(c, g) == (g->header_bad ? 0 : g->epoch);
    const struct doubt *d = (const struct doubt *)(const void *)doubts->ptr;
    for (size_t i = 0; same && i < doubts->len / sizeof *d; i++) {
        const struct doubt *k = (const struct doubt *)(const void *)again.ptr;
        for (size_t n = again.len / sizeof *k; n > 0; n--, k++) {
            if (strcmp(k->f.where, d[i].f.where) == 0) {
                buf_add(&both, k, sizeof *k);
                break;
            }
        }
    }
    buf_fini(doubts);
    buf_fini(&again);
    buf_fini(&bytes);
    *doubts = both;
}

static void check_segment(struct checking *c, const struct verify_segment *g, bool is_end,
                                 struct buf *bytes)
{
    struct buf doubts = {0};
    uint64_t batches = 0;
    char where[64];
    struct err *e = read_at(c->log_fd, g->name, BLOCK, SIZE_MAX, bytes);
    verify_at(where, g->name, 0);
    if (e != NULL && !(e->kind == ERR_NOTFOUND && c->v->running))
        verify_tell(c, FINDING_GAP, where, 0, "", "a segment cannot be read: %s", e->text);
    if (e != NULL)
        return;
    if (g->header_bad && epoch_now(c, g) == 0)
        verify_tell(c, FINDING_HEADER, where, 0, "", "the header block of a segment is damaged");
    scan(c, g, buf_str(bytes), true, &doubts, &batches);
    if (c->v->running && doubts.len != 0)
        keep_what_stays(c, g, &doubts, &batches);
    settle(c, &doubts, g->epoch, is_end ? batches : UINT64_MAX);
    buf_fini(&doubts);
}

static void check_log(struct checking *c)
{
    size_t n;
    const struct verify_segment *g = segments(c, &n);
    uint64_t all = 0, done = 0, last = 0;
    struct buf bytes = {0};
    for (size_t i = 0; i < n; i++) {
        all += g[i].bytes;
        last = g[i].has_data ? g[i].epoch : last;
    }
    for (size_t i = 0; i < n; i++) {
        check_segment(c, &g[i], g[i].epoch >= last, &bytes);
        done += g[i].bytes;
        if (c->v->progress != NULL)
            c->v->progress(c->v->ctx, done, all);
    }
    buf_fini(&bytes);
}

bool verify_peek(const struct checking *c, uint64_t pos, uint64_t seq, struct record_head *head_out,
                 struct message_body *body_out, struct buf *first_out)
{
    const struct verify_segment *g = verify_segment_of(c, pos >> 32);
    uint32_t len = 0, at = (uint32_t)pos;
    bool ok = false;
    if (g == NULL || read_at(c->log_fd, g->name, at, RECORD_HEAD + MESSAGE_FIXED, first_out) != NULL)
        return false;
    struct str bytes = buf_str(first_out);
    ok = record_head_get(bytes, pos >> 32, c->secret, head_out) && head_out->seq == seq &&
         head_out->type == RECORD_MESSAGE && bytes.len == RECORD_HEAD + MESSAGE_FIXED &&
         message_unpack_fixed(str_from(bytes, RECORD_HEAD), body_out, &len) &&
         len <= head_out->length;
    if (!ok || read_at(c->log_fd, g->name, at + RECORD_HEAD, MESSAGE_FIXED + len, first_out) != NULL)
        return false;
    return message_unpack(head_out, buf_str(first_out), body_out);
}

/* --- all of it */

static struct err *open_folder(const struct verify *v, const char *name, int *fd_out)
{
    struct buf path = {0};
    buf_printf(&path, "%s/%s", v->directory, name);
    struct err *e = io_openat(AT_FDCWD, path.ptr, O_RDONLY | O_DIRECTORY, 0, fd_out);
    buf_fini(&path);
    return e;
}

struct err *verify_queue(struct verify *v)
{
    struct checking c = {
        .v = v, .as = MEM_NEW(struct store), .log_fd = -1, .content_fd = -1};
    struct err *e = open_folder(v, "log", &c.log_fd);
    if (e == NULL)
        e = open_folder(v, "content", &c.content_fd);
    if (e == NULL)
        e = find_segments(&c);
    if (e == NULL && c.secret == 0)
        c.secret = verify_secret(&c);
    c.as->secret = c.secret;
    if (e == NULL) {
        check_log(&c);
        e = verify_rest(&c);
    }
    buf_fini(&c.segments);
    buf_fini(&c.bad);
    umap_fini(&c.seqs);
    mem_free(c.as);
    if (c.log_fd >= 0)
        (void)io_close(c.log_fd);
    if (c.content_fd >= 0)
        (void)io_close(c.content_fd);
    return e;
}
