/* stages: which list is asked when, and about what. */
#include "core/smtpd/restrict/eval.h"
#include "io/base/log.h"

/* A stage's refusals are logged with what is known then, though it is not yet the session's. */
static void name_in_log(const struct eval *v)
{
    v->s->log_helo = v->helo;
    v->s->log_sender = v->sender;
    v->s->log_recipient = v->recipient;
}

static void end_stage(struct smtpd *s)
{
    s->log_helo = s->log_sender = s->log_recipient = NULL;
    s->warn_if_reject = false;
}

static struct eval eval_of(struct smtpd *s, const char *class, struct str subject)
{
    return (struct eval){.s = s, .class = class, .subject = subject};
}

static struct verdict verdict_of_stage(struct eval *v, enum check answer)
{
    end_stage(v->s);
    return answer == CHECK_REJECT ? v->verdict : (struct verdict){0};
}

/* Before RCPT: a wish to defer is kept until then, in the session's memory. */
static void keep_early(struct smtpd *s)
{
    if (!s->defer_if_permit.active || s->early.active)
        return;
    s->early = s->defer_if_permit;
    s->early.verdict.text = arena_str(s->arena, s->early.verdict.text);
}

static void fresh(struct smtpd *s)
{
    s->defer_if_permit = s->early;
    s->defer_if_reject = (struct smtpd_deferral){0};
    s->sender_checked = s->rcpt_checked = false;
}

static enum check ask_client(struct eval *v)
{
    v->class = "Client host";
    v->subject = str_of(v->s->namaddr);
    return eval_list(v, v->s->p->smtpd_client_restrictions);
}

static enum check ask_helo(struct eval *v)
{
    if (!v->helo)
        return CHECK_DUNNO;
    v->class = "Helo command";
    v->subject = *v->helo;
    return eval_list(v, v->s->p->smtpd_helo_restrictions);
}

static enum check ask_sender(struct eval *v)
{
    struct str rest = STR("");

    v->class = "Sender address";
    v->subject = *v->sender;
    enum check answer = eval_list(v, v->s->p->smtpd_sender_restrictions);
    if (answer != CHECK_REJECT && v->s->p->smtpd_reject_unlisted_sender && !v->s->sender_checked)
        answer = check_unlisted_sender(v, &rest);
    return answer;
}

struct verdict restrict_connect(struct smtpd *s)
{
    struct eval v = eval_of(s, "", STR(""));

    fresh(s);
    enum check answer = ask_client(&v);
    keep_early(s);
    return verdict_of_stage(&v, answer);
}

struct verdict restrict_helo(struct smtpd *s, struct str name)
{
    struct eval v = eval_of(s, "", STR(""));

    fresh(s);
    v.helo = &name;
    name_in_log(&v);
    enum check answer = ask_helo(&v);
    keep_early(s);
    return verdict_of_stage(&v, answer);
}

struct verdict restrict_mail(struct smtpd *s, struct str sender)
{
    struct eval v = eval_of(s, "", STR(""));
    struct str helo = buf_str(&s->helo);

    fresh(s);
    v.sender = &sender;
    v.helo = helo.len ? &helo : NULL;
    name_in_log(&v);
    enum check answer = ask_sender(&v);
    keep_early(s);
    return verdict_of_stage(&v, answer);
}

/* The two lists of RCPT; a permit in one does not spare the other. */
static enum check ask_recipient(struct eval *v)
{
    const struct params *p = v->s->p;
    bool relay_first = p->smtpd_relay_before_recipient_restrictions;
    const char *lists[2] = {relay_first ? p->smtpd_relay_restrictions
                                        : p->smtpd_recipient_restrictions,
                            relay_first ? p->smtpd_recipient_restrictions
                                        : p->smtpd_relay_restrictions};

    v->class = "Recipient address";
    v->subject = *v->recipient;
    for (int i = 0; i < 2; i++)
        if (eval_list(v, lists[i]) == CHECK_REJECT)
            return CHECK_REJECT;
    return CHECK_DUNNO;
}

static enum check ask_rcpt_stage(struct eval *v)
{
    struct smtpd *s = v->s;
    struct str rest = STR("");

    if (s->p->smtpd_delay_reject &&
        (ask_client(v) == CHECK_REJECT || ask_helo(v) == CHECK_REJECT ||
         (v->sender && ask_sender(v) == CHECK_REJECT)))
        return CHECK_REJECT;
    if (ask_recipient(v) == CHECK_REJECT)
        return CHECK_REJECT;
    if (s->defer_if_permit.active) {
        v->verdict = s->defer_if_permit.verdict;
        smtpd_log_whatsup(s, "reject", verdict_print(s->cmd, &v->verdict));
        return CHECK_REJECT;
    }
    if (s->p->smtpd_reject_unlisted_recipient && !s->rcpt_checked)
        return check_unlisted_recipient(v, &rest);
    return CHECK_DUNNO;
}

struct verdict restrict_rcpt(struct smtpd *s, struct str recipient)
{
    struct eval v = eval_of(s, "", STR(""));
    struct str helo = buf_str(&s->helo);

    /* RFC 5321 §4.5.1: postmaster without a domain is always taken. */
    if (str_eq_nocase(recipient, STR("postmaster")))
        return v.verdict;
    fresh(s);
    v.recipient = &recipient;
    v.sender = s->in_mail ? &s->sender : NULL;
    v.helo = helo.len ? &helo : NULL;
    name_in_log(&v);
    return verdict_of_stage(&v, ask_rcpt_stage(&v));
}

/* DATA and the end of it: the recipient is named when there is only one. */
static struct verdict after_rcpt(struct smtpd *s, const char *class, struct str subject,
                                 const char *list)
{
    struct eval v = eval_of(s, class, subject);
    struct str helo = buf_str(&s->helo);

    if (!list[0])
        return v.verdict;
    fresh(s);
    v.recipient = s->rcpt_count == 1 ? &s->recipient : NULL;
    v.sender = &s->sender;
    v.helo = helo.len ? &helo : NULL;
    name_in_log(&v);
    enum check answer = eval_list(&v, list);
    if (answer != CHECK_REJECT && s->defer_if_permit.active) {
        v.verdict = s->defer_if_permit.verdict;
        smtpd_log_whatsup(s, "reject", verdict_print(s->cmd, &v.verdict));
        answer = CHECK_REJECT;
    }
    return verdict_of_stage(&v, answer);
}

struct verdict restrict_data(struct smtpd *s)
{
    return after_rcpt(s, "Data command", STR("DATA"), s->p->smtpd_data_restrictions);
}

struct verdict restrict_eod(struct smtpd *s)
{
    return after_rcpt(s, "End-of-data", STR(AFTER_EOM), s->p->smtpd_end_of_data_restrictions);
}

struct verdict restrict_etrn(struct smtpd *s, struct str domain)
{
    struct eval v = eval_of(s, "", STR(""));
    struct str helo = buf_str(&s->helo);

    fresh(s);
    v.helo = helo.len ? &helo : NULL;
    name_in_log(&v);
    enum check answer = CHECK_DUNNO;
    if (s->p->smtpd_delay_reject && (ask_client(&v) == CHECK_REJECT || ask_helo(&v) == CHECK_REJECT))
        answer = CHECK_REJECT;
    if (answer != CHECK_REJECT) {
        v.class = "Etrn command";
        v.subject = domain;
        answer = eval_list(&v, s->p->smtpd_etrn_restrictions);
    }
    return verdict_of_stage(&v, answer);
}
