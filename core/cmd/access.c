#include "core/cmd/access.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cmd/tell.h"
#include "core/server/agents.h"
#include "core/server/control.h"
#include "core/server/engine.h"
#include "core/server/supervise.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/fiber/fiber.h"
#include "io/fiber/offload.h"
#include "io/fiber/worker.h"
#include "io/net/sock.h"
#include "io/proc/proc.h"
#include "io/ring/ring.h"

#define QUEUE_WAIT_S 10

struct running {
    struct access access;
    const char *tag;
    bool may_offline;
    int (*fn)(struct access *a, void *ctx);
    void *ctx;
    int status;
};

/* --- reaching it */

/* The directory's descriptor keeps the name short enough for sun_path. */
static struct err *connect_server(const struct snapshot *s, int *fd_out)
{
    char path[64];
    int dir = open(s->params->queue_directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_errno(errno, "queue_directory %s", s->params->queue_directory);
    snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir, CONTROL_SOCKET);
    struct err *e = sock_connect_unix(path, clock_in_s(10), fd_out);
    close(dir);
    return e;
}

static struct err *open_offline(struct running *r)
{
    struct queue_options qo;
    struct sched_options so;
    struct queue_hooks hooks;
    struct access *a = &r->access;
    agents_hooks(&hooks);
    engine_queue_options(a->snapshot, &qo, &so);
    qo.offline = true;
    struct worker *self = worker_self();
    static struct worker *workers[1];
    workers[0] = self;
    struct err *e = supervise_make_dirs(a->snapshot);
    if (!e && geteuid() == 0)
        e = proc_become(a->snapshot->params->mail_owner);
    if (e)
        return e;
    int64_t until = clock_in_s(QUEUE_WAIT_S); /* another command, or an engine about to end, may have it open */
    while ((e = queue_open(&qo, &hooks, workers, 1, &a->queue)) != NULL)
        if (e->code != EWOULDBLOCK || clock_mono_ns() >= until || fiber_sleep_until(clock_in_ms(50)))
            break;
    return e;
}

bool access_may_offline(const struct snapshot *s)
{
    char log[1024];
    struct stat st;
    if (geteuid() == 0)
        return true;
    snprintf(log, sizeof(log), "%s/log", s->params->queue_directory);
    return (stat(log, &st) == 0 || stat(s->params->queue_directory, &st) == 0) && st.st_uid == geteuid();
}

static bool server_holds(const struct snapshot *s)
{
    struct arena *a = arena_new(0, 0);
    int64_t pid = 0;
    struct err *e = proc_pidfile_holder(supervise_pid_path(s, a), &pid);
    arena_free(a);
    return !e && pid != 0;
}

static void main_fiber(void *arg)
{
    struct running *r = arg;
    struct access *a = &r->access;
    struct err *e = connect_server(a->snapshot, &a->fd);
    if (e && server_holds(a->snapshot))
        e = err_in(e, "the mail system is running, but does not answer");
    else if (e && r->may_offline && command_privileged(a->snapshot))
        e = open_offline(r);
    else if (e)
        e = err_new(ERR_CLOSED, 0, "the mail system is down: start it with \"postfix start\"");
    if (e) {
        fprintf(stderr, "%s: fatal: %s\n", r->tag, e->text);
        r->status = e->kind == ERR_CLOSED ? 75 : 1;
        return;
    }
    r->status = r->fn(a, r->ctx);
    if (a->fd >= 0)
        (void)io_close(a->fd);
    if (a->queue && (e = queue_close(a->queue)) != NULL) {
        fprintf(stderr, "%s: fatal: %s\n", r->tag, e->text);
        r->status = 1;
    }
}

int access_run(const struct snapshot *s, const char *tag, bool may_offline,
               int (*fn)(struct access *a, void *ctx), void *ctx)
{
    struct running r = {.access = {.snapshot = s, .fd = -1, .uid = getuid(), .arena = arena_new(4096, 0)},
                        .tag = tag, .may_offline = may_offline, .fn = fn, .ctx = ctx, .status = 1};
    struct err *e = offload_start(1);
    if (!e)
        e = worker_run_here(&(struct worker_options){.name = tag, .cpu = -1, .ring_entries = 64},
                            main_fiber, &r);
    if (e)
        fprintf(stderr, "%s: fatal: %s\n", tag, e->text);
    offload_stop();
    config_publish(NULL);
    log_stop();
    buf_fini(&r.access.in);
    buf_fini(&r.access.many.bytes);
    buf_fini(&r.access.out);
    arena_free(r.access.arena);
    return r.status;
}

