/* resolve: the resolving half of trivial-rewrite(8): which class an address is in, and which transport
 * and nexthop it goes to (ADDRESS_CLASS_README, transport(5)). May yield (tables). */
#ifndef CORE_REWRITE_RESOLVE_H
#define CORE_REWRITE_RESOLVE_H

#include "core/config/snapshot.h"

enum address_class { CLASS_LOCAL, CLASS_VIRTUAL_ALIAS, CLASS_VIRTUAL_MAILBOX, CLASS_RELAY, CLASS_DEFAULT };

struct resolved {
    enum address_class class;
    const char *transport;  /* "smtp" */
    const char *nexthop;    /* "example.com", "[127.0.0.1]:2525" */
    struct str recipient;   /* internal form, after user@[our ip] and %-hack handling */
    bool table_error;       /* a lookup failed: defer; transport and nexthop are not set */
    bool routed;            /* sender-specified routing: the local part still holds an operator (@ % !), which
                               the next hop or a delivery agent may follow */
    bool bad_syntax;        /* the domain is no name (501 5.1.3); transport is "error" */
    const char *why;        /* when table_error: which table, and how it failed */
};

/* Class of a domain alone. NULL-domain = local. */
struct err *resolve_class(const struct service *svc, struct arena *a, struct str domain,
                          enum address_class *out) MUST_USE;
/* Is the domain in mydestination, or a literal of one of our addresses? */
struct err *resolve_local(const struct service *svc, struct arena *a, struct str domain,
                          bool *local_out) MUST_USE;
/* Memory from a. Errors are in out->table_error. */
void resolve_recipient(const struct service *svc, struct arena *a, struct str sender,
                       struct str recipient, struct resolved *out);
/* What smtpd asks of sender and recipient before anything else: complete the address and see whether
 * its domain can be one. utf8: the message is under SMTPUTF8. Asks no tables, does not yield. */
bool resolve_valid(const struct service *svc, struct arena *a, struct str address, bool utf8);
/* Is the recipient listed (smtpd_reject_unlisted_recipient)? table_out: "local recipient table" ... as
 * the 550 of spec SMTPD-20 words it. Error = defer. Recipients whose transport is error: or retry: by
 * transport_maps are "listed" here: their reply is r->nexthop's text, and the caller's affair. */
struct err *resolve_listed(const struct service *svc, struct arena *a, const struct resolved *r,
                           bool *listed_out, const char **table_out) MUST_USE;
/* transport(5) lookup of one address; updates transport and nexthop when a table has it. */
struct err *transport_map_find(const struct service *svc, struct arena *a, struct str address,
                               const char **transport, const char **nexthop) MUST_USE;
/* hooks.resolve: fills transport, nexthop and resolved of the message's recipients. */
struct qmsg;
void resolve_message(const struct service *svc, struct qmsg *m);

#endif
