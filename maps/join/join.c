/* unionmap:{type:name, ...}   the results of all tables, joined by commas
 * pipemap:{type:name, ...}    the result of one table is the key of the next
 * randmap:{value, ...}        one of the values */
#include "io/base/mem.h"
#include "io/base/rand.h"
#include "maps/map.h"

struct join {
    struct map_list list;
    struct arena *arena; /* randmap */
    struct str *values;
    size_t value_count;
};

static struct err *inside(const struct map *m, struct str name, struct str *out)
{
    if (name.len < 2 || name.ptr[0] != '{' || name.ptr[name.len - 1] != '}')
        return err_new(ERR_CONFIG, 0, "bad syntax: \"%s\"; need \"%s:{...}\"", m->name, m->type->name);
    *out = str_trim(str_make(name.ptr + 1, name.len - 2));
    if (out->len == 0)
        return err_new(ERR_CONFIG, 0, "bad syntax: \"%s\": nothing between the braces", m->name);
    return NULL;
}

static struct err *open_join(struct map *m, struct str name, const struct map_options *options)
{
    struct join *j = MEM_NEW(struct join);
    m->impl = j;
    struct str text;
    struct err *e = inside(m, name, &text);
    if (e)
        return e;
    bool all_patterns = true;
    struct str token;
    while (str_token_braces(&text, ", \t\r\n", &token)) {
        struct map *member;
        e = map_open(token, m->flags, options, &member);
        if (e)
            return err_in(e, "%s", m->type->name);
        j->list.maps = mem_realloc(j->list.maps, (j->list.count + 1) * sizeof(*j->list.maps));
        j->list.maps[j->list.count++] = member;
        all_patterns = all_patterns && map_is_pattern(member);
    }
    m->pattern = all_patterns;
    return NULL;
}

static void close_join(struct map *m)
{
    struct join *j = m->impl;
    if (!j)
        return;
    map_list_close(&j->list);
    if (j->arena)
        arena_free(j->arena);
    mem_free(j);
}

static struct err *find_union(struct map *m, struct arena *a, struct str key, struct str *value_out,
                              bool *found_out)
{
    const struct join *j = m->impl;
    struct str all = {0};
    for (size_t i = 0; i < j->list.count; i++) {
        struct str value;
        bool found;
        struct err *e = map_find(j->list.maps[i], a, key, &value, &found);
        if (e)
            return e;
        if (found)
            all = *found_out ? arena_printf(a, "%.*s,%.*s", STR_ARG(all), STR_ARG(value)) : value;
        *found_out = *found_out || found;
    }
    *value_out = all;
    return NULL;
}

static struct err *find_pipe(struct map *m, struct arena *a, struct str key, struct str *value_out,
                             bool *found_out)
{
    const struct join *j = m->impl;
    struct str value = key;
    bool found = false;
    for (size_t i = 0; i < j->list.count; i++) {
        struct err *e = map_find(j->list.maps[i], a, value, &value, &found);
        if (e || !found)
            return e;
    }
    *value_out = value;
    *found_out = found;
    return NULL;
}

static struct err *open_rand(struct map *m, struct str name, const struct map_options *options)
{
    (void)options;
    struct join *j = MEM_NEW(struct join);
    m->impl = j;
    j->arena = arena_new(0, 0);
    struct str text, token;
    struct err *e = inside(m, name, &text);
    if (e)
        return e;
    struct str rest = text;
    while (str_token_braces(&rest, ", \t\r\n", &token))
        j->value_count++;
    j->values = arena_alloc(j->arena, (j->value_count + 1) * sizeof(*j->values));
    for (size_t i = 0; str_token_braces(&text, ", \t\r\n", &token); i++) {
        if (token.len >= 2 && token.ptr[0] == '{' && token.ptr[token.len - 1] == '}')
            token = str_trim(str_make(token.ptr + 1, token.len - 2));
        j->values[i] = arena_str(j->arena, token);
    }
    return NULL;
}

static struct err *find_rand(struct map *m, struct arena *a, struct str key, struct str *value_out,
                             bool *found_out)
{
    const struct join *j = m->impl;
    (void)key;
    *value_out = arena_str(a, j->values[rand_below(j->value_count)]);
    *found_out = true;
    return NULL;
}

extern const struct map_type map_unionmap_type, map_pipemap_type, map_randmap_type;
const struct map_type map_unionmap_type = {
    .name = "unionmap",
    .open = open_join,
    .close = close_join,
    .find = find_union,
};
const struct map_type map_pipemap_type = {
    .name = "pipemap",
    .open = open_join,
    .close = close_join,
    .find = find_pipe,
};
const struct map_type map_randmap_type = {
    .name = "randmap",
    .open = open_rand,
    .close = close_join,
    .find = find_rand,
};
