#include "core/smtpd/restrict/eval.h"

#include <stdarg.h>
#include "core/rewrite/rewrite.h"
#include "io/base/log.h"
#include "io/fiber/fiber.h"

#define RESTRICTION(name, function) {STR(#name), function},
static const struct {
    struct str name;
    check_fn *check;
} rows[] = {
#include "core/smtpd/restrict/list.def"
};
#undef RESTRICTION

#define SEPARATORS ", \t\r\n"

/* --- refusing */

/* final: configuration and lookup errors are told even under warn_if_reject. */
static enum check refuse(struct eval *v, struct verdict why, bool final)
{
    struct smtpd *s = v->s;

    if (s->warn_if_reject && !final) {
        smtpd_log_whatsup(s, "reject_warning", verdict_print(s->cmd, &why));
        return CHECK_DUNNO;
    }
    if (s->defer_if_reject.active && why.code >= 500)
        why = s->defer_if_reject.verdict;
    if (s->p->soft_bounce)
        verdict_soften(&why);
    smtpd_log_whatsup(s, "reject", verdict_print(s->cmd, &why));
    v->verdict = why;
    return CHECK_REJECT;
}

/* The formatted part of a verdict; the caller's va_list is used up. */
static struct str text_of(struct smtpd *s, const char *fmt, va_list ap) PRINTF(2, 0);
static struct str text_of(struct smtpd *s, const char *fmt, va_list ap)
{
    struct buf text = {0};

    buf_vprintf(&text, fmt, ap);
    struct str kept = arena_str(s->cmd, buf_str(&text));
    buf_fini(&text);
    return kept;
}

enum check eval_refuse(struct eval *v, int64_t code, const char *dsn, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    struct str text = text_of(v->s, fmt, ap);
    va_end(ap);
    return refuse(v, verdict_make(v->s->cmd, code, dsn, "%.*s", STR_ARG(text)), false);
}

enum check eval_lookup_failed(struct eval *v, struct str address, const char *why)
{
    if (why && why[0])
        log_warning(v->s->svc->log_tag, "%s", why);
    return refuse(v, verdict_make(v->s->cmd, 451, "4.3.0", "<%.*s>: Temporary lookup failure",
                                  STR_ARG(address)), true);
}

enum check eval_defer_if_permit(struct eval *v, const char *tempfail_action, const char *dsn,
                                const char *fmt, ...)
{
    struct smtpd *s = v->s;
    va_list ap;

    va_start(ap, fmt);
    struct str text = text_of(s, fmt, ap);
    va_end(ap);
    struct verdict why = verdict_make(s->cmd, 450, dsn, "%.*s", STR_ARG(text));
    if (str_eq_nocase(str_of(tempfail_action), STR("defer")))
        return refuse(v, why, false);
    if (!s->warn_if_reject && !s->defer_if_permit.active)
        s->defer_if_permit = (struct smtpd_deferral){true, why};
    return CHECK_DUNNO;
}

/* --- what an address means */

static const struct resolved *resolve(struct eval *v, const struct str *address,
                                      struct resolved **cache)
{
    struct smtpd *s = v->s;

    if (!*cache) {
        *cache = ARENA_NEW(s->cmd, struct resolved);
        struct str complete = rewrite_address(s->p, s->cmd, REWRITE_LOCAL, *address);
        resolve_recipient(s->svc, s->cmd, v->sender ? *v->sender : STR(""), complete, *cache);
    }
    return *cache;
}

const struct resolved *eval_resolve_sender(struct eval *v)
{
    return resolve(v, v->sender, &v->sender_resolved);
}

const struct resolved *eval_resolve_recipient(struct eval *v)
{
    return resolve(v, v->recipient, &v->recipient_resolved);
}

/* --- the general restrictions */

enum check check_permit(struct eval *v, struct str *rest)
{
    (void)v, (void)rest;
    return CHECK_OK;
}

enum check check_never(struct eval *v, struct str *rest)
{
    (void)v, (void)rest;
    return CHECK_DUNNO;
}

enum check check_reject(struct eval *v, struct str *rest)
{
    (void)rest;
    return eval_refuse(v, v->s->p->reject_code, "5.7.1", "<%.*s>: %s rejected: Access denied",
                       STR_ARG(v->subject), v->class);
}

enum check check_defer(struct eval *v, struct str *rest)
{
    (void)rest;
    return eval_refuse(v, v->s->p->defer_code, "4.3.2", "<%.*s>: %s rejected: Try again later",
                       STR_ARG(v->subject), v->class);
}

enum check check_sleep(struct eval *v, struct str *rest)
{
    struct str word = STR("");
    uint64_t seconds;

    if (!str_token(rest, SEPARATORS, &word) || !str_u64(word, &seconds) || seconds > 3600) {
        log_warning(v->s->svc->log_tag, "restriction sleep wants a number of seconds, not \"%.*s\"",
                    STR_ARG(word));
        return refuse(v, verdict_of(451, "4.3.5", "Server configuration error"), true);
    }
    struct err *e = fiber_sleep_until(clock_in_s((int64_t)seconds));
    if (e)
        smtpd_trouble(v->s, e);
    return CHECK_DUNNO;
}

enum check check_warn_if_reject(struct eval *v, struct str *rest)
{
    (void)v, (void)rest;
    return CHECK_DUNNO; /* eval_list sees to it */
}

enum check check_defer_if_permit(struct eval *v, struct str *rest)
{
    (void)rest;
    return eval_defer_if_permit(v, "defer_if_permit", "4.7.0",
                                "<%.*s>: %s rejected: defer_if_permit requested",
                                STR_ARG(v->subject), v->class);
}

enum check check_defer_if_reject(struct eval *v, struct str *rest)
{
    struct smtpd *s = v->s;

    (void)rest;
    if (!s->defer_if_reject.active)
        s->defer_if_reject = (struct smtpd_deferral){
            true, verdict_make(s->cmd, 450, "4.7.0",
                               "<%.*s>: %s rejected: defer_if_reject requested",
                               STR_ARG(v->subject), v->class)};
    return CHECK_DUNNO;
}

/* --- the walk */

static check_fn *find(struct str name)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (str_eq_nocase(name, rows[i].name))
            return rows[i].check;
    return NULL;
}

enum check eval_list(struct eval *v, const char *list)
{
    struct str rest = str_of(list), name;

    v->s->warn_if_reject = false;
    while (str_token_braces(&rest, SEPARATORS, &name)) {
        check_fn *check = find(name);
        if (check == check_warn_if_reject) {
            v->s->warn_if_reject = true;
            continue;
        }
        if (!check) {
            log_warning(v->s->svc->log_tag, "unknown smtpd restriction: \"%.*s\"", STR_ARG(name));
            return refuse(v, verdict_of(451, "4.3.5", "Server configuration error"), true);
        }
        enum check answer = check(v, &rest);
        v->s->warn_if_reject = false;
        if (answer != CHECK_DUNNO || v->s->end != END_NOT)
            return answer;
    }
    return CHECK_DUNNO;
}
