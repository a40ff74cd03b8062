/* What the scheduler needs of main.cf and master.cf. Per transport: TRANSPORT_x, whose default is
 * default_x. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include "core/config/private.h"
#include "io/base/log.h"
#include "io/base/param.h"

#define LINGERING_MAX 100000
/* So long a delivery does not stall. Where nobody has asked for a number of processes, one that does no longer counts for it: it
 * waits for its peer, not for us, and costs us little; what is left to count is those that begin. */
#define PATIENCE_MS 5000
#define PATIENCE_UNASKED_MS 250

/* Services of master.cf that nobody delivers to. */
static const char *const no_agents[] = {
    "pickup",   "cleanup",   "qmgr", "nqmgr", "oqmgr",    "tlsmgr",  "trivial-rewrite",
    "bounce",   "verify",    "flush", "proxymap", "showq", "anvil",  "scache",
    "postlogd", "dnsblog",   "tlsproxy", "smtpd", "qmqpd", "postscreen", NULL,
};

static bool is_agent(const struct service *svc)
{
    if (strcmp(svc->type, "unix") != 0)
        return false;
    for (size_t i = 0; no_agents[i]; i++)
        if (strcmp(svc->command, no_agents[i]) == 0)
            return false;
    return true;
}

/* A value that cannot be read counts as the one of the row it defaults to, and the log says so: the
 * settings of one transport do not stop the others. */
struct reader {
    const struct snapshot *s;
    const char *transport;
    char name[200];
};

static const char *text_of(struct reader *r, const char *suffix)
{
    /* The default of initial_destination_concurrency has no default_ before it. */
    bool bare = strcmp(r->transport, "default") == 0 && strncmp(suffix, "initial", 7) == 0;
    snprintf(r->name, sizeof(r->name), "%s%s%s", bare ? "" : r->transport, bare ? "" : "_", suffix);
    const char *value = config_value(r->s, r->name);
    return value ? value : "";
}

/* What it only has from the default is told of there, once, as qmgr(8) does. */
static bool is_its_own(const struct reader *r, const char *suffix, const char *text)
{
    struct reader all = {.s = r->s, .transport = "default"};
    return strcmp(r->transport, "default") == 0 || strcmp(text, text_of(&all, suffix)) != 0;
}

static int64_t number(struct reader *r, const char *suffix, int64_t otherwise)
{
    int64_t n = 0;
    const char *text = text_of(r, suffix);
    struct err *e = param_int(r->name, str_of(text), &n);
    if (!e)
        e = param_range(r->name, PARAM_INT, n, "0", "");
    if (!e)
        return n;
    if (is_its_own(r, suffix, text))
        log_warning("qmgr", "%s -- using %lld", e->text, (long long)otherwise);
    return otherwise;
}

/* Time values of main.cf, and "250ms". */
static int64_t milliseconds(struct reader *r, const char *suffix)
{
    const char *value = text_of(r, suffix);
    struct str text = str_of(value);
    uint64_t ms;
    if (str_ends(text, STR("ms")) && str_u64(str_head(text, text.len - 2), &ms) && ms < INT32_MAX)
        return (int64_t)ms;
    int64_t seconds = 0;
    struct err *e = param_time(r->name, text, 's', &seconds);
    if (!e)
        return seconds * 1000;
    if (is_its_own(r, suffix, value))
        log_warning("qmgr", "%s -- using 0s", e->text);
    return 0;
}

static int64_t seconds(struct reader *r, const char *suffix, int64_t otherwise)
{
    int64_t s = 0;
    const char *text = text_of(r, suffix);
    struct err *e = param_time(r->name, str_of(text), 's', &s);
    if (!e)
        e = param_range(r->name, PARAM_TIME, s, "1s", "");
    if (!e)
        return s;
    log_warning("qmgr", "%s -- using %llds", e->text, (long long)otherwise);
    return otherwise;
}

