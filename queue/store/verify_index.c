/* verify: the index's side, and the large contents, whose messages the index names. Both in a process
 * of its own, which tells its parent through a pipe: a page of LMDB that is damaged may end it. */
#include "queue/store/verify_private.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "io/base/mem.h"
#include "io/ring/ring.h"
#include "queue/store/verify_pipe.h"

enum { ROWS_AT_ONCE = 256, LOOKS = 3, LOOK_AGAIN_US = 20000, ROUND_US = 2000000 };

/* --- the two ends of the pipe */

struct frame {
    enum { FRAME_FOUND, FRAME_DONE } what;
    struct finding found;
    uint64_t numbers[4];
};

struct child {
    int fd;
    pid_t pid;
};

static void send_frame(int fd, const struct frame *f)
{
    if (!verify_put(fd, f, sizeof *f))
        _exit(3);
}

static void send_found(void *ctx, const struct finding *f)
{
    send_frame(*(const int *)ctx, &(struct frame){.what = FRAME_FOUND, .found = *f});
}

/* fn ends with FRAME_DONE. What LMDB has to say before it aborts is for nobody. */
static struct err *in_child(struct checking *c, void (*fn)(struct checking *c, int fd),
                            struct child *out)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0)
        return err_errno(errno, "pipe");
    out->pid = fork();
    if (out->pid < 0) {
        int number = errno;
        close(fds[0]);
        close(fds[1]);
        return err_errno(number, "fork");
    }
    if (out->pid == 0) {
        static const int fatal[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
        for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++)
            (void)signal(fatal[i], SIG_DFL);
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        if (null >= 0)
            (void)dup2(null, STDERR_FILENO);
        c->v->ctx = &fds[1];
        c->v->found = send_found;
        fn(c, fds[1]);
        _exit(0);
    }
    close(fds[1]);
    out->fd = fds[0];
    return NULL;
}

/* True: it went well to its end. */
static bool child_ended(struct child *k, int *status_out)
{
    close(k->fd);
    while (waitpid(k->pid, status_out, 0) < 0 && errno == EINTR)
        continue;
    return WIFEXITED(*status_out) && WEXITSTATUS(*status_out) == 0;
}

/* --- rows */

struct rows {
    struct checking *c;
    struct index *x;
    struct arena *arena;
    uint64_t covered;
    uint64_t count, held;
    bool walked;      /* all of them */
    struct umap live; /* epoch -> bytes of records that rows point to */
};

static void unfit(struct rows *r, uint64_t seq, const char *why)
{
    char id[QUEUE_ID_MAX] = "";
    struct index_row row;
    struct envelope *env;
    bool found = false;
    struct err *e = seq != 0 ? index_get(r->x, seq, r->arena, &row, &found) : NULL;
    if (e == NULL && found && index_envelope(&row, r->arena, &env) == NULL)
        store_id(row.flags, env->arrival_us, seq, id);
    verify_tell(r->c, FINDING_INDEX, "index", seq, id, "%s", why);
}

/* A damaged record, named by its row. */
static void name_bad(struct rows *r, uint64_t seq, const char *id)
{
    const struct finding *f = (const struct finding *)(const void *)r->c->bad.ptr;
    for (size_t n = r->c->bad.len / sizeof *f; n > 0; n--, f++) {
        if (f->seq == seq && f->kind == FINDING_RECORD)
            verify_tell(r->c, f->kind, f->where, seq, id, "%s", f->why);
    }
}

/* A server may have moved or removed it since. */
static bool row_is_still(struct rows *r, const struct index_row *row)
{
    struct index_row now;
    bool found = false;
    struct err *e = index_get(r->x, row->seq, NULL, &now, &found);
    return e == NULL && found && now.place.epoch == row->place.epoch && now.place.at == row->place.at;
}

