/* control_queue: listing, acting and looking, for postqueue, postsuper and postcat. */
#include "core/server/control_private.h"
#include "io/base/clock.h"
#include "io/fiber/fiber.h"

/* The first entries come at once, the others with less ado. */
enum { SLICE_FIRST = 32, SLICE = 512, SEND_BYTES = 32768, SIGN_OF_LIFE_S = 10, PROGRESS_MS = 1000, LOOK_MS = 50 };

static void entry_body(struct buf *b, const struct queue_entry *e)
{
    buf_add_u64(b, e->seq);
    buf_add_lstr(b, str_of(e->id));
    buf_add_u8(b, (uint8_t)e->queue);
    buf_add_u64(b, (uint64_t)e->next_try_us);
    buf_add_u8(b, e->forced_expire);
    envelope_pack(e->env, b);
}

struct err *control_error(struct caller *c, const struct err *e)
{
    char text[ERR_TEXT_MAX];
    str_copy(text, sizeof(text), str_of(e->text));
    return wire_send_end(c->fd, &c->out, WIRE_ERROR, 0, str_of(text));
}

/* Whoever reads slowly, or not at all, holds nothing up here but this fiber. */
static struct err *send_entries(struct caller *c, const struct queue_entry *list, size_t n)
{
    struct err *e = NULL;
    buf_reset(&c->out);
    for (size_t i = 0; !e && i < n; i++) {
        size_t begun = wire_more(&c->out, WIRE_ENTRY);
        entry_body(&c->out, &list[i]);
        wire_ended(&c->out, begun);
        if (c->out.len >= SEND_BYTES)
            e = wire_flush(c->fd, &c->out);
    }
    return e ? e : wire_flush(c->fd, &c->out);
}

/* Not what is known of it already: a list with less than all in it would be taken for the whole by whoever reads it in a
 * script. */
struct err *control_await_all(struct caller *c)
{
    struct err *e = NULL;
    int64_t told_ns = 0;
    int percent;
    while (!e && (percent = queue_ready_percent(c->queue)) < 100) {
        int64_t now_ns = clock_mono_ns();
        if (told_ns == 0 || now_ns - told_ns >= PROGRESS_MS * NS_PER_MS) {
            told_ns = now_ns;
            wire_begin(&c->out, WIRE_PROGRESS);
            buf_add_u8(&c->out, (uint8_t)percent);
            e = wire_send(c->fd, &c->out);
        }
        if (!e)
            e = fiber_sleep_until(clock_in_ms(LOOK_MS));
    }
    return e;
}

struct err *control_list(struct caller *c, struct rd *body)
{
    (void)body;
    uint64_t after = 0, total = 0;
    size_t n, max = SLICE_FIRST;
    struct err *e = control_await_all(c);
    if (e)
        return e;
    do {
        struct queue_entry *list;
        arena_reset(c->arena);
        e = queue_list(c->queue, after, max, c->arena, &list, &n);
        if (e)
            return control_error(c, e);
        e = send_entries(c, list, n);
        if (e)
            return e;
        if (n > 0)
            after = list[n - 1].seq;
        total += n;
        max = SLICE;
    } while (n > 0);
    return wire_send_end(c->fd, &c->out, WIRE_OK, total, STR(""));
}

struct doing {
    struct caller *caller;
    bool ids_wanted, broken;
    int64_t sent_ns;
    struct buf frames;
};

static void send_ids(struct doing *d)
{
    struct err *e = d->broken ? NULL : wire_flush(d->caller->fd, &d->frames);
    d->broken |= e != NULL; /* nobody listens; what was asked for is done all the same */
    d->sent_ns = clock_mono_ns();
    buf_reset(&d->frames);
}

static void one_done(void *ctx, const char *id)
{
    struct doing *d = ctx;
    bool silent = clock_mono_ns() - d->sent_ns > SIGN_OF_LIFE_S * NS_PER_S;
    if (d->ids_wanted || silent) {
        size_t begun = wire_more(&d->frames, WIRE_ID);
        buf_add_lstr(&d->frames, d->ids_wanted ? str_of(id) : STR(""));
        wire_ended(&d->frames, begun);
    }
    if (silent || d->frames.len >= SEND_BYTES)
        send_ids(d);
}

