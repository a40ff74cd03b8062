/* control_mail: mail by way of the control socket: what pickup(8) does in Postfix, sendmail -bs, and postsuper -r. */
#include <unistd.h>

#include "core/mail/date.h"
#include "core/server/control_private.h"
#include "core/smtpd/smtpd.h"
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/fiber/wait.h"
#include "io/net/stream.h"
#include "io/ring/ring.h"

#define LINE_PIECE_MAX 2048

const struct service *control_service(const struct snapshot *s, const char *name)
{
    const struct service *svc = config_service(s, name, NULL);
    return svc ? svc : config_service(s, "cleanup", NULL);
}

void control_received(struct cleanup *c, const struct params *p, struct arena *a, int64_t uid)
{
    char date[DATE_TEXT_MAX];
    date_rfc5322(cleanup_arrival_us(c), date);
    cleanup_line(c, arena_printf(a, "Received: by %s (%s, from userid %lld)", p->myhostname,
                                 p->mail_name, (long long)uid), true);
    cleanup_line(c, arena_printf(a, "\tid %s; %s", cleanup_id(c), date), true);
}

/* --- submit */

static struct err *submit_refused(struct caller *c, enum cleanup_status status, struct str why)
{
    struct str text = why.len ? why : str_of(cleanup_status_reply(status));
    return wire_send_end(c->fd, &c->out, WIRE_REJECTED, (uint64_t)status, text);
}

struct submit_head {
    struct str sender, envid, full_name;
    uint8_t ret;
    uint32_t flags;
};

static struct submit_head submit_head(struct rd *body, struct arena *a)
{
    struct submit_head h = {.sender = arena_str(a, rd_lstr(body))};
    h.ret = rd_u8(body);
    h.envid = arena_str(a, rd_lstr(body));
    h.full_name = arena_str(a, rd_lstr(body));
    h.flags = rd_u32(body);
    return h;
}

static bool submit_envelope(const struct submit_head *h, struct rd *body, struct cleanup *cl)
{
    uint32_t n = rd_u32(body);
    cleanup_sender(cl, h->sender, h->ret, h->envid,
                   ENV_LOCAL | (h->flags & WIRE_SUBMIT_8BIT ? ENV_8BIT : 0) |
                       (h->flags & WIRE_SUBMIT_UTF8 ? ENV_SMTPUTF8 : 0));
    cleanup_attr(cl, STR("full_name"), h->full_name);
    cleanup_attr(cl, STR("rewrite_context"), h->flags & WIRE_SUBMIT_GATEWAY ? STR("remote") : STR("local"));
    for (uint32_t i = 0; i < n && !body->bad; i++) {
        struct str address = rd_lstr(body);
        uint8_t notify = rd_u8(body);
        struct str orcpt = rd_lstr(body);
        if (!body->bad)
            cleanup_rcpt(cl, address, address, orcpt, notify);
    }
    return !body->bad;
}

static struct err *submit_content(struct caller *c, struct cleanup *cl)
{
    for (;;) {
        enum wire_verb verb;
        struct err *e = wire_recv(c->fd, &c->in, &verb);
        if (e)
            return e;
        if (verb == WIRE_DONE)
            return NULL;
        if (verb != WIRE_LINE || c->in.len < 1)
            return err_new(ERR_PROTOCOL, 0, "unexpected frame %d in a message", (int)verb);
        cleanup_line(cl, str_from(buf_str(&c->in), 1), c->in.ptr[0] != 0);
    }
}

struct err *control_submit(struct caller *c, struct rd *body)
{
    struct snapshot *s = config_current();
    const struct service *svc = control_service(s, "cleanup");
    struct cleanup *cl;
    struct err *e = NULL;
    struct submit_head head = submit_head(body, c->arena);
    enum cleanup_status status =
        cleanup_begin(svc, c->queue,
                      (head.flags & WIRE_SUBMIT_GATEWAY ? 0 : CLEANUP_LOCAL) |
                          (head.flags & WIRE_SUBMIT_UTF8 ? CLEANUP_UTF8 : 0),
                      &cl);
    if (status != CLEANUP_OK) {
        /* The content that follows is not wanted: the end of the connection says so. */
        e = submit_refused(c, status, STR(""));
        e = e ? e : err_new(ERR_CLOSED, 0, "refused");
    } else if (!submit_envelope(&head, body, cl)) {
        cleanup_abort(cl);
        e = wire_send_end(c->fd, &c->out, WIRE_ERROR, 0, STR("malformed request"));
        e = e ? e : err_new(ERR_CLOSED, 0, "malformed request");
    } else {
        char id[QUEUE_ID_MAX];
        str_copy(id, sizeof(id), str_of(cleanup_id(cl)));
        log_info("pickup", "%s: uid=%lld from=<%.*s>", id, (long long)c->uid, STR_ARG(head.sender));
        control_received(cl, svc->params, c->arena, c->uid);
        e = submit_content(c, cl);
        if (e) {
            cleanup_abort(cl);
        } else {
            struct str why = STR("");
            status = cleanup_commit(cl, c->arena, &why);
            e = status == CLEANUP_OK ? wire_send_end(c->fd, &c->out, WIRE_OK, 1, str_of(id))
                                     : submit_refused(c, status, why);
        }
    }
    snapshot_unref(s);
    return e;
}

