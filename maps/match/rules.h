/* rules: what regexp: pcre: and cidr: tables share: a file of rules, first match wins, IF and ENDIF.
 *
 *     line  = [ "!" ] pattern blanks result / "if" blanks [ "!" ] pattern / "endif"
 *
 * A rule that cannot be read is skipped with a warning, as in Postfix. Results of patterns may hold
 * $1, ${1}, $(1) and $$. */
#ifndef MAPS_MATCH_RULES_H
#define MAPS_MATCH_RULES_H

#include "maps/map.h"

enum { CAPTURES_MAX = 10 };
struct captures {
    size_t count; /* with [0], the whole match; 0 = the engine has none */
    struct str at[CAPTURES_MAX];
};

struct rules_engine {
    const char *name;   /* "regexp" */
    bool substitutes;   /* $1 in results */
    /* Take a pattern off the front of *rest. Errors say why the rule is skipped.
     * captures_out: how many groups it has. */
    struct err *(*compile)(struct str *rest, void **pattern_out, size_t *captures_out);
    void (*drop)(void *pattern);
    struct err *(*match)(const void *pattern, struct str key, struct captures *c, bool *match_out);
    bool (*key_ok)(struct str key); /* NULL = any; false: not found at once */
};

struct err *rules_open(struct map *m, struct str name, const struct map_options *options);
void rules_close(struct map *m);
struct err *rules_find(struct map *m, struct arena *a, struct str key, struct str *value_out,
                       bool *found_out);
const struct rules_engine *rules_engine_of(const struct map_type *type);

/* "/pattern/flags": any delimiter that is not alphanumeric; text_out without them. */
struct err *rules_delimited(struct arena *a, struct str *rest, struct str *text_out,
                            struct str *flags_out);

extern const struct rules_engine rules_regexp, rules_pcre, rules_cidr;

#endif
