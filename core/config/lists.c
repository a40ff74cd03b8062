/* The opened tables of a set of parameters (lists.def). */
#include "core/config/private.h"
#include "io/base/mem.h"

static bool same(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

/* parent_domain_matches_subdomains names the parameters for which a name also matches what is below. */
static enum match_kind kind_of(const struct params *p, const char *name, enum match_kind kind)
{
    struct str rest = str_of(p->parent_domain_matches_subdomains), token;
    if (kind != MATCH_DOMAIN_PARENTS)
        return kind;
    while (str_token(&rest, ", \t\r\n", &token))
        if (str_eq(token, str_of(name)))
            return MATCH_DOMAIN_PARENTS;
    return MATCH_DOMAIN;
}

struct err *lists_open(const struct scope *scope, const struct params *p,
                       const struct params *base_params, const struct lists *base,
                       const struct map_options *o, struct lists **out)
{
    struct lists *l = MEM_NEW(struct lists);
    struct err *e = NULL;
    bool shareable = base && same(p->parent_domain_matches_subdomains,
                                  base_params->parent_domain_matches_subdomains);
#define MAPS(name, flags)                                                                          \
    if (!e && base && same(p->name, base_params->name)) {                                          \
        l->name = base->name;                                                                      \
    } else if (!e) {                                                                               \
        e = map_list_open(p->name, (flags), o, &l->name);                                          \
        if (e)                                                                                     \
            e = eval_located(scope, STR(#name), err_in(e, #name));                                 \
    }
#define MATCH(name, kind)                                                                          \
    if (!e && shareable && same(p->name, base_params->name)) {                                     \
        l->name = base->name;                                                                      \
    } else if (!e) {                                                                               \
        e = match_list_open(#name, p->name, kind_of(p, #name, (kind)), o, &l->name);               \
        if (e)                                                                                     \
            e = eval_located(scope, STR(#name), e);                                                \
    }
#include "core/config/lists.def"
#undef MAPS
#undef MATCH
    if (e) {
        lists_close(l, base);
        return e;
    }
    *out = l;
    return NULL;
}

void lists_close(struct lists *l, const struct lists *base)
{
    if (!l)
        return;
#define MAPS(name, flags)                                                                          \
    if (!base || l->name.maps != base->name.maps)                                                  \
        map_list_close(&l->name);
#define MATCH(name, kind)                                                                          \
    if (!base || l->name != base->name)                                                            \
        match_list_close(l->name);
#include "core/config/lists.def"
#undef MAPS
#undef MATCH
    mem_free(l);
}
