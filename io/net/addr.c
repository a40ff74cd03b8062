#include "io/net/addr.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <ifaddrs.h>
#include <stdio.h>

bool addr_parse(struct str text, uint16_t port, struct addr *out)
{
    char buf[INET6_ADDRSTRLEN];
    if (text.len == 0 || text.len >= sizeof(buf) || memchr(text.ptr, '\0', text.len))
        return false;
    str_copy(buf, sizeof(buf), text);
    struct addr a;
    memset(&a, 0, sizeof(a));
    if (inet_pton(AF_INET, buf, &a.in.sin_addr) == 1) {
        a.in.sin_family = AF_INET;
        a.in.sin_port = htons(port);
        a.len = sizeof(a.in);
    } else if (inet_pton(AF_INET6, buf, &a.in6.sin6_addr) == 1) {
        a.in6.sin6_family = AF_INET6;
        a.in6.sin6_port = htons(port);
        a.len = sizeof(a.in6);
    } else {
        return false;
    }
    *out = a;
    return true;
}

bool addr_parse_literal(struct str text, uint16_t port, struct addr *out)
{
    struct str prefix = STR("IPv6:");
    bool v6 = str_starts_nocase(text, prefix);
    struct addr a;
    if (!addr_parse(v6 ? str_from(text, prefix.len) : text, port, &a))
        return false;
    if (v6 != (a.sa.sa_family == AF_INET6))
        return false;
    *out = a;
    return true;
}

const char *addr_text(const struct addr *a, char text_out[ADDR_TEXT_MAX])
{
    const void *bytes = NULL;
    if (a->sa.sa_family == AF_INET)
        bytes = &a->in.sin_addr;
    else if (a->sa.sa_family == AF_INET6)
        bytes = &a->in6.sin6_addr;
    /* An interface suffix (fe80::1%eth0) is left out, as in Postfix: tables and literals lack it. */
    if (!bytes || !inet_ntop(a->sa.sa_family, bytes, text_out, ADDR_TEXT_MAX))
        snprintf(text_out, ADDR_TEXT_MAX, "unknown");
    return text_out;
}

uint16_t addr_port(const struct addr *a)
{
    if (a->sa.sa_family == AF_INET)
        return ntohs(a->in.sin_port);
    return a->sa.sa_family == AF_INET6 ? ntohs(a->in6.sin6_port) : 0;
}

void addr_set_port(struct addr *a, uint16_t port)
{
    if (a->sa.sa_family == AF_INET)
        a->in.sin_port = htons(port);
    else if (a->sa.sa_family == AF_INET6)
        a->in6.sin6_port = htons(port);
}

bool addr_eq_host(const struct addr *a, const struct addr *b)
{
    if (a->sa.sa_family != b->sa.sa_family)
        return false;
    if (a->sa.sa_family == AF_INET)
        return a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
    if (a->sa.sa_family == AF_INET6)
        return memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, sizeof(a->in6.sin6_addr)) == 0;
    return false;
}

void addr_unmap(struct addr *a)
{
    if (a->sa.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr))
        return;
    struct addr plain;
    memset(&plain, 0, sizeof(plain));
    plain.in.sin_family = AF_INET;
    plain.in.sin_port = a->in6.sin6_port;
    memcpy(&plain.in.sin_addr, &a->in6.sin6_addr.s6_addr[12], 4);
    plain.len = sizeof(plain.in);
    *a = plain;
}

static uint8_t netmask_bits(const struct sockaddr *mask)
{
    const unsigned char *bytes;
    size_t n;
    if (mask && mask->sa_family == AF_INET) {
        bytes = (const unsigned char *)&((const struct sockaddr_in *)(const void *)mask)->sin_addr;
        n = 4;
    } else if (mask && mask->sa_family == AF_INET6) {
        bytes = (const unsigned char *)&((const struct sockaddr_in6 *)(const void *)mask)->sin6_addr;
        n = 16;
    } else {
        return 0;
    }
    uint8_t bits = 0;
    for (size_t i = 0; i < n; i++)
        bits = (uint8_t)(bits + __builtin_popcount(bytes[i]));
    return bits;
}

static bool is_ip(const struct ifaddrs *i)
{
    return i->ifa_addr && (i->ifa_flags & IFF_UP) &&
           (i->ifa_addr->sa_family == AF_INET || i->ifa_addr->sa_family == AF_INET6);
}

struct err *addr_own_interfaces(struct arena *a, struct own_addr **list_out, size_t *n_out)
{
    struct ifaddrs *all;
    if (getifaddrs(&all) != 0)
        return err_errno(errno, "list the network interfaces");
    size_t n = 0;
    for (struct ifaddrs *i = all; i; i = i->ifa_next)
        n += is_ip(i);
    struct own_addr *list = arena_zalloc(a, (n ? n : 1) * sizeof(*list));
    size_t at = 0;
    for (struct ifaddrs *i = all; i; i = i->ifa_next) {
        if (!is_ip(i))
            continue;
        struct own_addr *own = &list[at++];
        bool v4 = i->ifa_addr->sa_family == AF_INET;
        own->addr.len = v4 ? sizeof(own->addr.in) : sizeof(own->addr.in6);
        memcpy(&own->addr.ss, i->ifa_addr, own->addr.len);
        own->bits = i->ifa_netmask ? netmask_bits(i->ifa_netmask) : (v4 ? 32 : 128);
    }
    freeifaddrs(all);
    *list_out = list;
    *n_out = n;
    return NULL;
}
