/* expand: envelope recipients through virtual_alias_maps (virtual(5)), duplicates out.
 *
 * An address is looked up until nothing is found or it comes back to itself; each result is split as an
 * address list, completed, and takes the unmatched extension with it. Limits: expansion (addresses),
 * recursion (depth), length. A table that fails, or a limit that is passed, refuses the whole message:
 * nothing was acknowledged yet, so the client keeps it. */
#include "core/cleanup/private.h"

#include "core/mail/address.h"
#include "core/mail/fold.h"
#include "core/rewrite/resolve.h"
#include "io/base/log.h"

static const char expansion_error[] = "451 4.6.0 Alias expansion error";

struct expansion {
    struct cleanup *c;
    struct str *list;
    size_t count, cap;
    struct hmap been_here; /* folded addresses that are not expanded again */
    bool propagate;
    bool failed;
};

struct locality {
    const struct cleanup *c;
    struct err *err;
};

static bool is_local(void *ctx, struct str domain)
{
    struct locality *l = ctx;
    bool local = false;

    if (!l->err)
        l->err = resolve_local(l->c->svc, l->c->scratch, domain, &local);
    return local;
}

static void list_set(struct expansion *x, size_t at, struct str address)
{
    if (at == x->cap) {
        size_t cap = x->cap ? x->cap * 2 : 8;
        struct str *list = arena_alloc(x->c->arena, cap * sizeof *list);
        if (x->count)
            memcpy(list, x->list, x->count * sizeof *list);
        x->list = list;
        x->cap = cap;
    }
    x->list[at] = arena_str(x->c->arena, address);
    if (at == x->count)
        x->count++;
}

/* True when the address is there already; else it is from now on. */
static bool been_here(struct expansion *x, struct str address, bool add)
{
    static char mark;
    struct str key = fold_text(x->c->scratch, address);

    if (hmap_get(&x->been_here, key))
        return true;
    if (add)
        hmap_put(&x->been_here, key, &mark);
    return false;
}

static void give_up(struct expansion *x, const char *what, struct str address, const char *why)
{
    log_warning(x->c->svc->log_tag,
                "%s: %s for %.*s -- message not accepted, try again later", x->c->id, what,
                STR_ARG(address));
    cleanup_fail(x->c, CLEANUP_TROUBLE, why);
    x->failed = true;
}

static bool lookup(struct expansion *x, struct str address, struct str *value_out, struct str *ext_out)
{
    const struct service *svc = x->c->svc;
    struct locality locality = {x->c, NULL};
    bool found = false;
    struct err *e = map_addr_find(&svc->lists->virtual_alias_maps, x->c->scratch, address,
                                  svc->params->recipient_delimiter, is_local, &locality, value_out,
                                  ext_out, &found);

    if (!e && !found)
        e = locality.err; /* we do not know whether the bare name should have been asked */
    if (!e)
        return found;
    log_warning(svc->log_tag, "%s", e->text);
    give_up(x, "virtual_alias_maps map lookup problem", address, NULL);
    return false;
}

/* "@other" in a result keeps the local part; an extension the match cut off is put back. */
static struct str finish(struct expansion *x, struct str from, struct str result, struct str ext)
{
    struct arena *a = x->c->scratch;

    if (result.len && result.ptr[0] == '@')
        result = arena_printf(a, "%.*s%.*s", STR_ARG(address_local(from)), STR_ARG(result));
    result = rewrite_address(x->c->svc->params, a, REWRITE_LOCAL, result);
    if (ext.len && x->propagate) {
        struct str local = address_local(result);
        result = arena_printf(a, "%.*s%.*s%.*s", STR_ARG(local), STR_ARG(ext),
                              STR_ARG(str_from(result, local.len)));
    }
    return result;
}

/* One lookup for list[at]. False: it stays as it is. */
static bool step(struct expansion *x, size_t at, struct str first)
{
    struct str value, ext = STR_NULL, from = x->list[at], *results;

    if (!lookup(x, from, &value, &ext))
        return false;
    size_t n = address_header_list(x->c->scratch, value, &results);
    if (n == 0) {
        log_warning(x->c->svc->log_tag,
                    "virtual_alias_maps map lookup of %.*s returned non-address result \"%.*s\"",
                    STR_ARG(from), STR_ARG(value));
        give_up(x, "virtual_alias_maps map lookup problem", from, NULL);
        return false;
    }
    for (size_t i = 0; i < n && !x->failed; i++) {
        struct str result = finish(x, from, results[i], ext);
        if (result.len > (size_t)x->c->svc->params->virtual_alias_address_length_limit) {
            struct str what = arena_printf(x->c->scratch,
                                           "unreasonable virtual_alias_maps result %.300s...",
                                           arena_cstr(x->c->scratch, result));
            give_up(x, what.ptr, first, expansion_error);
            return false;
        }
        bool itself = str_eq(fold_text(x->c->scratch, from), fold_text(x->c->scratch, result));
        list_set(x, i == 0 ? at : x->count, result);
        if (itself)
            been_here(x, from, true);
    }
    return !x->failed;
}

