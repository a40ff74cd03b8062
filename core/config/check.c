/* Names that do nothing: a typing error, or something this version does not do. Postfix's rule: a
 * name is used when it is a parameter, a restriction class, a setting of a table (pgsql:name ->
 * name_hosts), or stands as $name in the value of one that is used. */
#include <limits.h>
#include <stdio.h>
#include "core/config/private.h"

/* The names behind '$' in a text, whichever branch of a conditional would be taken. False at the end. */
static bool next_reference(struct str *text, struct str *name_out)
{
    for (;;) {
        ssize_t dollar = str_index(*text, '$');
        if (dollar < 0)
            return false;
        struct str rest = str_from(*text, (size_t)dollar + 1);
        if (rest.len > 0 && rest.ptr[0] == '$') {
            *text = str_from(rest, 1);
            continue;
        }
        if (rest.len > 0 && (rest.ptr[0] == '{' || rest.ptr[0] == '('))
            rest = str_from(rest, 1); /* a second one begins a comparison */
        while (rest.len > 0 && str_is_space(rest.ptr[0]))
            rest = str_from(rest, 1);
        size_t n = 0;
        while (n < rest.len && (str_is_alnum(rest.ptr[n]) || rest.ptr[n] == '_'))
            n++;
        *text = str_from(rest, n);
        *name_out = str_head(rest, n);
        if (n > 0)
            return true;
    }
}

static void mark_text(const struct scope *scope, struct str text)
{
    struct str name, raw;
    const struct setting *setting;
    while (next_reference(&text, &name))
        (void)eval_raw(scope, name, &raw, &setting);
}

static void mark_classes(const struct scope *scope, struct arena *scratch)
{
    struct str list, name, raw;
    const struct setting *setting;
    struct err *e = eval_name(scope, scratch, STR("smtpd_restriction_classes"), &list);
    while (!e && str_token(&list, ", \t\r\n", &name))
        (void)eval_raw(scope, name, &raw, &setting);
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
        "_delivery_slot_cost",                          "_delivery_slot_discount",
        "_delivery_slot_loan",                          "_minimum_delivery_slots",
        "_rate_delay_serial",
        "_recipient_limit",                             "_extra_recipient_limit",
        "_destination_concurrency_failed_cohort_limit", "_destination_concurrency_limit",
        "_destination_concurrency_negative_feedback",   "_destination_concurrency_positive_feedback",
        "_destination_rate_delay",                      "_destination_recipient_limit",
        "_initial_destination_concurrency",             "_transport_rate_delay",
        "_recipient_refill_delay",                      "_recipient_refill_limit",
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

static void report(const struct scope *scope, struct notes *notes, const struct dict *d)
{
    for (size_t i = 0; i < d->count; i++) {
        const struct setting *s = d->list[i];
        const struct known_param *known = known_param_find(str_of(s->name));
        const char *file = s->file ? s->file : "command line";
        struct str def;
        if (acted_on(scope, s) || is_default(scope, s))
            continue;
        if (eval_default(scope, str_of(s->name), &def) && !(known && known->beyond))
            notes_add(notes, "%s: parameter %s" CHECK_INERT, file, s->name);
        else
            notes_add(notes, "%s: unused parameter: %s=%.*s", file, s->name, STR_ARG(s->raw));
    }
}

static void mark_dict(const struct scope *scope, struct arena *scratch, const struct dict *d)
{
    for (size_t i = 0; i < d->count; i++)
        mark_text(scope, d->list[i]->raw);
    mark_classes(scope, scratch);
    mark_tables(d);
}

void check_names(const struct snapshot *s, struct arena *scratch)
{
    struct config_private *c = s->priv;
    struct scope main = config_scope(s, NULL);
    main.mark = true;
    mark_dict(&main, scratch, &c->main);
    /* Defaults name settings too ($virtual_maps). */
    for (size_t i = 0; i < param_row_count; i++)
        if (!dict_find(&c->main, str_of(param_rows[i].name)))
            mark_text(&main, str_of(param_rows[i].def));
    for (size_t i = 0; i < s->service_count; i++) {
        struct scope scope = config_scope(s, &s->services[i]);
        scope.mark = true;
        mark_dict(&scope, scratch, &s->services[i].priv->over);
    }
    for (size_t i = 0; i < s->service_count; i++) {
        struct scope scope = config_scope(s, &s->services[i]);
        report(&scope, &c->notes, &s->services[i].priv->over);
    }
    report(&main, &c->notes, &c->main);
}

static void undefined_in(const struct scope *scope, const struct dict *d, const char *file,
                         struct notes *out)
{
    size_t from = out->count;
    for (size_t i = 0; i < d->count; i++) {
        struct str text = d->list[i]->raw, name, raw;
        const struct known_param *known = known_param_find(str_of(d->list[i]->name));
        const struct setting *setting;
        while (!(known && known->type == PARAM_RAW) && next_reference(&text, &name)) {
            bool seen = eval_raw(scope, name, &raw, &setting);
            for (size_t k = from; k < out->count && !seen; k++)
                seen = str_ends(str_of(out->list[k]), name) &&
                       out->list[k][strlen(out->list[k]) - name.len - 1] == ' ';
            if (!seen)
                notes_add(out, "%s: undefined parameter: %.*s", file, STR_ARG(name));
        }
    }
}

void check_undefined(const struct snapshot *s, struct notes *out)
{
    const struct config_private *c = s->priv;
    struct scope main = config_scope(s, NULL);
    char file[PATH_MAX / 2];
    snprintf(file, sizeof(file), "%s/main.cf", s->config_dir);
    undefined_in(&main, &c->main, file, out);
    snprintf(file, sizeof(file), "%s/master.cf", s->config_dir);
    for (size_t i = 0; i < s->service_count; i++) {
        struct scope scope = config_scope(s, &s->services[i]);
        undefined_in(&scope, &s->services[i].priv->over, file, out);
    }
}
