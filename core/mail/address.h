/* address: RFC 5321/5322 addresses, pure. Internal form = unquoted ("a b@example.com"), external =
 * quoted where the grammar needs it (\"a b\"@example.com), as Postfix keeps them apart. */
#ifndef CORE_MAIL_ADDRESS_H
#define CORE_MAIL_ADDRESS_H

#include "io/base/arena.h"

/* The path of MAIL FROM / RCPT TO as Postfix reads it: text is what follows "FROM:"/"TO:" up to the
 * first blank outside quotes and brackets; rest_out the parameters. strict = strict_rfc821_envelopes.
 * out is the internal form; source routes (@a,@b:user@c) are cut; "" is the null path. */
enum address_parse { ADDRESS_OK, ADDRESS_BAD_SYNTAX };
enum address_parse address_parse_path(struct arena *a, struct str text, bool strict, bool empty_ok,
                                      struct str *out, struct str *rest_out);
/* Last '@' outside the local part; domain empty when there is none. Internal form. */
struct str address_local(struct str address);
struct str address_domain(struct str address);
/* Quote the local part where RFC 5321 (for SMTP, logs) needs it. */
struct str address_quote(struct arena *a, struct str internal);
/* RFC 5322 header mailbox list: each address in internal form, in order, groups opened, comments cut. */
size_t address_header_list(struct arena *a, struct str field_body, struct str **out);
/* user+ext: index of the delimiter in the local part, or -1. Postfix's rule for owner-/-request. */
ssize_t address_ext(struct str local, const char *delimiters);
/* Case folding of a whole address for comparison: domain always, local part too (as Postfix's maps). */
struct str address_fold(struct arena *a, struct str address);

#endif
