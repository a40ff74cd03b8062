/* control_import: postsuper --import. One connection is one import: the caller reads the other queue and sends its messages, we
 * keep them, once each (queue/import.h has the order in which). Several share one write of the ledger. */
#include "core/config/snapshot.h"
#include "core/import/ledger.h"
#include "core/server/control_private.h"
#include "io/base/clock.h"
#include "io/base/hash.h"
#include "io/base/log.h"
#include "queue/import.h"

enum { BATCH = 64 };
#define BATCH_AGE_NS (NS_PER_S / 2)

struct import {
    struct caller *caller;
    struct ledger *ledger;
    struct buf lines; /* of the ledger, for what was committed */
    struct buf seqs;  /* uint64_t */
    size_t count;
    int64_t first_ns;
    bool broken; /* something is half-done, and will be looked for by the next import */
};

static bool is_word(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] <= ' ' || s.ptr[i] == 127)
            return false;
    return s.len > 0;
}

static void add(struct import *im, uint64_t seq, const char *id, struct str origin, bool in_ledger)
{
    if (!in_ledger)
        buf_printf(&im->lines, "%.*s %s\n", STR_ARG(origin), id);
    buf_add(&im->seqs, &seq, sizeof(seq));
    if (im->count++ == 0)
        im->first_ns = clock_mono_ns();
}

static void log_lines(struct str lines)
{
    struct str origin, id;
    while (ledger_line(&lines, &origin, &id)) {
        ssize_t slash = str_index(origin, '/');
        log_info("postsuper", "%.*s: imported, was %.*s", STR_ARG(id),
                 STR_ARG(slash < 0 ? origin : str_head(origin, (size_t)slash)));
    }
}

/* First the ledger, then their release. */
static struct err *flush(struct import *im)
{
    if (im->count == 0)
        return NULL;
    struct err *e = im->lines.len > 0 ? ledger_append(im->ledger, buf_str(&im->lines)) : NULL;
    if (!e) {
        log_lines(buf_str(&im->lines));
        e = queue_import_end(im->caller->queue, (const uint64_t *)(const void *)im->seqs.ptr, im->count);
    }
    im->broken |= e != NULL;
    buf_reset(&im->lines);
    buf_reset(&im->seqs);
    im->count = 0;
    return e;
}

/* --- what an import that was cut short left behind */

struct left_behind {
    struct hmap by_origin; /* -> struct left * */
    struct arena *arena;
    struct buf list; /* struct left * */
};

struct left {
    uint64_t seq;
    char id[QUEUE_ID_MAX];
    struct str origin;
    bool in_ledger;
};

static void note_left(void *ctx, const struct queue_entry *e)
{
    struct left_behind *b = ctx;
    struct left *l = ARENA_NEW(b->arena, struct left);
    l->seq = e->seq;
    memcpy(l->id, e->id, sizeof(l->id));
    l->origin = arena_str(b->arena, envelope_attr(e->env, IMPORT_ORIGIN));
    buf_add(&b->list, &l, sizeof(l));
    (void)hmap_put(&b->by_origin, l->origin, l);
}

static struct err *find_in_ledger(struct ledger *ledger, const struct left_behind *b)
{
    struct str lines, origin, id;
    struct err *e;
    while (!(e = ledger_next(ledger, &lines)) && lines.len > 0)
        while (ledger_line(&lines, &origin, &id)) {
            struct left *l = origin.len > 0 ? hmap_get(&b->by_origin, origin) : NULL;
            if (l)
                l->in_ledger = true;
        }
    ledger_rewind(ledger);
    return e;
}

static struct err *finish_left(struct import *im, uint64_t *count_out)
{
    struct left_behind b = {.arena = arena_new(4096, 0)};
    struct err *e = queue_import_open(im->caller->queue, note_left, &b);
    if (!e && b.list.len > 0)
        e = find_in_ledger(im->ledger, &b);
    for (size_t at = 0; !e && at < b.list.len; at += sizeof(struct left *)) {
        struct left *l;
        memcpy(&l, b.list.ptr + at, sizeof(l));
        add(im, l->seq, l->id, l->origin, l->in_ledger);
        (*count_out)++;
        if (im->count >= BATCH)
            e = flush(im);
    }
    if (!e)
        e = flush(im);
    hmap_fini(&b.by_origin);
    buf_fini(&b.list);
    arena_free(b.arena);
    return e;
}

/* --- one message */

struct arriving {
    struct envelope *env;
    struct import_state state;
};

static struct err *arriving_of(struct str frame, struct arena *a, struct arriving *out)
{
    struct rd r = rd_of(frame);
    out->state.due_us = (int64_t)rd_u64(&r);
    out->state.warned = rd_u8(&r);
    if (r.bad)
        return err_new(ERR_PROTOCOL, 0, "malformed request");
    struct err *e = envelope_unpack(str_make(r.ptr, (size_t)(r.end - r.ptr)), a, &out->env);
    if (e)
        return e;
    out->state.arrival_us = out->env->arrival_us;
    if (out->env->arrival_us <= 0 || out->env->rcpt_count == 0 || !is_word(envelope_attr(out->env, IMPORT_ORIGIN)))
        return err_new(ERR_PROTOCOL, 0, "malformed request");
    return NULL;
}

