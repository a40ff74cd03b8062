/* command: MAIL and RCPT as the SMTP client words them (RFC 5321, 1870, 3461, 6152, 6531). Pure. */
#ifndef CORE_SMTP_COMMAND_H
#define CORE_SMTP_COMMAND_H

#include "io/base/arena.h"
#include "io/base/buf.h"
#include "queue/envelope.h"

/* What the words depend on beside the envelope. */
struct smtp_wording {
    unsigned features; /* EHLO_BIT_* of the server */
    bool quote;        /* smtp_quote_rfc821_envelope */
    bool no_size;      /* the content will be changed on its way */
};
/* Both end in CRLF and are appended. The arena takes what is needed on the way. */
void smtp_command_mail(struct buf *out, struct arena *a, const struct envelope *env,
                       const struct smtp_wording *w);
void smtp_command_rcpt(struct buf *out, struct arena *a, const struct envelope *env,
                       const struct rcpt *rcpt, const struct smtp_wording *w);

#endif
