#include "core/server/sockets.h"

#include <netdb.h>
#include <unistd.h>

#include "io/base/clock.h"
#include "io/base/mem.h"
#include "io/net/sock.h"

#define BACKLOG 1024
/* A server that has just died may hold its ports for a moment: the kernel takes its rings apart later. */
#define BUSY_WAIT_MS  3000
#define BUSY_SLEEP_US 20000

struct wanted {
    struct sockets list;
    const struct snapshot *snapshot;
};

static void want(struct wanted *w, size_t service, const struct addr *addr, uint16_t port)
{
    for (size_t i = 0; i < w->list.count; i++)
        if (addr_eq_host(&w->list.rows[i].addr, addr) && addr_port(&w->list.rows[i].addr) == port)
            return;
    w->list.rows = mem_realloc(w->list.rows, (w->list.count + 1) * sizeof(*w->list.rows));
    struct socket_row *row = &w->list.rows[w->list.count++];
    *row = (struct socket_row){.service_index = service, .addr = *addr, .fd = -1};
    addr_set_port(&row->addr, port);
}

static bool protocol_on(const struct params *p, sa_family_t family)
{
    struct str protocols = str_of(p->inet_protocols);
    if (str_find(protocols, STR("all")) >= 0)
        return true;
    return str_find(protocols, family == AF_INET6 ? STR("ipv6") : STR("ipv4")) >= 0;
}

static struct err *port_of(const struct service *svc, struct str text, uint16_t *out)
{
    uint64_t n;
    if (str_u64(text, &n)) {
        if (n == 0 || n > 65535)
            return err_new(ERR_CONFIG, 0, "file %s: line %d: bad port %.*s", svc->file, svc->line,
                           STR_ARG(text));
        *out = (uint16_t)n;
        return NULL;
    }
    char name[64];
    str_copy(name, sizeof(name), text);
    struct servent *found = getservbyname(name, "tcp");
    if (!found)
        return err_new(ERR_CONFIG, 0, "file %s: line %d: %s: service name is not known in services(5)",
                       svc->file, svc->line, name);
    *out = ntohs((uint16_t)found->s_port);
    return NULL;
}

static struct err *want_host(struct wanted *w, size_t i, struct str host, uint16_t port)
{
    const struct service *svc = &w->snapshot->services[i];
    struct addr addr;
    if (host.len > 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
        host = str_make(host.ptr + 1, host.len - 2);
    if (addr_parse(host, port, &addr)) {
        want(w, i, &addr, port);
        return NULL;
    }
    char name[256];
    str_copy(name, sizeof(name), host);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    int rc = getaddrinfo(name, NULL, &hints, &list);
    if (rc != 0)
        return err_new(ERR_CONFIG, 0, "file %s: line %d: host or service %s not found: %s", svc->file,
                       svc->line, name, gai_strerror(rc));
    for (struct addrinfo *it = list; it; it = it->ai_next) {
        if (!protocol_on(svc->params, (sa_family_t)it->ai_family))
            continue;
        memcpy(&addr.ss, it->ai_addr, it->ai_addrlen);
        addr.len = it->ai_addrlen;
        want(w, i, &addr, port);
    }
    freeaddrinfo(list);
    return NULL;
}

static void want_any(struct wanted *w, size_t i, uint16_t port)
{
    struct addr addr;
    const struct params *p = w->snapshot->params;
    if (protocol_on(p, AF_INET) && addr_parse(STR("0.0.0.0"), port, &addr))
        want(w, i, &addr, port);
    if (protocol_on(p, AF_INET6) && addr_parse(STR("::"), port, &addr))
        want(w, i, &addr, port);
}

/* inet_interfaces: all, loopback-only, or a list of names and addresses. */
static struct err *want_interfaces(struct wanted *w, size_t i, uint16_t port)
{
    struct str rest = str_of(w->snapshot->params->inet_interfaces), one;
    while (str_token(&rest, ", \t\r\n", &one)) {
        struct err *e = NULL;
        if (str_eq_nocase(one, STR("all")))
            want_any(w, i, port);
        else if (str_eq_nocase(one, STR("loopback-only")))
            e = want_host(w, i, STR("127.0.0.1"), port);
        else
            e = want_host(w, i, one, port);
        if (!e && str_eq_nocase(one, STR("loopback-only")) &&
            protocol_on(w->snapshot->params, AF_INET6))
            e = want_host(w, i, STR("::1"), port);
        if (e)
            return e;
    }
    return NULL;
}

static struct err *want_service(struct wanted *w, size_t i)
{
    const struct service *svc = &w->snapshot->services[i];
    struct str name = str_of(svc->name);
    ssize_t colon = str_rindex(name, ':');
    uint16_t port = 0;
    struct err *e = port_of(svc, colon >= 0 ? str_from(name, (size_t)colon + 1) : name, &port);
    if (e)
        return e;
    if (colon < 0)
        return want_interfaces(w, i, port);
    struct str host = str_head(name, (size_t)colon);
    if (str_eq(host, STR("*")) || host.len == 0) {
        want_any(w, i, port);
        return NULL;
    }
    return want_host(w, i, host, port);
}

static int take_over(struct sockets *old, const struct addr *addr)
{
    for (size_t i = 0; i < old->count; i++) {
        struct socket_row *row = &old->rows[i];
        if (row->fd >= 0 && addr_eq_host(&row->addr, addr) && addr_port(&row->addr) == addr_port(addr))
            return row->fd;
    }
    return -1;
}

static bool among(const struct sockets *s, int fd)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->rows[i].fd == fd)
            return true;
    return false;
}

