/* unavailable: stands in for a table of a type that Postfix has and this program has not, where a
 * configuration merely names it. Each lookup is an error, so that mail waits. nis: is in the default of
 * alias_maps: on a machine without a NIS domain it is switched off, and finds nothing. */
#include <unistd.h>
#include "io/base/log.h"
#include "maps/map.h"

static bool nis_is_off(const struct map *m)
{
    char domain[256] = "";

    return str_starts(str_of(m->name), STR("nis:")) &&
           (getdomainname(domain, sizeof(domain) - 1) != 0 || domain[0] == '\0' ||
            strcmp(domain, "(none)") == 0);
}

static struct err *open_unavailable(struct map *m, struct str name, const struct map_options *options)
{
    (void)name, (void)options;
    if (nis_is_off(m))
        m->impl = m; /* not NULL: nothing is ever found */
    else
        log_error(map_log_service(), "%s is unavailable. unsupported dictionary type: %.*s", m->name,
                  (int)str_index(str_of(m->name), ':'), m->name);
    return NULL;
}

static void close_unavailable(struct map *m)
{
    (void)m;
}

static struct err *find_unavailable(struct map *m, struct arena *a, struct str key,
                                    struct str *value_out, bool *found_out)
{
    (void)a, (void)key, (void)value_out, (void)found_out;
    if (m->impl)
        return NULL;
    return err_new(ERR_UNSUPPORTED, 0, "%s is unavailable. unsupported dictionary type: %.*s", m->name,
                   (int)str_index(str_of(m->name), ':'), m->name);
}

extern const struct map_type map_unavailable_type;
const struct map_type map_unavailable_type = {
    .name = "unavailable",
    .open = open_unavailable,
    .close = close_unavailable,
    .find = find_unavailable,
};
