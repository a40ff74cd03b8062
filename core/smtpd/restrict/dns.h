/* dns: does a domain take part in mail? Private to core/smtpd/restrict. */
#ifndef CORE_SMTPD_RESTRICT_DNS_H
#define CORE_SMTPD_RESTRICT_DNS_H

#include "core/smtpd/session.h"

enum dns_presence { DNS_PRESENT, DNS_ABSENT, DNS_NULL_MX, DNS_UNSURE };
/* Any of the types, in this order; ends in 0. Unsure only when none is found and one lookup failed.
 * Yields. */
enum dns_presence dns_presence(struct smtpd *s, struct str domain, const enum dns_type *types);

#endif
