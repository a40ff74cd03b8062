/* postconf -M -F -P: printing master.cf. */
#include <stdlib.h>
#include "core/cmd/postconf.h"
#include "io/base/cfline.h"

enum { LINE_MASTER_MAX = 79, INDENT = 4 };

const char *const postconf_field_names[MASTER_FIELDS] = {
    "service", "type", "private", "unprivileged", "chroot", "wakeup", "process_limit", "command",
};

/* "-o { name = value }" as postconf writes it: "name=value", in braces where it needs them. */
static struct str option_text(struct arena *a, const struct scope *scope, struct str text)
{
    struct str name, value;
    struct str inner = master_unbrace(text);
    if (cfline_split(inner, &name, &value))
        return text;
    struct err *e = scope ? eval_text(scope, a, value, &value) : NULL;
    if (e)
        postconf_warn("%s", e->text);
    bool blanks = false;
    for (size_t i = 0; i < value.len; i++)
        blanks = blanks || str_is_space(value.ptr[i]) || value.ptr[i] == '{';
    return arena_printf(a, blanks ? "{%.*s=%.*s}" : "%.*s=%.*s", STR_ARG(name), STR_ARG(value));
}

static struct str word_text(struct arena *a, struct str word)
{
    if (word.len == 0 || word.ptr[0] != '{')
        return word;
    return arena_printf(a, "{%.*s}", STR_ARG(master_unbrace(word)));
}

struct line {
    struct buf *out;
    size_t column;
    bool fold, fresh; /* fresh: the next word begins a line */
};

static void add_word(struct line *l, struct str word)
{
    if (l->fold && (l->fresh || l->column + 1 + word.len > LINE_MASTER_MAX)) {
        buf_add_c(l->out, "\n    ");
        l->column = INDENT;
    } else {
        buf_add_char(l->out, ' ');
        l->column++;
    }
    l->fresh = false;
    buf_add_str(l->out, word);
    l->column += word.len;
}

static const struct service *service_of(const struct postconf *p, const struct master_entry *m)
{
    /* In text form there is a service for each entry, as far as they could be read. */
    size_t i = p->s ? (size_t)(m - p->s->priv->master) : SIZE_MAX;
    return p->s && i < p->s->service_count ? &p->s->services[i] : NULL;
}

static void add_args(const struct postconf *p, const struct master_entry *m, struct line *l)
{
    struct arena *a = p->arena;
    const struct service *svc = p->expand ? service_of(p, m) : NULL;
    struct scope scope = svc ? config_scope(p->s, svc) : (struct scope){0};
    bool options = true;
    for (size_t i = 0; i < m->arg_count; i++) {
        struct str arg = m->args[i];
        options = options && arg.len > 0 && arg.ptr[0] == '-';
        if (options && str_eq(arg, STR("-o")) && i + 1 < m->arg_count) {
            struct str text = option_text(a, svc ? &scope : NULL, m->args[++i]);
            l->fresh = l->fold;
            add_word(l, arena_printf(a, "-o %.*s", STR_ARG(text)));
            l->fresh = l->fold;
        } else {
            add_word(l, word_text(a, arg));
        }
    }
}

void postconf_entry(const struct postconf *p, const struct master_entry *m, struct buf *out)
{
    static const size_t at[MASTER_FIELDS] = {0, 11, 17, 25, 33, 41, 49, 57};
    struct line l = {.out = out, .fold = p->fold};
    for (int f = 0; f < MASTER_FIELDS; f++) {
        if (f > 0)
            do {
                buf_add_char(out, ' ');
                l.column++;
            } while (l.column < at[f]);
        buf_add_str(out, m->field[f]);
        l.column += m->field[f].len;
    }
    add_args(p, m, &l);
    buf_add_char(out, '\n');
}

static bool part_matches(struct str pattern, struct str text)
{
    return pattern.len == 0 || str_eq(pattern, STR("*")) || str_eq(pattern, text);
}

bool postconf_entry_matches(const struct master_entry *m, struct str name, struct str type)
{
    return part_matches(name, m->field[MASTER_NAME]) && part_matches(type, m->field[MASTER_TYPE]);
}

/* --- requests */
struct request {
    struct str name, type, rest; /* "smtp/inet/chroot" */
};

static struct str take(struct str *text)
{
    ssize_t slash = str_index(*text, '/');
    struct str part = slash < 0 ? *text : str_head(*text, (size_t)slash);
    *text = slash < 0 ? STR("") : str_from(*text, (size_t)slash + 1);
    return part;
}

static struct request request_of(const char *text)
{
    struct str rest = str_of(text);
    struct request r = {.name = take(&rest)};
    r.type = take(&rest);
    r.rest = rest;
    return r;
}

typedef size_t print_fn(struct postconf *p, const struct master_entry *m, const struct request *r);

