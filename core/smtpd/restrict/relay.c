/* relay: who may send where: the difference between a mail server and an open relay. */
#include "core/smtpd/restrict/eval.h"
#include "io/base/log.h"

enum check check_permit_mynetworks(struct eval *v, struct str *rest)
{
    struct smtpd *s = v->s;
    bool match = false;

    (void)rest;
    struct err *e = match_list_client(s->lists->mynetworks, s->cmd, s->name, &s->client, &match);
    if (e)
        return eval_lookup_failed(v, v->subject, e->text);
    return match ? CHECK_OK : CHECK_DUNNO;
}

enum check check_permit_inet_interfaces(struct eval *v, struct str *rest)
{
    const struct snapshot *snapshot = v->s->svc->snapshot;

    (void)rest;
    for (size_t i = 0; i < snapshot->own_addr_count; i++)
        if (addr_eq_host(&snapshot->own_addrs[i].addr, &v->s->client))
            return CHECK_OK;
    return CHECK_DUNNO;
}

/* Is it ours, or a domain we relay for? What is routed through us to elsewhere is not. REJECT: it could
 * not be found out. */
static enum check authorized(struct eval *v)
{
    const struct resolved *r = eval_resolve_recipient(v);

    if (r->table_error)
        return eval_lookup_failed(v, *v->recipient, r->why);
    if (r->routed && !v->s->p->allow_untrusted_routing)
        return CHECK_DUNNO;
    return r->class != CLASS_DEFAULT ? CHECK_OK : CHECK_DUNNO;
}

enum check check_permit_auth_destination(struct eval *v, struct str *rest)
{
    (void)rest;
    return v->recipient ? authorized(v) : CHECK_DUNNO;
}

static enum check unauthorized(struct eval *v, int64_t code)
{
    if (!v->recipient)
        return CHECK_DUNNO;
    enum check answer = authorized(v);
    if (answer != CHECK_DUNNO)
        return answer == CHECK_OK ? CHECK_DUNNO : answer;
    return eval_refuse(v, code, "5.7.1", "<%.*s>: Relay access denied", STR_ARG(*v->recipient));
}

enum check check_reject_unauth_destination(struct eval *v, struct str *rest)
{
    (void)rest;
    return unauthorized(v, v->s->p->relay_domains_reject_code);
}

enum check check_defer_unauth_destination(struct eval *v, struct str *rest)
{
    int64_t code = v->s->p->relay_domains_reject_code;

    (void)rest;
    return unauthorized(v, code >= 500 ? code - 100 : code);
}

enum check check_relay_domains(struct eval *v, struct str *rest)
{
    log_warning(v->s->svc->log_tag, "support for restriction \"check_relay_domains\" will be removed "
                "from Postfix; use \"reject_unauth_destination\" instead");
    enum check answer = check_reject_unauth_destination(v, rest);
    return answer == CHECK_DUNNO ? CHECK_OK : answer;
}

/* One of these, not behind warn_if_reject, keeps a list from ending in a permit for everyone. */
static bool closes(const char *list)
{
    static const char *const names[] = {"reject_unauth_destination", "defer_unauth_destination",
                                        "reject", "defer", "defer_if_permit",
                                        "check_relay_domains"};
    struct str rest = str_of(list), name, before = STR("");

    while (str_token_braces(&rest, ", \t\r\n", &name)) {
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            if (str_eq_nocase(name, str_of(names[i])) &&
                !str_eq_nocase(before, STR("warn_if_reject")))
                return true;
        if (str_eq_nocase(name, STR("permit")))
            return false; /* what follows is never asked */
        before = name;
    }
    return false;
}

const char restrict_relay_unchecked[] =
    "in parameter smtpd_relay_restrictions or smtpd_recipient_restrictions, specify at least one "
    "working instance of: reject_unauth_destination, defer_unauth_destination, reject, defer, "
    "defer_if_permit or check_relay_domains";

bool restrict_relay_checked(const struct service *svc)
{
    return closes(svc->params->smtpd_relay_restrictions) ||
           closes(svc->params->smtpd_recipient_restrictions);
}

struct err *smtpd_check(const struct snapshot *s)
{
    for (size_t i = 0; i < s->service_count; i++) {
        const struct service *svc = &s->services[i];
        if (strcmp(svc->command, "smtpd") == 0 && !restrict_relay_checked(svc))
            return err_new(ERR_CONFIG, 0, "%s, line %d: %s", svc->file, svc->line,
                           restrict_relay_unchecked);
    }
    return NULL;
}
