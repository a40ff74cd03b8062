#include "maps/match/rules.h"

#include "io/base/cfline.h"
#include "io/base/check.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/file/file.h"
#include "maps/reload.h"

enum { FILE_MAX = 64 << 20 };

enum rule_kind { RULE_MATCH, RULE_IF, RULE_ENDIF };

struct rule {
    enum rule_kind kind;
    bool negated;
    void *pattern;
    struct str result;
    size_t endif; /* RULE_IF: index of its ENDIF, or of the end */
    int line;
};

struct rules {
    const struct rules_engine *engine;
    struct arena *arena;
    char *path;
    struct rule *list;
    size_t count, cap;
};

struct err *rules_delimited(struct arena *a, struct str *rest, struct str *text_out,
                            struct str *flags_out)
{
    struct str s = *rest;
    if (s.len == 0 || s.ptr[0] == '\\' || str_is_alnum(s.ptr[0]))
        return err_new(ERR_SYNTAX, 0, "no regexp");
    char delimiter = s.ptr[0];
    size_t i = 1;
    while (i < s.len && s.ptr[i] != delimiter)
        i += s.ptr[i] == '\\' && i + 1 < s.len ? 2 : 1;
    if (i >= s.len)
        return err_new(ERR_SYNTAX, 0, "no closing regexp delimiter \"%c\"", delimiter);
    *text_out = arena_str(a, str_make(s.ptr + 1, i - 1));
    s = str_from(s, i + 1);
    size_t n = 0;
    while (n < s.len && str_is_alnum(s.ptr[n]))
        n++;
    *flags_out = str_head(s, n);
    *rest = str_from(s, n);
    return NULL;
}

/* $n, ${n}, $(n) at s.ptr[*i] == '$'; "$$" gives -1. False: not a reference. */
static bool reference(struct str s, size_t *i, int *number_out)
{
    size_t at = *i + 1;
    if (at < s.len && s.ptr[at] == '$') {
        *i = at + 1;
        *number_out = -1;
        return true;
    }
    char close = '\0';
    if (at < s.len && (s.ptr[at] == '{' || s.ptr[at] == '('))
        close = s.ptr[at++] == '{' ? '}' : ')';
    int number = 0;
    size_t digits = 0;
    for (; at < s.len && str_is_digit(s.ptr[at]) && digits < 4; at++, digits++)
        number = number * 10 + (s.ptr[at] - '0');
    if (digits == 0 || (close && (at >= s.len || s.ptr[at] != close)))
        return false;
    *i = close ? at + 1 : at;
    *number_out = number;
    return true;
}

static struct err *check_result(const struct map *m, const struct rule *r, struct str result,
                                size_t captures)
{
    for (size_t i = 0; i < result.len;) {
        int n;
        if (result.ptr[i] != '$') {
            i++;
            continue;
        }
        if (!reference(result, &i, &n))
            return err_new(ERR_SYNTAX, 0, "bad replacement syntax");
        if (n < 0)
            continue;
        if (r->negated)
            return err_new(ERR_SYNTAX, 0, "$number found in negative match replacement text");
        if (!(m->flags & MAP_REGEXP_SUB))
            return err_new(ERR_SYNTAX, 0, "regular expression substitution is not allowed");
        if (n < 1 || (size_t)n > captures || n >= CAPTURES_MAX)
            return err_new(ERR_SYNTAX, 0, "out of range replacement index \"%d\"", n);
    }
    return NULL;
}

static struct str expand(struct arena *a, struct str result, const struct captures *c)
{
    struct buf b = {0};
    for (size_t i = 0; i < result.len;) {
        int n;
        if (result.ptr[i] != '$' || !reference(result, &i, &n))
            buf_add_char(&b, result.ptr[i++]);
        else if (n < 0)
            buf_add_char(&b, '$');
        else if ((size_t)n < c->count)
            buf_add_str(&b, c->at[n]);
    }
    struct str out = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return out;
}

static struct rule *add(struct rules *t)
{
    if (t->count == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 16;
        t->list = mem_realloc(t->list, t->cap * sizeof(*t->list));
    }
    return &t->list[t->count++];
}

