#include "core/config/eval.h"

#include "io/base/expand.h"

bool eval_default(const struct scope *s, struct str name, struct str *raw_out)
{
    const struct setting *computed = s->computed ? dict_find(s->computed, name) : NULL;
    if (computed) {
        *raw_out = computed->raw;
        return true;
    }
    const struct param_row *row = param_row_find(name);
    if (row) {
        *raw_out = str_of(row->def);
        return true;
    }
    const struct known_param *known = known_param_find(name);
    if (known) {
        *raw_out = str_of(known->def);
        return true;
    }
    struct str service;
    const struct dynamic_param *dynamic = dynamic_param_find(name, &service);
    if (dynamic && (!s->service_known || s->service_known(s->ctx, service))) {
        *raw_out = str_of(dynamic->def);
        return true;
    }
    return false;
}

bool eval_raw(const struct scope *s, struct str name, struct str *raw_out,
              const struct setting **setting_out)
{
    struct setting *found = s->over ? dict_find(s->over, name) : NULL;
    if (!found && s->main)
        found = dict_find(s->main, name);
    *setting_out = found;
    if (found) {
        if (s->mark)
            found->used = true;
        *raw_out = found->raw;
        return true;
    }
    if (s->service_name && str_eq(name, STR("service_name"))) {
        *raw_out = str_of(s->service_name);
        return true;
    }
    if (s->process_name && str_eq(name, STR("process_name"))) {
        *raw_out = str_of(s->process_name);
        return true;
    }
    return eval_default(s, name, raw_out);
}

static bool lookup(void *ctx, struct str name, struct str *value_out)
{
    const struct setting *setting;
    return eval_raw(ctx, name, value_out, &setting);
}

struct err *eval_text(const struct scope *s, struct arena *a, struct str raw, struct str *out)
{
    struct scope *ctx = (struct scope *)(uintptr_t)s; /* the callbacks take it back as const */
    struct expand x = {lookup, NULL, ctx};
    struct str text;
    struct err *e = expand_text(a, raw, &x, &text);
    if (!e)
        *out = str_trim(text);
    return e;
}

static struct err *located(struct err *e, const struct setting *setting)
{
    if (!setting)
        return e;
    e = setting->file ? err_in(e, "%s, line %d", setting->file, setting->line)
                      : err_in(e, "command line");
    e->kind = ERR_CONFIG;
    return e;
}

struct err *eval_located(const struct scope *s, struct str name, struct err *e)
{
    struct str raw;
    const struct setting *setting = NULL;
    e->kind = ERR_CONFIG;
    eval_raw(s, name, &raw, &setting);
    return located(e, setting);
}

static bool is_raw(struct str name)
{
    const struct param_row *row = param_row_find(name);
    if (row)
        return row->type == PARAM_RAW;
    const struct known_param *known = known_param_find(name);
    return known && known->type == PARAM_RAW;
}

struct err *eval_name(const struct scope *s, struct arena *a, struct str name, struct str *out)
{
    const struct setting *setting;
    struct str raw;
    if (!eval_raw(s, name, &raw, &setting)) {
        *out = STR_NULL;
        return NULL;
    }
    if (is_raw(name)) {
        *out = arena_str(a, raw);
        return NULL;
    }
    struct err *e = eval_text(s, a, raw, out);
    return e ? located(err_in(e, "parameter %.*s", STR_ARG(name)), setting) : NULL;
}

static struct err *store_number(const struct param_row *row, struct str value, int64_t *field)
{
    struct err *e;
    if (row->type == PARAM_TIME)
        e = param_time(row->name, value, param_time_unit(row->def), field);
    else if (row->type == PARAM_SIZE)
        e = param_size(row->name, value, field);
    else
        e = param_int(row->name, value, field);
    return e ? e : param_range(row->name, row->type, *field, row->min, row->max);
}

static struct err *store(const struct param_row *row, struct arena *a, struct str value,
                         struct params *out)
{
    void *field = (char *)out + row->offset;
    switch (row->type) {
    case PARAM_INT:
    case PARAM_SIZE:
    case PARAM_TIME:
        return store_number(row, value, field);
    case PARAM_BOOL:
        return param_bool(row->name, value, field);
    case PARAM_STRING:
    case PARAM_RAW:
    case PARAM_LIST:
        break;
    }
    *(const char **)field = arena_cstr(a, value);
    return NULL;
}

struct err *eval_params(const struct scope *s, struct arena *a, struct params *out)
{
    for (size_t i = 0; i < param_row_count; i++) {
        const struct param_row *row = &param_rows[i];
        struct str name = str_of(row->name), value;
        struct err *e = eval_name(s, a, name, &value);
        if (e)
            return e;
        e = store(row, a, value, out);
        if (e)
            return eval_located(s, name, e);
    }
    return NULL;
}