/* Up to its end, whatever becomes of it: *trouble_out. Returned: trouble with the connection. */
static struct err *take_content(struct caller *c, struct draft *d, struct err **trouble_out, bool *canceled_out)
{
    static const char gone_wrong[] = "content of a message that is being imported";
    for (;;) {
        enum wire_verb verb;
        struct err *e = wire_recv(c->fd, &c->in, &verb);
        if (e)
            return e;
        if (verb == WIRE_DONE || verb == WIRE_IMPORT_CANCEL) {
            *canceled_out = verb == WIRE_IMPORT_CANCEL;
            return NULL;
        }
        if (verb != WIRE_CONTENT)
            return err_new(ERR_PROTOCOL, 0, "unexpected frame %d in a message", (int)verb);
        if (d && !*trouble_out && (e = draft_write(d, buf_str(&c->in))) != NULL)
            *trouble_out = err_in(e, gone_wrong);
    }
}

static struct err *keep(struct import *im, struct draft *d, struct arriving *m, char *id_out)
{
    uint64_t seq = d->seq;
    str_copy(id_out, QUEUE_ID_MAX, str_of(d->id));
    if (d->size != m->env->size) {
        queue_abort(d);
        return err_new(ERR_PROTOCOL, 0, "content has not the size that was said");
    }
    struct err *e = queue_commit(d, m->env);
    if (e)
        return e;
    add(im, seq, id_out, envelope_attr(m->env, IMPORT_ORIGIN), false);
    return im->count >= BATCH || clock_mono_ns() - im->first_ns > BATCH_AGE_NS ? flush(im) : NULL;
}

static struct err *send_error(struct caller *c, struct err *e)
{
    char text[ERR_TEXT_MAX];
    str_copy(text, sizeof(text), str_of(e->text));
    return wire_send_end(c->fd, &c->out, WIRE_ERROR, 0, str_of(text));
}

static struct err *one_message(struct import *im)
{
    struct caller *c = im->caller;
    struct arriving m;
    struct draft *d = NULL;
    char id[QUEUE_ID_MAX] = "";
    bool canceled = false;
    struct err *trouble = arriving_of(buf_str(&c->in), c->arena, &m);
    if (!trouble)
        trouble = queue_import_begin(c->queue, &m.state, &d);
    struct err *e = take_content(c, d, &trouble, &canceled);
    if (d && (e || trouble || canceled))
        queue_abort(d);
    else if (d)
        trouble = keep(im, d, &m, id);
    if (e)
        return e;
    return trouble ? send_error(c, trouble) : wire_send_end(c->fd, &c->out, WIRE_OK, !canceled, str_of(id));
}

/* --- one message that sendmail left, and nobody has picked up: through cleanup, as any that is posted */

struct posted {
    struct envelope *env;
    int64_t uid;
    struct cleanup *cleanup;
    enum cleanup_status status;
};

static struct err *posted_of(struct str frame, struct arena *a, struct posted *out)
{
    struct rd r = rd_of(frame);
    out->uid = (int64_t)rd_u64(&r);
    struct err *e = envelope_unpack(str_make(r.ptr, (size_t)(r.end - r.ptr)), a, &out->env);
    if (!e && (r.bad || !is_word(envelope_attr(out->env, IMPORT_ORIGIN))))
        e = err_new(ERR_PROTOCOL, 0, "malformed request");
    return e;
}

static void post_begin(struct import *im, const struct service *svc, struct posted *m)
{
    const struct envelope *env = m->env;
    m->status = cleanup_begin(svc, im->caller->queue, CLEANUP_LOCAL | (env->flags & ENV_SMTPUTF8 ? CLEANUP_UTF8 : 0),
                              &m->cleanup);
    if (m->status != CLEANUP_OK)
        return;
    queue_import_mark(cleanup_draft(m->cleanup));
    cleanup_sender(m->cleanup, env->sender, env->ret, env->envid, ENV_LOCAL | (env->flags & (ENV_8BIT | ENV_7BIT | ENV_SMTPUTF8)));
    for (size_t i = 0; i < env->attr_count; i++)
        cleanup_attr(m->cleanup, env->attrs[i].name, env->attrs[i].value);
    for (size_t i = 0; i < env->rcpt_count; i++)
        cleanup_rcpt(m->cleanup, env->rcpts[i].address, env->rcpts[i].original, env->rcpts[i].orcpt, env->rcpts[i].notify);
    log_info("pickup", "%s: uid=%lld from=<%.*s>", cleanup_id(m->cleanup), (long long)m->uid, STR_ARG(env->sender));
    control_received(m->cleanup, svc->params, im->caller->arena, m->uid);
}

