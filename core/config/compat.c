/* compatibility_level: "major[.minor[.patch]]". What it changes stands in the defaults of the tables,
 * ${{$compatibility_level} <level {2} ? {old} : {new}}; here is only whether it is one. */
#include "core/config/private.h"

struct err *compat_check(const struct scope *scope, struct arena *scratch)
{
    struct str name = STR("compatibility_level"), value;
    struct err *e = eval_name(scope, scratch, name, &value);
    if (e)
        return e;
    struct str text = arena_printf(scratch, "${{%.*s} >=level {0} ? {yes} : {no}}", STR_ARG(value));
    struct str ignored;
    e = eval_text(scope, scratch, text, &ignored);
    return e ? eval_located(scope, name, e) : NULL;
}
