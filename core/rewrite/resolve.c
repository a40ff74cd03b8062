#include "core/rewrite/resolve.h"

#include "core/mail/address.h"
#include "core/mail/fold.h"
#include "core/rewrite/classes.h"
#include "core/rewrite/rewrite.h"
#include "io/base/log.h"
#include "queue/queue.h"

/* A hostile address cannot ask for more rounds than it has operators; this is the net below. */
#define ROUNDS_SLACK 100

static bool has_operator(const struct params *p, struct str s)
{
    return str_index(s, '@') >= 0 || (p->swap_bangpath && str_index(s, '!') >= 0) ||
           (p->allow_percent_hack && str_index(s, '%') >= 0);
}

static bool all_quiet(struct str local)
{
    for (size_t i = 0; i < local.len; i++)
        if ((unsigned char)local.ptr[i] <= ' ' || strchr("()<>@,;:\\\"[]", local.ptr[i]))
            return false;
    return true;
}

/* The address with our own domains peeled off: user@domain@us and user%domain@us are user@domain,
 * user@us stays. */
struct peeled {
    struct str address; /* complete, with a domain */
    bool local;
};

static struct err *peel(const struct service *svc, struct arena *a, struct str address,
                        struct peeled *out)
{
    const struct params *p = svc->params;
    struct str cur = address, saved = STR_NULL;
    size_t rounds_max = address.len + ROUNDS_SLACK;

    for (size_t round = 0; round < rounds_max; round++) {
        if (cur.len > 1 && cur.ptr[cur.len - 1] == '.' && cur.ptr[cur.len - 2] != '.' &&
            cur.ptr[cur.len - 2] != '@')
            cur.len--;
        if (p->resolve_null_domain && cur.len && cur.ptr[cur.len - 1] == '@')
            cur.len--;
        ssize_t at = str_rindex(cur, '@');
        if (at >= 0) {
            struct str domain = str_from(cur, (size_t)at + 1);
            bool local = domain.len == 0; /* "a@b@" is a@b; "a@" gets its empty domain back below */
            struct err *e = local ? NULL : resolve_local(svc, a, domain, &local);
            if (e)
                return e;
            if (!local) {
                *out = (struct peeled){cur, false};
                return NULL;
            }
            saved = str_from(cur, (size_t)at);
            cur = str_head(cur, (size_t)at);
        }
        if (!has_operator(p, cur) || (!p->resolve_dequoted_address && !all_quiet(cur)))
            break;
        cur = p->resolve_dequoted_address ? rewrite_dequoted(p, a, cur)
                                          : rewrite_address(p, a, REWRITE_LOCAL, cur);
    }
    if (cur.len == 0)
        cur = str_of(p->empty_address_recipient);
    out->address = saved.len ? arena_printf(a, "%.*s%.*s", STR_ARG(cur), STR_ARG(saved))
                             : arena_printf(a, "%.*s@%s", STR_ARG(cur), p->myhostname);
    out->local = true;
    return NULL;
}

/* "transport:nexthop" of main.cf; the domain, or relayhost, is the nexthop when none is written. */
static void take_transport(struct arena *a, const char *setting, const char *nexthop,
                           struct resolved *out)
{
    struct str s = str_of(setting);
    ssize_t colon = str_index(s, ':');

    out->transport = colon < 0 ? setting : arena_cstr(a, str_head(s, (size_t)colon));
    out->nexthop = colon >= 0 && s.ptr[colon + 1] ? s.ptr + colon + 1 : nexthop;
}

static void route(const struct service *svc, struct arena *a, struct str domain,
                  struct resolved *out)
{
    const struct params *p = svc->params;
    const char *own = arena_cstr(a, domain);
    const char *hop = *p->relayhost ? p->relayhost : own;

    switch (out->class) {
    case CLASS_LOCAL:
        take_transport(a, p->local_transport, own, out);
        break;
    case CLASS_VIRTUAL_ALIAS:
        out->transport = "error";
        out->nexthop = p->show_user_unknown_table_name
                           ? "5.1.1 User unknown in virtual alias table"
                           : "5.1.1 User unknown";
        break;
    case CLASS_VIRTUAL_MAILBOX:
        take_transport(a, p->virtual_transport, own, out);
        break;
    case CLASS_RELAY:
        take_transport(a, p->relay_transport, hop, out);
        break;
    case CLASS_DEFAULT:
        take_transport(a, p->default_transport, hop, out);
        break;
    }
}

static const char *null_transport(const struct resolved *r)
{
    static const char *const names[] = {"local_transport", "virtual_alias_domains",
                                        "virtual_transport", "relay_transport", "default_transport"};
    return names[r->class];
}

/* Numeric domains become literals when allowed; what is no name is an error of the address. */
static bool domain_ok(const struct params *p, struct arena *a, struct str *address)
{
    struct str domain = address_domain(*address);

    if (p->resolve_numeric_domain && address_domain_numeric(domain)) {
        struct str literal = arena_printf(a, "[%.*s]", STR_ARG(domain));
        if (address_domain_valid(literal)) {
            *address = arena_printf(a, "%.*s@%.*s", STR_ARG(address_local(*address)),
                                    STR_ARG(literal));
            return true;
        }
    }
    if (!p->allow_min_user && address->len && address->ptr[0] == '-')
        return false;
    return address_domain_valid(domain);
}

