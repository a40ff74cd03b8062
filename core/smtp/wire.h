/* wire: content on its way out when it may not go as it lies: a dot before each leading dot (RFC
 * 5321 §4.5.2), lines longer than smtp_line_length_limit broken by CRLF and a blank as Postfix
 * breaks them. Pure. */
#ifndef CORE_SMTP_WIRE_H
#define CORE_SMTP_WIRE_H

#include "io/base/buf.h"

struct smtp_wire {
    size_t limit;  /* bytes a line may have, 0 = any */
    size_t column; /* bytes of the line that is being written */
    bool cr;       /* a CR is held back: it may belong to the line's end */
    bool broke;    /* a line was broken */
};

void smtp_wire_begin(struct smtp_wire *w, size_t limit);
/* The next piece of content, cut anywhere; what it becomes is appended. */
void smtp_wire_feed(struct smtp_wire *w, struct str piece, struct buf *out);
/* An unfinished last line gets its end. */
void smtp_wire_end(struct smtp_wire *w, struct buf *out);

#endif
