#include "perf/load/dist.h"

#include <math.h>
#include <stdlib.h>
#include "io/base/clock.h"
#include "io/base/rand.h"

enum { EXP_HIGHEST = 20 };

/* 0 < u <= 1. */
static double uniform(void)
{
    return (double)((rand_u64() >> 11) + 1) * 0x1p-53;
}

static struct err *bad(struct str text, const char *why)
{
    return err_new(ERR_SYNTAX, 0, "\"%.*s\": %s", STR_ARG(text), why);
}

bool dist_number(struct str text, double *out)
{
    char copy[40], *end;
    if (text.len == 0 || text.len >= sizeof copy || !str_is_digit(text.ptr[0]))
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (!str_is_digit(text.ptr[i]) && text.ptr[i] != '.')
            return false;
    str_copy(copy, sizeof copy, text);
    double v = strtod(copy, &end);
    if (*end != '\0' || !isfinite(v))
        return false;
    *out = v;
    return true;
}

static bool unit_factor(struct str name, enum dist_unit unit, double *out)
{
    static const struct {
        enum dist_unit unit;
        struct str name;
        double factor;
    } units[] = {
        {DIST_SIZE, STR(""), 1},           {DIST_SIZE, STR("k"), 1024},
        {DIST_SIZE, STR("m"), 1048576},    {DIST_SIZE, STR("g"), 1073741824},
        {DIST_TIME_NS, STR(""), 1e9},      {DIST_TIME_NS, STR("ns"), 1},
        {DIST_TIME_NS, STR("us"), 1e3},    {DIST_TIME_NS, STR("ms"), 1e6},
        {DIST_TIME_NS, STR("s"), 1e9},     {DIST_TIME_NS, STR("m"), 60e9},
        {DIST_TIME_NS, STR("h"), 3600e9},  {DIST_COUNT, STR(""), 1},
    };
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (units[i].unit == unit && str_eq_nocase(units[i].name, name)) {
            *out = units[i].factor;
            return true;
        }
    return false;
}

struct err *dist_value(struct str text, enum dist_unit unit, int64_t *out)
{
    size_t digits = 0;
    double v, factor;
    while (digits < text.len && (str_is_digit(text.ptr[digits]) || text.ptr[digits] == '.'))
        digits++;
    if (!dist_number(str_head(text, digits), &v))
        return bad(text, "not a number");
    if (!unit_factor(str_from(text, digits), unit, &factor))
        return bad(text, "unknown unit");
    if (v * factor > 4e18)
        return bad(text, "too large");
    *out = (int64_t)(v * factor + 0.5);
    return NULL;
}

static struct err *parse_list(struct str text, enum dist_unit unit, struct dist *d)
{
    struct str rest = text, item;
    double sum = 0;
    d->shape = DIST_LIST;
    while (str_token(&rest, ",", &item)) {
        ssize_t colon = str_index(item, ':');
        double weight;
        if (colon < 0 || !dist_number(str_from(item, (size_t)colon + 1), &weight) || weight <= 0)
            return bad(item, "expected VALUE:WEIGHT");
        if (d->count == DIST_LIST_MAX)
            return bad(text, "too many values");
        struct err *e = dist_value(str_head(item, (size_t)colon), unit, &d->list[d->count].value);
        if (e)
            return e;
        sum += weight;
        d->list[d->count++].up_to = sum;
    }
    for (size_t i = 0; i < d->count; i++)
        d->list[i].up_to /= sum;
    return NULL;
}

static struct err *parse_lognormal(struct str text, enum dist_unit unit, struct dist *d)
{
    struct str rest = text, median, sigma, highest;
    d->shape = DIST_LOGNORMAL;
    if (!str_token(&rest, ",", &median) || !str_token(&rest, ",", &sigma) ||
        !dist_number(sigma, &d->sigma) || d->sigma > 10)
        return bad(text, "expected MEDIAN,SIGMA[,HIGHEST]");
    struct err *e = dist_value(median, unit, &d->low);
    d->high = d->low > INT64_MAX / 1000 ? INT64_MAX : d->low * 1000;
    if (!e && str_token(&rest, ",", &highest))
        e = dist_value(highest, unit, &d->high);
    return e;
}

static struct err *parse_range(struct str text, size_t dash, enum dist_unit unit, struct dist *d)
{
    d->shape = DIST_RANGE;
    struct err *e = dist_value(str_head(text, dash), unit, &d->low);
    if (!e)
        e = dist_value(str_from(text, dash + 1), unit, &d->high);
    if (!e && d->high < d->low)
        e = bad(text, "the second value is smaller than the first");
    return e;
}

struct err *dist_parse(struct str text, enum dist_unit unit, struct dist *out)
{
    static const struct str exp_name = STR("exp:"), lognormal_name = STR("lognormal:");
    struct dist d = {.shape = DIST_FIXED};
    struct err *e;
    ssize_t dash = str_index(text, '-');
    if (str_starts(text, exp_name)) {
        d.shape = DIST_EXP;
        e = dist_value(str_from(text, exp_name.len), unit, &d.low);
    } else if (str_starts(text, lognormal_name)) {
        e = parse_lognormal(str_from(text, lognormal_name.len), unit, &d);
    } else if (str_index(text, ':') >= 0) {
        e = parse_list(text, unit, &d);
    } else if (dash >= 0) {
        e = parse_range(text, (size_t)dash, unit, &d);
    } else {
        e = dist_value(text, unit, &d.low);
    }
    if (!e)
        *out = d;
    return e;
}

static int64_t draw_list(const struct dist *d)
{
    double u = uniform();
    for (size_t i = 0; i + 1 < d->count; i++)
        if (u <= d->list[i].up_to)
            return d->list[i].value;
    return d->list[d->count - 1].value;
}

/* Box and Muller's, one of the two. */
static double normal(void)
{
    return sqrt(-2 * log(uniform())) * cos(2 * M_PI * uniform());
}

int64_t dist_draw(const struct dist *d)
{
    double v = 0;
    switch (d->shape) {
    case DIST_FIXED:
        return d->low;
    case DIST_RANGE:
        return d->low + (int64_t)rand_below((uint64_t)(d->high - d->low) + 1);
    case DIST_LIST:
        return draw_list(d);
    case DIST_EXP:
        v = -log(uniform()) * (double)d->low;
        break;
    case DIST_LOGNORMAL:
        v = exp(normal() * d->sigma) * (double)d->low;
        break;
    }
    int64_t highest = dist_highest(d);
    return v < (double)highest ? (int64_t)v : highest;
}

int64_t dist_highest(const struct dist *d)
{
    int64_t most = d->low;
    switch (d->shape) {
    case DIST_FIXED:
        break;
    case DIST_RANGE:
    case DIST_LOGNORMAL:
        most = d->high;
        break;
    case DIST_EXP:
        most = d->low > INT64_MAX / EXP_HIGHEST ? INT64_MAX : d->low * EXP_HIGHEST;
        break;
    case DIST_LIST:
        most = 0;
        for (size_t i = 0; i < d->count; i++)
            if (d->list[i].value > most)
                most = d->list[i].value;
        break;
    }
    return most;
}
