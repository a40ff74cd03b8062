#include "io/base/expand.h"

#include "io/base/buf.h"

#define CONTEXT_BYTES 20U

struct run {
    const struct expand *x;
    unsigned depth;
    unsigned steps;
};

static struct err *eval(struct run *r, struct str text, struct buf *out);

static struct str skip_space(struct str s)
{
    while (s.len && str_is_space(s.ptr[0]))
        s = str_from(s, 1);
    return s;
}

/* `rest` is the part of body where `what` should have stood. */
static struct err *expected(const char *what, struct str body, struct str rest)
{
    struct str before = str_head(body, body.len - rest.len);
    if (before.len > CONTEXT_BYTES)
        before = str_from(before, before.len - CONTEXT_BYTES);
    return err_new(ERR_CONFIG, 0, "%s at: \"...%.*s>>>%.*s\"", what, STR_ARG(before),
                   STR_ARG(str_head(rest, CONTEXT_BYTES)));
}

/* s begins with an opening bracket; the bytes up to its partner, or -1. */
static ssize_t partner(struct str s)
{
    char open = s.ptr[0], close = open == '{' ? '}' : ')';
    size_t depth = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == open)
            depth++;
        else if (s.ptr[i] == close && --depth == 0)
            return (ssize_t)i;
    }
    return -1;
}

/* "{text}" off *rest. */
static bool take_braced(struct str *rest, struct str *text_out)
{
    struct str s = skip_space(*rest);
    ssize_t end = s.len && s.ptr[0] == '{' ? partner(s) : -1;
    if (end < 0)
        return false;
    *text_out = str_make(s.ptr + 1, (size_t)end - 1);
    *rest = str_from(s, (size_t)end + 1);
    return true;
}

/* rest stands at "?" or ":"; the branch that does not apply is read but not followed. */
static struct err *choose(struct run *r, struct str body, struct str rest, bool yes,
                          struct buf *out)
{
    struct str when_yes = STR(""), when_no = STR("");
    bool more = true;
    if (rest.ptr[0] == '?') {
        rest = str_from(rest, 1);
        if (take_braced(&rest, &when_yes)) {
            rest = skip_space(rest);
            more = rest.len > 0;
            if (more && rest.ptr[0] != ':')
                return expected("\":\" expected", body, rest);
        } else {
            when_yes = rest;
            more = false;
        }
    }
    if (more) {
        rest = str_from(rest, 1);
        if (take_braced(&rest, &when_no)) {
            rest = skip_space(rest);
            if (rest.len)
                return expected("unexpected input", body, rest);
        } else {
            when_no = rest;
        }
    }
    return eval(r, yes ? when_yes : when_no, out);
}

static struct err *eval_name(struct run *r, struct str body, struct buf *out)
{
    struct str rest = skip_space(body), value = STR("");
    size_t n = 0;
    while (n < rest.len && (str_is_alnum(rest.ptr[n]) || rest.ptr[n] == '_'))
        n++;
    struct str name = str_head(rest, n), after = str_from(rest, n);
    rest = skip_space(after);
    if (rest.len && rest.ptr[0] != '?' && rest.ptr[0] != ':')
        return expected("attribute name syntax error", body, after);
    if (++r->steps > EXPAND_STEPS_MAX)
        return err_new(ERR_CONFIG, 0, "too many macro calls: \"%.*s\"", STR_ARG(name));
    if (!r->x->lookup(r->x->ctx, name, &value)) {
        value = STR("");
        if (r->x->unknown)
            r->x->unknown(r->x->ctx, name);
    }
    if (rest.len)
        return choose(r, body, rest, value.len > 0, out);
    if (r->depth >= EXPAND_DEPTH_MAX)
        return err_new(ERR_CONFIG, 0, "unreasonable macro call nesting: \"%.*s\"", STR_ARG(name));
    return eval(r, value, out);
}

enum relation { OP_EQ, OP_NE, OP_LE, OP_GE, OP_LT, OP_GT };

static bool take_operator(struct str *rest, enum relation *op_out)
{
    static const struct {
        const char *text;
        enum relation op;
    } rows[] = {{"==", OP_EQ}, {"!=", OP_NE}, {"<=", OP_LE},
                {">=", OP_GE}, {"<", OP_LT},  {">", OP_GT}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct str text = str_of(rows[i].text);
        if (str_starts(*rest, text)) {
            *op_out = rows[i].op;
            *rest = str_from(*rest, text.len);
            return true;
        }
    }
    return false;
}

/* level = 1*DIGIT [ "." 1*DIGIT [ "." 1*DIGIT ] ] */
static struct err *level_of(struct str text, uint64_t level_out[3])
{
    struct str rest = text;
    level_out[0] = level_out[1] = level_out[2] = 0;
    for (size_t i = 0; i < 3; i++) {
        ssize_t dot = str_index(rest, '.');
        if (!str_u64(dot < 0 ? rest : str_head(rest, (size_t)dot), &level_out[i]))
            break;
        if (dot < 0)
            return NULL;
        rest = str_from(rest, (size_t)dot + 1);
    }
    return err_new(ERR_CONFIG, 0, "malformed compatibility level syntax: \"%.*s\"", STR_ARG(text));
}