struct err *control_do(struct caller *c, struct rd *body)
{
    enum queue_act act = (enum queue_act)rd_u8(body);
    struct queue_select what = {.id = rd_lstr(body)};
    what.queue = (enum queue_name)rd_u8(body);
    what.sender = rd_lstr(body);
    what.domain = rd_lstr(body);
    what.destination = rd_lstr(body);
    struct doing d = {.caller = c, .ids_wanted = rd_u8(body), .sent_ns = clock_mono_ns()};
    if (body->bad || act > QUEUE_ACT_EXPIRE || what.queue > QUEUE_CORRUPT)
        return wire_send_end(c->fd, &c->out, WIRE_ERROR, 0, STR("malformed request"));
    uint64_t count = 0;
    struct err *e = what.id.len == 0 ? control_await_all(c) : NULL;
    if (e)
        return e;
    if (act == QUEUE_ACT_REQUEUE)
        e = control_requeue(c->queue, &what, one_done, &d, &count);
    else
        e = queue_do(c->queue, act, &what, one_done, &d, &count);
    char why[ERR_TEXT_MAX] = "";
    if (e)
        str_copy(why, sizeof(why), str_of(e->text));
    send_ids(&d);
    buf_fini(&d.frames);
    return wire_send_end(c->fd, &c->out, why[0] ? WIRE_ERROR : WIRE_OK, count, str_of(why));
}

struct err *control_flush(struct caller *c, struct rd *body)
{
    struct str id = rd_lstr(body);
    struct str site = rd_lstr(body);
    bool found;
    struct err *e = queue_flush(c->queue, id, site, &found);
    if (e)
        return control_error(c, e);
    return wire_send_end(c->fd, &c->out, WIRE_OK, found, STR(""));
}

static struct err *send_content(struct caller *c, struct qmsg *m)
{
    struct content_reader *r;
    struct err *e = content_open(m, &r);
    if (e)
        return control_error(c, e);
    for (;;) {
        struct str piece;
        e = content_next(r, &piece);
        if (e) {
            content_close(r);
            return control_error(c, e);
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

static struct err *send_corrupt(struct caller *c, struct corrupt_reader *r)
{
    for (;;) {
        struct str piece;
        struct err *e = corrupt_next(r, &piece);
        if (e)
            return control_error(c, e);
        if (piece.len == 0)
            return wire_send_end(c->fd, &c->out, WIRE_OK, 1, STR(""));
        wire_begin(&c->out, WIRE_CONTENT);
        buf_add_str(&c->out, piece);
        e = wire_send(c->fd, &c->out);
        if (e)
            return e;
    }
}

/* Not in the queue: was it set aside? */
static struct err *find_corrupt(struct caller *c, struct str id)
{
    struct queue_entry entry;
    struct corrupt_reader *r;
    bool found;
    struct err *e = queue_find_corrupt(c->queue, id, c->arena, &entry, &r, &found);
    if (e)
        return control_error(c, e);
    if (!found)
        return wire_send_end(c->fd, &c->out, WIRE_OK, 0, STR(""));
    wire_begin(&c->out, WIRE_ENTRY);
    entry_body(&c->out, &entry);
    e = wire_send(c->fd, &c->out);
    if (!e)
        e = send_corrupt(c, r);
    corrupt_close(r);
    return e;
}

struct err *control_find(struct caller *c, struct rd *body)
{
    struct queue_entry entry;
    struct qmsg *m;
    bool found;
    struct str id = rd_lstr(body);
    struct err *e = queue_find(c->queue, id, c->arena, &entry, &m, &found);
    if (e)
        return control_error(c, e);
    if (!found)
        return find_corrupt(c, id);
    wire_begin(&c->out, WIRE_ENTRY);
    entry_body(&c->out, &entry);
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