/* --- sendmail -bs */

struct err *control_smtpd(struct caller *c, struct rd *body)
{
    (void)body;
    struct snapshot *s = config_current();
    const struct service *svc = config_service(s, "smtp", "inet");
    for (size_t i = 0; !svc && i < s->service_count; i++)
        if (strcmp(s->services[i].command, "smtpd") == 0)
            svc = &s->services[i];
    if (!svc)
        svc = control_service(s, "cleanup");
    smtpd_session_stdio(svc, c->queue, c->fd, c->fd);
    (void)io_close(c->fd); /* its streams are the caller's; this one hears of the end that way */
    c->fd = -1;
    snapshot_unref(s);
    return NULL;
}

/* --- requeue */

/* A stream layer over stored content, so that its lines are read by the one reader of lines. */
struct content_layer {
    struct stream_layer layer;
    struct content_reader *reader;
    struct str left;
};

static struct err *content_layer_read(struct stream_layer *l, void *bytes, size_t n,
                                      int64_t deadline_ns, size_t *n_out)
{
    struct content_layer *c = (struct content_layer *)(void *)l;
    (void)deadline_ns;
    if (c->left.len == 0) {
        struct err *e = content_next(c->reader, &c->left);
        if (e)
            return e;
        if (c->left.len == 0)
            return err_new(ERR_CLOSED, 0, "end of content");
    }
    size_t take = c->left.len < n ? c->left.len : n;
    memcpy(bytes, c->left.ptr, take);
    c->left = str_from(c->left, take);
    *n_out = take;
    return NULL;
}

static struct err *content_layer_writev(struct stream_layer *l, struct iovec *iov, int iovs,
                                        int64_t deadline_ns)
{
    (void)l, (void)iov, (void)iovs, (void)deadline_ns;
    return err_new(ERR_REFUSED, 0, "stored content is only read");
}

static void content_layer_close(struct stream_layer *l)
{
    struct content_layer *c = (struct content_layer *)(void *)l;
    content_close(c->reader);
    mem_free(c);
}

static const struct stream_layer_ops content_layer_ops = {content_layer_read, content_layer_writev,
                                                          content_layer_close};

static struct err *copy_lines(struct qmsg *m, struct cleanup *cl)
{
    struct content_reader *reader;
    struct err *e = content_open(m, &reader);
    if (e)
        return e;
    struct content_layer *layer = MEM_NEW(struct content_layer);
    layer->layer.ops = &content_layer_ops;
    layer->reader = reader;
    struct stream *stream = stream_new_layer(&layer->layer);
    for (;;) {
        struct line line;
        e = stream_line(stream, LINE_PIECE_MAX, DEADLINE_NEVER, &line);
        if (e)
            break;
        cleanup_line(cl, line.text, line.end != LINE_LONG);
    }
    stream_free(stream);
    return e->kind == ERR_CLOSED ? NULL : e;
}

static void copy_envelope(const struct envelope *env, struct cleanup *cl)
{
    cleanup_sender(cl, env->sender, env->ret, env->envid, env->flags & (ENV_8BIT | ENV_7BIT | ENV_SMTPUTF8));
    for (size_t i = 0; i < env->attr_count; i++)
        cleanup_attr(cl, env->attrs[i].name, env->attrs[i].value);
    for (size_t i = 0; i < env->rcpt_count; i++) {
        const struct rcpt *r = &env->rcpts[i];
        if (r->state == RCPT_TODO || r->state == RCPT_DEFERRED)
            cleanup_rcpt(cl, r->address, r->original, r->orcpt, r->notify);
    }
}