static bool yes(struct reader *r, const char *suffix, bool otherwise)
{
    bool value = otherwise;
    const char *text = text_of(r, suffix);
    struct err *e = param_bool(r->name, str_of(text), &value);
    if (e && is_its_own(r, suffix, text))
        log_warning("qmgr", "%s -- using %s", e->text, otherwise ? "yes" : "no");
    return value;
}

struct feedback {
    double constant, per_window;
    bool sqrt;
};

/* The whole of text as a number in bounds; written so that NAN is none. */
static bool number_in(struct str text, double least, double most, double *out)
{
    char copy[64], *end;
    if (text.len == 0 || text.len >= sizeof(copy))
        return false;
    (void)str_copy(copy, sizeof(copy), text);
    double n = strtod(copy, &end);
    if (end != copy + text.len || !(n >= least && n <= most))
        return false;
    *out = n;
    return true;
}

/* feedback = number [ "/" ( number / "concurrency" / "sqrt_concurrency" ) ], all in all from 0 to 1
 * The root is in Postfix's source and in the measurements of SCHEDULER_README, but what is built of it
 * leaves it out: it warns and takes 1. */
static bool feedback_of(struct str text, struct feedback *out)
{
    ssize_t slash = str_index(text, '/');
    struct str first = slash < 0 ? text : str_head(text, (size_t)slash);
    struct str by = slash < 0 ? STR("1") : str_trim(str_from(text, (size_t)slash + 1));
    double n, divisor = 1;
    if (!number_in(str_trim(first), 0, INT32_MAX, &n))
        return false;
    bool root = str_eq_nocase(by, STR("sqrt_concurrency"));
    bool window = root || str_eq_nocase(by, STR("concurrency"));
    if (!window && !number_in(by, 1.0 / INT32_MAX, INT32_MAX, &divisor))
        return false;
    n /= divisor;
    *out = window ? (struct feedback){.per_window = n, .sqrt = root} : (struct feedback){.constant = n};
    return n <= 1;
}

static struct feedback feedback(struct reader *r, const char *suffix)
{
    struct feedback f;
    const char *text = text_of(r, suffix);
    if (feedback_of(str_of(text), &f))
        return f;
    if (is_its_own(r, suffix, text))
        log_warning("qmgr", "%s: ignoring malformed or unreasonable feedback: %s", r->name, text);
    return (struct feedback){.constant = 1};
}

static void fill(const struct snapshot *s, const char *name, struct sched_transport *t)
{
    const struct params *p = s->params;
    struct reader r = {.s = s, .transport = name};
    *t = (struct sched_transport){.name = name};
    t->initial_concurrency =
        number(&r, "initial_destination_concurrency", p->initial_destination_concurrency);
    t->concurrency_limit =
        number(&r, "destination_concurrency_limit", p->default_destination_concurrency_limit);
    t->recipient_limit =
        number(&r, "destination_recipient_limit", p->default_destination_recipient_limit);
    t->pool = number(&r, "recipient_limit", p->default_recipient_limit);
    t->extra_pool = number(&r, "extra_recipient_limit", p->default_extra_recipient_limit);
    t->refill_limit = number(&r, "recipient_refill_limit", p->default_recipient_refill_limit);
    t->refill_delay_s = seconds(&r, "recipient_refill_delay", p->default_recipient_refill_delay);
    t->slot_cost = number(&r, "delivery_slot_cost", p->default_delivery_slot_cost);
    t->slot_loan = number(&r, "delivery_slot_loan", p->default_delivery_slot_loan);
    t->slot_discount = number(&r, "delivery_slot_discount", p->default_delivery_slot_discount);
    t->minimum_slots = number(&r, "minimum_delivery_slots", p->default_minimum_delivery_slots);
    t->rate_delay_ms = milliseconds(&r, "destination_rate_delay");
    t->transport_rate_delay_ms = milliseconds(&r, "transport_rate_delay");
    t->rate_serial = yes(&r, "rate_delay_serial", p->default_rate_delay_serial);
    t->failed_cohort_limit = number(&r, "destination_concurrency_failed_cohort_limit",
                                    p->default_destination_concurrency_failed_cohort_limit);
    struct feedback f = feedback(&r, "destination_concurrency_negative_feedback");
    t->negative_feedback = f.constant;
    t->negative_per_window = f.per_window;
    t->negative_sqrt = f.sqrt;
    f = feedback(&r, "destination_concurrency_positive_feedback");
    t->positive_feedback = f.constant;
    t->positive_per_window = f.per_window;
    t->positive_sqrt = f.sqrt;
}

