/* deliver: smtp(8). A request goes over the connection of the one before it, or over the next hop's
 * servers one after the other, until each recipient has its answer. */
#include "core/smtp/smtp.h"

#include "core/smtp/session.h"
#include "io/base/check.h"
#include "io/base/log.h"

enum { SITES_MAX = 64 }; /* next hops and fallback relays of one request */

/* What is left of a site: its addresses that are known to be unreachable (reach.h). They are for when
 * nobody else has done his part. */
struct rest {
    const struct smtp_target *targets;
    size_t count;
    bool only;
};

struct sites {
    struct smtp_try *t;
    struct str list[SITES_MAX];
    size_t count, primary;    /* the first ones are the destination's own */
    const struct addr *tried; /* this one was just asked; NULL = none */
    bool heard;               /* some server did its part in this attempt */
    struct rest rests[SITES_MAX];
    bool more; /* there are some in `rests` */
};

/* Recipients that an earlier server put off try their luck again. */
static void begin_server(struct smtp_try *t, bool final)
{
    t->final = final;
    t->complete = false;
    for (size_t i = 0; i < t->r->rcpt_count; i++)
        if (t->rcpts[i] == SMTP_RCPT_KEPT)
            t->rcpts[i] = SMTP_RCPT_TRY;
}

/* One server. Returns its connection if it may be used again. last: when it talks to us at all, its
 * word counts. */
static struct smtp_session *try_server(struct smtp_try *t, struct smtp_session *s, bool only,
                                       bool last)
{
    t->s = s;
    s->only = only;
    if (smtp_session_begin(t)) {
        t->final = t->final || last;
        smtp_transfer(t);
    }
    t->s = NULL;
    if (t->left == 0 && s->keep)
        return s;
    smtp_session_end(s);
    return NULL;
}

/* Without the one that was just asked, and no more than are wanted. */
static void trim(const struct sites *sites, struct smtp_route *route)
{
    int64_t limit = sites->t->svc->params->smtp_mx_address_limit;
    size_t left = 0;
    for (size_t i = 0; i < route->count; i++)
        if (!sites->tried || !addr_eq_host(&route->targets[i].addr, sites->tried))
            route->targets[left++] = route->targets[i];
    route->count = limit > 0 && left > (size_t)limit ? (size_t)limit : left;
}

/* last_site: no other comes after these. */
static struct smtp_session *try_targets(struct sites *sites, const struct smtp_target *list,
                                        size_t count, bool only, bool last_site)
{
    struct smtp_try *t = sites->t;
    int64_t limit = t->svc->params->smtp_mx_session_limit, sessions = 0;
    for (size_t i = 0; i < count && t->left > 0; i++) {
        struct smtp_session *s = smtp_connect(t, &list[i]);
        if (!s) {
            log_info(t->svc->log_tag, "%s", t->why.reason);
            continue;
        }
        bool enough = limit > 0 && ++sessions >= limit;
        bool last = last_site && (enough || i + 1 == count);
        begin_server(t, last && !sites->more);
        s = try_server(t, s, only, last);
        sites->heard = sites->heard || t->complete;
        if (s || enough)
            return s;
    }
    return NULL;
}

/* Those that are not known to be unreachable; the others are put aside. */
static struct smtp_session *try_site(struct sites *sites, size_t i, struct smtp_route *route)
{
    bool only = route->count == 1 && sites->count == 1;
    size_t front = 0;
    trim(sites, route);
    while (front < route->count && !route->targets[front].unreachable)
        front++;
    sites->rests[i] = (struct rest){route->targets + front, route->count - front, only};
    sites->more = sites->more || front < route->count;
    return try_targets(sites, route->targets, front, only, i + 1 == sites->count);
}

static struct smtp_session *try_rests(struct sites *sites)
{
    struct smtp_session *s = NULL;
    size_t last = 0;
    for (size_t i = 0; i < sites->count; i++)
        if (sites->rests[i].count > 0)
            last = i;
    sites->more = false;
    for (size_t i = 0; i <= last && sites->t->left > 0; i++) {
        struct rest *r = &sites->rests[i];
        s = try_targets(sites, r->targets, r->count, r->only, i == last);
    }
    return s;
}