/* false: it was gone, or another queue's; e on trouble. */
static struct err *requeue_one(struct queue *queue, const struct service *svc, struct str id,
                               enum queue_name only, bool *done_out)
{
    struct arena *a = arena_new(2048, 0);
    struct queue_entry entry;
    struct qmsg *m;
    bool found;
    *done_out = false;
    struct err *e = queue_find(queue, id, a, &entry, &m, &found);
    if (e || !found) {
        arena_free(a);
        return e;
    }
    struct cleanup *cl;
    enum cleanup_status status = CLEANUP_OK;
    if ((only == QUEUE_ANY || only == entry.queue) && entry.queue != QUEUE_ACTIVE && !entry.importing) {
        status = cleanup_begin(svc, queue, 0, &cl);
        if (status == CLEANUP_OK) {
            log_info("pickup", "%s: uid=%lld from=<%.*s> orig_id=%s", cleanup_id(cl),
                     (long long)geteuid(), STR_ARG(entry.env->sender), entry.id);
            copy_envelope(entry.env, cl);
            control_received(cl, svc->params, a, geteuid());
            e = copy_lines(m, cl);
            struct str why = STR("");
            bool aside = false;
            if (e)
                cleanup_abort(cl);
            else
                status = cleanup_commit(cl, a, &why);
            *done_out = !e && status == CLEANUP_OK;
            if (e && e->kind == ERR_DAMAGED) { /* it must not keep the others from their turn */
                log_warning("pickup", "%s", e->text);
                e = queue_check(queue, id, &aside);
            }
        }
    }
    qmsg_unref(m);
    if (!e && status != CLEANUP_OK)
        e = err_new(ERR_IO, 0, "requeue %.*s: %s", STR_ARG(id), cleanup_status_reply(status));
    /* Only now that the copy is safe the old one goes. */
    if (*done_out)
        e = queue_do(queue, QUEUE_ACT_REMOVE, &(struct queue_select){.id = id}, NULL, NULL, NULL);
    arena_free(a);
    return e;
}

/* So many at a time: their commits share writes. */
enum { REQUEUE_AT_ONCE = 64 };

struct requeue_job {
    struct requeue *requeue;
    char id[QUEUE_ID_MAX];
    bool done, failed;
    struct err why;
};

struct requeue {
    struct queue *queue;
    const struct service *service;
    enum queue_name only;
    void (*each)(void *ctx, const char *id);
    void *ctx;
    uint64_t count;
    bool failed;
    struct err why; /* of the first that failed */
    size_t job_count;
    struct requeue_job *jobs;
};

static void requeue_main(void *arg)
{
    struct requeue_job *j = arg;
    const struct requeue *r = j->requeue;
    struct err *e = requeue_one(r->queue, r->service, str_of(j->id), r->only, &j->done);
    j->failed = e != NULL;
    if (e)
        j->why = *e;
}

static void requeue_batch(struct requeue *r)
{
    struct group g;
    group_init(&g);
    for (size_t i = 0; i < r->job_count; i++)
        if (!group_spawn(&g, "requeue", requeue_main, &r->jobs[i]))
            requeue_main(&r->jobs[i]);
    fiber_shield_begin();
    struct err *e = group_join(&g, DEADLINE_NEVER);
    fiber_shield_end();
    CHECK(!e);
    for (size_t i = 0; i < r->job_count; i++) {
        const struct requeue_job *j = &r->jobs[i];
        if (j->done) {
            r->each(r->ctx, j->id);
            r->count++;
        }
        if (j->failed && !r->failed) {
            r->failed = true;
            r->why = j->why;
        }
    }
    r->job_count = 0;
}

static void requeue_found(void *ctx, const char *id)
{
    struct requeue *r = ctx;
    if (r->failed)
        return;
    struct requeue_job *j = &r->jobs[r->job_count++];
    *j = (struct requeue_job){.requeue = r};
    str_copy(j->id, sizeof(j->id), str_of(id));
    if (r->job_count == REQUEUE_AT_ONCE)
        requeue_batch(r);
}

/* What comes back under a new id is not found again. */
struct err *control_requeue(struct queue *queue, const struct queue_select *what,
                            void (*each)(void *ctx, const char *id), void *ctx, uint64_t *count_out)
{
    struct snapshot *s = config_current();
    struct requeue r = {.queue = queue,
                        .service = control_service(s, "cleanup"),
                        .only = what->queue,
                        .each = each,
                        .ctx = ctx,
                        .jobs = mem_zalloc(REQUEUE_AT_ONCE * sizeof(struct requeue_job))};
    struct err *e = queue_do(queue, QUEUE_ACT_FIND, what, requeue_found, &r, NULL);
    struct err found = e ? *e : (struct err){0};
    bool broke = e != NULL;
    if (!r.failed)
        requeue_batch(&r);
    *count_out = r.count;
    mem_free(r.jobs);
    snapshot_unref(s);
    const struct err *why = r.failed ? &r.why : broke ? &found : NULL;
    return why ? err_new(why->kind, why->code, "%s", why->text) : NULL;
}
