/* report: what became of one recipient: fills the request's result and writes the one log line
 * (spec LOG-06): "<id>: to=<..>, [orig_to=<..>,] relay=.., delay=.., delays=a/b/c/d, dsn=..,
 * status=sent|deferred|bounced (text)". Agents call it exactly once a recipient. soft_bounce turns
 * bounces into defers here. Does not yield. */
#ifndef CORE_DELIVER_REPORT_H
#define CORE_DELIVER_REPORT_H

#include "core/config/snapshot.h"
#include "queue/queue.h"
#include "queue/sched/request.h"

/* relay: "mx.example.com[192.0.2.1]:25", "virtual", "none". dsn: "2.0.0". text: what stands in the
 * parentheses. mta/diagnostic for the notice (RFC 3464), NULL = none. Strings are copied. */
void report_sent(const struct service *svc, struct request *r, size_t i, const char *relay,
                 const char *dsn, const char *text);
void report_failed(const struct service *svc, struct request *r, size_t i, bool permanent,
                   const char *relay, const char *dsn, const char *text, const char *mta,
                   const char *diagnostic);
/* The content cannot be read (ERR_DAMAGED; why: the error's text): ends all recipients still pending, in
 * Postfix's words. The message goes to the corrupt queue; nobody is told. */
void report_damaged(const struct service *svc, struct request *r, const char *relay, const char *why);
/* All recipients still pending. */
void report_failed_rest(const struct service *svc, struct request *r, bool permanent,
                        const char *relay, const char *dsn, const char *text, const char *mta,
                        const char *diagnostic);

#endif
