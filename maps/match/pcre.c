/* pcre_table(5), on pcre2. The interpreter, not its compiler: 2 KiB of stack against 33. Limits bound
 * what one key can cost; a key that meets them is an error, so the mail waits and the log says why. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include "io/base/mem.h"
#include "maps/match/rules.h"

enum { MATCH_LIMIT = 1000000, DEPTH_LIMIT = 100000, HEAP_LIMIT_KIB = 20000 };

struct pattern {
    pcre2_code *code;
    pcre2_match_context *context;
};

static struct err *flags_of(struct str flags, uint32_t *out)
{
    uint32_t f = PCRE2_CASELESS | PCRE2_DOTALL;
    for (size_t i = 0; i < flags.len; i++) {
        switch (flags.ptr[i]) {
        case 'i': f ^= PCRE2_CASELESS; break;
        case 'm': f ^= PCRE2_MULTILINE; break;
        case 's': f ^= PCRE2_DOTALL; break;
        case 'x': f ^= PCRE2_EXTENDED; break;
        case 'A': f ^= PCRE2_ANCHORED; break;
        case 'E': f ^= PCRE2_DOLLAR_ENDONLY; break;
        case 'U': f ^= PCRE2_UNGREEDY; break;
        case 'X': break; /* PCRE_EXTRA is always on in pcre2 */
        default: return err_new(ERR_SYNTAX, 0, "unknown regexp option \"%c\"", flags.ptr[i]);
        }
    }
    *out = f;
    return NULL;
}

static void drop(void *p)
{
    struct pattern *pattern = p;
    pcre2_match_context_free(pattern->context);
    pcre2_code_free(pattern->code);
    mem_free(pattern);
}

static struct err *build(struct str text, uint32_t flags, void **pattern_out, size_t *captures_out)
{
    int code;
    PCRE2_SIZE at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)text.ptr, text.len, flags, &code, &at, NULL);
    if (!re) {
        PCRE2_UCHAR why[200];
        pcre2_get_error_message(code, why, sizeof(why));
        return err_new(ERR_SYNTAX, code, "error in regex at offset %zu: %s", (size_t)at,
                       (const char *)why);
    }
    uint32_t captures = 0;
    pcre2_pattern_info(re, PCRE2_INFO_CAPTURECOUNT, &captures);
    struct pattern *p = MEM_NEW(struct pattern);
    p->code = re;
    p->context = pcre2_match_context_create(NULL);
    pcre2_set_match_limit(p->context, MATCH_LIMIT);
    pcre2_set_depth_limit(p->context, DEPTH_LIMIT);
    pcre2_set_heap_limit(p->context, HEAP_LIMIT_KIB);
    *pattern_out = p;
    *captures_out = captures;
    return NULL;
}

static struct err *compile(struct str *rest, void **pattern_out, size_t *captures_out)
{
    struct arena *a = arena_new(0, 0);
    struct str text, flags_text;
    uint32_t flags = 0;
    struct err *e = rules_delimited(a, rest, &text, &flags_text);
    if (!e)
        e = flags_of(flags_text, &flags);
    if (!e)
        e = build(text, flags, pattern_out, captures_out);
    arena_free(a);
    return e;
}

static struct err *match(const void *p, struct str key, struct captures *c, bool *match_out)
{
    const struct pattern *pattern = p;
    pcre2_match_data *data = pcre2_match_data_create(CAPTURES_MAX, NULL);
    int rc = pcre2_match(pattern->code, (PCRE2_SPTR)key.ptr, key.len, 0, 0, data, pattern->context);
    struct err *e = NULL;
    if (rc >= 0) {
        const PCRE2_SIZE *at = pcre2_get_ovector_pointer(data);
        *match_out = true;
        c->count = rc == 0 ? CAPTURES_MAX : (size_t)rc;
        for (size_t i = 0; i < c->count; i++)
            c->at[i] = at[2 * i] == PCRE2_UNSET
                           ? STR("")
                           : str_make(key.ptr + at[2 * i], at[2 * i + 1] - at[2 * i]);
    } else if (rc != PCRE2_ERROR_NOMATCH) {
        PCRE2_UCHAR why[200];
        pcre2_get_error_message(rc, why, sizeof(why));
        e = err_new(ERR_LIMIT, rc, "%s", (const char *)why);
    }
    pcre2_match_data_free(data);
    return e;
}

const struct rules_engine rules_pcre = {"pcre", true, compile, drop, match, NULL};
