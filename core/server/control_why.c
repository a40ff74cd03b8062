/* control_why: why mail waits (postqueue --why), what an operator has told to wait, and what qshape counts. An
 * answer is made of one tree of names and values, shown as lines or as JSON. */
#include <stdio.h>

#include "core/config/snapshot.h"
#include "core/mail/address.h"
#include "core/mail/date.h"
#include "core/mail/json.h"
#include "core/rewrite/resolve.h"
#include "core/server/control_private.h"
#include "io/base/clock.h"
#include "queue/why.h"

enum { RCPTS_ROUTED = 50, LABEL_WIDTH = 18 };

/* --- a tree of names and values */

struct tree {
    struct buf *out;
    bool json, begun;
    int depth;
    int64_t now_us;
};

static void key(struct tree *t, const char *name)
{
    if (!t->json) {
        char label[64];
        size_t n = str_copy(label, sizeof(label), str_of(name));
        for (size_t i = 0; i < n; i++)
            if (label[i] == '_')
                label[i] = ' ';
        buf_printf(t->out, "%*s%-*s ", 4 * t->depth, "", LABEL_WIDTH, label);
        return;
    }
    buf_printf(t->out, "%s\"%s\": ", t->begun ? ", " : "", name);
    t->begun = true;
}

static void put_str(struct tree *t, const char *name, struct str value)
{
    key(t, name);
    if (t->json)
        json_string(t->out, value);
    else
        buf_printf(t->out, "%.*s\n", STR_ARG(value));
}

static void put_num(struct tree *t, const char *name, int64_t value)
{
    key(t, name);
    buf_printf(t->out, "%lld%s", (long long)value, t->json ? "" : "\n");
}

static void put_flag(struct tree *t, const char *name, bool value)
{
    key(t, name);
    buf_add_c(t->out, t->json ? (value ? "true" : "false") : value ? "yes\n" : "no\n");
}

static void add_span(struct buf *out, int64_t s)
{
    if (s < 120)
        buf_printf(out, "%lld s", (long long)s);
    else if (s < 7200)
        buf_printf(out, "%lld min", (long long)s / 60);
    else if (s < 2 * 86400)
        buf_printf(out, "%lld h %lld min", (long long)s / 3600, (long long)s / 60 % 60);
    else
        buf_printf(out, "%lld d %lld h", (long long)s / 86400, (long long)s / 3600 % 24);
}

/* Seconds since 1970 in JSON. */
static void put_time(struct tree *t, const char *name, int64_t us)
{
    char date[DATE_TEXT_MAX];
    key(t, name);
    if (t->json) {
        buf_printf(t->out, "%lld", (long long)(us / US_PER_S));
        return;
    }
    int64_t away_s = (us - t->now_us) / US_PER_S;
    buf_printf(t->out, "%s (%s", date_ctime(us, date), us >= t->now_us ? "in " : "");
    add_span(t->out, away_s < 0 ? -away_s : away_s);
    buf_add_c(t->out, us >= t->now_us ? ")\n" : " ago)\n");
}

/* name NULL: a member of a list, or the whole. In lines it is headed by `title`. */
static void open_object(struct tree *t, const char *name, struct str title)
{
    if (t->json) {
        if (name)
            key(t, name);
        else if (t->begun)
            buf_add_c(t->out, ", ");
        buf_add_char(t->out, '{');
    } else {
        buf_printf(t->out, "%*s%.*s\n", 4 * t->depth, "", STR_ARG(title));
        t->depth++;
    }
    t->begun = false;
}

static void close_object(struct tree *t)
{
    if (t->json)
        buf_add_char(t->out, '}');
    else
        t->depth--;
    t->begun = true;
}

static void open_list(struct tree *t, const char *name)
{
    if (!t->json)
        return;
    key(t, name);
    buf_add_char(t->out, '[');
    t->begun = false;
}

static void close_list(struct tree *t)
{
    if (t->json)
        buf_add_char(t->out, ']');
    t->begun = true;
}

/* --- a destination */

