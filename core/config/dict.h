/* dict: the settings of main.cf, or of one service's -o options, as they were written: not expanded.
 * One thread while it is read; immutable after. */
#ifndef CORE_CONFIG_DICT_H
#define CORE_CONFIG_DICT_H

#include "io/base/arena.h"
#include "io/base/err.h"
#include "io/base/hash.h"

struct setting {
    const char *name;
    struct str raw;
    const char *file; /* NULL: the command line */
    int line;
    bool used; /* a parameter, or $name in the value of one */
};

struct dict {
    struct hmap by_name; /* struct setting * */
    struct setting **list; /* in the order of their first appearance */
    size_t count, cap;
};

struct notes; /* warnings, gathered until somebody can print them */

void dict_fini(struct dict *d);
struct setting *dict_find(const struct dict *d, struct str name);
/* A later one replaces. Memory of a. */
struct setting *dict_set(struct dict *d, struct arena *a, struct str name, struct str raw,
                         const char *file, int line);
/* ERR_CONFIG: "<file>, line 3: missing '=' after attribute name: ..." */
struct err *dict_read_main(struct dict *d, struct arena *a, const char *path, struct notes *notes) MUST_USE;

struct notes {
    struct arena *arena;
    const char **list;
    size_t count, cap;
};
void notes_add(struct notes *n, const char *fmt, ...) PRINTF(2, 3);
void notes_fini(struct notes *n);

#endif