static void expand_address(struct expansion *x, struct str address)
{
    const struct params *p = x->c->svc->params;

    list_set(x, 0, address);
    for (size_t at = 0; at < x->count && !x->failed; at++) {
        if (x->count > (size_t)p->virtual_alias_expansion_limit) {
            give_up(x, "unreasonable virtual_alias_maps map expansion size", address,
                    expansion_error);
            return;
        }
        for (int64_t depth = 0;; depth++) {
            if (been_here(x, x->list[at], false))
                break;
            if (depth >= p->virtual_alias_recursion_limit) {
                give_up(x, "unreasonable virtual_alias_maps map nesting", address, expansion_error);
                return;
            }
            if (!step(x, at, address))
                break;
        }
        been_here(x, x->list[at], true);
    }
}

/* --- the recipients of the envelope */

struct out {
    struct cleanup *c;
    struct buf rcpts; /* struct rcpt */
    struct hmap dups;
    bool lone; /* one recipient and no aliases: nothing can be twice */
};

static void out_rcpt(struct out *o, const struct cleanup_rcpt *in, uint8_t notify, struct str address)
{
    static char mark;
    struct cleanup *c = o->c;
    const struct params *p = c->svc->params;
    struct str original = p->enable_original_recipient ? in->original : STR("");

    if (!o->lone) {
        struct str key = address;
        if (p->enable_original_recipient)
            key = arena_printf(c->scratch, "%.*s\n%d\n%.*s\n%.*s", STR_ARG(in->orcpt), notify,
                               STR_ARG(original), STR_ARG(address));
        key = fold_text(c->scratch, key);
        if (hmap_get(&o->dups, key))
            return;
        if (o->dups.count < (size_t)p->duplicate_filter_limit)
            hmap_put(&o->dups, key, &mark);
    }
    struct rcpt r = {.address = address,
                     .original = original,
                     .orcpt = in->orcpt,
                     .notify = notify,
                     .state = RCPT_TODO,
                     .why = {.text = STR(""), .mta = STR(""), .diagnostic = STR("")},
                     .resolved = STR("")};
    buf_add(&o->rcpts, &r, sizeof r);
}

/* RFC 3461 §5.2.7.3 (b): an alias passes NOTIFY on without SUCCESS. */
static uint8_t notify_after_alias(uint8_t notify)
{
    if (notify == NOTIFY_SUCCESS)
        return NOTIFY_NEVER;
    return notify & (uint8_t)~NOTIFY_SUCCESS;
}

static bool propagates(const struct params *p)
{
    struct str rest = str_of(p->propagate_unmatched_extensions), one;

    while (str_token(&rest, ", \t\r\n", &one))
        if (str_eq_nocase(one, STR("virtual")))
            return true;
    return false;
}

static void expand_rcpt(struct out *o, const struct cleanup_rcpt *in)
{
    struct cleanup *c = o->c;
    struct expansion x = {.c = c, .propagate = propagates(c->svc->params)};

    expand_address(&x, in->address);
    bool aliased = x.count > 1 || (x.count == 1 && !str_eq(x.list[0], in->address));
    uint8_t notify = aliased ? notify_after_alias(in->notify) : in->notify;
    for (size_t i = 0; i < x.count && !x.failed; i++)
        out_rcpt(o, in, notify, x.list[i]);
    hmap_fini(&x.been_here);
    arena_reset(c->scratch);
}

void cleanup_expand(struct cleanup *c)
{
    const struct cleanup_rcpt *list = (const struct cleanup_rcpt *)(void *)c->rcpts.ptr;
    size_t count = c->rcpts.len / sizeof *list;
    bool map = !(c->flags & CLEANUP_NO_MAP) && c->svc->lists->virtual_alias_maps.count > 0;
    struct out o = {.c = c, .lone = count == 1 && !map};

    for (size_t i = 0; i < count && c->status == CLEANUP_OK; i++) {
        if (map)
            expand_rcpt(&o, &list[i]);
        else
            out_rcpt(&o, &list[i], list[i].notify, list[i].address);
    }
    arena_reset(c->scratch);
    c->env.rcpt_count = o.rcpts.len / sizeof *c->env.rcpts;
    c->env.rcpts = arena_alloc(c->arena, o.rcpts.len + 1);
    if (o.rcpts.len)
        memcpy(c->env.rcpts, o.rcpts.ptr, o.rcpts.len);
    buf_fini(&o.rcpts);
    hmap_fini(&o.dups);
}
