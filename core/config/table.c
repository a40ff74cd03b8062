#include "core/config/table.h"

#include <stddef.h>
#include <stdlib.h>
#include "core/config/params.h"

/* Names that begin with a digit have a '_' before them in the tables: "_2bounce_notice_recipient". */
#define NAME_OF(text) ((text)[0] == '_' ? (text) + 1 : (text))

const struct param_row param_rows[] = {
#define PARAM(name, type, def, min, max, doc)                                                      \
    {NAME_OF(#name), PARAM_##type, def, min, max, doc, offsetof(struct params, name)},
#include "core/config/all_params.def"
#undef PARAM
};
const size_t param_row_count = sizeof(param_rows) / sizeof(param_rows[0]);

const struct known_param known_params[] = {
#define KNOWN(name, type, def)  {name, PARAM_##type, def, false},
#define BEYOND(name, type, def) {name, PARAM_##type, def, true},
#include "core/config/known_params.def"
#undef KNOWN
#undef BEYOND
};
const size_t known_param_count = sizeof(known_params) / sizeof(known_params[0]);

const struct dynamic_param dynamic_params[] = {
    {"_delivery_slot_cost", "$default_delivery_slot_cost", false},
    {"_delivery_slot_discount", "$default_delivery_slot_discount", false},
    {"_delivery_slot_loan", "$default_delivery_slot_loan", false},
    {"_destination_concurrency_failed_cohort_limit",
     "$default_destination_concurrency_failed_cohort_limit", false},
    {"_destination_concurrency_limit", "$default_destination_concurrency_limit", false},
    {"_destination_concurrency_negative_feedback",
     "$default_destination_concurrency_negative_feedback", false},
    {"_destination_concurrency_positive_feedback",
     "$default_destination_concurrency_positive_feedback", false},
    {"_destination_rate_delay", "$default_destination_rate_delay", false},
    {"_destination_recipient_limit", "$default_destination_recipient_limit", false},
    {"_extra_recipient_limit", "$default_extra_recipient_limit", false},
    {"_initial_destination_concurrency", "$initial_destination_concurrency", false},
    {"_minimum_delivery_slots", "$default_minimum_delivery_slots", false},
    {"_rate_delay_serial", "$default_rate_delay_serial", false},
    {"_recipient_limit", "$default_recipient_limit", false},
    {"_recipient_refill_delay", "$default_recipient_refill_delay", false},
    {"_recipient_refill_limit", "$default_recipient_refill_limit", false},
    {"_time_limit", "$command_time_limit", true},
    {"_transport_rate_delay", "$default_transport_rate_delay", false},
};
const size_t dynamic_param_count = sizeof(dynamic_params) / sizeof(dynamic_params[0]);

const struct param_row *param_row_find(struct str name)
{
    for (size_t i = 0; i < param_row_count; i++)
        if (str_eq(name, str_of(param_rows[i].name)))
            return &param_rows[i];
    return NULL;
}

static int compare_known(const void *key, const void *row)
{
    return str_cmp(*(const struct str *)key, str_of(((const struct known_param *)row)->name));
}

const struct known_param *known_param_find(struct str name)
{
    return bsearch(&name, known_params, known_param_count, sizeof(known_params[0]), compare_known);
}

const struct dynamic_param *dynamic_param_find(struct str name, struct str *service_out)
{
    /* The longest end counts: "_destination_recipient_limit" before "_recipient_limit". */
    const struct dynamic_param *best = NULL;
    for (size_t i = 0; i < dynamic_param_count; i++) {
        struct str suffix = str_of(dynamic_params[i].suffix);
        if (name.len > suffix.len && str_ends(name, suffix) &&
            (!best || suffix.len > strlen(best->suffix))) {
            best = &dynamic_params[i];
            *service_out = str_head(name, name.len - suffix.len);
        }
    }
    return best;
}