static struct err *take_lines(struct caller *c, struct cleanup *cl, bool *canceled_out)
{
    for (;;) {
        enum wire_verb verb;
        struct err *e = wire_recv(c->fd, &c->in, &verb);
        if (e)
            return e;
        *canceled_out = verb == WIRE_IMPORT_CANCEL;
        if (verb == WIRE_DONE || verb == WIRE_IMPORT_CANCEL)
            return NULL;
        if (verb != WIRE_LINE || c->in.len < 1)
            return err_new(ERR_PROTOCOL, 0, "unexpected frame %d in a message", (int)verb);
        if (cl)
            cleanup_line(cl, str_from(buf_str(&c->in), 1), c->in.ptr[0] != 0);
    }
}

static struct err *post_end(struct import *im, struct posted *m)
{
    struct caller *c = im->caller;
    struct str why = STR("");
    char id[QUEUE_ID_MAX] = "";
    if (m->status == CLEANUP_OK) {
        uint64_t seq = cleanup_draft(m->cleanup)->seq;
        str_copy(id, sizeof(id), str_of(cleanup_id(m->cleanup)));
        m->status = cleanup_commit(m->cleanup, c->arena, &why);
        if (m->status == CLEANUP_OK)
            add(im, seq, id, envelope_attr(m->env, IMPORT_ORIGIN), false);
    }
    if (m->status != CLEANUP_OK)
        return wire_send_end(c->fd, &c->out, WIRE_REJECTED, (uint64_t)m->status,
                             why.len > 0 ? why : str_of(cleanup_status_reply(m->status)));
    struct err *e = flush(im); /* there are few of them */
    return e ? send_error(c, e) : wire_send_end(c->fd, &c->out, WIRE_OK, 1, str_of(id));
}

static struct err *one_posted(struct import *im)
{
    struct caller *c = im->caller;
    struct posted m = {.env = NULL};
    bool canceled = false;
    struct err *trouble = posted_of(buf_str(&c->in), c->arena, &m);
    struct snapshot *s = config_current();
    if (!trouble)
        post_begin(im, control_service(s, "cleanup"), &m);
    bool begun = !trouble && m.status == CLEANUP_OK;
    struct err *e = take_lines(c, begun ? m.cleanup : NULL, &canceled);
    if (begun && (e || canceled))
        cleanup_abort(m.cleanup);
    if (!e && trouble)
        e = send_error(c, trouble);
    else if (!e)
        e = canceled ? wire_send_end(c->fd, &c->out, WIRE_OK, 0, STR("")) : post_end(im, &m);
    snapshot_unref(s);
    return e;
}

/* --- the connection */

static struct err *send_ledger(struct caller *c, struct ledger *ledger, uint64_t count)
{
    struct str lines;
    struct err *e;
    while (!(e = ledger_next(ledger, &lines)) && lines.len > 0) {
        wire_begin(&c->out, WIRE_CONTENT);
        buf_add_str(&c->out, lines);
        e = wire_send(c->fd, &c->out);
        if (e)
            return e;
    }
    return e ? send_error(c, e) : wire_send_end(c->fd, &c->out, WIRE_OK, count, STR(""));
}

static struct err *messages(struct import *im)
{
    struct caller *c = im->caller;
    for (;;) {
        enum wire_verb verb;
        arena_reset(c->arena);
        struct err *e = wire_recv(c->fd, &c->in, &verb);
        if (!e && verb == WIRE_IMPORT_CLOSE)
            return NULL;
        if (!e)
            e = verb == WIRE_IMPORT_MAIL   ? one_message(im)
                : verb == WIRE_IMPORT_POST ? one_posted(im)
                                           : err_new(ERR_PROTOCOL, 0, "unexpected frame %d in an import", (int)verb);
        if (e)
            return e;
    }
}

static struct err *close_ledger(struct import *im)
{
    struct err *e = flush(im);
    if (!e && !im->broken)
        e = ledger_append(im->ledger, LEDGER_END);
    ledger_close(im->ledger);
    buf_fini(&im->lines);
    buf_fini(&im->seqs);
    return e;
}

struct err *control_import(struct caller *c, struct rd *body)
{
    (void)body;
    struct import im = {.caller = c};
    struct snapshot *s = config_current();
    bool orderly;
    uint64_t count = 0;
    struct err *e = ledger_open(s->params->queue_directory, &im.ledger, &orderly);
    snapshot_unref(s);
    if (e)
        return send_error(c, e);
    if (!orderly)
        e = finish_left(&im, &count);
    if (!e)
        e = ledger_append(im.ledger, LEDGER_BEGIN);
    if (e) {
        im.broken = true;
        e = send_error(c, e);
        struct err *closing = close_ledger(&im);
        return e ? e : closing;
    }
    e = send_ledger(c, im.ledger, count);
    if (!e)
        e = messages(&im);
    bool asked = !e;
    /* Whoever sent them may be gone: what is here is finished all the same. */
    struct err *closing = close_ledger(&im);
    if (!asked && closing)
        log_warning("postsuper", "import: %s", closing->text);
    if (!asked)
        return e;
    return closing ? send_error(c, closing) : wire_send_end(c->fd, &c->out, WIRE_OK, 0, STR(""));
}
