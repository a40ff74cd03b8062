/* table: what is known about parameters by name: rows of the house (acted on), known_params.def
 * (known), and names that follow from master.cf (SERVICE_destination_concurrency_limit ...). Static
 * data; any thread. */
#ifndef CORE_CONFIG_TABLE_H
#define CORE_CONFIG_TABLE_H

#include "io/base/arena.h"
#include "io/base/param.h"

struct param_row {
    const char *name;
    enum param_type type;
    const char *def, *min, *max, *doc;
    size_t offset; /* in struct params */
};

extern const struct param_row param_rows[];
extern const size_t param_row_count;
const struct param_row *param_row_find(struct str name); /* NULL = not acted on */

struct known_param {
    const char *name;
    enum param_type type;
    const char *def;
    bool beyond; /* not of Postfix 3.7: counts as unknown until somebody acts on it */
};
extern const struct known_param known_params[]; /* sorted by name */
extern const size_t known_param_count;
const struct known_param *known_param_find(struct str name);

/* NAME_suffix -> "$default_suffix"; sorted. */
struct dynamic_param {
    const char *suffix; /* "_destination_concurrency_limit" */
    const char *def;    /* "$default_destination_concurrency_limit" */
    bool agents_only;   /* of pipe and spawn services alone */
};
extern const struct dynamic_param dynamic_params[];
extern const size_t dynamic_param_count;
/* NULL when the end of name is none of them; service_out is what stands before it. */
const struct dynamic_param *dynamic_param_find(struct str name, struct str *service_out);

#endif
