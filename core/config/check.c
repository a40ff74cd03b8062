/* Names that do nothing: a typing error, or something this version does not do. Postfix's rule: a
 * name is used when it is a parameter, a restriction class, a setting of a table (pgsql:name ->
 * name_hosts), or stands as $name in the value of one that is used. */
#include "core/config/private.h"

static void mark_text(const struct scope *scope, struct arena *scratch, struct str text)
{
    struct str ignored;
    struct err *e = eval_text(scope, scratch, text, &ignored);
    (void)e; /* the value was judged when it was read; this looks at names alone */
}

static void mark_classes(const struct scope *scope, struct arena *scratch)
{
    struct str list, name;
    struct err *e = eval_name(scope, scratch, STR("smtpd_restriction_classes"), &list);
    if (e)
        return;
    while (str_token(&list, ", \t\r\n", &name)) {
        const struct setting *setting;
        struct str raw;
        if (eval_raw(scope, name, &raw, &setting))
            mark_text(scope, scratch, raw);
    }
}

/* "pgsql:accounts" takes its settings from accounts_hosts, accounts_query ... of main.cf. */
static void mark_table(const struct dict *d, struct str token)
{
    static const char *const types[] = {"pgsql:", "mysql:", "ldap:", "sqlite:", "memcache:", NULL};
    for (size_t t = 0; types[t]; t++) {
        ssize_t at = str_find(token, str_of(types[t]));
        if (at < 0)
            continue;
        struct str name = str_from(token, (size_t)at + strlen(types[t]));
        if (name.len == 0 || name.ptr[0] == '/')
            continue;
        for (size_t i = 0; i < d->count; i++) {
            struct str set = str_of(d->list[i]->name);
            if (set.len > name.len && str_starts(set, name) && set.ptr[name.len] == '_')
                d->list[i]->used = true;
        }
    }
}

static void mark_tables(const struct dict *d)
{
    for (size_t i = 0; i < d->count; i++) {
        struct str rest = d->list[i]->raw, token;
        while (str_token(&rest, ", \t\r\n{}", &token))
            mark_table(d, token);
    }
}

/* Dynamic names that config_sched_options hands to the scheduler. */
static bool dynamic_acted_on(const char *suffix)
{
    static const char *const list[] = {
        "_destination_concurrency_failed_cohort_limit", "_destination_concurrency_limit",
        "_destination_concurrency_negative_feedback",   "_destination_concurrency_positive_feedback",
        "_destination_rate_delay",                      "_destination_recipient_limit",
        "_initial_destination_concurrency",             "_transport_rate_delay",
        NULL,
    };
    for (size_t i = 0; list[i]; i++)
        if (strcmp(suffix, list[i]) == 0)
            return true;
    return false;
}

/* What postconf prints as the default of a name: setting a parameter to that changes nothing. */
static bool is_default(const struct scope *scope, const struct setting *s)
{
    struct str def;
    return eval_default(scope, str_of(s->name), &def) && str_eq(def, s->raw);
}

static bool acted_on(const struct scope *scope, const struct setting *s)
{
    struct str service;
    struct str name = str_of(s->name);
    if (s->used || param_row_find(name))
        return true;
    const struct dynamic_param *dynamic = dynamic_param_find(name, &service);
    return dynamic && !known_param_find(name) && dynamic_acted_on(dynamic->suffix) &&
           (!scope->service_known || scope->service_known(scope->ctx, service));
}

static void report(const struct scope *scope, struct notes *notes, const struct dict *d,
                   struct arena *scratch)
{
    for (size_t i = 0; i < d->count; i++) {
        struct setting *s = d->list[i];
        struct str def;
        if (acted_on(scope, s) || is_default(scope, s))
            continue;
        const char *file = s->file ? s->file : "command line";
        if (eval_default(scope, str_of(s->name), &def)) {
            notes_add(notes, "%s: parameter %s is known but not acted on by this version", file,
                      s->name);
            mark_text(scope, scratch, s->raw); /* it is used so far as names go */
            s->used = true;
        }
    }
    for (size_t i = 0; i < d->count; i++) {
        const struct setting *s = d->list[i];
        if (!acted_on(scope, s) && !is_default(scope, s))
            notes_add(notes, "%s: unused parameter: %s=%.*s", s->file ? s->file : "command line",
                      s->name, STR_ARG(s->raw));
    }
}

static void mark_rows(const struct scope *scope, struct arena *scratch, const struct dict *d)
{
    for (size_t i = 0; i < d->count; i++) {
        const struct setting *s = d->list[i];
        struct str service;
        if (param_row_find(str_of(s->name)) || dynamic_param_find(str_of(s->name), &service))
            mark_text(scope, scratch, s->raw);
    }
    mark_classes(scope, scratch);
    mark_tables(d);
}

void check_names(const struct snapshot *s, struct arena *scratch)
{
    struct config_private *c = s->priv;
    struct scope main = config_scope(s, NULL);
    main.mark = true;
    mark_rows(&main, scratch, &c->main);
    /* Defaults may name a setting that is no parameter any more ($virtual_maps). */
    for (size_t i = 0; i < param_row_count; i++)
        if (!dict_find(&c->main, str_of(param_rows[i].name)))
            mark_text(&main, scratch, str_of(param_rows[i].def));
    for (size_t i = 0; i < s->service_count; i++) {
        struct scope scope = config_scope(s, &s->services[i]);
        scope.mark = true;
        mark_rows(&scope, scratch, &s->services[i].priv->over);
    }
    /* Services first: what they do not act on may still name settings of main.cf. */
    for (size_t i = 0; i < s->service_count; i++) {
        struct scope scope = config_scope(s, &s->services[i]);
        scope.mark = true;
        report(&scope, &c->notes, &s->services[i].priv->over, scratch);
    }
    report(&main, &c->notes, &c->main, scratch);
}
