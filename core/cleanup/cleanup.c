/* cleanup: the life of one message on its way in; content.c, headers.c and expand.c do the work. */
#include "core/cleanup/private.h"

#include "io/base/block.h"
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"

/* What Postfix's queue file holds beside content, sender, recipients and attributes: size, time and
 * transport records. message_size_limit covers the whole file. */
#define FILE_OVERHEAD 250
#define ATTRS_FIRST   16 /* what smtpd tells of a client */
#define HEADER_FIRST  511
#define DROPS_FIRST   4 /* the default of message_drop_headers */

struct cleanup *cleanup_new(const struct service *service, unsigned flags, struct draft *draft)
{
    struct cleanup *c = MEM_NEW(struct cleanup);

    c->svc = service;
    c->flags = flags;
    c->draft = draft;
    c->queued = draft != NULL;
    c->arena = draft ? draft->arena : arena_new(0, 0);
    if (draft) {
        draft->envelope_inside = true;
        c->arrival_us = draft->arrival_us;
        memcpy(c->id, draft->id, sizeof c->id);
    }
    c->scratch = arena_new(0, 0);
    c->context = flags & CLEANUP_LOCAL ? REWRITE_LOCAL : REWRITE_REMOTE;
    c->rewrite = (flags & CLEANUP_LOCAL) || *service->params->remote_header_rewrite_domain;
    c->env.sender = c->env.envid = STR("");
    c->envelope_size = FILE_OVERHEAD;
    c->block = block_buf(); /* usual mail fits without growing */
    buf_reserve(&c->attrs, ATTRS_FIRST * sizeof(struct attr));
    buf_reserve(&c->header, HEADER_FIRST);
    buf_reserve(&c->drops, DROPS_FIRST * sizeof(struct str));
    cleanup_headers_begin(c);
    if (flags & CLEANUP_LOCAL)
        c->env.flags |= ENV_LOCAL;
    if (flags & CLEANUP_UTF8)
        c->env.flags |= ENV_SMTPUTF8;
    return c;
}

static void cleanup_free(struct cleanup *c)
{
    if (c->draft)
        queue_abort(c->draft);
    if (!c->queued)
        arena_free(c->arena);
    buf_fini(&c->rcpts);
    buf_fini(&c->attrs);
    buf_fini(&c->drops);
    buf_fini(&c->header);
    block_buf_fini(&c->block);
    arena_free(c->scratch);
    mem_free(c);
}

enum cleanup_status cleanup_begin(const struct service *service, struct queue *queue, unsigned flags,
                                  struct cleanup **out)
{
    struct draft *draft;
    struct err *e = queue_begin(queue, &draft);

    if (e) {
        log_warning(service->log_tag, "%s", e->text);
        return e->kind == ERR_FULL ? CLEANUP_QUEUE_FULL : CLEANUP_TROUBLE;
    }
    *out = cleanup_new(service, flags, draft);
    return CLEANUP_OK;
}

const char *cleanup_id(const struct cleanup *c)
{
    return c->id;
}

int64_t cleanup_arrival_us(const struct cleanup *c)
{
    return c->arrival_us;
}

struct draft *cleanup_draft(struct cleanup *c)
{
    return c->draft;
}

static void count_envelope(struct cleanup *c, size_t len)
{
    c->envelope_size += len + (len < 128 ? 2 : 3);
}

void cleanup_sender(struct cleanup *c, struct str sender, uint8_t ret, struct str envid,
                    unsigned env_flags)
{
    const struct params *p = c->svc->params;
    struct str full = rewrite_address(p, c->scratch, REWRITE_LOCAL, sender);
    struct str daemon = arena_printf(c->scratch, "MAILER-DAEMON@%s", p->myorigin);

    if (str_eq_nocase(full, daemon)) /* notices made elsewhere in this domain: nobody wants their bounces */
        full = STR("");
    c->env.sender = arena_str(c->arena, full);
    c->env.ret = ret;
    c->env.envid = arena_str(c->arena, envid);
    c->env.flags |= env_flags;
    count_envelope(c, c->env.sender.len);
    arena_reset(c->scratch);
}