static void check_elsewhere(struct rows *r, const struct index_row *row, const char *id)
{
    struct checking *c = r->c;
    struct record_head head;
    struct message_body body;
    struct buf first = {0};
    char where[64];
    uint64_t pos = row->place.epoch << 32 | row->place.at, log = seen(c, row->seq);
    const struct verify_segment *g = verify_segment_of(c, row->place.epoch);
    bool whole = verify_peek(c, pos, row->seq, &head, &body, &first);
    for (int i = 0; !whole && c->v->running && i < LOOKS; i++) {
        if (g == NULL || !row_is_still(r, row))
            break; /* younger than this look at the log, or not there any more */
        (void)usleep(LOOK_AGAIN_US);
        whole = verify_peek(c, pos, row->seq, &head, &body, &first);
    }
    buf_fini(&first);
    if (!whole && c->v->running && (g == NULL || !row_is_still(r, row)))
        return;
    if (whole) {
        if (!c->v->running && log != 0 && (log & SEEN_POS) > pos && (log & SEEN_POS) < r->covered)
            unfit(r, row->seq, "a row points to an older copy of its message");
        return;
    }
    if (g != NULL)
        verify_at(where, g->name, row->place.at);
    else
        (void)snprintf(where, sizeof where, "log/seg-%016" PRIx64 ":%" PRIu32, row->place.epoch,
                       row->place.at);
    struct finding f = {.kind = FINDING_LOST, .seq = row->seq, .pos = pos};
    str_copy(f.where, sizeof f.where, str_of(where));
    str_copy(f.id, sizeof f.id, str_of(id));
    str_copy(f.why, sizeof f.why, g != NULL ? STR("no whole record of the message is there")
                                            : STR("its log segment is gone"));
    verify_pass_on(c, &f);
}

static void check_row(struct rows *r, const struct index_row *row)
{
    struct checking *c = r->c;
    struct envelope *env;
    char id[QUEUE_ID_MAX];
    uint64_t pos = row->place.epoch << 32 | row->place.at, log = seen(c, row->seq);
    r->count++;
    r->held += (row->flags & MESSAGE_HOLD) != 0;
    (void)umap_put(&r->live, row->place.epoch,
                   (void *)((uintptr_t)umap_get(&r->live, row->place.epoch) + row->place.length));
    if (index_envelope(row, r->arena, &env) != NULL) {
        verify_tell(c, FINDING_INDEX, "index", row->seq, "", "the envelope in a row is damaged");
        return;
    }
    store_id(row->flags, env->arrival_us, row->seq, id);
    if (log != 0)
        see(c, row->seq, log | SEEN_IN_INDEX);
    if (log & SEEN_REMOVED) {
        if ((log & SEEN_POS) < r->covered && !c->v->running)
            verify_tell(c, FINDING_INDEX, "index", row->seq, id, "a row of a removed message");
    } else if ((log & SEEN_POS) != pos) {
        check_elsewhere(r, row, id);
    } else if (log & SEEN_DAMAGED) {
        name_bad(r, row->seq, id);
    } else if (row->place.spilled != ((log & SEEN_SPILLED) != 0)) {
        verify_tell(c, FINDING_INDEX, "index", row->seq, id, "a row is not as its record is");
    }
}

static struct err *walk_rows(struct rows *r)
{
    struct index_row *list = mem_alloc(ROWS_AT_ONCE * sizeof *list);
    uint64_t after = 0;
    size_t n = ROWS_AT_ONCE;
    struct err *e = NULL;
    while (e == NULL && n > 0) {
        arena_reset(r->arena);
        e = index_walk(r->x, after, r->arena, list, ROWS_AT_ONCE, &n);
        for (size_t i = 0; e == NULL && i < n; i++) {
            after = list[i].seq;
            check_row(r, &list[i]);
        }
    }
    mem_free(list);
    return e;
}

/* --- the other tables, of a queue at rest */

