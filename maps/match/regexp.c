/* regexp_table(5): POSIX extended expressions, case ignored unless the i flag turns that off. */
#include <regex.h>
#include "io/base/mem.h"
#include "maps/match/rules.h"

static struct err *flags_of(struct str flags, int *out)
{
    int f = REG_EXTENDED | REG_ICASE;
    for (size_t i = 0; i < flags.len; i++) {
        if (flags.ptr[i] == 'i')
            f ^= REG_ICASE;
        else if (flags.ptr[i] == 'm')
            f ^= REG_NEWLINE;
        else if (flags.ptr[i] == 'x')
            f ^= REG_EXTENDED;
        else
            return err_new(ERR_SYNTAX, 0, "unknown regexp option \"%c\"", flags.ptr[i]);
    }
    *out = f;
    return NULL;
}

static struct err *compile(struct str *rest, void **pattern_out, size_t *captures_out)
{
    struct arena *a = arena_new(0, 0);
    struct str text, flags_text;
    int flags = 0;
    struct err *e = rules_delimited(a, rest, &text, &flags_text);
    if (!e)
        e = flags_of(flags_text, &flags);
    if (!e) {
        regex_t *re = MEM_NEW(regex_t);
        int rc = regcomp(re, arena_cstr(a, text), flags);
        if (rc != 0) {
            char why[200];
            regerror(rc, re, why, sizeof(why));
            e = err_new(ERR_SYNTAX, rc, "%s", why);
            mem_free(re);
        } else {
            *pattern_out = re;
            *captures_out = re->re_nsub;
        }
    }
    arena_free(a);
    return e;
}

static void drop(void *pattern)
{
    regfree(pattern);
    mem_free(pattern);
}

static struct err *match(const void *pattern, struct str key, struct captures *c, bool *match_out)
{
    regmatch_t at[CAPTURES_MAX];
    /* REG_STARTEND: keys are views, and a NUL in one is data. */
    at[0].rm_so = 0;
    at[0].rm_eo = (regoff_t)key.len;
    int rc = regexec(pattern, key.ptr, CAPTURES_MAX, at, REG_STARTEND);
    if (rc == REG_NOMATCH)
        return NULL;
    if (rc != 0) {
        char why[200];
        regerror(rc, pattern, why, sizeof(why));
        return err_new(ERR_LIMIT, rc, "%s", why);
    }
    *match_out = true;
    c->count = CAPTURES_MAX;
    for (size_t i = 0; i < CAPTURES_MAX; i++)
        c->at[i] = at[i].rm_so < 0 ? STR("")
                                   : str_make(key.ptr + at[i].rm_so,
                                              (size_t)(at[i].rm_eo - at[i].rm_so));
    return NULL;
}

const struct rules_engine rules_regexp = {"regexp", true, compile, drop, match, NULL};
