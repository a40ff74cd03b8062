/* targets: the pure half of routing: next hops taken apart, addresses put in order. */
#include "core/smtp/route.h"

#include <netdb.h>
#include "io/base/rand.h"

/* --- next hops */

static bool port_number(struct str text, uint16_t *out)
{
    uint64_t n;
    if (str_u64(text, &n)) {
        if (n == 0 || n > UINT16_MAX)
            return false;
        *out = (uint16_t)n;
        return true;
    }
    /* Names of services(5). The usual ones need no file. */
    static const struct {
        const char *name;
        uint16_t port;
    } known[] = {{"smtp", 25},         {"lmtp", 24},   {"submission", 587},
                 {"submissions", 465}, {"smtps", 465}, {"qmqp", 628}};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (str_eq_nocase(text, str_of(known[i].name))) {
            *out = known[i].port;
            return true;
        }
    }
    char name[64], space[1024];
    struct servent entry, *found = NULL;
    if (text.len == 0 || text.len >= sizeof(name))
        return false;
    str_copy(name, sizeof(name), text);
    if (getservbyname_r(name, "tcp", &entry, space, sizeof(space), &found) != 0 || !found)
        return false;
    *out = ntohs((uint16_t)found->s_port);
    return true;
}

struct err *smtp_site_parse(struct arena *a, struct str text, const char *service,
                            struct smtp_site *out)
{
    struct str host = text, port = str_of(service);
    bool direct = text.len > 0 && text.ptr[0] == '[';
    ssize_t end = direct ? str_index(text, ']') : str_rindex(text, ':');
    if (direct && end < 0)
        return err_new(ERR_CONFIG, 0, "missing \"]\" in next hop \"%.*s\"", STR_ARG(text));
    if (direct) {
        struct str rest = str_from(text, (size_t)end + 1);
        host = str_make(text.ptr + 1, (size_t)end - 1);
        if (rest.len > 0 && rest.ptr[0] != ':')
            return err_new(ERR_CONFIG, 0, "garbage after \"]\" in next hop \"%.*s\"",
                           STR_ARG(text));
        if (rest.len > 0)
            port = str_from(rest, 1);
        if (str_starts_nocase(host, STR("IPv6:")))
            host = str_from(host, 5);
    } else if (end >= 0) {
        host = str_head(text, (size_t)end);
        port = str_from(text, (size_t)end + 1);
    }
    if (host.len == 0)
        return err_new(ERR_CONFIG, 0, "no host in next hop \"%.*s\"", STR_ARG(text));
    uint16_t number;
    if (!port_number(port, &number))
        return err_new(ERR_CONFIG, 0, "unknown port \"%.*s\" in next hop \"%.*s\"", STR_ARG(port),
                       STR_ARG(text));
    *out = (struct smtp_site){arena_cstr(a, text), arena_cstr(a, host), number, direct};
    return NULL;
}

/* --- order */

static int family_rank(const struct smtp_target *t, enum smtp_family family)
{
    if (family == SMTP_FAMILY_ANY)
        return 0;
    return t->addr.sa.sa_family != (family == SMTP_FAMILY_IPV6 ? AF_INET6 : AF_INET);
}

static bool before(const struct smtp_target *a, const struct smtp_target *b,
                   enum smtp_family family)
{
    if (a->preference != b->preference)
        return a->preference < b->preference;
    return family_rank(a, family) < family_rank(b, family);
}

void smtp_targets_order(struct smtp_target *list, size_t count, bool shuffle,
                        enum smtp_family family)
{
    for (size_t i = count; shuffle && i > 1; i--) {
        size_t j = (size_t)rand_below(i);
        struct smtp_target t = list[i - 1];
        list[i - 1] = list[j];
        list[j] = t;
    }
    /* By insertion: stable, and lists are short (route.c bounds them). */
    for (size_t i = 1; i < count; i++) {
        struct smtp_target t = list[i];
        size_t j = i;
        for (; j > 0 && before(&t, &list[j - 1], family); j--)
            list[j] = list[j - 1];
        list[j] = t;
    }
}

size_t smtp_targets_balance(struct smtp_target *list, size_t count, size_t limit)
{
    size_t v6 = 0, left = 0;
    for (size_t i = 0; i < count; i++)
        v6 += list[i].addr.sa.sa_family == AF_INET6;
    size_t v4 = count - v6;
    if (limit < 2 || v4 == 0 || v6 == 0 || count <= limit)
        return count;
    size_t spare = limit > v6 ? limit - v6 : 0; /* what the others leave */
    size_t share = spare > limit / 2 ? spare : limit / 2;
    v4 = v4 < share ? v4 : share;
    v6 = limit - v4;
    for (size_t i = 0; i < count; i++) {
        size_t *room = list[i].addr.sa.sa_family == AF_INET6 ? &v6 : &v4;
        if (*room == 0)
            continue;
        (*room)--;
        list[left++] = list[i];
    }
    return left;
}

static bool is_own(const struct addr *a, const struct own_addr *own, size_t own_count)
{
    for (size_t i = 0; i < own_count; i++)
        if (addr_eq_host(a, &own[i].addr))
            return true;
    return false;
}

size_t smtp_targets_cut_own(struct smtp_target *list, size_t count, const struct own_addr *own,
                            size_t own_count, bool *self_out)
{
    *self_out = false;
    for (size_t i = 0; i < count; i++) {
        if (!is_own(&list[i].addr, own, own_count))
            continue;
        *self_out = true;
        size_t left = i;
        while (left > 0 && list[left - 1].preference >= list[i].preference)
            left--;
        return left;
    }
    return count;
}
