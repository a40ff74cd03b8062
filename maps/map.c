#include "maps/map.h"
#include "io/base/mem.h"

#define TYPE(name, variable) extern const struct map_type variable;
#include "maps/map_types.def"
#undef TYPE

extern const struct map_type map_unavailable_type;

static const struct map_type *const types[] = {
#define TYPE(name, variable) &variable,
#include "maps/map_types.def"
#undef TYPE
};
static const char *const type_names[] = {
#define TYPE(name, variable) #name,
#include "maps/map_types.def"
#undef TYPE
    NULL,
};

/* Types of DATABASE_README that Postfix has and this program has not. */
static const char *const not_built_in[] = {
    "pgsql", "mysql",    "ldap",     "sqlite", "memcache", "tcp", "socketmap", "nis",
    "nisplus", "internal", "netinfo", "sdbm",   "mongodb",  NULL,
};

enum { NESTING_MAX = 20 };

static const char *log_service = "proxymap"; /* who looks after tables in Postfix */

void map_log_as(const char *service)
{
    log_service = service;
}

const char *map_log_service(void)
{
    return log_service;
}

const struct map_type *map_type_find(struct str name)
{
    for (size_t i = 0; type_names[i]; i++)
        if (str_eq(name, str_of(type_names[i])))
            return types[i];
    return NULL;
}

const char *const *map_type_names(void)
{
    return type_names;
}

static struct err *no_such_type(struct str type)
{
    for (size_t i = 0; not_built_in[i]; i++)
        if (str_eq(type, str_of(not_built_in[i])))
            return err_new(ERR_UNSUPPORTED, 0,
                           "unsupported dictionary type: %.*s: it is not built into this version",
                           STR_ARG(type));
    return err_new(ERR_CONFIG, 0, "unsupported dictionary type: %.*s", STR_ARG(type));
}

/* "type:name", "proxy:type:name", or "name" of the default type. */
static struct err *split(struct str text, const struct map_options *o, struct str *type_out,
                         struct str *name_out)
{
    while (str_starts(text, STR("proxy:")))
        text = str_from(text, 6);
    ssize_t colon = str_index(text, ':');
    if (colon >= 0) {
        *type_out = str_head(text, (size_t)colon);
        *name_out = str_from(text, (size_t)colon + 1);
    } else if (o->default_type) {
        *type_out = str_of(o->default_type);
        *name_out = text;
    } else {
        return err_new(ERR_CONFIG, 0,
                       "open dictionary: expecting \"type:name\" form instead of \"%.*s\"",
                       STR_ARG(text));
    }
    if (name_out->len == 0)
        return err_new(ERR_CONFIG, 0,
                       "open dictionary: expecting \"type:name\" form instead of \"%.*s\"",
                       STR_ARG(text));
    return NULL;
}

struct err *map_open(struct str type_name, unsigned flags, const struct map_options *options,
                     struct map **out)
{
    static _Thread_local unsigned nesting; /* joins open their members through here */
    struct str type_text = {0}, name = {0};
    struct err *e = split(str_trim(type_name), options, &type_text, &name);
    if (e)
        return e;
    const struct map_type *type = map_type_find(type_text);
    if (!type) {
        e = no_such_type(type_text);
        if (e->kind != ERR_UNSUPPORTED || !(flags & MAP_LAZY))
            return e;
        type = &map_unavailable_type;
    }
    if (nesting >= NESTING_MAX)
        return err_new(ERR_LIMIT, 0, "tables nested too deeply: \"%.*s\"", STR_ARG(str_head(name, 60)));
    struct map *m = MEM_NEW(struct map);
    m->type = type;
    m->flags = flags;
    m->pattern = type->pattern;
    m->name = mem_alloc(type_text.len + name.len + 2);
    memcpy(m->name, type_text.ptr, type_text.len);
    m->name[type_text.len] = ':';
    memcpy(m->name + type_text.len + 1, name.ptr, name.len);
    m->name[type_text.len + name.len + 1] = '\0';
    nesting++;
    e = type->open(m, str_make(m->name + type_text.len + 1, name.len), options);
    nesting--;
    if (e) {
        map_close(m);
        return e;
    }
    *out = m;
    return NULL;
}

void map_close(struct map *m)
{
    if (!m)
        return;
    m->type->close(m);
    mem_free(m->name);
    mem_free(m);
}

const char *map_name(const struct map *m)
{
    return m->name;
}

bool map_is_pattern(const struct map *m)
{
    return m->pattern;
}

struct err *map_find(struct map *m, struct arena *a, struct str key, struct str *value_out,
                     bool *found_out)
{
    *found_out = false;
    if (key.len == 0)
        return NULL; /* no table of Postfix has an empty key */
    /* Pattern tables have their own i flag. */
    if ((m->flags & MAP_FOLD) && !m->type->pattern)
        key = arena_lower(a, key);
    return m->type->find(m, a, key, value_out, found_out);
}