static struct err *check_due(struct rows *r)
{
    struct store_due *list = mem_alloc(ROWS_AT_ONCE * sizeof *list), after = {0};
    size_t n = ROWS_AT_ONCE;
    struct err *e = NULL;
    while (e == NULL && n > 0) {
        e = index_due(r->x, after, INT64_MAX, list, ROWS_AT_ONCE, &n);
        for (size_t i = 0; e == NULL && i < n; i++) {
            struct index_row row;
            bool found = false;
            after = list[i];
            e = index_get(r->x, after.seq, NULL, &row, &found);
            if (e == NULL && (!found || (row.flags & MESSAGE_HOLD) != 0 ||
                              (row.due_us > 0 ? row.due_us : 0) != after.due_us))
                unfit(r, after.seq, "a due time that its row does not have");
        }
    }
    mem_free(list);
    return e;
}

static void check_live(void *ctx, uint64_t epoch, uint64_t bytes)
{
    struct rows *r = ctx;
    if ((uintptr_t)umap_get(&r->live, epoch) != bytes)
        unfit(r, 0, "the bytes in use of a segment are counted wrong");
    (void)umap_del(&r->live, epoch);
}

static struct err *check_tables(struct rows *r)
{
    uint64_t count = 0, held = 0;
    struct err *e = index_count(r->x, &count, &held);
    if (e == NULL && (count != r->count || held != r->held))
        unfit(r, 0, "rows and due times are not as many");
    if (e == NULL)
        e = check_due(r);
    if (e == NULL)
        e = index_live(r->x, check_live, r);
    if (e == NULL && r->live.count != 0)
        unfit(r, 0, "the bytes in use of a segment are not counted");
    size_t at = 0;
    uint64_t seq;
    void *value;
    while (e == NULL && umap_next(&r->c->seqs, &at, &seq, &value)) {
        uint64_t log = (uint64_t)(uintptr_t)value;
        if (!(log & (SEEN_IN_INDEX | SEEN_REMOVED | SEEN_DAMAGED)) && (log & SEEN_POS) < r->covered)
            unfit(r, seq, "a message has no row");
    }
    return e;
}

static struct err *check_meta(struct rows *r)
{
    uint64_t secret = 0;
    size_t n = r->c->segments.len / sizeof(struct verify_segment);
    const struct verify_segment *g = (const struct verify_segment *)(void *)r->c->segments.ptr;
    struct err *e = index_meta(r->x, INDEX_SECRET, &secret);
    if (e == NULL)
        e = index_meta(r->x, INDEX_COVERED, &r->covered);
    if (e == NULL && n > 0 && secret != r->c->secret)
        e = err_new(ERR_DAMAGED, 0, "it belongs to another log");
    if (e == NULL && n > 0 && r->covered >> 32 < g[0].epoch)
        e = err_new(ERR_DAMAGED, 0, "it is older than the log");
    return e;
}

static void check_index(struct rows *r, const char *path)
{
    struct err *e = index_open_read(r->c->as, path, &r->x);
    if (e != NULL && e->kind == ERR_NOTFOUND)
        return; /* the next start builds it */
    if (e == NULL)
        e = check_meta(r);
    if (e == NULL)
        e = walk_rows(r);
    r->walked = e == NULL;
    if (e == NULL && !r->c->v->running)
        e = check_tables(r);
    if (e != NULL)
        verify_tell(r->c, FINDING_INDEX, "index", 0, "", "%s", e->text);
}

/* --- large content */

static struct err *sum_file(int fd, uint64_t *size_out, uint64_t *sum_out)
{
    char *piece = mem_alloc(CONTENT_PIECE);
    uint64_t at = 0, sum = 0;
    size_t got = CONTENT_PIECE;
    struct err *e = NULL;
    while (e == NULL && got == CONTENT_PIECE) {
        e = io_pread(fd, piece, CONTENT_PIECE, at, &got);
        if (e == NULL && got > 0)
            sum = content_sum_piece(str_make(piece, got), sum);
        at += e == NULL ? got : 0;
    }
    mem_free(piece);
    *size_out = at;
    *sum_out = sum;
    return e;
}

