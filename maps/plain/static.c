/* static:text or static:{text}: every key is found. fail:text: every lookup is an error. */
#include "maps/map.h"

struct text_map {
    struct arena *arena;
    struct str text;
};

static struct err *open_text(struct map *m, struct str name, const struct map_options *options)
{
    (void)options;
    struct arena *arena = arena_new(0, 0);
    struct text_map *t = ARENA_NEW(arena, struct text_map);
    t->arena = arena;
    m->impl = t;
    if (name.len > 0 && name.ptr[0] == '{') {
        if (name.len < 2 || name.ptr[name.len - 1] != '}')
            return err_new(ERR_CONFIG, 0, "missing '}' in \"%s\"", m->name);
        name = str_trim(str_make(name.ptr + 1, name.len - 2));
    }
    t->text = arena_str(arena, name);
    return NULL;
}

static void close_text(struct map *m)
{
    struct text_map *t = m->impl;
    if (t)
        arena_free(t->arena);
}

static struct err *find_static(struct map *m, struct arena *a, struct str key, struct str *value_out,
                               bool *found_out)
{
    const struct text_map *t = m->impl;
    (void)key;
    *value_out = arena_str(a, t->text);
    *found_out = true;
    return NULL;
}

static struct err *find_fail(struct map *m, struct arena *a, struct str key, struct str *value_out,
                             bool *found_out)
{
    (void)a, (void)value_out, (void)found_out;
    return err_new(ERR_IO, 0, "table %s: lookup of \"%.*s\" fails as it is meant to", m->name,
                   STR_ARG(str_head(key, 200)));
}

extern const struct map_type map_static_type, map_fail_type;
const struct map_type map_static_type = {
    .name = "static",
    .open = open_text,
    .close = close_text,
    .find = find_static,
};
const struct map_type map_fail_type = {
    .name = "fail",
    .open = open_text,
    .close = close_text,
    .find = find_fail,
};