/* --- frames */

/* The next one that is an answer. */
static struct err *next_answer(struct access *a, struct str *body_out, enum wire_verb *verb_out)
{
    struct err *e = NULL;
    for (;;) {
        e = wire_next(a->fd, &a->many, body_out, verb_out);
        bool waits = !e && *verb_out == WIRE_PROGRESS && body_out->len == 1;
        tell_progress(waits ? (uint8_t)body_out->ptr[0] : 100);
        if (!waits)
            return e;
    }
}

/* The queue is open in this process. */
static struct err *await_all(struct access *a)
{
    struct err *e = NULL;
    int percent;
    while (!e && (percent = queue_ready_percent(a->queue)) < 100) {
        tell_progress(percent);
        e = fiber_sleep_until(clock_in_ms(100));
    }
    tell_progress(100);
    return e;
}

static struct err *end_of(struct rd *r, uint64_t *count_out, struct str *text_out)
{
    enum wire_status status = (enum wire_status)rd_u8(r);
    uint64_t count = rd_u64(r);
    struct str text = rd_lstr(r);
    if (r->bad)
        return err_new(ERR_PROTOCOL, 0, "malformed answer from the server");
    if (count_out && status != WIRE_REJECTED)
        *count_out = count; /* an act that ended in trouble has done so many */
    if (status == WIRE_DENIED)
        return err_new(ERR_REFUSED, 0, "%.*s", STR_ARG(text));
    if (status == WIRE_REJECTED)
        return err_new(ERR_LIMIT, (int)count, "%.*s", STR_ARG(text));
    if (status != WIRE_OK)
        return err_new(ERR_IO, 0, "%.*s", STR_ARG(text));
    if (text_out)
        *text_out = text;
    return NULL;
}

static struct err *read_entry(struct access *a, struct str body, struct queue_entry *out)
{
    struct rd r = rd_of(body);
    *out = (struct queue_entry){.seq = rd_u64(&r)};
    str_copy(out->id, sizeof(out->id), rd_lstr(&r));
    out->queue = (enum queue_name)rd_u8(&r);
    out->next_try_us = (int64_t)rd_u64(&r);
    out->forced_expire = rd_u8(&r);
    if (r.bad)
        return err_new(ERR_PROTOCOL, 0, "malformed answer from the server");
    return envelope_unpack(str_make(r.ptr, (size_t)(r.end - r.ptr)), a->arena, &out->env);
}

/* Takes the next frame of the server's answer. False: it was the last, or *err_out says why there is none. */
static bool more(struct access *a, struct str *body_out, uint64_t *count_out, struct str *text_out,
                 struct err **err_out)
{
    enum wire_verb verb;
    *err_out = next_answer(a, body_out, &verb);
    if (*err_out || verb != WIRE_END)
        return !*err_out;
    struct rd r = rd_of(*body_out);
    *err_out = end_of(&r, count_out, text_out);
    return false;
}

/* --- list */

static struct err *list_offline(struct access *a, bool (*each)(void *, const struct queue_entry *),
                                void *ctx)
{
    uint64_t after = 0;
    size_t n;
    struct err *e = await_all(a);
    if (e)
        return e;
    do {
        struct queue_entry *list;
        arena_reset(a->arena);
        e = queue_list(a->queue, after, 256, a->arena, &list, &n);
        if (e)
            return e;
        for (size_t i = 0; i < n; i++) {
            after = list[i].seq;
            if (!each(ctx, &list[i]))
                return NULL;
        }
    } while (n > 0);
    return NULL;
}

struct err *access_list(struct access *a, bool (*each)(void *ctx, const struct queue_entry *e), void *ctx)
{
    if (a->queue)
        return list_offline(a, each, ctx);
    wire_begin(&a->out, WIRE_LIST);
    struct err *e = wire_send(a->fd, &a->out);
    struct str body;
    while (!e && more(a, &body, NULL, NULL, &e)) {
        struct queue_entry entry;
        arena_reset(a->arena);
        e = read_entry(a, body, &entry);
        if (!e && !each(ctx, &entry))
            return NULL;
    }
    return e;
}

/* --- acts */

