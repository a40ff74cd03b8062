/* transport_map: transport(5).
 *
 *   right-hand side = [transport] [":" [nexthop]]
 *
 * An empty transport keeps what the address class gave, and so does an empty nexthop beside it; a
 * transport without nexthop resets the nexthop to the recipient's domain. */
#include "core/rewrite/resolve.h"

#include "core/mail/address.h"
#include "core/mail/fold.h"

/* Partial keys mean nothing to pattern tables: they saw the whole address already. */
static struct err *find(const struct map_list *l, struct arena *a, struct str key, bool partial,
                        struct str *value_out, bool *found_out)
{
    if (!partial)
        return map_list_find(l, a, key, value_out, found_out);
    *found_out = false;
    for (size_t i = 0; i < l->count && !*found_out; i++) {
        if (map_is_pattern(l->maps[i]))
            continue;
        struct err *e = map_find(l->maps[i], a, key, value_out, found_out);
        if (e)
            return e;
    }
    return NULL;
}

static bool parents_match(const struct params *p)
{
    struct str rest = str_of(p->parent_domain_matches_subdomains), name;

    while (str_token(&rest, ", \t\r\n", &name))
        if (str_eq_nocase(name, STR("transport_maps")))
            return true;
    return false;
}

/* user+ext@domain, user@domain, domain, .parent ..., "*". */
static struct err *lookup(const struct service *svc, struct arena *a, struct str address,
                          struct str *value_out, bool *found_out)
{
    const struct map_list *l = &svc->lists->transport_maps;
    struct str folded = fold_text(a, address);
    struct str local = address_local(folded), domain = address_domain(folded);
    struct err *e = find(l, a, folded, false, value_out, found_out);

    if (e || *found_out)
        return e;
    ssize_t ext = address_ext(local, svc->params->recipient_delimiter);
    if (ext > 0) {
        struct str bare = arena_printf(a, "%.*s@%.*s", (int)ext, local.ptr, STR_ARG(domain));
        if ((e = find(l, a, bare, true, value_out, found_out)) || *found_out)
            return e;
    }
    bool plain = parents_match(svc->params);
    for (struct str d = domain; d.len;) {
        if ((e = find(l, a, d, true, value_out, found_out)) || *found_out)
            return e;
        ssize_t dot = str_index(str_from(d, 1), '.');
        if (dot < 0)
            break;
        d = str_from(d, (size_t)dot + (plain ? 2 : 1));
    }
    return find(l, a, STR("*"), true, value_out, found_out);
}

struct err *transport_map_find(const struct service *svc, struct arena *a, struct str address,
                               const char **transport, const char **nexthop)
{
    if (svc->lists->transport_maps.count == 0)
        return NULL;
    struct str value;
    bool found;
    struct err *e = lookup(svc, a, address, &value, &found);
    if (e)
        return err_in(e, "transport_maps lookup");
    if (!found)
        return NULL;
    value = str_trim(value);
    ssize_t colon = str_index(value, ':');
    struct str channel = colon < 0 ? value : str_head(value, (size_t)colon);
    struct str next = colon < 0 ? str_from(value, value.len) : str_trim(str_from(value, (size_t)colon + 1));

    if (next.len)
        *nexthop = arena_cstr(a, next);
    if (channel.len == 0)
        return NULL;
    *transport = arena_cstr(a, channel);
    if (next.len == 0)
        *nexthop = strcmp(*transport, "error") == 0 || strcmp(*transport, "retry") == 0
                       ? "Address is undeliverable"
                       : arena_cstr(a, address_domain(address));
    return NULL;
}
