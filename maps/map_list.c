#include "io/base/mem.h"
#include "maps/map.h"

struct err *map_list_open(const char *text, unsigned flags, const struct map_options *options,
                          struct map_list *out)
{
    struct map_list l = {0};
    struct str rest = str_of(text), token;
    while (str_token_braces(&rest, ", \t\r\n", &token)) {
        struct map *m;
        struct err *e = map_open(token, flags | MAP_LAZY, options, &m);
        if (e) {
            map_list_close(&l);
            return e;
        }
        l.maps = mem_realloc(l.maps, (l.count + 1) * sizeof(*l.maps));
        l.maps[l.count++] = m;
    }
    *out = l;
    return NULL;
}

void map_list_close(struct map_list *l)
{
    for (size_t i = 0; i < l->count; i++)
        map_close(l->maps[i]);
    mem_free(l->maps);
    *l = (struct map_list){0};
}

static struct err *find(const struct map_list *l, bool fixed_only, struct arena *a, struct str key,
                        struct str *value_out, bool *found_out)
{
    *found_out = false;
    for (size_t i = 0; i < l->count && !*found_out; i++) {
        if (fixed_only && map_is_pattern(l->maps[i]))
            continue;
        struct err *e = map_find(l->maps[i], a, key, value_out, found_out);
        if (e) {
            *found_out = false;
            return e;
        }
        if (*found_out && value_out->len == 0) {
            *found_out = false;
            return err_new(ERR_CONFIG, 0, "%s lookup of %.*s returns an empty string result",
                           map_name(l->maps[i]), STR_ARG(str_head(key, 200)));
        }
    }
    return NULL;
}

struct err *map_list_find(const struct map_list *l, struct arena *a, struct str key,
                          struct str *value_out, bool *found_out)
{
    return find(l, false, a, key, value_out, found_out);
}

struct err *map_list_find_fixed(const struct map_list *l, struct arena *a, struct str key,
                                struct str *value_out, bool *found_out)
{
    return find(l, true, a, key, value_out, found_out);
}
