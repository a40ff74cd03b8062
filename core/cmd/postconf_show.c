/* postconf: printing main.cf, and what there is besides. */
#include <stdlib.h>
#include <unistd.h>
#include "core/cmd/postconf.h"
#include "io/base/mem.h"

enum { LINE_MAIN_MAX = 80 };

void postconf_words(const struct postconf *p, struct str text, size_t *column)
{
    struct str word;
    while (str_token(&text, " \t\r\n", &word)) {
        if (*column > 0 && (!p->fold || *column + 1 + word.len <= LINE_MAIN_MAX)) {
            putchar(' ');
            *column += 1;
        } else if (*column > 0) {
            fputs("\n    ", stdout);
            *column = 4;
        }
        printf("%.*s", STR_ARG(word));
        *column += word.len;
    }
}

void postconf_print(const struct postconf *p, const char *prefix, struct str name, struct str value)
{
    size_t column = 0;
    if (p->no_value && !p->no_name) {
        printf("%s%.*s\n", prefix, STR_ARG(name));
        return;
    }
    if (!p->no_name)
        column = (size_t)printf("%s%.*s =", prefix, STR_ARG(name));
    postconf_words(p, value, &column);
    putchar('\n');
}

/* --- names */
struct names {
    struct str *list; /* heap */
    size_t count, cap;
};

static void add_name(struct names *n, struct str name)
{
    if (n->count == n->cap) {
        n->cap = n->cap ? n->cap * 2 : 1024;
        n->list = mem_realloc(n->list, n->cap * sizeof(*n->list));
    }
    n->list[n->count++] = name;
}

static int compare(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

static void add_dynamic(const struct postconf *p, struct names *n)
{
    static const char *const agents[] = {"local", "pipe", "virtual", "smtp", "lmtp", "error", NULL};
    const struct config_private *c = p->s->priv;
    for (size_t i = 0; i < c->master_count; i++) {
        const struct str *f = c->master[i].field;
        bool agent = false;
        for (size_t k = 0; agents[k]; k++)
            agent = agent || str_eq(f[MASTER_COMMAND], str_of(agents[k]));
        bool own_time = str_eq(f[MASTER_COMMAND], STR("pipe")) || str_eq(f[MASTER_COMMAND], STR("spawn"));
        for (size_t k = 0; k < dynamic_param_count; k++)
            if (dynamic_params[k].agents_only
                    ? own_time
                    : agent && str_eq(f[MASTER_TYPE], STR("unix")))
                add_name(n, arena_printf(p->arena, "%.*s%s", STR_ARG(f[MASTER_NAME]),
                                         dynamic_params[k].suffix));
    }
}

static void all_names(const struct postconf *p, struct names *n)
{
    for (size_t i = 0; i < param_row_count; i++)
        add_name(n, str_of(param_rows[i].name));
    for (size_t i = 0; i < known_param_count; i++)
        add_name(n, str_of(known_params[i].name));
    add_dynamic(p, n);
}

/* Names beyond Postfix 3.7 are listed as defaults, but setting one does not make it valid. */
static bool beyond(struct str name)
{
    const struct known_param *known = known_param_find(name);
    return known && known->beyond && !param_row_find(name);
}

static bool valid(const struct scope *scope, struct str name)
{
    const struct setting *s = dict_find(scope->main, name);
    struct str def;
    return eval_default(scope, name, &def) || (s && s->used);
}

static bool in_class(const struct postconf *p, struct str name)
{
    struct str service;
    bool builtin = param_row_find(name) || known_param_find(name);
    bool dynamic = !builtin && dynamic_param_find(name, &service);
    const char *class = p->class ? p->class : "all";
    if (strcmp(class, "builtin") == 0)
        return builtin;
    if (strcmp(class, "service") == 0)
        return dynamic;
    if (strcmp(class, "user") == 0)
        return !builtin && !dynamic;
    if (strcmp(class, "inert") == 0)
        return known_param_find(name) && !param_row_find(name);
    return true;
}

static void set_names(const struct postconf *p, const struct scope *scope, struct names *n)
{
    const struct dict *d = &p->s->priv->main;
    for (size_t i = 0; i < d->count; i++)
        if (valid(scope, str_of(d->list[i]->name)) && !beyond(str_of(d->list[i]->name)))
            add_name(n, str_of(d->list[i]->name));
    if (p->dir_given && !dict_find(d, STR("config_directory")))
        add_name(n, STR("config_directory"));
}

/* --- one name */
/* False after a message. */
static bool print_name(struct postconf *p, const struct scope *scope, struct str name)
{
    const struct setting *setting;
    struct str value;
    struct err *e = NULL;
    if ((p->expand || str_eq(name, STR("mynetworks"))) && !dict_find(scope->main, STR("mynetworks")))
        e = config_networks(p->s);
    if (!e) {
        if (!eval_raw(scope, name, &value, &setting))
            return true;
        if (p->expand)
            e = eval_name(scope, p->arena, name, &value);
    }
    if (e) {
        postconf_fatal("%s", e->text);
        return false;
    }
    postconf_print(p, "", name, value);
    return true;
}

static int print_sorted(struct postconf *p, const struct scope *scope, struct names *n)
{
    int status = 0;
    qsort(n->list, n->count, sizeof(*n->list), compare);
    for (size_t i = 0; i < n->count && status == 0; i++)
        if (in_class(p, n->list[i]) && (i == 0 || !str_eq(n->list[i], n->list[i - 1])))
            status = print_name(p, scope, n->list[i]) ? 0 : 1;
    return status;
}

static int print_asked(struct postconf *p, const struct scope *scope)
{
    for (size_t i = 0; i < p->arg_count; i++) {
        struct str name = str_of(p->args[i]);
        bool set = dict_find(scope->main, name) || str_eq(name, STR("config_directory"));
        if (!valid(scope, name))
            postconf_warn("%s: unknown parameter", p->args[i]);
        else if ((!p->set_only || set) && !print_name(p, scope, name))
            return 1;
    }
    return 0;
}

void postconf_warn_undefined(const struct postconf *p)
{
    struct notes undefined = {.arena = p->arena};
    check_undefined(p->s, &undefined);
    postconf_warn_notes(&undefined, 0, "");
    notes_fini(&undefined);
}

void postconf_warn_notes(const struct notes *n, size_t from, const char *about)
{
    for (size_t i = from; i < n->count; i++)
        if (strstr(n->list[i], about) && !str_ends(str_of(n->list[i]), STR(CHECK_INERT)))
            postconf_warn("%s", n->list[i]);
}

int postconf_show_main(struct postconf *p)
{
    struct config_private *c = p->s->priv;
    dict_set(&c->computed, p->arena, STR("process_name"), STR("postconf"), NULL, 0);
    dict_set(&c->computed, p->arena, STR("process_id"),
             arena_printf(p->arena, "%ld", (long)getpid()), NULL, 0);
    struct scope scope = config_scope(p->s, NULL);
    postconf_warn_notes(&c->notes, 0, "");
    size_t before = c->notes.count;
    if (!p->defaults)
        postconf_warn_undefined(p);
    check_names(p->s, p->arena);

    struct names n = {0};
    int status;
    if (p->arg_count > 0) {
        status = print_asked(p, &scope);
    } else {
        if (!p->set_only)
            all_names(p, &n);
        if (!p->defaults)
            set_names(p, &scope, &n);
        status = print_sorted(p, &scope, &n);
    }
    mem_free(n.list);
    if (!p->defaults)
        postconf_warn_notes(&c->notes, before, "");
    return status;
}
