/* environ:anything: the process environment. */
#include <stdlib.h>
#include "maps/map.h"

static struct err *open_environ(struct map *m, struct str name, const struct map_options *options)
{
    (void)m, (void)name, (void)options;
    return NULL;
}

static void close_environ(struct map *m)
{
    (void)m;
}

static struct err *find(struct map *m, struct arena *a, struct str key, struct str *value_out,
                        bool *found_out)
{
    (void)m;
    if (memchr(key.ptr, '\0', key.len))
        return NULL;
    const char *value = getenv(arena_cstr(a, key));
    if (!value)
        return NULL;
    *value_out = arena_str(a, str_of(value));
    *found_out = true;
    return NULL;
}

extern const struct map_type map_environ_type;
const struct map_type map_environ_type = {
    .name = "environ",
    .open = open_environ,
    .close = close_environ,
    .find = find,
};