static const char *const state_names[] = {
    [QUEUE_DEST_QUIET] = "quiet",
    [QUEUE_DEST_READY] = "ready",
    [QUEUE_DEST_PAUSED] = "paused",
    [QUEUE_DEST_DEAD] = "dead",
};

/* What comes from a configuration and binds now. */
static void put_limits(struct tree *t, const struct queue_dest *d)
{
    if (d->concurrency_limit > 0)
        put_num(t, "concurrency_limit", d->concurrency_limit);
    if (d->rate_delay_ms > 0)
        put_num(t, "rate_delay_ms", d->rate_delay_ms);
    if (d->transport_rate_delay_ms > 0)
        put_num(t, "transport_delay_ms", d->transport_rate_delay_ms);
    put_num(t, "transport_in_use", d->transport_busy);
    if (d->process_limit > 0)
        put_num(t, "process_limit", d->process_limit);
    if (d->transport_lingering > 0)
        put_num(t, "transport_lingering", d->transport_lingering);
    if (d->seats_taken > 0 || d->held > 0) {
        put_num(t, "recipient_slots", d->seats);
        put_num(t, "recipient_slots_in_use", d->seats_taken);
        put_num(t, "recipients_without_slot", d->held);
    }
    if (d->transport_deferred)
        put_flag(t, "defer_transports", true);
}

static void put_reply(struct tree *t, bool sent, const char *status, struct str text)
{
    struct buf line = {0};
    buf_printf(&line, "%s%s%s%s%.*s", sent ? "sent" : "", sent && text.len ? ": " : "", status,
               status[0] ? " " : "", STR_ARG(text));
    put_str(t, "last_reply", buf_str(&line));
    buf_fini(&line);
}

static struct err *put_dest(struct tree *t, struct caller *c, struct queue_route route)
{
    struct queue_dest d;
    struct err *e = queue_dest(c->queue, route, c->arena, &d);
    if (e)
        return e;
    open_object(t, NULL, arena_printf(c->arena, "%s:%s", route.transport, route.nexthop));
    if (t->json) {
        put_str(t, "transport", str_of(route.transport));
        put_str(t, "nexthop", str_of(route.nexthop));
    }
    if (!d.declared)
        put_str(t, "state", STR("there is no such transport in master.cf"));
    else
        put_str(t, "state", str_of(state_names[d.state]));
    if (d.state == QUEUE_DEST_DEAD || d.state == QUEUE_DEST_PAUSED)
        put_time(t, d.state == QUEUE_DEST_DEAD ? "dead_until" : "paused_until", d.until_us);
    if (d.state == QUEUE_DEST_DEAD && d.why.text.len > 0)
        put_str(t, "dead_because", d.why.text);
    if (d.suspended)
        put_str(t, "suspended_by", str_of(d.suspended));
    if (d.state != QUEUE_DEST_QUIET) {
        put_num(t, "window", d.window);
        put_num(t, "in_use", d.busy);
        put_num(t, "waiting", d.waiting);
    }
    if (d.declared)
        put_limits(t, &d);
    if (d.replied_us > 0) {
        put_reply(t, d.sent, d.status, d.reply);
        put_time(t, "replied_at", d.replied_us);
    }
    close_object(t);
    return NULL;
}

/* Where an address goes by the tables of now. */
static bool route_of(struct caller *c, struct str sender, struct str address, struct queue_route *out)
{
    struct resolved r = {0};
    struct snapshot *s = config_current();
    const struct service *svc = config_service(s, "rewrite", "unix");
    resolve_recipient(svc ? svc : control_service(s, "cleanup"), c->arena, sender, address, &r);
    bool known = !r.table_error && r.transport && r.nexthop;
    if (known)
        *out = (struct queue_route){arena_cstr(c->arena, str_of(r.transport)),
                                    arena_cstr(c->arena, str_of(r.nexthop))};
    snapshot_unref(s);
    return known;
}

static bool same(const struct queue_route *l, const struct queue_route *r)
{
    return strcmp(l->transport, r->transport) == 0 && strcmp(l->nexthop, r->nexthop) == 0;
}

static void add_route(struct queue_route *list, size_t *n, size_t max, struct queue_route one)
{
    for (size_t i = 0; i < *n; i++)
        if (same(&list[i], &one))
            return;
    if (*n < max)
        list[(*n)++] = one;
}