static struct err *read_ids(struct access *a, void (*each)(void *ctx, const char *id), void *ctx,
                            uint64_t *count_out)
{
    struct err *e;
    struct str body;
    while (more(a, &body, count_out, NULL, &e)) {
        struct rd r = rd_of(body);
        char id[QUEUE_ID_MAX];
        if (str_copy(id, sizeof(id), rd_lstr(&r)) > 0 && each)
            each(ctx, id);
    }
    return e;
}

struct err *access_do(struct access *a, enum queue_act act, const struct queue_select *what,
                      void (*each)(void *ctx, const char *id), void *ctx, uint64_t *count_out)
{
    if (a->queue) {
        struct err *e = what->id.len == 0 ? await_all(a) : NULL;
        return e ? e : queue_do(a->queue, act, what, each, ctx, count_out);
    }
    wire_begin(&a->out, WIRE_DO);
    buf_add_u8(&a->out, (uint8_t)act);
    buf_add_lstr(&a->out, what->id);
    buf_add_u8(&a->out, (uint8_t)what->queue);
    buf_add_lstr(&a->out, what->sender);
    buf_add_lstr(&a->out, what->domain);
    buf_add_lstr(&a->out, what->destination);
    buf_add_u8(&a->out, each != NULL);
    struct err *e = wire_send(a->fd, &a->out);
    return e ? e : read_ids(a, each, ctx, count_out);
}

struct err *access_flush(struct access *a, struct str id, struct str site, bool *found_out)
{
    if (a->queue)
        return err_new(ERR_CLOSED, 0, "the mail system is down");
    uint64_t count = 0;
    wire_begin(&a->out, WIRE_FLUSH);
    buf_add_lstr(&a->out, id);
    buf_add_lstr(&a->out, site);
    struct err *e = wire_send(a->fd, &a->out);
    if (!e)
        e = read_ids(a, NULL, NULL, &count);
    if (!e)
        *found_out = count > 0;
    return e;
}

/* --- one message */

static struct err *find_corrupt(struct access *a, struct str id,
                                void (*entry)(void *, const struct queue_entry *),
                                void (*content)(void *, struct str), void *ctx, bool *found_out)
{
    struct queue_entry found;
    struct corrupt_reader *r;
    struct err *e = queue_find_corrupt(a->queue, id, a->arena, &found, &r, found_out);
    if (e || !*found_out)
        return e;
    entry(ctx, &found);
    for (;;) {
        struct str piece;
        e = corrupt_next(r, &piece);
        if (e || piece.len == 0)
            break;
        content(ctx, piece);
    }
    corrupt_close(r);
    return e;
}

static struct err *find_offline(struct access *a, struct str id,
                                void (*entry)(void *, const struct queue_entry *),
                                void (*content)(void *, struct str), void *ctx, bool *found_out)
{
    struct queue_entry found;
    struct qmsg *m;
    struct content_reader *r;
    struct err *e = queue_find(a->queue, id, a->arena, &found, &m, found_out);
    if (e)
        return e;
    if (!*found_out)
        return find_corrupt(a, id, entry, content, ctx, found_out);
    entry(ctx, &found);
    e = content_open(m, &r);
    while (!e) {
        struct str piece;
        e = content_next(r, &piece);
        if (e || piece.len == 0) {
            content_close(r);
            break;
        }
        content(ctx, piece);
    }
    qmsg_unref(m);
    return e;
}

struct err *access_find(struct access *a, struct str id,
                        void (*entry)(void *ctx, const struct queue_entry *e),
                        void (*content)(void *ctx, struct str piece), void *ctx, bool *found_out)
{
    if (a->queue)
        return find_offline(a, id, entry, content, ctx, found_out);
    wire_begin(&a->out, WIRE_FIND);
    buf_add_lstr(&a->out, id);
    struct err *e = wire_send(a->fd, &a->out);
    while (!e) {
        enum wire_verb verb;
        e = wire_recv(a->fd, &a->in, &verb);
        if (e)
            break;
        if (verb == WIRE_END) {
            uint64_t count = 0;
            struct rd r = rd_of(buf_str(&a->in));
            e = end_of(&r, &count, NULL);
            *found_out = count > 0;
            return e;
        }
        struct queue_entry found;
        if (verb == WIRE_CONTENT)
            content(ctx, buf_str(&a->in));
        else if ((e = read_entry(a, buf_str(&a->in), &found)) == NULL)
            entry(ctx, &found);
    }
    return e;
}