void cleanup_attr(struct cleanup *c, struct str name, struct str value)
{
    struct attr attr = {arena_str(c->arena, name), arena_str(c->arena, value)};

    if (str_eq(name, STR("full_name"))) { /* the submitter's, for From: */
        c->full_name = attr.value;
        return;
    }
    buf_add(&c->attrs, &attr, sizeof attr);
    count_envelope(c, attr.name.len + attr.value.len + 1);
}

void cleanup_rcpt(struct cleanup *c, struct str address, struct str original, struct str orcpt,
                  uint8_t notify)
{
    if (address.len == 0)
        address = str_of(c->svc->params->empty_address_recipient);
    struct str full = rewrite_address(c->svc->params, c->scratch, REWRITE_LOCAL, address);
    struct cleanup_rcpt rcpt = {.address = arena_str(c->arena, full),
                                .original = arena_str(c->arena, original),
                                .orcpt = arena_str(c->arena, orcpt),
                                .notify = notify};

    if (orcpt.len == 0) /* before aliases: what a notice or the next hop calls the original */
        rcpt.orcpt = arena_printf(c->arena, "rfc822;%.*s", STR_ARG(full));
    buf_add(&c->rcpts, &rcpt, sizeof rcpt);
    count_envelope(c, rcpt.address.len);
    count_envelope(c, rcpt.original.len);
    arena_reset(c->scratch);
}

static void finish(struct cleanup *c)
{
    if (c->status == CLEANUP_OK)
        cleanup_content_end(c);
    if (c->status == CLEANUP_OK && c->rcpts.len == 0)
        cleanup_fail(c, CLEANUP_NO_RECIPIENTS, NULL);
    if (c->status == CLEANUP_OK)
        cleanup_expand(c);
    if (c->status != CLEANUP_OK)
        return;
    c->env.arrival_us = c->arrival_us;
    c->env.size = c->size;
    c->env.data_size = c->record_size;
    c->env.attr_count = c->attrs.len / sizeof *c->env.attrs;
    c->env.attrs = arena_alloc(c->arena, c->attrs.len);
    if (c->attrs.len)
        memcpy(c->env.attrs, c->attrs.ptr, c->attrs.len);

    struct draft *draft = c->draft;
    c->draft = NULL; /* committed or aborted, it is gone */
    struct err *e = queue_commit(draft, &c->env);
    if (e) {
        log_warning(c->svc->log_tag, "%s: %s", c->id, e->text);
        cleanup_fail(c, e->kind == ERR_FULL ? CLEANUP_QUEUE_FULL : CLEANUP_TROUBLE, NULL);
    }
}

enum cleanup_status cleanup_commit(struct cleanup *c, struct arena *a, struct str *why_out)
{
    finish(c);
    enum cleanup_status status = c->status;
    if (status != CLEANUP_OK)
        *why_out = arena_str(a, str_of(c->why ? c->why : cleanup_status_reply(status)));
    cleanup_free(c);
    return status;
}

void cleanup_abort(struct cleanup *c)
{
    cleanup_free(c);
}

const char *cleanup_status_reply(enum cleanup_status s)
{
    switch (s) {
    case CLEANUP_OK:
        return "250 2.0.0 Ok";
    case CLEANUP_TOO_BIG:
        return "552 5.3.4 Error: message file too big";
    case CLEANUP_TOO_MANY_HOPS:
        return "554 5.4.0 Error: too many hops";
    case CLEANUP_NO_RECIPIENTS:
        return "550 5.1.0 Error: no recipients specified";
    case CLEANUP_REJECTED:
        return "550 5.7.1 Error: message content rejected";
    case CLEANUP_QUEUE_FULL:
        return "452 4.3.1 Insufficient system storage";
    case CLEANUP_TROUBLE:
        return "451 4.3.0 Error: queue file write error";
    }
    UNREACHABLE();
}
