/* expand: $name and its relatives in configuration values (postconf(5)).
 *
 *     value    = *( text / "$$" / reference )
 *     ref      = "$" name / "${" body "}" / "$(" body ")"
 *     body     = name [ choice ] / "{" value "}" operator "{" value "}" [ choice ]
 *     choice   = "?" operand [ ":" operand ] / ":" operand
 *     operand  = "{" value "}" / value    ; without braces it reaches to the end of the body
 *     operator = ( "==" / "!=" / "<" / "<=" / ">=" / ">" ) [ "level" ]
 *
 * name? chooses when the parameter's own text is not empty. Without a choice a comparison gives
 * "true" or nothing; it is numerical when both sides are digits only, by compatibility level with
 * "level", by bytes else. Values found are expanded in their turn. White space may stand around
 * names, operators and operands; inside the braces of an operand it is text. */
#ifndef IO_BASE_EXPAND_H
#define IO_BASE_EXPAND_H

#include "io/base/arena.h"
#include "io/base/err.h"

#define EXPAND_DEPTH_MAX 100
#define EXPAND_STEPS_MAX 100000               /* references followed for one value */
#define EXPAND_BYTES_MAX (4U * 1024U * 1024U) /* of the result */

struct expand {
    /* False when there is no such name; an unset name expands to nothing. *value_out must stay good
     * until expand_text returns. */
    bool (*lookup)(void *ctx, struct str name, struct str *value_out);
    void (*unknown)(void *ctx, struct str name); /* told of names not found; may be NULL */
    void *ctx;
};

/* errors   ERR_CONFIG: grammar, or "unreasonable macro call nesting" for a loop   yields no */
MUST_USE struct err *expand_text(struct arena *a, struct str text, const struct expand *x,
                                 struct str *out);

#endif
