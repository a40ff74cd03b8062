#include "core/cmd/import_mail.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "core/import/queue_log.h"
#include "io/base/clock.h"
#include "io/ring/ring.h"
#include "queue/import.h"

enum { LOG_MAX = 256 << 20, LOG_PIECE = 64 * 1024, LOG_DEPTH_MAX = 4, CONTENT_FRAME = 64 * 1024 };

static struct err *source_read(void *ctx, uint64_t at, char *bytes, size_t n, size_t *n_out)
{
    const struct import_mail *m = ctx;
    return io_pread(m->fd, bytes, n, at, n_out);
}

/* --- logs */

static struct err *read_log(int fd, struct buf *out)
{
    size_t got = 1;
    while (got > 0) {
        if (out->len > LOG_MAX)
            return err_new(ERR_LIMIT, 0, "too long");
        struct err *e = io_pread(fd, buf_reserve(out, LOG_PIECE), LOG_PIECE, out->len, &got);
        if (e)
            return e;
        out->len += got;
    }
    return NULL;
}

/* hash_queue_depth may have been another one when it was written. */
static struct err *apply_log(const struct import_dir *d, const char *kind, const char *id, enum rcpt_state state,
                             struct queue_file *f, struct arena *a)
{
    for (unsigned depth = 0; depth <= LOG_DEPTH_MAX; depth++) {
        char path[128];
        int fd;
        int at = snprintf(path, sizeof(path), "%s/", kind);
        if (!queue_log_path(str_of(id), depth, path + at, sizeof(path) - (size_t)at))
            break;
        struct err *e = import_open_file(d->fd, path, 0, &fd);
        if (e && (e->kind == ERR_NOTFOUND || e->code == ENOTDIR))
            continue;
        struct buf log = {0};
        if (!e) {
            e = read_log(fd, &log);
            close(fd);
        }
        if (!e)
            queue_log_apply(buf_str(&log), state, f, a);
        buf_fini(&log);
        return e ? err_in(e, "%s", path) : NULL;
    }
    return NULL;
}

/* --- what it is here */

static void leave_out_done(struct envelope *env)
{
    size_t n = 0;
    for (size_t i = 0; i < env->rcpt_count; i++)
        if (env->rcpts[i].state != RCPT_DONE)
            env->rcpts[n++] = env->rcpts[i];
    env->rcpt_count = n;
}

static void add_attr(struct envelope *env, const char *name, struct str value)
{
    if (value.len > 0)
        env->attrs[env->attr_count++] = (struct attr){str_of(name), value};
}

static void adapt(struct import_mail *m, const struct import_entry *entry, struct arena *a)
{
    struct queue_file *f = &m->file;
    struct envelope *env = &f->env;
    bool deferred = strcmp(entry->queue, "deferred") == 0;
    m->posted = strcmp(entry->queue, "maildrop") == 0;
    m->uid = entry->st.st_uid;
    m->hold = strcmp(entry->queue, "hold") == 0 || f->filter.len > 0;
    if (m->hold)
        env->flags |= ENV_HOLD;
    for (size_t i = 0; deferred && i < env->rcpt_count; i++)
        if (env->rcpts[i].state == RCPT_TODO)
            env->rcpts[i].state = RCPT_DEFERRED;
    /* Postfix keeps the time of the next attempt as that of the last change. */
    int64_t due_us = (int64_t)entry->st.st_mtim.tv_sec * US_PER_S;
    m->due_us = deferred && due_us > clock_wall_us() ? due_us : 0;
    struct attr *more = arena_alloc(a, (env->attr_count + 4) * sizeof(*more));
    if (env->attr_count > 0)
        memcpy(more, env->attrs, env->attr_count * sizeof(*more));
    env->attrs = more;
    add_attr(env, "content_filter", f->filter);
    add_attr(env, "verp_delimiters", f->verp);
    if (m->posted)
        add_attr(env, "full_name", f->full_name);
    add_attr(env, IMPORT_ORIGIN, m->origin);
}