static struct err *put_dests(struct tree *t, struct caller *c, const struct queue_route *list, size_t n)
{
    struct err *e = NULL;
    open_list(t, "destinations");
    for (size_t i = 0; !e && i < n; i++)
        e = put_dest(t, c, list[i]);
    close_list(t);
    return e;
}

/* --- of a domain, a destination, a transport */

static struct err *put_sample(struct tree *t, struct caller *c, const char *id, struct str domain)
{
    struct queue_why w;
    bool found = false;
    struct err *e = queue_why(c->queue, str_of(id), c->arena, &w, &found);
    if (e || !found)
        return e;
    for (size_t i = 0; i < w.entry.env->rcpt_count; i++) {
        const struct rcpt *r = &w.entry.env->rcpts[i];
        ssize_t at = str_rindex(r->address, '@');
        bool here = domain.len == 0 ||
                    (at >= 0 && str_eq_nocase(str_from(r->address, (size_t)at + 1), domain));
        if (!here || r->why.text.len == 0)
            continue;
        put_str(t, "latest_message", str_of(id));
        put_reply(t, false, r->why.status, r->why.text);
        if (w.tried_us > 0)
            put_time(t, "tried_at", w.tried_us);
        break;
    }
    return NULL;
}

static struct err *put_tally(struct tree *t, struct caller *c, struct str domain, struct str destination,
                             uint64_t *messages_out)
{
    struct queue_tally sum;
    struct err *e = queue_tally(c->queue, domain, destination, &sum);
    if (e)
        return e;
    *messages_out = sum.messages;
    put_num(t, "messages", (int64_t)sum.messages);
    put_num(t, "incoming", (int64_t)sum.counts[QUEUE_INCOMING]);
    put_num(t, "active", (int64_t)sum.counts[QUEUE_ACTIVE]);
    put_num(t, "deferred", (int64_t)sum.counts[QUEUE_DEFERRED]);
    put_num(t, "hold", (int64_t)sum.counts[QUEUE_HOLD]);
    put_num(t, "suspended", (int64_t)sum.suspended);
    if (sum.oldest_us > 0)
        put_time(t, "oldest", sum.oldest_us);
    if (sum.next_try_us > 0)
        put_time(t, "next_attempt", sum.next_try_us);
    return sum.latest[0] ? put_sample(t, c, sum.latest, domain) : NULL;
}

/* "transport:nexthop", as far as it says both. */
static bool split(struct caller *c, struct str what, struct queue_route *out)
{
    ssize_t colon = what.ptr[0] == '[' ? -1 : str_index(what, ':');
    if (colon < 0)
        return false;
    *out = (struct queue_route){arena_cstr(c->arena, str_head(what, (size_t)colon)),
                                arena_cstr(c->arena, str_from(what, (size_t)colon + 1))};
    return true;
}

struct naming {
    struct str wanted;
    const char *found;
    struct arena *arena;
};

static void name_of_domain(void *ctx, const char *name, int64_t since_us)
{
    struct naming *n = ctx;
    (void)since_us;
    if (str_eq_nocase(str_of(name), n->wanted))
        n->found = arena_cstr(n->arena, str_of(name));
}

static struct err *why_place(struct tree *t, struct caller *c, struct str what, bool *found_out)
{
    struct queue_route *list = NULL, one = {NULL, NULL};
    struct str domain = STR(""), destination = STR(""), transport = STR("");
    struct naming by = {.wanted = what, .arena = c->arena};
    uint64_t messages = 0;
    size_t n = 0;
    if (split(c, what, &one) && one.nexthop[0] == '\0')
        transport = str_of(one.transport);
    else if (one.transport || what.ptr[0] == '[')
        destination = what;
    else
        domain = what;
    struct err *e = queue_routes(c->queue, what, transport, c->arena, &list, &n);
    if (e)
        return e;
    if (one.transport && one.nexthop[0])
        add_route(list, &n, QUEUE_ROUTES_MAX, one);
    if (domain.len > 0 && route_of(c, STR(""), arena_printf(c->arena, "postmaster@%.*s", STR_ARG(domain)), &one))
        add_route(list, &n, QUEUE_ROUTES_MAX, one);
    open_object(t, NULL, what);
    if (t->json)
        put_str(t, "what", what);
    e = queue_suspended(c->queue, name_of_domain, &by);
    if (!e && by.found)
        put_str(t, "suspended_by", str_of(by.found));
    if (!e && transport.len == 0)
        e = put_tally(t, c, domain, destination, &messages);
    if (!e)
        e = put_dests(t, c, list, n);
    close_object(t);
    *found_out = true;
    return e;
}

