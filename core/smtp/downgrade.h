/* downgrade: 8-bit content on its way to a server without 8BITMIME. Each part whose header declares
 * 8bit or binary goes out as quoted-printable (RFC 2045 §6.7), its containers as 7bit (§6.4). What
 * is not declared stays as it is, as in Postfix. Pure. */
#ifndef CORE_SMTP_DOWNGRADE_H
#define CORE_SMTP_DOWNGRADE_H

#include "io/base/buf.h"

enum { DOWNGRADE_DEPTH_MAX = 100 }; /* mime_nesting_limit; deeper parts are text */

enum downgrade_type { DOWNGRADE_LEAF, DOWNGRADE_MULTIPART, DOWNGRADE_MESSAGE, DOWNGRADE_FIXED };

struct downgrade {
    bool in_header;
    bool coded;      /* the body that is going out becomes quoted-printable */
    size_t column;   /* of the coded line */
    char blank;      /* held back: at the end of a line it must be coded; 0 = none */
    struct buf line; /* the part of a line that has come */
    bool inside;     /* its beginning went out already */
    struct buf head; /* the header field that is being gathered */
    /* --- what the header said */
    enum downgrade_type type;
    bool eight;
    bool digest;          /* multipart/digest: its parts are messages unless they say otherwise */
    struct buf boundary;  /* len 0 = none */
    /* --- multiparts that are open */
    struct downgrade_level {
        struct str boundary; /* memory of its own */
        bool digest;
    } levels[DOWNGRADE_DEPTH_MAX];
    size_t depth;
};

struct downgrade *downgrade_new(void);
/* The next piece, cut anywhere; what it becomes is appended. */
void downgrade_feed(struct downgrade *d, struct str piece, struct buf *out);
/* An unfinished last line gets its end. */
void downgrade_end(struct downgrade *d, struct buf *out);
void downgrade_free(struct downgrade *d); /* NULL is fine */

#endif
