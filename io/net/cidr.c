/* cidr: networks as Postfix writes them (cidr_table(5), postconf(5) mynetworks):
 *     network = address [ "/" bits ] ; address = IPv4 / IPv6 / "[" IPv4 or IPv6 "]" [ "/" bits ]
 * The words of the errors are Postfix's: people search for them. */
#include <arpa/inet.h>
#include "io/net/addr.h"

static void mask_host_bits(uint8_t *bytes, size_t n, unsigned bits)
{
    for (size_t i = 0; i < n; i++) {
        unsigned keep = bits > i * 8 ? bits - (unsigned)i * 8 : 0;
        if (keep < 8)
            bytes[i] = (uint8_t)(bytes[i] & (0xff00u >> keep));
    }
}

/* Takes "[address]rest" apart: *pattern becomes "address" or "address/bits". */
static struct err *unbracket(struct str text, char *pattern, size_t size)
{
    ssize_t close = str_index(text, ']');
    if (close < 0)
        return err_new(ERR_CONFIG, 0, "missing ']' character after \"%.*s\"", STR_ARG(text));
    struct str inside = str_make(text.ptr + 1, (size_t)close - 1);
    struct str rest = str_from(text, (size_t)close + 1);
    if (rest.len > 0 && rest.ptr[0] != '/')
        return err_new(ERR_CONFIG, 0, "garbage after \"[%.*s]\"", STR_ARG(inside));
    size_t at = str_copy(pattern, size, inside);
    str_copy(pattern + at, size - at, rest);
    return NULL;
}

static struct err *host_bits_error(const char *pattern, const struct cidr *c)
{
    char net[INET6_ADDRSTRLEN] = "?";
    inet_ntop(c->family, c->bytes, net, sizeof(net));
    return err_new(ERR_CONFIG, 0,
                   "non-null host address bits in \"%s\", perhaps you should use \"%s/%u\" instead",
                   pattern, net, c->bits);
}

struct err *cidr_parse(struct str text, struct cidr *out)
{
    char pattern[128];
    if (text.len >= sizeof(pattern) || memchr(text.ptr ? text.ptr : "", '\0', text.len))
        return err_new(ERR_CONFIG, 0, "bad address pattern: \"%.*s\"", STR_ARG(str_head(text, 128)));
    str_copy(pattern, sizeof(pattern), text);
    if (text.len > 0 && text.ptr[0] == '[') {
        struct err *e = unbracket(text, pattern, sizeof(pattern));
        if (e)
            return e;
    }
    struct str all = str_of(pattern);
    ssize_t slash = str_index(all, '/');
    struct str host = slash < 0 ? all : str_head(all, (size_t)slash);
    struct addr a;
    uint64_t bits = 0;
    if (slash >= 0 && !str_u64(str_from(all, (size_t)slash + 1), &bits))
        return err_new(ERR_CONFIG, 0, "bad mask value in \"%s\"", pattern);
    if (!addr_parse(host, 0, &a))
        return err_new(ERR_CONFIG, 0, slash < 0 ? "bad address pattern: \"%s\""
                                                : "bad network value in \"%s\"", pattern);
    struct cidr c = {.family = a.sa.sa_family};
    size_t n = c.family == AF_INET ? 4 : 16;
    memcpy(c.bytes, n == 4 ? (void *)&a.in.sin_addr : (void *)&a.in6.sin6_addr, n);
    if (slash < 0)
        bits = n * 8;
    if (bits > n * 8)
        return err_new(ERR_CONFIG, 0, "bad mask length in \"%s\"", pattern);
    c.bits = (uint8_t)bits;
    uint8_t given[16];
    memcpy(given, c.bytes, sizeof(given));
    mask_host_bits(c.bytes, n, c.bits);
    if (memcmp(given, c.bytes, n) != 0)
        return host_bits_error(pattern, &c);
    *out = c;
    return NULL;
}

bool cidr_match(const struct cidr *c, const struct addr *a)
{
    if (a->sa.sa_family != c->family)
        return false;
    uint8_t bytes[16];
    size_t n = c->family == AF_INET ? 4 : 16;
    memcpy(bytes, n == 4 ? (const void *)&a->in.sin_addr : (const void *)&a->in6.sin6_addr, n);
    mask_host_bits(bytes, n, c->bits);
    return memcmp(bytes, c->bytes, n) == 0;
}