static const char *no_agent(const struct snapshot *s, const char *command)
{
    pthread_mutex_lock(&s->priv->lock);
    struct str text = arena_printf(
        s->priv->lazy, "mail transport unavailable: this version has no delivery agent \"%s\"", command);
    pthread_mutex_unlock(&s->priv->lock);
    return text.ptr;
}

/* Its deliveries are fibers and sockets here, and no processes. */
static bool on_the_net(const struct service *svc)
{
    return strcmp(svc->command, "smtp") == 0 || strcmp(svc->command, "lmtp") == 0;
}

static bool processes_asked_for(const struct snapshot *s, const struct service *svc)
{
    return !svc->maxproc_default || dict_find(&s->priv->main, STR("default_process_limit"));
}

/* Each has a descriptor. */
static int64_t lingering_max(void)
{
    struct rlimit files;
    bool known = getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max != RLIM_INFINITY;
    return known && files.rlim_max / 4 < LINGERING_MAX ? (int64_t)(files.rlim_max / 4) : LINGERING_MAX;
}

static struct sched_transport *make_transports(const struct snapshot *s,
                                               bool (*exists)(const char *command), size_t *n_out)
{
    pthread_mutex_lock(&s->priv->lock);
    struct sched_transport *list =
        arena_zalloc(s->priv->lazy, (s->service_count + 1) * sizeof(*list));
    pthread_mutex_unlock(&s->priv->lock);
    size_t n = 0;
    for (size_t i = 0; i < s->service_count; i++) {
        const struct service *svc = &s->services[i];
        if (!is_agent(svc))
            continue;
        struct sched_transport *t = &list[n++];
        fill(s, svc->name, t);
        t->process_limit = svc->maxproc;
        t->patience_ms = PATIENCE_MS;
        if (!processes_asked_for(s, svc) && on_the_net(svc)) {
            t->patience_ms = PATIENCE_UNASKED_MS;
            t->lingering_max = lingering_max();
        }
        if (exists && !exists(svc->command)) {
            t->unavailable = true;
            t->why = no_agent(s, svc->command);
        }
    }
    *n_out = n;
    return list;
}

void config_sched_options(const struct snapshot *s, bool (*exists)(const char *command),
                          struct sched_options *out)
{
    const struct params *p = s->params;
    *out = (struct sched_options){
        .message_active_limit = p->qmgr_message_active_limit,
        .message_recipient_limit = p->qmgr_message_recipient_limit,
        .recipient_minimum = p->qmgr_message_recipient_minimum,
        .transport_retry_s = p->transport_retry_time,
        .queue_run_delay_s = p->queue_run_delay,
        .minimal_backoff_s = p->minimal_backoff_time,
        .maximal_backoff_s = p->maximal_backoff_time,
        .backoff_jitter = p->queue_backoff_jitter,
        .feedback_debug = p->destination_concurrency_feedback_debug,
        .maximal_lifetime_s = p->maximal_queue_lifetime,
        .bounce_lifetime_s = p->bounce_queue_lifetime,
        .delay_warning_s = p->delay_warning_time,
        .defer_transports = p->defer_transports,
    };
    out->transports = make_transports(s, exists, &out->transport_count);
    fill(s, "default", &out->fallback);
    out->fallback.name = "";
    out->fallback.unavailable = true;
    out->fallback.why = "mail transport unavailable";
}