static size_t print_requests(struct postconf *p, const struct request *r, print_fn *print)
{
    const struct config_private *c = p->s->priv;
    size_t count = 0;
    for (size_t i = 0; i < c->master_count; i++)
        if (postconf_entry_matches(&c->master[i], r->name, r->type))
            count += print(p, &c->master[i], r);
    return count;
}

/* Older forms: "smtp.unix", and "inet" for "* / inet" when no service has that name. */
static size_t print_older(struct postconf *p, const char *text, print_fn *print)
{
    struct str all = str_of(text);
    ssize_t dot = str_rindex(all, '.');
    struct request r = {0};
    if (str_index(all, '/') >= 0)
        return 0;
    if (dot >= 0) {
        r.name = str_head(all, (size_t)dot);
        r.type = str_from(all, (size_t)dot + 1);
        size_t count = print_requests(p, &r, print);
        if (count > 0)
            return count;
    }
    r = (struct request){.type = all};
    return print_requests(p, &r, print);
}

/* What is said about main.cf is said by the other forms. */
static void warn_master(struct postconf *p)
{
    const struct notes *n = &p->s->priv->notes;
    size_t from = n->count;
    check_names(p->s, p->arena);
    postconf_warn_notes(n, from, "/master.cf");
}

static int show(struct postconf *p, print_fn *print)
{
    /* Without a readable master.cf there is nothing to show. */
    if (!p->s->priv->master)
        return postconf_fatal("%s", p->s->priv->notes.list[p->s->priv->notes.count - 1]);
    postconf_warn_notes(&p->s->priv->notes, 0, "");
    postconf_warn_undefined(p);
    if (p->arg_count == 0) {
        struct request all = {0};
        print_requests(p, &all, print);
    }
    for (size_t i = 0; i < p->arg_count; i++) {
        struct request r = request_of(p->args[i]);
        if (print_requests(p, &r, print) == 0 && print_older(p, p->args[i], print) == 0)
            postconf_warn("unmatched request: \"%s\"", p->args[i]);
    }
    warn_master(p);
    return 0;
}

static size_t print_entry(struct postconf *p, const struct master_entry *m, const struct request *r)
{
    struct buf b = {0};
    (void)r;
    postconf_entry(p, m, &b);
    fputs(b.ptr, stdout);
    buf_fini(&b);
    return 1;
}

int postconf_show_services(struct postconf *p)
{
    return show(p, print_entry);
}

static struct str prefix_of(struct arena *a, const struct master_entry *m)
{
    return arena_printf(a, "%.*s/%.*s/", STR_ARG(m->field[MASTER_NAME]),
                        STR_ARG(m->field[MASTER_TYPE]));
}

static size_t print_fields(struct postconf *p, const struct master_entry *m, const struct request *r)
{
    size_t count = 0;
    for (int f = 0; f < MASTER_FIELDS; f++) {
        struct str name = str_of(postconf_field_names[f]);
        if (r->rest.len > 0 && !str_eq(r->rest, name))
            continue;
        struct buf value = {0};
        buf_add_str(&value, m->field[f]);
        if (f == MASTER_COMMAND) {
            struct line l = {.out = &value};
            add_args(p, m, &l);
        }
        postconf_print(p, prefix_of(p->arena, m).ptr, name, buf_str(&value));
        buf_fini(&value);
        count++;
    }
    return count;
}

static bool is_field(struct str name)
{
    for (int f = 0; f < MASTER_FIELDS; f++)
        if (str_eq(name, str_of(postconf_field_names[f])))
            return true;
    return name.len == 0;
}

int postconf_show_fields(struct postconf *p)
{
    for (size_t i = 0; i < p->arg_count; i++) {
        struct request r = request_of(p->args[i]);
        if (!is_field(r.rest)) {
            postconf_warn_notes(&p->s->priv->notes, 0, "");
            postconf_warn_undefined(p);
            return postconf_fatal("invalid service attribute name: \"%.*s\"", STR_ARG(r.rest));
        }
    }
    return show(p, print_fields);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct setting *const *)a)->name, (*(struct setting *const *)b)->name);
}

static size_t print_params(struct postconf *p, const struct master_entry *m, const struct request *r)
{
    const struct service *svc = service_of(p, m);
    if (!svc)
        return 0;
    struct scope scope = config_scope(p->s, svc);
    const struct dict *over = &svc->priv->over;
    size_t count = 0;
    if (over->count > 1)
        qsort(over->list, over->count, sizeof(struct setting *), by_name);
    for (size_t i = 0; i < over->count; i++) {
        struct str name = str_of(over->list[i]->name), value = over->list[i]->raw;
        if (r->rest.len > 0 && !str_eq(r->rest, STR("*")) && !str_eq(r->rest, name))
            continue;
        struct err *e = p->expand ? eval_name(&scope, p->arena, name, &value) : NULL;
        if (e)
            postconf_warn("%s", e->text);
        postconf_print(p, prefix_of(p->arena, m).ptr, name, value);
        count++;
    }
    return count;
}

int postconf_show_service_params(struct postconf *p)
{
    return show(p, print_params);
}
