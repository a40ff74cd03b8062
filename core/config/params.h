/* params: the values of all parameters, one field a row of the *_params.def tables, expanded and
 * checked. Immutable; part of a snapshot. */
#ifndef CORE_CONFIG_PARAMS_H
#define CORE_CONFIG_PARAMS_H

#include <stdbool.h>
#include <stdint.h>

typedef const char *param_STRING, *param_RAW, *param_LIST;
typedef int64_t param_INT, param_SIZE, param_TIME;
typedef bool param_BOOL;

#define PARAM(name, type, def, min, max, doc) param_##type name;
struct params {
#include "core/config/all_params.def"
    int params_end;
};
#undef PARAM

#endif