static bool keyword(struct str *line, struct str word)
{
    if (!str_starts_nocase(*line, word) ||
        (line->len > word.len && str_is_alnum(line->ptr[word.len])))
        return false;
    *line = str_trim(str_from(*line, word.len));
    return true;
}

/* Errors say why the line is skipped. */
static struct err *parse_rule(struct rules *t, const struct map *m, struct str line, int number)
{
    struct rule r = {.line = number};
    if (keyword(&line, STR("endif"))) {
        r.kind = RULE_ENDIF;
        *add(t) = r;
        return NULL;
    }
    if (keyword(&line, STR("if")))
        r.kind = RULE_IF;
    while (line.len > 0 && line.ptr[0] == '!') {
        r.negated = !r.negated;
        line = str_trim(str_from(line, 1));
    }
    size_t captures = 0;
    struct err *e = t->engine->compile(&line, &r.pattern, &captures);
    if (e)
        return e;
    line = str_trim(line);
    if (r.kind == RULE_MATCH) {
        if (line.len == 0 && t->engine->substitutes)
            log_warning(map_log_service(), "%s map %s, line %d: no replacement text: using empty string",
                        t->engine->name, t->path, number);
        else if (line.len == 0)
            e = err_new(ERR_SYNTAX, 0, "no lookup result");
        else if (t->engine->substitutes)
            e = check_result(m, &r, line, captures);
    } else if (line.len > 0) {
        log_warning(map_log_service(), "%s map %s, line %d: ignoring extra text after IF statement: \"%.*s\"",
                    t->engine->name, t->path, number, STR_ARG(line));
    }
    if (e) {
        t->engine->drop(r.pattern);
        return e;
    }
    r.result = arena_str(t->arena, line);
    *add(t) = r;
    return NULL;
}

/* Each IF learns where its ENDIF stands. While it is open, `endif` has the IF around it, so that any depth will do. */
static void pair_ifs(struct rules *t)
{
    size_t open = SIZE_MAX;
    for (size_t i = 0; i < t->count; i++) {
        struct rule *r = &t->list[i];
        if (r->kind == RULE_IF) {
            r->endif = open;
            open = i;
        } else if (r->kind == RULE_ENDIF && open != SIZE_MAX) {
            size_t outer = t->list[open].endif;
            t->list[open].endif = i;
            open = outer;
        } else if (r->kind == RULE_ENDIF) {
            log_warning(map_log_service(), "%s map %s, line %d: ignoring ENDIF without matching IF",
                        t->engine->name, t->path, r->line);
        }
    }
    while (open != SIZE_MAX) {
        struct rule *r = &t->list[open];
        log_warning(map_log_service(), "%s map %s, line %d: IF has no matching ENDIF", t->engine->name,
                    t->path, r->line);
        open = r->endif;
        r->endif = t->count;
    }
}

static void rules_free(void *object)
{
    struct rules *t = object;
    for (size_t i = 0; i < t->count; i++)
        if (t->list[i].pattern)
            t->engine->drop(t->list[i].pattern);
    mem_free(t->list);
    mem_free(t->path);
    arena_free(t->arena);
    mem_free(t);
}

static struct err *read_rules(struct rules *t, const struct map *m, struct str bytes)
{
    struct cfline lines;
    struct str line = {0};
    int number;
    struct err *e;
    cfline_init_text(&lines, bytes);
    do {
        e = cfline_next(&lines, &line, &number);
        if (e || !line.ptr)
            break;
        struct err *skip = parse_rule(t, m, str_trim(line), number);
        if (skip)
            log_warning(map_log_service(), "%s map %s, line %d: %s: skipping this rule", t->engine->name,
                        t->path, number, skip->text);
    } while (!e);
    cfline_fini(&lines);
    return e;
}

