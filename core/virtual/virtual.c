/* virtual: whose mailbox it is: path, user and group from their tables, then delivery as mbox or maildir. */
#include "core/virtual/virtual.h"

#include <stdarg.h>
#include <unistd.h>

#include "core/deliver/report.h"
#include "core/virtual/private.h"
#include "io/base/log.h"

void failure_set(struct failure *why, struct arena *a, bool permanent, const char *dsn,
                 const struct err *e, const char *fmt, ...)
{
    struct buf b = {0};
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    if (e && e->kind == ERR_CANCELED)
        buf_add_c(&b, ": the mail system stops");
    else if (e) {
        const char *reason = e->code ? strerrordesc_np(e->code) : NULL;
        buf_printf(&b, ": %s", reason ? reason : e->text);
    }
    *why = (struct failure){
        .permanent = permanent, .dsn = dsn, .text = arena_cstr(a, buf_str(&b))};
    buf_fini(&b);
}

static bool misconfigured(struct mailbox *m, struct failure *why)
{
    failure_set(why, m->arena, false, "4.3.5", NULL, "mail system configuration error");
    return false;
}

static struct str lookup_key(const struct rcpt *rcpt)
{
    return rcpt->resolved.len > 0 ? rcpt->resolved : rcpt->address;
}

/* --- lookups */

static struct err *find(struct mailbox *m, const struct map_list *maps, struct str *value_out, bool *found_out)
{
    struct str ext;
    return map_addr_find(maps, m->arena, lookup_key(m->rcpt), m->svc->params->recipient_delimiter, NULL,
                         NULL, value_out, &ext, found_out);
}

static bool find_path(struct mailbox *m, struct failure *why)
{
    struct str value, user = lookup_key(m->rcpt);
    bool found;
    struct err *e = find(m, &m->svc->lists->virtual_mailbox_maps, &value, &found);
    if (e) {
        log_warning(m->svc->log_tag, "table virtual_mailbox_maps: lookup %.*s: %s", STR_ARG(user), e->text);
        return misconfigured(m, why);
    }
    if (!found) {
        failure_set(why, m->arena, true, "5.1.1", NULL, "unknown user: \"%.*s\"", STR_ARG(user));
        return false;
    }
    m->path = arena_printf(m->arena, "%s/%.*s", m->svc->params->virtual_mailbox_base, STR_ARG(value)).ptr;
    return true;
}

/* A number of a user or group; what = "uid" or "gid". */
static bool find_id(struct mailbox *m, const struct map_list *maps, const char *what, int64_t min,
                    struct failure *why, int64_t *id_out)
{
    struct str value, user = lookup_key(m->rcpt);
    bool found;
    struct err *e = find(m, maps, &value, &found);
    if (e)
        log_warning(m->svc->log_tag, "table virtual_%s_maps: lookup %.*s: %s", what, STR_ARG(user), e->text);
    else if (!found)
        log_warning(m->svc->log_tag, "recipient %.*s: not found in virtual_%s_maps", STR_ARG(user), what);
    else if (!str_i64(value, id_out) || *id_out < min || *id_out >= UINT32_MAX)
        log_warning(m->svc->log_tag, "recipient %.*s: bad %s %.*s in virtual_%s_maps", STR_ARG(user), what,
                    STR_ARG(value), what);
    else
        return true;
    return misconfigured(m, why);
}

/* The engine is one unprivileged user, and what it writes belongs to that user. */
static bool may_act(struct mailbox *m, struct failure *why)
{
    if (m->uid == geteuid() && m->gid == getegid())
        return true;
    failure_set(why, m->arena, false, "4.3.0", NULL,
                "cannot deliver as UID/GID %lu/%lu: this version delivers only as its own user, %lu/%lu",
                (unsigned long)m->uid, (unsigned long)m->gid, (unsigned long)geteuid(),
                (unsigned long)getegid());
    return false;
}

static bool sizes_fit(struct mailbox *m, struct failure *why)
{
    const struct params *p = m->svc->params;
    if (p->virtual_mailbox_limit == 0 ||
        (p->message_size_limit > 0 && p->virtual_mailbox_limit >= p->message_size_limit))
        return true;
    log_warning(m->svc->log_tag,
                "main.cf configuration error: virtual_mailbox_limit is smaller than message_size_limit");
    return misconfigured(m, why);
}

/* --- delivery */

static bool deliver_one(struct mailbox *m, struct failure *why)
{
    int64_t uid, gid;
    const struct lists *lists = m->svc->lists;
    if (!sizes_fit(m, why) || !find_path(m, why) ||
        !find_id(m, &lists->virtual_uid_maps, "uid", m->svc->params->virtual_minimum_uid, why, &uid) ||
        !find_id(m, &lists->virtual_gid_maps, "gid", 1, why, &gid))
        return false;
    m->uid = (uid_t)uid;
    m->gid = (gid_t)gid;
    if (!may_act(m, why))
        return false;
    return str_ends(str_of(m->path), STR("/")) ? maildir_deliver(m, why) : mbox_deliver(m, why);
}

void virtual_deliver(const struct service *svc, struct request *r)
{
    for (size_t i = 0; i < r->rcpt_count && !r->damaged; i++) {
        struct mailbox m = {.svc = svc, .request = r, .rcpt = r->rcpts[i].rcpt, .arena = r->arena};
        struct failure why;
        bool ok = deliver_one(&m, &why);
        if (!ok && why.damaged)
            report_damaged(svc, r, "virtual", why.text);
        else if (!ok)
            report_failed(svc, r, i, why.permanent, "virtual", why.dsn, why.text, NULL,
                          why.diagnostic);
        else
            report_sent(svc, r, i, "virtual", "2.0.0",
                        str_ends(str_of(m.path), STR("/")) ? "delivered to maildir" : "delivered to mailbox");
    }
    request_done(r);
}
