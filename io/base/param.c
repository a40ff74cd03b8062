#include "io/base/param.h"

#include <inttypes.h>

#include "io/base/check.h"

static bool number_of(struct str text, int64_t *out)
{
    /* strtol takes a sign. */
    if (text.len > 1 && text.ptr[0] == '+' && str_is_digit(text.ptr[1]))
        text = str_from(text, 1);
    return str_i64(text, out);
}

struct err *param_size(const char *name, struct str text, int64_t *out)
{
    if (!number_of(str_trim(text), out))
        return err_new(ERR_CONFIG, 0, "bad numerical configuration: %s = %.*s", name,
                       STR_ARG(text));
    return NULL;
}

struct err *param_int(const char *name, struct str text, int64_t *out)
{
    int64_t value;
    struct err *e = param_size(name, text, &value);
    if (e)
        return e;
    if (value < INT32_MIN || value > INT32_MAX)
        return err_new(ERR_CONFIG, 0, "bad numerical configuration: %s = %.*s", name,
                       STR_ARG(text));
    *out = value;
    return NULL;
}

static int64_t unit_seconds(char unit)
{
    switch (unit) {
    case 's':
        return 1;
    case 'm':
        return 60;
    case 'h':
        return 60 * 60;
    case 'd':
        return 24 * 60 * 60;
    case 'w':
        return 7 * 24 * 60 * 60;
    default:
        return 0;
    }
}

static bool time_of(struct str text, char unit, int64_t *out)
{
    int64_t value, seconds;
    size_t n = text.len > 0 && text.ptr[0] == '+' ? 1 : 0;
    while (n < text.len && str_is_digit(text.ptr[n]))
        n++;
    if (!number_of(str_head(text, n), &value))
        return false;
    int64_t factor = unit_seconds(n < text.len ? text.ptr[n] : unit);
    if (factor == 0 || __builtin_mul_overflow(value, factor, &seconds) || seconds > INT32_MAX)
        return false;
    *out = seconds;
    return true;
}

struct err *param_time(const char *name, struct str text, char unit, int64_t *seconds_out)
{
    if (!time_of(str_trim(text), unit, seconds_out))
        return err_new(ERR_CONFIG, 0, "parameter %s: bad time value or unit: %.*s", name,
                       STR_ARG(text));
    return NULL;
}

char param_time_unit(const char *default_text)
{
    size_t n = strlen(default_text);
    return n && unit_seconds(default_text[n - 1]) ? default_text[n - 1] : 's';
}

struct err *param_bool(const char *name, struct str text, bool *out)
{
    struct str value = str_trim(text);
    bool yes = str_eq_nocase(value, STR("yes"));
    if (!yes && !str_eq_nocase(value, STR("no")))
        return err_new(ERR_CONFIG, 0, "bad boolean configuration: %s = %.*s", name, STR_ARG(text));
    *out = yes;
    return NULL;
}

/* The bounds are ours: a wrong one is a bug. */
static int64_t bound(enum param_type type, const char *text)
{
    int64_t value = 0;
    bool good =
        type == PARAM_TIME ? time_of(str_of(text), 's', &value) : str_i64(str_of(text), &value);
    CHECK(good);
    return value;
}

struct err *param_range(const char *name, enum param_type type, int64_t value, const char *min,
                        const char *max)
{
    int64_t low = min[0] ? bound(type, min) : INT64_MIN;
    int64_t high = max[0] ? bound(type, max) : INT64_MAX;
    if (value >= low && value <= high)
        return NULL;
    bool below = value < low;
    if (type == PARAM_TIME)
        return err_new(ERR_CONFIG, 0, "invalid %s: %" PRId64 " (%s %" PRId64 ")", name, value,
                       below ? "min" : "max", below ? low : high);
    return err_new(ERR_CONFIG, 0, "invalid %s parameter value %" PRId64 " %s %" PRId64, name, value,
                   below ? "<" : ">", below ? low : high);
}
