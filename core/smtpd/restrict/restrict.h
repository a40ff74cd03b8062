/* restrict: smtpd_{client,helo,sender,relay,recipient,data,end_of_data,etrn}_restrictions
 * (postconf(5), SMTPD_ACCESS_README). Each function evaluates one stage; code 0 = no objection. A
 * refusal is logged here and replied by the caller. May yield (tables, DNS). */
#ifndef CORE_SMTPD_RESTRICT_RESTRICT_H
#define CORE_SMTPD_RESTRICT_RESTRICT_H

#include "core/smtpd/session.h"

/* With smtpd_delay_reject the first three run inside restrict_rcpt, once a recipient. */
struct verdict restrict_connect(struct smtpd *s);
struct verdict restrict_helo(struct smtpd *s, struct str name);
struct verdict restrict_mail(struct smtpd *s, struct str sender);
struct verdict restrict_rcpt(struct smtpd *s, struct str recipient);
struct verdict restrict_data(struct smtpd *s);
struct verdict restrict_eod(struct smtpd *s);
struct verdict restrict_etrn(struct smtpd *s, struct str domain);

/* Do the relay or recipient lists hold something that keeps strangers from relaying? */
bool restrict_relay_checked(const struct service *svc);
extern const char restrict_relay_unchecked[]; /* what to say when not */

#endif
