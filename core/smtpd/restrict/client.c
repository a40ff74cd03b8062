/* client: restrictions on the client's name and manners. */
#include "core/smtpd/restrict/eval.h"

enum check check_unknown_client(struct eval *v, struct str *rest)
{
    struct smtpd *s = v->s;
    int64_t code = s->name_status == DNS_TEMPORARY ? 450 : s->p->unknown_client_reject_code;

    (void)rest;
    if (s->name_status == DNS_FOUND)
        return CHECK_DUNNO;
    return eval_refuse(v, code, "4.7.25",
                       "Client host rejected: cannot find your hostname, [%s]", s->address);
}

enum check check_unknown_reverse_client(struct eval *v, struct str *rest)
{
    struct smtpd *s = v->s;
    int64_t code = s->reverse_status == DNS_TEMPORARY ? 450 : s->p->unknown_client_reject_code;

    (void)rest;
    if (s->reverse_status == DNS_FOUND)
        return CHECK_DUNNO;
    return eval_refuse(v, code, "4.7.1",
                       "Client host rejected: cannot find your reverse hostname, [%s]", s->address);
}

enum check check_unauth_pipelining(struct eval *v, struct str *rest)
{
    (void)rest;
    if (!v->s->ahead_logged)
        return CHECK_DUNNO;
    return eval_refuse(v, 503, "5.5.0",
                       "<%.*s>: %s rejected: Improper use of SMTP command pipelining",
                       STR_ARG(v->subject), v->class);
}

enum check check_plaintext_session(struct eval *v, struct str *rest)
{
    (void)rest;
    return eval_refuse(v, v->s->p->plaintext_reject_code, "4.7.1",
                       "Session encryption is required");
}

enum check check_multi_recipient_bounce(struct eval *v, struct str *rest)
{
    (void)rest;
    if (!v->sender || v->sender->len || v->s->rcpt_count < 2)
        return CHECK_DUNNO;
    return eval_refuse(v, v->s->p->multi_recipient_bounce_reject_code, "5.5.3",
                       "<%.*s>: %s rejected: Multi-recipient bounce", STR_ARG(v->subject),
                       v->class);
}