/* NULL: it is as its record says. */
static const char *content_bad(const struct checking *c, const char *name,
                               const struct message_body *body)
{
    uint64_t size = 0, sum = 0;
    int fd = -1;
    struct err *e = io_openat(c->content_fd, name, O_RDONLY, 0, &fd);
    if (e != NULL)
        return e->kind == ERR_NOTFOUND ? "the content of a message is gone" : e->text;
    e = sum_file(fd, &size, &sum);
    (void)io_close(fd);
    if (e != NULL)
        return e->text;
    if (size != body->content_size)
        return "the content of a message has another length";
    return sum != body->content_sum ? "the content of a message is damaged" : NULL;
}

/* A server may have removed the message meanwhile: its file goes first, and the row with the next round. */
static bool has_row(const struct checking *c, struct index *x, uint64_t seq)
{
    struct index_row row;
    bool found = false;
    return !c->v->running || (x != NULL && index_get(x, seq, NULL, &row, &found) == NULL && found);
}

/* False: it is bad, but that may pass: look again. */
static bool check_content(struct checking *c, struct index *x, uint64_t seq, uint64_t log, bool last)
{
    struct record_head head;
    struct message_body body;
    struct buf first = {0};
    char name[24], where[64], id[QUEUE_ID_MAX] = "";
    (void)snprintf(name, sizeof name, "%016" PRIx64, seq);
    (void)snprintf(where, sizeof where, "content/%s", name);
    const char *bad = verify_peek(c, log & SEEN_POS, seq, &head, &body, &first)
                          ? content_bad(c, name, &body)
                          : NULL; /* the segment has gone on */
    if (bad != NULL && !has_row(c, x, seq))
        bad = NULL;
    if (bad != NULL && last) {
        struct arena *a = arena_new(0, 0);
        struct envelope *env;
        if (envelope_unpack(body.envelope, a, &env) == NULL)
            store_id(body.flags, env->arrival_us, seq, id);
        verify_tell(c, FINDING_CONTENT, where, seq, id, "%s", bad);
        arena_free(a);
    }
    buf_fini(&first);
    return bad == NULL || last;
}

/* Those that looked bad while a server was at work, after it had time for some rounds. */
static void check_again(struct checking *c, struct index *x, struct buf *doubts)
{
    for (int look = 1; look <= LOOKS && doubts->len > 0; look++) {
        struct buf left = {0};
        (void)usleep(ROUND_US);
        for (size_t at = 0; at < doubts->len; at += sizeof(uint64_t)) {
            uint64_t seq;
            memcpy(&seq, doubts->ptr + at, sizeof seq);
            if (!check_content(c, x, seq, seen(c, seq), look == LOOKS))
                buf_add(&left, &seq, sizeof seq);
        }
        buf_fini(doubts);
        *doubts = left;
    }
    buf_fini(doubts);
}

static void find_strays(struct checking *c)
{
    const struct dirent *entry;
    DIR *dir = fdopendir(dup(c->content_fd));
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        unsigned long long seq;
        char where[64];
        if (entry->d_name[0] == '.' || sscanf(entry->d_name, "%16llx", &seq) != 1)
            continue;
        uint64_t log = seen(c, seq);
        (void)snprintf(where, sizeof where, "content/%.40s", entry->d_name);
        if (log == 0 || (log & SEEN_REMOVED))
            verify_tell(c, FINDING_STRAY, where, seq, "", "no message of the log has this content");
    }
    if (dir != NULL)
        (void)closedir(dir);
}

static void check_contents(struct checking *c, struct index *x)
{
    size_t at = 0;
    uint64_t seq;
    void *value;
    struct buf doubts = {0};
    while (umap_next(&c->seqs, &at, &seq, &value)) {
        uint64_t log = (uint64_t)(uintptr_t)value;
        c->v->messages += !(log & SEEN_REMOVED);
        if (!(log & SEEN_SPILLED) || (log & SEEN_REMOVED))
            continue;
        c->v->large++;
        if (!check_content(c, x, seq, log, !c->v->running))
            buf_add(&doubts, &seq, sizeof seq);
    }
    check_again(c, x, &doubts);
    if (!c->v->running)
        find_strays(c);
}

