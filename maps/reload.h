/* reload: a table that lives in a file, and sees within a second that the file was replaced or
 * appeared. Readers take the current object and give it back; the old one goes when its last reader
 * has gone. A file that cannot be read is an error of the lookup (defer), logged once; when a good
 * table is in memory and the new file is bad, the error counts: a stale table could route mail wrong.
 * Any thread. reload_take may yield (it loads on the offload pool). */
#ifndef MAPS_RELOAD_H
#define MAPS_RELOAD_H

#include "maps/map.h"

/* name, or config_dir/name when it is relative, with suffix. Heap. */
char *reload_path(const struct map_options *o, struct str name, const char *suffix);

struct reload;
struct reload_ops {
    /* Read path into a new object. Errors name the file. */
    struct err *(*load)(struct map *m, const char *path, void **object_out);
    void (*drop)(void *object);
};

/* Loads at once. With MAP_LAZY in m->flags a file error is kept for later. path is copied. */
struct err *reload_open(struct map *m, const char *path, const struct reload_ops *ops,
                        struct reload **out) MUST_USE;
void reload_close(struct reload *r); /* NULL is fine; no reader is left */
struct err *reload_take(struct reload *r, void **object_out) MUST_USE;
void reload_give(struct reload *r, void *object);

#endif
