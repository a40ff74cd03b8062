/* dns_msg: a DNS reply from the wire (RFC 1035 §4) to records. Pure; every length is checked, and a
 * compression pointer may only point backwards, so that loops end. */
#ifndef IO_NET_DNS_MSG_H
#define IO_NET_DNS_MSG_H

#include "io/net/dns.h"

#define DNS_NAME_TEXT_MAX 1024 /* 253 bytes, each at most \DDD, and NUL */

/* Can one ask for this name? No empty labels, none over 63 bytes, 253 in all; a final dot is fine.
 * lower_out gets it in lower case without the dot. */
bool dns_name_check(struct str name, char lower_out[DNS_NAME_TEXT_MAX]);
/* Fills out from the reply to a question for name (as dns_name_check gave it) and type. CNAMEs are
 * followed inside the packet. False: the packet is malformed, out is as it was. */
bool dns_msg_parse(struct arena *a, struct str packet, const char *name, enum dns_type type,
                   struct dns_answer *out);
/* The words for the log. */
const char *dns_status_text(enum dns_status status);

#endif
