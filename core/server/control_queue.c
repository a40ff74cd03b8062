/* control_queue: listing, acting and looking, for postqueue, postsuper and postcat. */
#include "core/server/control_private.h"

#define SLICE 64

static void entry_frame(struct buf *b, const struct queue_entry *e)
{
    wire_begin(b, WIRE_ENTRY);
    buf_add_u64(b, e->seq);
    buf_add_lstr(b, str_of(e->id));
    buf_add_u8(b, (uint8_t)e->queue);
    buf_add_u64(b, (uint64_t)e->next_try_us);
    buf_add_u8(b, e->forced_expire);
    envelope_pack(e->env, b);
}

static struct err *end_error(struct caller *c, struct err *e)
{
    char text[ERR_TEXT_MAX];
    str_copy(text, sizeof(text), str_of(e->text));
    return wire_send_end(c->fd, &c->out, WIRE_ERROR, 0, str_of(text));
}

struct err *control_list(struct caller *c, struct rd *body)
{
    (void)body;
    uint64_t after = 0, total = 0;
    size_t n;
    do {
        struct queue_entry *list;
        arena_reset(c->arena);
        struct err *e = queue_list(c->queue, after, SLICE, c->arena, &list, &n);
        if (e)
            return end_error(c, e);
        for (size_t i = 0; i < n; i++) {
            entry_frame(&c->out, &list[i]);
            e = wire_send(c->fd, &c->out);
            if (e)
                return e;
            after = list[i].seq;
        }
        total += n;
    } while (n > 0);
    return wire_send_end(c->fd, &c->out, WIRE_OK, total, STR(""));
}

static void collect_id(void *ctx, const char *id)
{
    struct buf *ids = ctx;
    buf_add_lstr(ids, str_of(id));
}

static struct err *send_ids(struct caller *c, const struct buf *ids)
{
    struct rd r = rd_of(buf_str(ids));
    while (r.ptr < r.end) {
        wire_begin(&c->out, WIRE_ID);
        buf_add_lstr(&c->out, rd_lstr(&r));
        struct err *e = wire_send(c->fd, &c->out);
        if (e)
            return e;
    }
    return NULL;
}

struct err *control_do(struct caller *c, struct rd *body)
{
    enum queue_act act = (enum queue_act)rd_u8(body);
    struct queue_select what = {.id = rd_lstr(body)};
    what.queue = (enum queue_name)rd_u8(body);
    if (body->bad || act > QUEUE_ACT_EXPIRE || what.queue > QUEUE_CORRUPT)
        return wire_send_end(c->fd, &c->out, WIRE_ERROR, 0, STR("malformed request"));
    struct buf ids = {0};
    uint64_t count = 0;
    struct err *e;
    if (act == QUEUE_ACT_REQUEUE)
        e = control_requeue(c->queue, &what, collect_id, &ids, &count);
    else
        e = queue_do(c->queue, act, &what, collect_id, &ids, &count);
    if (e) {
        buf_fini(&ids);
        return end_error(c, e);
    }
    e = send_ids(c, &ids);
    buf_fini(&ids);
    return e ? e : wire_send_end(c->fd, &c->out, WIRE_OK, count, STR(""));
}

struct err *control_flush(struct caller *c, struct rd *body)
{
    struct str id = rd_lstr(body);
    struct str site = rd_lstr(body);
    bool found;
    struct err *e = queue_flush(c->queue, id, site, &found);
    if (e)
        return end_error(c, e);
    return wire_send_end(c->fd, &c->out, WIRE_OK, found, STR(""));
}

static struct err *send_content(struct caller *c, struct qmsg *m)
{
    struct content_reader *r;
    struct err *e = content_open(m, &r);
    if (e)
        return end_error(c, e);
    for (;;) {
        struct str piece;
        e = content_next(r, &piece);
        if (e) {
            content_close(r);
            return end_error(c, e);
        }
        if (piece.len == 0)
            break;
        wire_begin(&c->out, WIRE_CONTENT);
        buf_add_str(&c->out, piece);
        e = wire_send(c->fd, &c->out);
        if (e) {
            content_close(r);
            return e;
        }
    }
    content_close(r);
    return wire_send_end(c->fd, &c->out, WIRE_OK, 1, STR(""));
}

struct err *control_find(struct caller *c, struct rd *body)
{
    struct queue_entry entry;
    struct qmsg *m;
    bool found;
    struct err *e = queue_find(c->queue, rd_lstr(body), c->arena, &entry, &m, &found);
    if (e)
        return end_error(c, e);
    if (!found)
        return wire_send_end(c->fd, &c->out, WIRE_OK, 0, STR(""));
    entry_frame(&c->out, &entry);
    e = wire_send(c->fd, &c->out);
    if (!e)
        e = send_content(c, m);
    qmsg_unref(m);
    return e;
}

struct err *control_counts(struct caller *c, struct rd *body)
{
    (void)body;
    struct queue_counts q = queue_counts(c->queue);
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {{"active", q.active},         {"deferred", q.deferred},   {"hold", q.hold},
                {"incoming", q.incoming},     {"corrupt", q.corrupt},     {"log_bytes", q.log_bytes},
                {"live_bytes", q.live_bytes}, {"segments", q.segments}};
    uint32_t n = sizeof(rows) / sizeof(rows[0]);
    wire_begin(&c->out, WIRE_COUNT_ROWS);
    buf_add_u32(&c->out, n);
    for (uint32_t i = 0; i < n; i++) {
        buf_add_lstr(&c->out, str_of(rows[i].name));
        buf_add_u64(&c->out, rows[i].value);
    }
    struct err *e = wire_send(c->fd, &c->out);
    return e ? e : wire_send_end(c->fd, &c->out, WIRE_OK, n, STR(""));
}