static struct err *compare(struct str left, struct str right, bool by_level, int *order_out)
{
    if (by_level) {
        uint64_t a[3], b[3];
        struct err *e = level_of(left, a);
        if (!e)
            e = level_of(right, b);
        if (e)
            return e;
        *order_out = 0;
        for (size_t i = 0; i < 3 && *order_out == 0; i++)
            *order_out = a[i] < b[i] ? -1 : a[i] > b[i];
        return NULL;
    }
    uint64_t a, b;
    if (str_u64(left, &a) && str_u64(right, &b))
        *order_out = a < b ? -1 : a > b;
    else
        *order_out = str_cmp(left, right);
    return NULL;
}

static bool holds(enum relation op, int order)
{
    switch (op) {
    case OP_EQ:
        return order == 0;
    case OP_NE:
        return order != 0;
    case OP_LE:
        return order <= 0;
    case OP_GE:
        return order >= 0;
    case OP_LT:
        return order < 0;
    default:
        return order > 0;
    }
}

static struct err *eval_comparison(struct run *r, struct str left, struct str right, bool by_level,
                                   int *order_out)
{
    struct buf a = {0}, b = {0};
    struct err *e = eval(r, left, &a);
    if (!e)
        e = eval(r, right, &b);
    if (!e)
        e = compare(buf_str(&a), buf_str(&b), by_level, order_out);
    buf_fini(&a);
    buf_fini(&b);
    return e;
}

static struct err *eval_relation(struct run *r, struct str body, struct buf *out)
{
    struct str rest = body, left, right;
    enum relation op;
    int order;
    if (!take_braced(&rest, &left))
        return expected("\"{expression}\" expected", body, rest);
    rest = skip_space(rest);
    if (!take_operator(&rest, &op))
        return expected("\"==\" or \"!=\" or \"<\" or \"<=\" or \">=\" or \">\" expected", body,
                        rest);
    bool by_level = str_starts(rest, STR("level"));
    struct str suffix = by_level ? str_from(rest, strlen("level")) : rest;
    if (suffix.len && str_is_alnum(suffix.ptr[0]))
        return expected("bad operator suffix", body, rest);
    rest = suffix;
    if (!take_braced(&rest, &right))
        return expected("\"{expression}\" expected", body, rest);
    rest = skip_space(rest);
    if (rest.len && rest.ptr[0] != '?' && rest.ptr[0] != ':')
        return expected("\"?\" or \":\" expected", body, rest);
    struct err *e = eval_comparison(r, left, right, by_level, &order);
    if (e)
        return e;
    if (rest.len)
        return choose(r, body, rest, holds(op, order), out);
    if (holds(op, order))
        buf_add_c(out, "true");
    return NULL;
}

/* *rest stands behind a "$". */
static struct err *eval_reference(struct run *r, struct str text, struct str *rest, struct buf *out)
{
    struct str s = *rest, body;
    bool bracket = s.len && (s.ptr[0] == '{' || s.ptr[0] == '(');
    if (bracket) {
        ssize_t end = partner(s);
        if (end < 0)
            return err_new(ERR_CONFIG, 0, "truncated macro reference: \"%.*s\"", STR_ARG(text));
        body = str_make(s.ptr + 1, (size_t)end - 1);
        *rest = str_from(s, (size_t)end + 1);
    } else {
        size_t n = 0;
        while (n < s.len && (str_is_alnum(s.ptr[n]) || s.ptr[n] == '_'))
            n++;
        body = str_head(s, n);
        *rest = str_from(s, n);
    }
    if (body.len == 0)
        return err_new(ERR_CONFIG, 0, "empty macro name: \"%.*s\"", STR_ARG(text));
    struct str seen = skip_space(body);
    if (seen.len && seen.ptr[0] == '{')
        return eval_relation(r, body, out);
    return eval_name(r, body, out);
}

static struct err *eval(struct run *r, struct str text, struct buf *out)
{
    struct err *e = NULL;
    if (r->depth >= EXPAND_DEPTH_MAX)
        return err_new(ERR_CONFIG, 0, "unreasonable macro call nesting: \"%.*s\"",
                       STR_ARG(str_head(text, CONTEXT_BYTES)));
    r->depth++;
    struct str rest = text;
    while (rest.len && !e) {
        ssize_t dollar = str_index(rest, '$');
        size_t plain = dollar < 0 ? rest.len : (size_t)dollar;
        buf_add_str(out, str_head(rest, plain));
        rest = str_from(rest, plain);
        if (out->len > EXPAND_BYTES_MAX)
            e = err_new(ERR_CONFIG, 0, "expanded text longer than %u bytes", EXPAND_BYTES_MAX);
        if (rest.len == 0 || e)
            break;
        rest = str_from(rest, 1);
        if (rest.len && rest.ptr[0] == '$') {
            buf_add_char(out, '$');
            rest = str_from(rest, 1);
        } else {
            e = eval_reference(r, text, &rest, out);
        }
    }
    r->depth--;
    return e;
}

struct err *expand_text(struct arena *a, struct str text, const struct expand *x, struct str *out)
{
    struct run r = {.x = x};
    struct buf result = {0};
    struct err *e = eval(&r, text, &result);
    if (!e)
        *out = arena_str(a, buf_str(&result));
    buf_fini(&result);
    return e;
}