/* --- both */

static void rest_in_child(struct checking *c, int fd)
{
    struct rows r = {.c = c, .arena = arena_new(65536, 0)};
    struct buf path = {0};
    buf_printf(&path, "%s/index", c->v->directory);
    check_index(&r, path.ptr);
    check_contents(c, r.x);
    send_frame(fd, &(struct frame){.what = FRAME_DONE,
                                   .numbers = {r.count, c->v->messages, c->v->large, r.walked}});
}

/* What the index's side tells of: a record that is bad is named by it, a gap is where it misses one. */
static void compare_bad(struct checking *c, const struct finding *told)
{
    struct finding *f = (struct finding *)(void *)c->bad.ptr;
    for (size_t n = c->bad.len / sizeof *f; n > 0; n--, f++) {
        if (f->kind == FINDING_RECORD && f->seq == told->seq && strcmp(f->where, told->where) == 0)
            f->kind = FINDING_TORN; /* told */
        if (f->kind == FINDING_GAP && told->kind == FINDING_LOST && told->pos >= f->pos &&
            told->pos < f->pos + f->bytes)
            f->seq = told->seq;
    }
}

/* Is anybody worse off for it? */
static bool is_scar(const struct checking *c, const struct finding *f, bool walked)
{
    uint64_t log = seen(c, f->seq);
    if (f->kind == FINDING_GAP)
        return walked && !c->v->index_unfit && f->seq == 0;
    return (log & SEEN_REMOVED) != 0 || (f->kind == FINDING_RECORD && !(log & SEEN_DAMAGED));
}

static void tell_bad(struct checking *c, bool walked)
{
    struct finding *f = (struct finding *)(void *)c->bad.ptr;
    for (size_t n = c->bad.len / sizeof *f; n > 0; n--, f++) {
        if (f->kind == FINDING_TORN)
            continue;
        if (is_scar(c, f, walked))
            f->kind = FINDING_SCAR;
        if (f->kind == FINDING_GAP)
            f->seq = 0;
        verify_pass_on(c, f);
    }
}

struct err *verify_rest(struct checking *c)
{
    struct child k;
    struct frame f;
    int status = 0;
    bool done = false, walked = false;
    struct err *e = in_child(c, rest_in_child, &k);
    if (e != NULL)
        return e;
    while (verify_get(k.fd, &f, sizeof f)) {
        if (f.what == FRAME_FOUND) {
            verify_pass_on(c, &f.found);
            compare_bad(c, &f.found);
            continue;
        }
        done = true;
        c->v->rows = f.numbers[0];
        c->v->messages = f.numbers[1];
        c->v->large = f.numbers[2];
        walked = f.numbers[3] != 0;
    }
    if (!child_ended(&k, &status) || !done) {
        verify_tell(c, FINDING_INDEX, "index", 0, "", "it is damaged: reading it ended with %s",
                    WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "an error");
        check_contents(c, NULL);
    }
    tell_bad(c, walked);
    return NULL;
}

static void secret_in_child(struct checking *c, int fd)
{
    struct buf path = {0};
    struct index *x = NULL;
    struct frame f = {.what = FRAME_DONE};
    buf_printf(&path, "%s/index", c->v->directory);
    if (index_open_read(c->as, path.ptr, &x) == NULL && index_meta(x, INDEX_SECRET, &f.numbers[0]) == NULL)
        send_frame(fd, &f);
}

uint64_t verify_secret(struct checking *c)
{
    struct child k;
    struct frame f = {0};
    int status = 0;
    if (in_child(c, secret_in_child, &k) != NULL)
        return 0;
    uint64_t secret = verify_get(k.fd, &f, sizeof f) ? f.numbers[0] : 0;
    (void)child_ended(&k, &status);
    return secret;
}