/* What could be a mistake in our configuration does not bounce mail. */
static void explain(struct sites *sites, size_t stopped_at)
{
    struct smtp_try *t = sites->t;
    const char *what = NULL;
    if (!t->why.status[0])
        smtp_why_set(t, "4.3.0", "server unavailable or unable to receive mail");
    if (!smtp_why_permanent(&t->why))
        return;
    if (stopped_at >= sites->primary && sites->count > sites->primary)
        what = "smtp_fallback_relay";
    else if (strcmp(t->r->nexthop, t->svc->params->relayhost) == 0)
        what = "relayhost";
    if (!what)
        return;
    log_warning(t->svc->log_tag, "%s configuration problem", what);
    str_copy(t->why.status, sizeof(t->why.status), STR("4.3.5"));
}

static void split(struct sites *sites, const char *text)
{
    struct str rest = str_of(text), token;
    while (sites->count < SITES_MAX && str_token(&rest, ", \t\r\n", &token))
        sites->list[sites->count++] = token;
}

static bool find(struct sites *sites, size_t i, struct smtp_route *route_out)
{
    struct smtp_try *t = sites->t;
    struct smtp_site site;
    struct err *e =
        smtp_site_parse(t->r->arena, sites->list[i], t->svc->params->smtp_tcp_port, &site);
    if (e) {
        log_warning(t->svc->log_tag, "%s: %s", t->r->msg->id, e->text);
        smtp_why_set(t, "4.3.5", "bad next hop: %s", e->text);
        return false;
    }
    smtp_route_find(t->r->arena, t->svc, &site, route_out);
    /* An MX host of the domain does not hand its mail to a fallback relay (RFC 5321 §5.1). */
    if (route_out->self && sites->count > sites->primary)
        sites->count = i < sites->primary ? sites->primary : i + 1;
    if (route_out->count > 0)
        return true;
    smtp_why_set(t, route_out->status, "%s", route_out->reason);
    return false;
}

static struct smtp_session *over_sites(struct smtp_try *t, const struct addr *tried)
{
    struct sites sites = {.t = t, .tried = tried, .heard = tried && t->complete};
    struct smtp_session *s = NULL;
    size_t i = 0;
    split(&sites, t->r->nexthop);
    sites.primary = sites.count;
    split(&sites, t->svc->params->smtp_fallback_relay);
    for (; i < sites.count && t->left > 0; i++) {
        struct smtp_route route = {0};
        if (find(&sites, i, &route))
            s = try_site(&sites, i, &route);
        else if (route.loops)
            break;
    }
    if (t->left > 0 && sites.more && !sites.heard)
        s = try_rests(&sites);
    if (t->left > 0) {
        explain(&sites, i > 0 && i == sites.count ? i - 1 : i);
        t->final = true;
        smtp_sess_fail(t);
    }
    return s;
}

/* The connection of the request before. Returns it if it may be used again. */
static struct smtp_session *over_kept(struct smtp_try *t, struct smtp_session *s)
{
    t->s = s;
    t->r->conn_done_us = t->r->made_us; /* no time was lost on connecting */
    begin_server(t, s->only);
    smtp_transfer(t);
    t->s = NULL;
    if (t->stale) {
        t->r->conn_use = 0;
        t->r->conn_done_us = 0;
    }
    if (t->left == 0 && s->keep)
        return s;
    return NULL;
}

static struct smtp_session *deliver_one(const struct service *svc, struct request *r,
                                        struct smtp_session *s)
{
    struct smtp_try t = {.svc = svc, .r = r, .left = r->rcpt_count};
    t.rcpts = arena_zalloc(r->arena, r->rcpt_count);
    struct smtp_session *kept = NULL;
    struct addr tried;
    bool asked = false;
    if (s) {
        kept = over_kept(&t, s);
        asked = !t.stale;
        tried = s->addr;
        t.stale = false;
        if (!kept)
            smtp_session_end(s);
    }
    if (t.left > 0)
        kept = over_sites(&t, asked ? &tried : NULL);
    CHECK(t.left == 0);
    return kept;
}

void smtp_deliver(const struct service *svc, struct request *r)
{
    struct smtp_session *s = NULL;
    while (r) {
        s = deliver_one(svc, r, s);
        if (s) {
            r = smtp_reuse_next(s, r);
        } else {
            request_done(r);
            r = NULL;
        }
    }
    smtp_session_end(s);
}
