/* master_cf: lines of master.cf (master(5)), as they stand, and what they mean. */
#ifndef CORE_CONFIG_MASTER_CF_H
#define CORE_CONFIG_MASTER_CF_H

#include "core/config/dict.h"
#include "core/config/snapshot.h"

enum master_field {
    MASTER_NAME,
    MASTER_TYPE,
    MASTER_PRIVATE,
    MASTER_UNPRIV,
    MASTER_CHROOT,
    MASTER_WAKEUP,
    MASTER_MAXPROC,
    MASTER_COMMAND,
    MASTER_FIELDS,
};

struct master_entry {
    struct str field[MASTER_FIELDS];
    struct str *args; /* after the command; { } kept */
    size_t arg_count;
    const char *file;
    int line;
};

/* Every entry is checked: field count, types, yes/no, numbers. ERR_CONFIG:
 * "file <path>: line 2: bad field count". */
struct err *master_read(struct arena *a, const char *path, struct notes *notes,
                        struct master_entry **out, size_t *count_out) MUST_USE;
/* Name and type: of two such entries the last one counts. */
bool master_same(const struct master_entry *a, const struct master_entry *b);
/* One entry, from a logical line. */
struct err *master_parse(struct arena *a, const char *path, struct str line, int number,
                         struct master_entry *out) MUST_USE;
/* Take the -o options that stand before the first argument that is no option: into over. The others
 * go to args_out (NULL-terminated, braces cut). */
struct err *master_options(const struct master_entry *m, struct arena *a, struct dict *over,
                           const char *const **args_out) MUST_USE;
/* All fields but params, lists, log_tag, args, snapshot, priv. */
void master_service(const struct master_entry *m, struct arena *a, int64_t default_process_limit,
                    struct service *out);
/* "{ text }" -> "text" */
struct str master_unbrace(struct str s);

#endif