/* --- of a message */

static struct str message_state(struct arena *a, const struct queue_why *w)
{
    const struct queue_entry *m = &w->entry;
    if (m->importing)
        return STR("its import has not ended");
    if (m->queue == QUEUE_HOLD)
        return STR("on hold, until postsuper -H or -r");
    if (m->queue == QUEUE_DEFERRED)
        return w->suspended ? STR("deferred, suspended by the operator")
               : w->no_room ? STR("deferred, and due: waits for room in the active queue")
                            : STR("deferred");
    if (m->queue != QUEUE_ACTIVE)
        return w->no_room ? STR("incoming, waits for room in the active queue") : STR("incoming");
    if (w->resolving)
        return STR("active, its addresses are looked up");
    if (w->running > 0)
        return arena_printf(a, "active, %u deliver%s under way%s", w->running,
                            w->running == 1 ? "y" : "ies", w->waiting ? ", some recipients wait" : "");
    return w->waiting ? STR("active, waits for its turn") : STR("active");
}

static void put_rcpt(struct tree *t, struct arena *a, const struct rcpt *r, const struct queue_route *route)
{
    struct buf address = {0};
    address_quote_to(&address, r->address);
    open_object(t, NULL, buf_str(&address));
    if (t->json)
        put_str(t, "address", buf_str(&address));
    if (route->transport)
        put_str(t, "destination", arena_printf(a, "%s:%s", route->transport, route->nexthop));
    if (r->why.text.len > 0)
        put_reply(t, false, r->why.status, r->why.text);
    close_object(t);
    buf_fini(&address);
}

static void put_message(struct tree *t, struct caller *c, const struct queue_why *w)
{
    const struct queue_entry *m = &w->entry;
    struct buf sender = {0};
    if (m->env->sender.len > 0)
        address_quote_to(&sender, m->env->sender);
    put_str(t, "sender", sender.len ? buf_str(&sender) : STR("MAILER-DAEMON"));
    buf_fini(&sender);
    put_num(t, "size", (int64_t)m->env->data_size);
    put_time(t, "arrived", m->env->arrival_us);
    put_str(t, "state", message_state(c->arena, w));
    if (m->forced_expire)
        put_flag(t, "forced_expire", true);
    if (w->tried_us > 0)
        put_time(t, "last_attempt", w->tried_us);
    if (m->queue == QUEUE_DEFERRED && m->next_try_us > 0 && !w->suspended)
        put_time(t, "next_attempt", m->next_try_us);
}

static struct err *why_message(struct tree *t, struct caller *c, struct str id, bool *found_out)
{
    struct queue_why w;
    struct err *e = queue_why(c->queue, id, c->arena, &w, found_out);
    if (e || !*found_out)
        return e;
    const struct envelope *env = w.entry.env;
    struct queue_route list[QUEUE_ROUTES_MAX];
    size_t n = 0;
    for (size_t i = 0; i < env->rcpt_count; i++) {
        if (!w.routes[i].transport && i < RCPTS_ROUTED)
            (void)route_of(c, env->sender, env->rcpts[i].address, &w.routes[i]);
        if (w.routes[i].transport)
            add_route(list, &n, QUEUE_ROUTES_MAX, w.routes[i]);
    }
    open_object(t, NULL, id);
    if (t->json)
        put_str(t, "queue_id", id);
    put_message(t, c, &w);
    open_list(t, "recipients");
    for (size_t i = 0; i < env->rcpt_count; i++)
        put_rcpt(t, c->arena, &env->rcpts[i], &w.routes[i]);
    close_list(t);
    e = put_dests(t, c, list, n);
    close_object(t);
    return e;
}

