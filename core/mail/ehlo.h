/* ehlo: service extension keywords as a set (smtpd_discard_ehlo_keywords, postconf(5)). Pure. */
#ifndef CORE_MAIL_EHLO_H
#define CORE_MAIL_EHLO_H

#include "io/base/buf.h"

#define KEYWORD(NAME, text, logged) EHLO_BIT_##NAME,
enum ehlo_bit {
#include "core/mail/ehlo.def"
    EHLO_BITS
};
#undef KEYWORD
#define EHLO_HAS(set, NAME) (((set) >> EHLO_BIT_##NAME & 1U) != 0)

/* Set from a list of names; what is no keyword of ours cannot be announced, so it is skipped. */
unsigned ehlo_parse(struct str list);
/* "discarding EHLO keywords: ..." of Postfix: the names, blanks between them. */
void ehlo_print(unsigned set, struct buf *out);

#endif
