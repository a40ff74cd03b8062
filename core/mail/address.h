/* address: RFC 5321/5322 addresses, pure. Internal form = unquoted ("a b@example.com"), external =
 * quoted where the grammar needs it (\"a b\"@example.com), as Postfix keeps them apart. */
#ifndef CORE_MAIL_ADDRESS_H
#define CORE_MAIL_ADDRESS_H

#include "io/base/arena.h"
#include "io/base/buf.h"

/* The path of MAIL FROM / RCPT TO as Postfix reads it: text is what follows "FROM:"/"TO:" up to the
 * first blank outside quotes and brackets; rest_out the parameters. strict = strict_rfc821_envelopes.
 * out is the internal form; source routes (@a,@b:user@c) are cut; "" is the null path.
 * ADDRESS_ODD: out is set, but Postfix's defaults refuse it: a domain made of digits
 * (resolve_numeric_domain) or a dash in front (allow_min_user). A caller that knows the settings asks
 * resolve_valid (core/rewrite/resolve.h); one that does not treats it as bad syntax. */
enum address_parse { ADDRESS_OK, ADDRESS_BAD_SYNTAX, ADDRESS_ODD };
enum address_parse address_parse_path(struct arena *a, struct str text, bool strict, bool empty_ok,
                                      struct str *out, struct str *rest_out);
/* Last '@' outside the local part; domain empty when there is none. Internal form. */
struct str address_local(struct str address);
struct str address_domain(struct str address);
/* Quote the local part where RFC 5321 (for SMTP, logs) needs it. */
struct str address_quote(struct arena *a, struct str internal);
/* RFC 5322 header mailbox list: each address in internal form, in order, groups opened, comments cut. */
size_t address_header_list(struct arena *a, struct str field_body, struct str **out);
/* user+ext: index of the delimiter in the local part, or -1. Postfix's rule for owner-/-request
 * (owner_request_special), mailer-daemon, postmaster and double-bounce: they have no extension. */
ssize_t address_ext(struct str local, const char *delimiters);
/* Case folding of a whole address for comparison: domain always, local part too (as Postfix's maps). */
struct str address_fold(struct arena *a, struct str address);

/* A domain name by RFC 1123 as Postfix takes it (underscores pass, a last dot passes, UTF-8 labels
 * pass), or an address literal "[192.0.2.1]", "[IPv6:2001:db8::1]". All digits and dots is no name. */
bool address_domain_valid(struct str domain);
bool address_domain_numeric(struct str domain);

/* --- an address header taken apart, so that its addresses can be changed and the rest be kept. */
enum address_part_kind {
    PART_ADDRESS, /* text: internal form */
    PART_WORD,    /* of a phrase; text as it is printed, quotes included */
    PART_COMMENT, /* text with its parentheses */
    PART_MARK,    /* one of , ; < > . @ and other specials */
    PART_GROUP,   /* the ':' after a group's name */
};
struct address_part {
    enum address_part_kind kind;
    bool routed;    /* PART_ADDRESS: a source route stood in front and is not in text */
    bool no_domain; /* PART_ADDRESS: without an "@" of its own; one in a quoted local part is none */
    struct str text;
};
/* At most limit tokens are looked at (header_address_token_limit); the rest is dropped, as Postfix does. */
size_t address_header_parts(struct arena *a, struct str field_body, size_t limit,
                            struct address_part **out);
/* Prints the parts; a line feed follows each comma, for the caller to fold. */
void address_header_print(const struct address_part *parts, size_t count, struct buf *out);
/* The external form as above, appended. */
void address_quote_to(struct buf *out, struct str internal);

#endif
