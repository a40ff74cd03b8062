/* eval: how one list is walked; private to core/smtpd/restrict.
 *
 * Items are tried in order: OK ends the list, REJECT ends the stage, DUNNO goes on, the end of the list
 * is DUNNO. Postfix's rule: what cannot be found out is a temporary refusal, never a pass. */
#ifndef CORE_SMTPD_RESTRICT_EVAL_H
#define CORE_SMTPD_RESTRICT_EVAL_H

#include "core/rewrite/resolve.h"
#include "core/smtpd/restrict/restrict.h"

enum check { CHECK_DUNNO, CHECK_OK, CHECK_REJECT };

struct eval {
    struct smtpd *s;
    const char *class;   /* "Recipient address": the words before "rejected" */
    struct str subject;  /* what stands in <> at the front of a refusal */
    /* What is known at this stage; NULL = not yet. */
    const struct str *helo, *sender, *recipient;
    struct resolved *sender_resolved, *recipient_resolved; /* made at the first question */
    struct verdict verdict; /* after CHECK_REJECT */
};

/* rest: what follows the restriction's name, for those that take an argument. */
typedef enum check check_fn(struct eval *v, struct str *rest);
#define RESTRICTION(name, function) check_fn function;
#include "core/smtpd/restrict/list.def"
#undef RESTRICTION

enum check eval_list(struct eval *v, const char *list);
/* Refuse: logs, honours warn_if_reject and defer_if_reject. */
enum check eval_refuse(struct eval *v, int64_t code, const char *dsn, const char *fmt, ...)
    PRINTF(4, 5);
/* A table failed: 451 4.3.0 <address>: Temporary lookup failure. Not softened by warn_if_reject. */
enum check eval_lookup_failed(struct eval *v, struct str address, const char *why);
/* Refuse later, if nothing else refuses: tempfail_action is the parameter that may say defer instead. */
enum check eval_defer_if_permit(struct eval *v, const char *tempfail_action, const char *dsn,
                                const char *fmt, ...) PRINTF(4, 5);
/* Address as the queue would see it, resolved; cached in v. */
const struct resolved *eval_resolve_sender(struct eval *v);
const struct resolved *eval_resolve_recipient(struct eval *v);

#endif
