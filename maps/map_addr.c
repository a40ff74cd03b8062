#include "maps/map.h"

/* Where the extension starts, or -1. Names of the mail system are never split, nor is a local part
 * that begins with the delimiter; owner-list and list-request stay whole when '-' is a delimiter. */
static ssize_t extension(struct str local, const char *delimiters)
{
    static const char *const whole[] = {"postmaster", "mailer-daemon", "double-bounce", NULL};
    if (!delimiters || !*delimiters)
        return -1;
    for (size_t i = 0; whole[i]; i++)
        if (str_eq_nocase(local, str_of(whole[i])))
            return -1;
    if (strchr(delimiters, '-') &&
        (str_starts_nocase(local, STR("owner-")) || str_ends_nocase(local, STR("-request"))))
        return -1;
    for (size_t i = 0; i < local.len; i++)
        if (local.ptr[i] != '\0' && strchr(delimiters, local.ptr[i]))
            return i > 0 ? (ssize_t)i : -1;
    return -1;
}

struct search {
    const struct map_list *list;
    struct arena *arena;
    struct str *value_out;
    bool *found_out;
};

/* Partial keys: pattern tables see the whole address alone. */
static struct err *part(struct search *s, struct str key)
{
    return map_list_find_fixed(s->list, s->arena, key, s->value_out, s->found_out);
}

static struct err *search_local(struct search *s, struct str local, ssize_t ext, struct str *ext_found)
{
    struct err *e = part(s, local);
    if (e || *s->found_out || ext < 0)
        return e;
    e = part(s, str_head(local, (size_t)ext));
    if (!e && *s->found_out)
        *ext_found = str_from(local, (size_t)ext);
    return e;
}

struct err *map_addr_find(const struct map_list *l, struct arena *a, struct str address,
                          const char *delimiters, bool (*is_local)(void *ctx, struct str domain),
                          void *ctx, struct str *value_out, struct str *ext_out, bool *found_out)
{
    struct search s = {l, a, value_out, found_out};
    struct str none = STR(""), ext_found = none;
    *found_out = false;
    *ext_out = none;
    if (l->count == 0)
        return NULL;
    ssize_t at = str_rindex(address, '@');
    struct str local = at >= 0 ? str_head(address, (size_t)at) : address;
    ssize_t ext = extension(local, delimiters);

    struct err *e = map_list_find(l, a, address, value_out, found_out);
    if (!e && !*found_out && ext >= 0) {
        struct str tail = at >= 0 ? str_from(address, (size_t)at) : none;
        struct str bare = arena_printf(a, "%.*s%.*s", (int)ext, local.ptr, STR_ARG(tail));
        e = part(&s, bare);
        if (!e && *found_out)
            ext_found = str_from(local, (size_t)ext);
    }
    if (!e && !*found_out && at >= 0 && is_local && is_local(ctx, str_from(address, (size_t)at + 1)))
        e = search_local(&s, local, ext, &ext_found);
    if (!e && !*found_out && at >= 0)
        e = part(&s, str_from(address, (size_t)at));
    if (!e && *found_out)
        *ext_out = arena_str(a, ext_found);
    return e;
}