/* A host without IPv6 cannot bind ::, which nobody minds when IPv4 is served. */
static bool may_lack(const struct socket_row *row, const struct err *e)
{
    return row->addr.sa.sa_family == AF_INET6 && (e->code == EADDRNOTAVAIL || e->code == EAFNOSUPPORT);
}

static struct err *open_one(struct socket_row *row, int64_t deadline_ns)
{
    for (;;) {
        struct err *e = sock_listen(&row->addr, BACKLOG, false, &row->fd);
        if (!e || e->code != EADDRINUSE || clock_mono_ns() >= deadline_ns)
            return e;
        usleep(BUSY_SLEEP_US);
    }
}

static struct err *open_all(const struct snapshot *want, struct sockets *list, struct sockets *old)
{
    int64_t deadline_ns = clock_in_ms(BUSY_WAIT_MS);
    for (size_t i = 0; i < list->count; i++) {
        struct socket_row *row = &list->rows[i];
        row->fd = take_over(old, &row->addr);
        if (row->fd >= 0)
            continue;
        struct err *e = open_one(row, deadline_ns);
        if (e && may_lack(row, e)) {
            *row = list->rows[--list->count];
            i--;
        } else if (e) {
            const struct service *svc = &want->services[row->service_index];
            return err_in(e, "file %s: line %d", svc->file, svc->line);
        }
    }
    return NULL;
}

static void close_but(struct sockets *s, const struct sockets *keep)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->rows[i].fd >= 0 && !among(keep, s->rows[i].fd))
            close(s->rows[i].fd);
    mem_free(s->rows);
    *s = (struct sockets){0};
}

struct err *sockets_update(const struct snapshot *s, struct sockets *old)
{
    struct wanted w = {.snapshot = s};
    struct err *e = NULL;
    for (size_t i = 0; !e && i < s->service_count; i++)
        if (strcmp(s->services[i].type, "inet") == 0 && strcmp(s->services[i].command, "smtpd") == 0)
            e = want_service(&w, i);
    if (!e)
        e = open_all(s, &w.list, old);
    if (e) {
        close_but(&w.list, old);
        return e;
    }
    close_but(old, &w.list);
    *old = w.list;
    return NULL;
}

void sockets_close(struct sockets *s)
{
    close_but(s, &(struct sockets){0});
}