/* Users who have moved, whatever class their domain is in; last, because it has the last word. */
static struct err *relocated(const struct service *svc, struct arena *a, struct resolved *out)
{
    struct str value, ext;
    bool found = false;

    if (svc->lists->relocated_maps.count == 0)
        return NULL;
    struct err *e = relocated_find(svc, a, out->recipient, &value, &ext, &found);
    if (e)
        return err_in(e, "relocated_maps lookup");
    if (found) {
        out->transport = "error";
        out->nexthop = arena_printf(a, "5.1.6 User has moved to %.*s", STR_ARG(value)).ptr;
    }
    return NULL;
}

static struct err *resolve(const struct service *svc, struct arena *a, struct str recipient,
                           struct resolved *out)
{
    const struct params *p = svc->params;
    struct peeled peeled;
    struct err *e = peel(svc, a, rewrite_address(p, a, REWRITE_LOCAL, recipient), &peeled);

    if (e)
        return e;
    out->recipient = peeled.address;
    if (!domain_ok(p, a, &out->recipient)) {
        out->bad_syntax = true;
        out->class = CLASS_DEFAULT;
        out->transport = "error";
        out->nexthop = "5.1.3 bad address syntax";
        return NULL;
    }
    struct str local = address_local(out->recipient), domain = address_domain(out->recipient);
    out->class = CLASS_LOCAL;
    out->routed = str_index(local, '@') >= 0 || str_index(local, '%') >= 0 ||
                  str_index(local, '!') >= 0;
    e = peeled.local ? classes_local_warn(svc, a, domain)
                     : classes_remote(svc, a, fold_text(a, domain), &out->class);
    if (e)
        return e;
    route(svc, a, domain, out);
    if ((e = transport_map_find(svc, a, out->recipient, &out->transport, &out->nexthop)))
        return e;
    if (*out->transport == '\0')
        return err_new(ERR_CONFIG, 0, "parameter %s: null transport is not allowed",
                       null_transport(out));
    return relocated(svc, a, out);
}

/* Addresses mean what trivial-rewrite's line of master.cf says, whoever asks: -o on the line of smtpd does
 * not change where mail goes. */
static const struct service *resolver(const struct service *svc)
{
    const struct service *own = config_service(svc->snapshot, "rewrite", "unix");

    return own ? own : svc;
}

void resolve_recipient(const struct service *svc, struct arena *a, struct str sender,
                       struct str recipient, struct resolved *out)
{
    (void)sender; /* sender-dependent tables are asked here once they are parameters */
    memset(out, 0, sizeof *out);
    out->recipient = recipient;
    struct err *e = resolve(resolver(svc), a, recipient, out);
    if (!e)
        return;
    log_warning("trivial-rewrite", "%s", e->text);
    out->table_error = true;
    out->transport = out->nexthop = NULL;
    out->why = arena_cstr(a, str_of(e->text));
}

bool resolve_valid(const struct service *svc, struct arena *a, struct str address, bool utf8)
{
    const struct params *p = resolver(svc)->params;
    struct str full = rewrite_address(p, a, REWRITE_LOCAL, address);
    struct str domain = address_domain(full);

    if (address.len == 0 || domain.len == 0) /* no domain: append_at_myorigin is off */
        return address.len == 0 || str_rindex(full, '@') < 0 ||
               str_index(full, '@') != str_rindex(full, '@') || p->resolve_null_domain;
    if (!utf8)
        for (size_t i = 0; i < domain.len; i++)
            if ((unsigned char)domain.ptr[i] > 127)
                return false;
    return domain_ok(p, a, &full);
}

/* --- hooks.resolve */

static bool is_double_bounce(const struct params *p, const struct resolved *r)
{
    return !r->table_error && r->class == CLASS_LOCAL &&
           str_eq_nocase(address_local(r->recipient), str_of(p->double_bounce_sender));
}

/* The answer outlives the snapshot whose text it may be: a reload, or a stop, frees that one. before: what the last recipient
 * got, as most of them go the same way. */
static const char *keep(struct arena *a, const char *text, const char *before)
{
    return before && strcmp(before, text) == 0 ? before : arena_cstr(a, str_of(text));
}

static void fill(const struct service *svc, struct qmsg *m, struct rcpt *rcpt, const struct rcpt *before)
{
    struct resolved r;

    resolve_recipient(svc, m->arena, m->env->sender, rcpt->address, &r);
    rcpt->resolved = r.recipient;
    if (r.table_error) {
        rcpt->transport = "retry";
        rcpt->nexthop = "4.3.0 address resolver failure";
    } else if (is_double_bounce(svc->params, &r)) {
        /* So that a system without local delivery can tell its postmaster things and forget them. */
        rcpt->transport = "discard";
        rcpt->nexthop = "undeliverable postmaster notification discarded";
    } else {
        rcpt->transport = keep(m->arena, r.transport, before ? before->transport : NULL);
        rcpt->nexthop = keep(m->arena, r.nexthop, before ? before->nexthop : NULL);
    }
}

void resolve_message(const struct service *svc, struct qmsg *m)
{
    const struct rcpt *before = NULL;
    m->env->sender_shown = address_quote(m->arena, m->env->sender);
    for (size_t i = 0; i < m->env->rcpt_count; i++) {
        struct rcpt *rcpt = &m->env->rcpts[i];
        if (rcpt->state != RCPT_TODO && rcpt->state != RCPT_DEFERRED)
            continue;
        fill(svc, m, rcpt, before);
        before = rcpt;
    }
}
