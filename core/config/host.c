/* Defaults that come from the machine: myhostname, mydomain, mynetworks, and which addresses are
 * ours (inet_interfaces, proxy_interfaces). */
#include <netdb.h>
#include <unistd.h>
#include "core/config/private.h"
#include "io/base/mem.h"
#include "io/fiber/offload.h"

static void computed(struct config_private *c, const char *name, struct str value)
{
    dict_set(&c->computed, c->arena, str_of(name), value, NULL, 0);
}

/* RFC 1123 §2.1, and what people have besides: '_', and UTF-8. */
static bool valid_name(struct str name)
{
    size_t label = 0;
    if (name.len == 0 || name.len > 255)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char ch = name.ptr[i];
        if (ch == '.' ? label == 0 : !(str_is_alnum(ch) || ch == '_' || (ch & 0x80) || ch == '-'))
            return false;
        if (ch == '-' && (label == 0 || i + 1 == name.len || name.ptr[i + 1] == '.'))
            return false;
        label = ch == '.' ? 0 : label + 1;
        if (label > 63)
            return false;
    }
    return label > 0;
}

static struct err *check_name(const struct config_private *c, const char *name, struct str value)
{
    if (valid_name(value))
        return NULL;
    struct scope scope = {.main = &c->main};
    struct err *e = err_new(ERR_CONFIG, 0, "parameter %s: bad parameter value: %.*s", name,
                            STR_ARG(value));
    return eval_located(&scope, str_of(name), e);
}

/* Postfix: the host name, completed with $mydomain when it has no dot; mydomain is what follows the
 * first dot of myhostname. */
struct err *host_names(struct config_private *c)
{
    struct scope scope = {.main = &c->main, .computed = &c->computed};
    char host[256];
    if (gethostname(host, sizeof(host)) != 0)
        return err_errno(errno, "gethostname");
    host[sizeof(host) - 1] = '\0';
    struct str name = str_of(host), domain = STR("localdomain"), value;
    struct err *e;
    if (dict_find(&c->main, STR("mydomain"))) {
        e = eval_name(&scope, c->arena, STR("mydomain"), &value);
        if (e)
            return e;
        domain = value;
        e = check_name(c, "mydomain", domain);
        if (e)
            return e;
    }
    if (str_index(name, '.') < 0)
        name = arena_printf(c->arena, "%s.%.*s", host, STR_ARG(domain));
    computed(c, "myhostname", name);
    e = eval_name(&scope, c->arena, STR("myhostname"), &value);
    if (!e)
        e = check_name(c, "myhostname", value);
    if (e)
        return e;
    ssize_t dot = str_index(value, '.');
    computed(c, "mydomain", dot >= 0 ? str_from(value, (size_t)dot + 1) : STR("localdomain"));
    return NULL;
}

/* --- addresses */
struct resolve_job {
    const char *name;
    struct addrinfo *list;
    int rc;
};

static void resolve(void *arg)
{
    struct resolve_job *job = arg;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    job->rc = getaddrinfo(job->name, NULL, &hints, &job->list);
}

static bool family_wanted(const char *protocols, sa_family_t family)
{
    struct str rest = str_of(protocols), token;
    while (str_token(&rest, ", \t\r\n", &token))
        if (str_eq(token, STR("all")) ||
            str_eq(token, family == AF_INET ? STR("ipv4") : STR("ipv6")))
            return true;
    return false;
}

static struct err *check_protocols(const char *protocols)
{
    struct str rest = str_of(protocols), token;
    bool any = false;
    while (str_token(&rest, ", \t\r\n", &token)) {
        any = true;
        if (!str_eq(token, STR("all")) && !str_eq(token, STR("ipv4")) &&
            !str_eq(token, STR("ipv6")))
            return err_new(ERR_CONFIG, 0, "unknown inet_protocols value \"%.*s\" in \"%s\"",
                           STR_ARG(token), protocols);
    }
    return any ? NULL : err_new(ERR_CONFIG, 0, "bad inet_protocols value: it is empty");
}

static bool is_loopback(const struct addr *a)
{
    if (a->sa.sa_family == AF_INET)
        return (ntohl(a->in.sin_addr.s_addr) >> 24) == 127;
    return a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&a->in6.sin6_addr);
}

struct own {
    struct own_addr *list; /* heap */
    size_t count;
    const struct own_addr *interfaces;
    size_t interface_count;
};

static void add(struct own *o, const struct addr *addr)
{
    for (size_t i = 0; i < o->count; i++)
        if (addr_eq_host(&o->list[i].addr, addr))
            return;
    uint8_t bits = addr->sa.sa_family == AF_INET ? 32 : 128;
    for (size_t i = 0; i < o->interface_count; i++)
        if (addr_eq_host(&o->interfaces[i].addr, addr))
            bits = o->interfaces[i].bits;
    o->list = mem_realloc(o->list, (o->count + 1) * sizeof(*o->list));
    o->list[o->count].addr = *addr;
    o->list[o->count++].bits = bits;
}