/* "{{rule}, {rule}}" in place of a file name: one rule a line. */
static struct err *inline_rules(struct arena *a, const char *text, struct str *out)
{
    struct str rest = str_of(text), token;
    struct buf b = {0};
    if (rest.ptr[rest.len - 1] != '}')
        return err_new(ERR_CONFIG, 0, "missing '}' in \"%s\"", text);
    rest = str_make(rest.ptr + 1, rest.len - 2);
    while (str_token_braces(&rest, ", \t\r\n", &token)) {
        if (token.len < 2 || token.ptr[0] != '{' || token.ptr[token.len - 1] != '}') {
            buf_fini(&b);
            return err_new(ERR_CONFIG, 0, "bad syntax: \"%s\"; need \"{{rule} {rule}...}\"", text);
        }
        buf_add_str(&b, str_trim(str_make(token.ptr + 1, token.len - 2)));
        buf_add_char(&b, '\n');
    }
    *out = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return NULL;
}

static struct err *load(struct map *m, const char *path, void **object_out)
{
    struct arena *scratch = arena_new(0, 0);
    struct str bytes;
    struct err *e = path[0] == '{' ? inline_rules(scratch, path, &bytes)
                                   : file_read(scratch, path, FILE_MAX, &bytes);
    if (e) {
        arena_free(scratch);
        return e;
    }
    struct rules *t = MEM_NEW(struct rules);
    t->engine = rules_engine_of(m->type);
    t->arena = arena_new(0, 0);
    t->path = mem_strdup(path);
    e = read_rules(t, m, bytes);
    arena_free(scratch);
    if (e) {
        rules_free(t);
        return err_in(e, "%s", path);
    }
    pair_ifs(t);
    *object_out = t;
    return NULL;
}

static const struct reload_ops ops = {load, rules_free};

struct err *rules_open(struct map *m, struct str name, const struct map_options *options)
{
    /* Rules in the name need no reloading, but the rest is the same. */
    bool in_name = name.ptr[0] == '{';
    char *path = in_name ? NULL : reload_path(options, name, "");
    struct reload *r = NULL;
    struct err *e = reload_open(m, in_name ? name.ptr : path, &ops, &r);
    m->impl = r;
    mem_free(path);
    return e;
}

void rules_close(struct map *m)
{
    reload_close(m->impl);
}

static struct err *search(const struct rules *t, struct arena *a, struct str key,
                          struct str *value_out, bool *found_out)
{
    struct captures c = {0};
    for (size_t i = 0; i < t->count; i++) {
        const struct rule *r = &t->list[i];
        if (r->kind == RULE_ENDIF)
            continue;
        bool hit = false;
        struct err *e = t->engine->match(r->pattern, key, &c, &hit);
        if (e)
            return err_in(e, "%s map %s, line %d", t->engine->name, t->path, r->line);
        hit = hit != r->negated;
        if (r->kind == RULE_IF && !hit) {
            i = r->endif;
        } else if (r->kind == RULE_MATCH && hit) {
            *value_out = t->engine->substitutes ? expand(a, r->result, &c) : arena_str(a, r->result);
            *found_out = true;
            return NULL;
        }
    }
    return NULL;
}

struct err *rules_find(struct map *m, struct arena *a, struct str key, struct str *value_out,
                       bool *found_out)
{
    const struct rules_engine *engine = rules_engine_of(m->type);
    if (engine->key_ok && !engine->key_ok(key))
        return NULL;
    void *t;
    struct err *e = reload_take(m->impl, &t);
    if (e)
        return e;
    /* A copy: regexec, as sanitizers watch it, reads up to a NUL; keys are views. */
    e = search(t, a, arena_str(a, key), value_out, found_out);
    reload_give(m->impl, t);
    return e;
}

#define RULES_TYPE(variable, text)                                                                 \
    extern const struct map_type variable;                                                         \
    const struct map_type variable = {text, true, rules_open, rules_close, rules_find, NULL, NULL}
RULES_TYPE(map_cidr_type, "cidr");
RULES_TYPE(map_pcre_type, "pcre");
RULES_TYPE(map_regexp_type, "regexp");

const struct rules_engine *rules_engine_of(const struct map_type *type)
{
    if (type == &map_pcre_type)
        return &rules_pcre;
    if (type == &map_regexp_type)
        return &rules_regexp;
    CHECK(type == &map_cidr_type);
    return &rules_cidr;
}