/* --- the requests */

struct err *control_why(struct caller *c, struct rd *body)
{
    struct buf text = {0};
    struct str what = rd_lstr(body);
    struct tree t = {.out = &text, .json = rd_u8(body), .now_us = clock_wall_us()};
    bool found = false;
    if (body->bad || what.len == 0)
        return wire_send_end(c->fd, &c->out, WIRE_ERROR, 0, STR("malformed request"));
    struct err *e = why_message(&t, c, what, &found);
    if (!e && !found)
        e = why_place(&t, c, what, &found);
    if (t.json)
        buf_add_char(&text, '\n');
    if (e) {
        e = control_error(c, e);
    } else {
        wire_begin(&c->out, WIRE_CONTENT);
        buf_add_str(&c->out, buf_str(&text));
        e = wire_send(c->fd, &c->out);
        if (!e)
            e = wire_send_end(c->fd, &c->out, WIRE_OK, found, STR(""));
    }
    buf_fini(&text);
    return e;
}

struct err *control_suspend(struct caller *c, struct rd *body)
{
    struct str what = rd_lstr(body), name;
    bool changed;
    struct err *e = queue_suspend(c->queue, what, c->arena, &name, &changed);
    return e ? control_error(c, e) : wire_send_end(c->fd, &c->out, WIRE_OK, changed, name);
}

struct err *control_resume(struct caller *c, struct rd *body)
{
    uint64_t count;
    struct err *e = queue_resume(c->queue, rd_lstr(body), c->arena, &count);
    return e ? control_error(c, e) : wire_send_end(c->fd, &c->out, WIRE_OK, count, STR(""));
}

struct listing {
    struct tree tree;
    uint64_t count;
};

static void list_one(void *ctx, const char *name, int64_t since_us)
{
    struct listing *l = ctx;
    struct tree *t = &l->tree;
    char date[DATE_TEXT_MAX];
    l->count++;
    if (!t->json) {
        buf_printf(t->out, "%s  %s\n", date_ctime(since_us, date), name);
        return;
    }
    t->begun = false;
    open_object(t, NULL, STR(""));
    put_str(t, "suspended", str_of(name));
    put_time(t, "since", since_us);
    close_object(t);
    buf_add_char(t->out, '\n');
}

struct err *control_suspended(struct caller *c, struct rd *body)
{
    struct buf text = {0};
    struct listing l = {.tree = {.out = &text, .json = rd_u8(body)}};
    struct err *e = queue_suspended(c->queue, list_one, &l);
    wire_begin(&c->out, WIRE_CONTENT);
    buf_add_str(&c->out, buf_str(&text));
    buf_fini(&text);
    if (e)
        return control_error(c, e);
    e = wire_send(c->fd, &c->out);
    return e ? e : wire_send_end(c->fd, &c->out, WIRE_OK, l.count, STR(""));
}

struct shaping {
    struct caller *caller;
    bool broken;
};

static bool send_rows(void *ctx, struct str rows)
{
    struct shaping *s = ctx;
    wire_begin(&s->caller->out, WIRE_CONTENT);
    buf_add_str(&s->caller->out, rows);
    struct err *e = wire_send(s->caller->fd, &s->caller->out);
    s->broken = e != NULL; /* nobody listens any more */
    return e == NULL;
}

struct err *control_shape(struct caller *c, struct rd *body)
{
    struct queue_shape what = {.queues = rd_u32(body)};
    what.senders = rd_u8(body);
    struct shaping s = {.caller = c};
    if (body->bad)
        return wire_send_end(c->fd, &c->out, WIRE_ERROR, 0, STR("malformed request"));
    struct err *e = control_await_all(c);
    if (e)
        return e;
    e = queue_shape(c->queue, &what, send_rows, &s);
    if (s.broken)
        return err_new(ERR_CLOSED, 0, "the caller is gone");
    return e ? control_error(c, e) : wire_send_end(c->fd, &c->out, WIRE_OK, 0, STR(""));
}