static struct err *add_name(struct own *o, const char *param, struct str token, const char *protocols)
{
    struct addr addr;
    struct str bare = token;
    if (bare.len > 2 && bare.ptr[0] == '[' && bare.ptr[bare.len - 1] == ']')
        bare = str_make(bare.ptr + 1, bare.len - 2);
    if (addr_parse(bare, 0, &addr)) {
        if (family_wanted(protocols, addr.sa.sa_family))
            add(o, &addr);
        return NULL;
    }
    char name[256];
    if (str_copy(name, sizeof(name), token) < token.len)
        return err_new(ERR_CONFIG, 0, "config variable %s: name too long", param);
    struct resolve_job job = {.name = name};
    offload(resolve, &job);
    if (job.rc != 0)
        return err_new(ERR_CONFIG, 0, "config variable %s: host not found: %s", param, name);
    for (const struct addrinfo *ai = job.list; ai; ai = ai->ai_next) {
        if ((ai->ai_family != AF_INET && ai->ai_family != AF_INET6) ||
            !family_wanted(protocols, (sa_family_t)ai->ai_family))
            continue;
        addr = (struct addr){.len = ai->ai_addrlen};
        memcpy(&addr.ss, ai->ai_addr, ai->ai_addrlen);
        addr_set_port(&addr, 0);
        add(o, &addr);
    }
    freeaddrinfo(job.list);
    return NULL;
}

static struct err *add_list(struct own *o, const char *param, const char *text, const char *protocols)
{
    struct str rest = str_of(text), token;
    while (str_token(&rest, ", \t\r\n", &token)) {
        bool all = str_eq(token, STR("all")), loopback = str_eq(token, STR("loopback-only"));
        if (!all && !loopback) {
            struct err *e = add_name(o, param, token, protocols);
            if (e)
                return e;
            continue;
        }
        for (size_t i = 0; i < o->interface_count; i++) {
            const struct addr *addr = &o->interfaces[i].addr;
            if ((all || is_loopback(addr)) && family_wanted(protocols, addr->sa.sa_family))
                add(o, addr);
        }
    }
    return NULL;
}

struct err *host_addrs(struct snapshot *s, struct arena *a, const char *inet_interfaces,
                       const char *proxy_interfaces, const char *inet_protocols)
{
    struct own own = {0};
    struct own_addr *interfaces;
    struct err *e = check_protocols(inet_protocols);
    if (!e)
        e = addr_own_interfaces(a, &interfaces, &own.interface_count);
    if (e)
        return e;
    own.interfaces = interfaces;
    e = add_list(&own, "inet_interfaces", inet_interfaces, inet_protocols);
    s->priv->listen_addr_count = own.count;
    if (!e)
        e = add_list(&own, "proxy_interfaces", proxy_interfaces, inet_protocols);
    if (!e) {
        s->own_addrs = arena_alloc(a, (own.count + 1) * sizeof(*own.list));
        if (own.count)
            memcpy(s->own_addrs, own.list, own.count * sizeof(*own.list));
        s->own_addr_count = own.count;
    }
    mem_free(own.list);
    return e;
}

/* --- mynetworks */
static uint8_t class_bits(const struct own_addr *o)
{
    if (o->addr.sa.sa_family != AF_INET)
        return o->bits; /* IPv6 has no classes: the subnet */
    uint32_t ip = ntohl(o->addr.in.sin_addr.s_addr);
    if ((ip >> 31) == 0)
        return 8;
    return (ip >> 30) == 2 ? 16 : (ip >> 29) == 6 ? 24 : 32;
}

static struct str network(struct arena *a, const struct own_addr *o, uint8_t bits)
{
    struct addr masked = o->addr;
    bool v4 = o->addr.sa.sa_family == AF_INET;
    uint8_t *bytes = v4 ? (uint8_t *)&masked.in.sin_addr : (uint8_t *)&masked.in6.sin6_addr;
    for (unsigned i = bits; i < (v4 ? 32u : 128u); i++)
        bytes[i / 8] = (uint8_t)(bytes[i / 8] & ~(0x80u >> (i % 8)));
    char text[ADDR_TEXT_MAX];
    addr_text(&masked, text);
    return v4 ? arena_printf(a, "%s/%u", text, bits) : arena_printf(a, "[%s]/%u", text, bits);
}

struct err *host_networks(const struct snapshot *s, struct arena *a, const char *style,
                          struct str *out)
{
    bool host = strcmp(style, "host") == 0, class = strcmp(style, "class") == 0;
    if (!host && !class && strcmp(style, "subnet") != 0)
        return err_new(ERR_CONFIG, 0, "unknown mynetworks mask style value \"%s\" in \"%s\"", style,
                       style);
    struct buf b = {0};
    for (size_t i = 0; i < s->priv->listen_addr_count; i++) {
        const struct own_addr *o = &s->own_addrs[i];
        uint8_t full = o->addr.sa.sa_family == AF_INET ? 32 : 128;
        struct str text = network(a, o, host ? full : class ? class_bits(o) : o->bits);
        bool seen = false;
        struct str rest = buf_str(&b), token;
        while (!seen && str_token(&rest, " ", &token))
            seen = str_eq(token, text);
        if (seen)
            continue;
        if (b.len)
            buf_add_char(&b, ' ');
        buf_add_str(&b, text);
    }
    *out = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return NULL;
}
