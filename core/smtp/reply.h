/* reply: the next hop's replies (RFC 5321 §4.2, RFC 2034), read line by line. Pure.
 *
 *   reply = *( code "-" text CRLF ) code [ SP text ] CRLF
 *
 * Lines that are none of these are kept in the text but do not end a reply, as in Postfix. */
#ifndef CORE_SMTP_REPLY_H
#define CORE_SMTP_REPLY_H

#include "io/base/buf.h"

enum {
    SMTP_REPLY_LINE_MAX = 2048,  /* more of a line is dropped */
    SMTP_REPLY_TEXT_MAX = 2048,  /* further lines are dropped once the text is longer */
    SMTP_REPLY_LINES_MAX = 1000, /* a peer that talks without end breaks the protocol */
};

struct smtp_reply {
    int code;        /* 250 */
    char dsn[12];    /* "2.0.0": the enhanced code if it agrees with the reply code, else "2.0.0" of
                        its class */
    struct buf text; /* all lines, '\n' between them, no control bytes */
    bool garbage;    /* a line that belongs to no reply was among them */
    unsigned lines;
};

void smtp_reply_begin(struct smtp_reply *r);
/* The next line, without its end. True: it was the reply's last one, code and dsn are set. */
bool smtp_reply_line(struct smtp_reply *r, struct str line);
/* A reply must not run on for ever. */
static inline bool smtp_reply_endless(const struct smtp_reply *r)
{
    return r->lines > SMTP_REPLY_LINES_MAX;
}
void smtp_reply_fini(struct smtp_reply *r);
static inline int smtp_reply_class(const struct smtp_reply *r)
{
    return r->code / 100;
}
/* Length of the enhanced status code at the start of text, 0 when there is none: class 2, 4 or 5,
 * then two numbers of one to three digits, then a blank or the end. */
size_t smtp_reply_dsn_length(struct str text);

#endif