static struct err *read_all(const struct import_dir *d, const struct import_entry *entry, struct arena *a,
                            struct import_mail *m)
{
    struct queue_file *f = &m->file;
    struct stat st;
    if (fstat(m->fd, &st) < 0)
        return err_errno(errno, "stat");
    m->source = (struct queue_file_source){.read = source_read, .ctx = m, .size = (uint64_t)st.st_size};
    struct err *e = queue_file_read(&m->source, a, f);
    if (e)
        return e;
    m->origin = arena_printf(a, "%s/%lld.%06lld", entry->name, (long long)(f->env.arrival_us / US_PER_S),
                             (long long)(f->env.arrival_us % US_PER_S));
    e = apply_log(d, "defer", entry->name, RCPT_DEFERRED, f, a);
    if (!e)
        e = apply_log(d, "bounce", entry->name, RCPT_BOUNCED, f, a);
    if (!e) {
        leave_out_done(&f->env);
        adapt(m, entry, a);
    }
    return e;
}

struct err *import_mail_open(const struct import_dir *d, const struct import_entry *entry, struct arena *a,
                             struct import_mail *out)
{
    *out = (struct import_mail){.fd = -1};
    struct err *e = import_open_file(entry->dir_fd, entry->name, 0, &out->fd);
    if (!e)
        e = read_all(d, entry, a, out);
    if (e)
        import_mail_close(out);
    return e;
}

void import_mail_close(struct import_mail *m)
{
    if (m->fd >= 0)
        close(m->fd);
    m->fd = -1;
}

/* --- sending */

struct sending {
    struct access *access;
    bool mask_cr;
    struct err *wire; /* trouble with the connection, apart from what the source says */
};

static struct err *send_frame(struct sending *s)
{
    struct err *e = wire_send(s->access->fd, &s->access->out);
    wire_begin(&s->access->out, WIRE_CONTENT);
    s->wire = e;
    return e;
}

static struct err *send_piece(void *ctx, struct str text, bool ends)
{
    struct sending *s = ctx;
    struct buf *out = &s->access->out;
    char *at = buf_reserve(out, text.len + 2);
    memcpy(at, text.ptr, text.len);
    queue_file_mask(at, text.len, s->mask_cr);
    out->len += text.len;
    if (ends)
        buf_add_c(out, "\r\n");
    return out->len < CONTENT_FRAME ? NULL : send_frame(s);
}

static struct err *send_line(void *ctx, struct str text, bool ends)
{
    struct sending *s = ctx;
    wire_begin(&s->access->out, WIRE_LINE);
    buf_add_u8(&s->access->out, ends);
    buf_add_str(&s->access->out, text);
    return s->wire = wire_send(s->access->fd, &s->access->out);
}

static struct err *send_lines(struct sending *s, const struct import_mail *m, struct err **unreadable_out)
{
    struct err *e = queue_file_content(&m->source, &m->file, send_line, s);
    if (!s->wire)
        *unreadable_out = e;
    return s->wire;
}

static struct err *send_content(struct sending *s, const struct import_mail *m, struct err **unreadable_out)
{
    wire_begin(&s->access->out, WIRE_CONTENT);
    struct err *e = queue_file_content(&m->source, &m->file, send_piece, s);
    if (s->wire)
        return s->wire;
    *unreadable_out = e;
    return e ? NULL : send_frame(s);
}

struct err *import_mail_send(struct access *a, struct import_mail *m, bool mask_cr, char *id_out,
                             struct err **unreadable_out)
{
    struct sending s = {.access = a, .mask_cr = mask_cr};
    struct str id;
    *unreadable_out = NULL;
    wire_begin(&a->out, m->posted ? WIRE_IMPORT_POST : WIRE_IMPORT_MAIL);
    buf_add_u64(&a->out, (uint64_t)(m->posted ? m->uid : m->due_us));
    if (!m->posted)
        buf_add_u8(&a->out, m->file.warned);
    envelope_pack(&m->file.env, &a->out);
    if (a->out.len > WIRE_FRAME_MAX) {
        *unreadable_out = err_new(ERR_LIMIT, 0, "its envelope of %zu bytes is too long", a->out.len);
        return NULL;
    }
    struct err *e = wire_send(a->fd, &a->out);
    if (!e)
        e = m->posted ? send_lines(&s, m, unreadable_out) : send_content(&s, m, unreadable_out);
    wire_begin(&a->out, *unreadable_out ? WIRE_IMPORT_CANCEL : WIRE_DONE);
    if (!e)
        e = wire_send(a->fd, &a->out);
    if (!e)
        e = access_end(a, NULL, &id);
    if (e && e->kind == ERR_LIMIT && m->posted && !*unreadable_out) {
        *unreadable_out = e;
        return NULL;
    }
    if (!e)
        str_copy(id_out, QUEUE_ID_MAX, id);
    return e;
}
