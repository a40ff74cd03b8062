/* connect: address -> connection, from the source address that was asked for. */
#include "core/smtp/session.h"

#include <errno.h>

#include "core/smtp/reach.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/base/metric.h"
#include "io/net/sock.h"

enum { SMTP_PORT = 25 };

static bool loopback(const struct addr *a)
{
    if (a->sa.sa_family == AF_INET)
        return ntohl(a->in.sin_addr.s_addr) >> 24 == 127;
    return a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&a->in6.sin6_addr);
}

/* A virtual host has one address, and its mail comes from there (Postfix does the same). */
static const struct addr *only_own(const struct snapshot *snap, sa_family_t family)
{
    const struct addr *found = NULL;
    for (size_t i = 0; i < snap->own_addr_count; i++) {
        const struct addr *a = &snap->own_addrs[i].addr;
        if (a->sa.sa_family != family)
            continue;
        if (found)
            return NULL;
        found = a;
    }
    return found && !loopback(found) ? found : NULL;
}

static const char *bind_text(const struct service *svc, sa_family_t family)
{
    return family == AF_INET6 ? svc->params->smtp_bind_address6 : svc->params->smtp_bind_address;
}

/* The address to connect from; NULL = the kernel's choice. */
static const struct addr *source(const struct service *svc, const struct addr *to,
                                 struct addr *space)
{
    sa_family_t family = to->sa.sa_family;
    struct str text = str_of(bind_text(svc, family));
    if (text.len == 0)
        return only_own(svc->snapshot, family);
    if (text.ptr[0] == '[' && text.ptr[text.len - 1] == ']')
        text = str_make(text.ptr + 1, text.len - 2);
    if (addr_parse(text, 0, space) && space->sa.sa_family == family)
        return space;
    log_warning(svc->log_tag, "bad %s value: %.*s: not an address of that family",
                family == AF_INET6 ? "smtp_bind_address6" : "smtp_bind_address", STR_ARG(text));
    return NULL;
}

static const char *words(const struct err *e)
{
    if (e->kind == ERR_TIMEOUT)
        return "Connection timed out";
    const char *text = e->code > 0 ? strerrordesc_np(e->code) : NULL;
    return text ? text : e->text;
}

static struct err *open_socket(const struct service *svc, const struct addr *to, int *fd_out)
{
    struct addr space;
    int64_t limit = svc->params->smtp_connect_timeout;
    int64_t deadline = limit > 0 ? clock_in_s(limit) : DEADLINE_NEVER;
    const struct addr *from = source(svc, to, &space);
    struct err *e = sock_connect(to, from, deadline, fd_out);
    /* sock_connect names the step that failed. An address that is not ours to use is the
     * administrator's mistake; mail goes out all the same unless that is forbidden. */
    if (!e || !from || !str_starts(str_of(e->text), STR("bind ")))
        return e;
    char text[ADDR_TEXT_MAX];
    log_warning(svc->log_tag, "smtp_connect_addr: bind %s: %s", addr_text(from, text), words(e));
    if (svc->params->smtp_bind_address_enforce && bind_text(svc, to->sa.sa_family)[0])
        return e;
    return sock_connect(to, NULL, deadline, fd_out);
}

static struct smtp_session *session_new(const struct service *svc, const struct smtp_target *target,
                                        int fd)
{
    struct arena *arena = arena_new(512, 0);
    struct smtp_session *s = ARENA_NEW(arena, struct smtp_session);
    char ip[ADDR_TEXT_MAX];
    addr_text(&target->addr, ip);
    s->svc = svc;
    s->arena = arena;
    s->stream = stream_new(fd);
    s->addr = target->addr;
    s->host = arena_cstr(arena, str_of(target->host));
    s->namaddr = arena_printf(arena, "%s[%s]", target->host, ip).ptr;
    s->relay = arena_printf(arena, "%s[%s]:%u", target->host, ip, addr_port(&target->addr)).ptr;
    s->best_mx = target->best_mx;
    s->loop_detect = addr_port(&target->addr) == SMTP_PORT;
    s->opened_ns = clock_mono_ns();
    return s;
}

/* Trouble of the way or the host, as against ours: no descriptor, no port, no such source address. */
static bool is_far(const struct err *e)
{
    switch (e->code) {
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ENETUNREACH:
    case ENETDOWN:
        return true;
    default:
        return e->kind == ERR_TIMEOUT;
    }
}

struct smtp_session *smtp_connect(struct smtp_try *t, const struct smtp_target *target)
{
    char ip[ADDR_TEXT_MAX];
    int fd = -1;
    struct err *e = open_socket(t->svc, &target->addr, &fd);
    if (e) {
        if (is_far(e))
            smtp_reach_failed(t->svc->params, &target->addr, clock_mono_ns());
        smtp_why_set(t, "4.4.1", "connect to %s[%s]:%u: %s", target->host,
                     addr_text(&target->addr, ip), addr_port(&target->addr), words(e));
        return NULL;
    }
    metric_add(METRIC_smtp_connections, 1);
    return session_new(t->svc, target, fd);
}