/* --- mail */

static struct err *send_lines(struct access *a, const struct submission *m)
{
    struct str text;
    bool whole;
    struct err *e = NULL;
    while (!e && m->next_line(m->ctx, &text, &whole, &e)) {
        wire_begin(&a->out, WIRE_LINE);
        buf_add_u8(&a->out, whole);
        buf_add_str(&a->out, text);
        e = wire_send(a->fd, &a->out);
    }
    if (e)
        return e;
    wire_begin(&a->out, WIRE_DONE);
    return wire_send(a->fd, &a->out);
}

/* The server is down: this process takes the mail as the server would, and leaves it in the queue for the next start. */
static struct err *serve_here(struct access *a)
{
    struct snapshot *whole;
    int fds[2];
    struct err *e = config_load(a->snapshot->config_dir, NULL, &whole);
    if (e)
        return e;
    config_publish(whole); /* until access_run ends */
    e = engine_log_start(whole, false);
    if (!e && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        e = err_errno(errno, "socketpair");
    if (e)
        return e;
    a->fd = fds[0];
    if (!control_serve(a->queue, fds[1], a->uid))
        return err_new(ERR_LIMIT, 0, "too many fibers");
    return NULL;
}

struct err *access_channel(struct access *a)
{
    return a->queue && a->fd < 0 ? serve_here(a) : NULL;
}

struct err *access_end_of(struct access *a, enum wire_verb verb, uint64_t *count_out, struct str *text_out)
{
    struct rd r = rd_of(buf_str(&a->in));
    return verb == WIRE_END ? end_of(&r, count_out, text_out)
                            : err_new(ERR_PROTOCOL, 0, "malformed answer from the server");
}

struct err *access_end(struct access *a, uint64_t *count_out, struct str *text_out)
{
    enum wire_verb verb;
    struct err *e = wire_recv(a->fd, &a->in, &verb);
    return e ? e : access_end_of(a, verb, count_out, text_out);
}

struct err *access_ask(struct access *a, void (*content)(void *ctx, struct str piece), void *ctx, uint64_t *count_out,
                       struct str *text_out)
{
    struct err *e = wire_send(a->fd, &a->out);
    struct str body;
    while (!e && more(a, &body, count_out, text_out, &e))
        content(ctx, body);
    if (!e && text_out)
        *text_out = arena_str(a->arena, *text_out);
    return e;
}

struct err *access_submit(struct access *a, const struct submission *m, char *id_out)
{
    struct err *e = access_channel(a);
    if (e)
        return e;
    wire_begin(&a->out, WIRE_SUBMIT);
    buf_add_lstr(&a->out, m->sender);
    buf_add_u8(&a->out, m->ret);
    buf_add_lstr(&a->out, m->envid);
    buf_add_lstr(&a->out, m->full_name);
    buf_add_u32(&a->out, m->flags);
    buf_add_u32(&a->out, (uint32_t)m->rcpt_count);
    for (size_t i = 0; i < m->rcpt_count; i++) {
        buf_add_lstr(&a->out, m->rcpts[i]);
        buf_add_u8(&a->out, m->notify);
        buf_add_lstr(&a->out, STR(""));
    }
    e = wire_send(a->fd, &a->out);
    if (!e)
        e = send_lines(a, m);
    enum wire_verb verb;
    /* A server that wants no more has said why before it closed. */
    if (!e || e->kind == ERR_CLOSED)
        e = wire_recv(a->fd, &a->in, &verb);
    if (e)
        return e;
    struct rd r = rd_of(buf_str(&a->in));
    struct str id = STR("");
    e = end_of(&r, NULL, &id);
    if (!e)
        str_copy(id_out, QUEUE_ID_MAX, id);
    return e;
}

/* --- flush */

static int flush_all(struct access *a, void *ctx)
{
    bool found;
    struct err *e = access_flush(a, STR(""), STR(""), &found);
    if (e) {
        fprintf(stderr, "%s: fatal: %s\n", (const char *)ctx, e->text);
        return 1;
    }
    return 0;
}

bool access_is_down(const struct snapshot *s)
{
    return !server_holds(s);
}

int access_flush_all(const struct snapshot *s, const char *tag)
{
    return access_run(s, tag, false, flush_all, (void *)tag);
}
