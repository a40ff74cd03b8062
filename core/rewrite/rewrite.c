/* rewrite: the order is Postfix's and matters: a source route goes first; then, without a domain,
 * site!user, user%domain, or the origin; then a domain without a dot gets one; then one trailing dot
 * goes, so that diagnostics about bogus forms ("a@b..", "a@.") show them as they came. */
#include "core/rewrite/rewrite.h"

/* Local parts that need quotes hide their ! and %: "a b!c" is one word. */
static bool operators_visible(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == '\0' || (unsigned char)c <= ' ' || strchr("()<>,;:\\\"[]", c))
            return false;
    }
    return true;
}

static struct str add_domain(const struct params *p, struct arena *a, const char *origin,
                             bool visible, struct str s)
{
    ssize_t at;

    if (visible && p->swap_bangpath && (at = str_index(s, '!')) >= 0)
        return arena_printf(a, "%.*s@%.*s", STR_ARG(str_from(s, (size_t)at + 1)),
                            STR_ARG(str_head(s, (size_t)at)));
    if (visible && p->allow_percent_hack && (at = str_rindex(s, '%')) >= 0)
        return arena_printf(a, "%.*s@%.*s", STR_ARG(str_head(s, (size_t)at)),
                            STR_ARG(str_from(s, (size_t)at + 1)));
    if (p->append_at_myorigin && *origin)
        return arena_printf(a, "%.*s@%s", STR_ARG(s), origin);
    return s;
}

static struct str rewrite(const struct params *p, struct arena *a, enum rewrite_context context,
                          bool dequoted, struct str internal)
{
    const char *origin = context == REWRITE_LOCAL ? p->myorigin : p->remote_header_rewrite_domain;
    const char *parent = context == REWRITE_LOCAL ? p->mydomain : p->remote_header_rewrite_domain;
    struct str s = internal;
    ssize_t at;

    if (s.len == 0)
        return s;
    if (s.ptr[0] == '@' && (at = str_index(s, ':')) >= 0)
        s = str_from(s, (size_t)at + 1);
    if (str_rindex(s, '@') < 0)
        s = add_domain(p, a, origin, dequoted || operators_visible(s), s);
    at = str_rindex(s, '@');
    if (at < 0)
        return s;
    struct str domain = str_from(s, (size_t)at + 1);
    if (p->append_dot_mydomain && *parent && domain.len && domain.ptr[0] != '[' &&
        str_index(domain, '.') < 0)
        return arena_printf(a, "%.*s.%s", STR_ARG(s), parent);
    if (domain.len > 1 && domain.ptr[domain.len - 1] == '.' && domain.ptr[domain.len - 2] != '.')
        s.len--;
    return s;
}

struct str rewrite_address(const struct params *p, struct arena *a, enum rewrite_context context,
                           struct str internal)
{
    return rewrite(p, a, context, false, internal);
}

struct str rewrite_dequoted(const struct params *p, struct arena *a, struct str internal)
{
    return rewrite(p, a, REWRITE_LOCAL, true, internal);
}
