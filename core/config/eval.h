/* eval: from a name to its value: -o of the service, main.cf, computed defaults, default of the table;
 * then expanded. */
#ifndef CORE_CONFIG_EVAL_H
#define CORE_CONFIG_EVAL_H

#include "core/config/dict.h"
#include "core/config/params.h"
#include "core/config/table.h"

/* Where to look. Any dict may be NULL. */
struct scope {
    const struct dict *over, *main;
    const struct dict *computed; /* myhostname, mydomain, mynetworks, mail_version ... */
    const char *service_name, *process_name;
    /* SERVICE_suffix names count when this says that there is such a service; NULL = always. */
    bool (*service_known)(void *ctx, struct str service);
    void *ctx;
    bool mark;               /* note in the settings that they are used */
};

/* As written: *setting_out NULL = a default. False: no such parameter. */
bool eval_raw(const struct scope *s, struct str name, struct str *raw_out,
              const struct setting **setting_out);
bool eval_default(const struct scope *s, struct str name, struct str *raw_out);
struct err *eval_text(const struct scope *s, struct arena *a, struct str raw, struct str *out) MUST_USE;
/* Value of a name; RAW ones stay as they are. *out NULL-view = no such parameter. Errors name file
 * and line. */
struct err *eval_name(const struct scope *s, struct arena *a, struct str name, struct str *out) MUST_USE;
/* "<file>, line N: " before an error about name, where a file sets it. Kind becomes ERR_CONFIG. */
struct err *eval_located(const struct scope *s, struct str name, struct err *e);
/* All rows. */
struct err *eval_params(const struct scope *s, struct arena *a, struct params *out) MUST_USE;

#endif
