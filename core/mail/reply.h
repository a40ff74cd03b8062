/* reply: SMTP reply text on its way out (RFC 5321 §4.2, RFC 2034, smtpd_reject_footer). Pure. */
#ifndef CORE_MAIL_REPLY_H
#define CORE_MAIL_REPLY_H

#include "io/base/buf.h"

/* 5xx 5.y.z becomes 4xx 4.y.z, in place (soft_bounce). */
void reply_soften(char *text, size_t len);
/* Length of the "550 5.1.1 " in front; 4 when there is no enhanced code. */
size_t reply_prefix(struct str text);
/* One line plus an expanded footer. The footer begins a line of its own, or goes on with the reply's
 * after "\c"; "\n" in it begins a further line. Each gets code and enhanced code. Lines end in CRLF. */
void reply_with_footer(struct buf *out, struct str text, struct str footer);

#endif
