/* lines: stored content, which comes in pieces of any size with CRLF line ends, taken apart into lines by the rule
 * of io/net/stream.h. For what leaves the mail system with other line ends: mailbox files, postcat. Pure. */
#ifndef CORE_DELIVER_LINES_H
#define CORE_DELIVER_LINES_H

#include "io/base/buf.h"

#define LINES_PIECE_MAX 16384

/* A line without its end, or a piece of a long one: starts and ends say which parts it has. */
typedef void lines_each(void *ctx, struct str text, bool starts, bool ends);

struct lines {
    lines_each *each;
    void *ctx;
    struct buf carry; /* what the last piece left undecided */
    size_t scanned;
    bool inside; /* the last text did not end its line */
};

void lines_begin(struct lines *l, lines_each *each, void *ctx);
void lines_push(struct lines *l, struct str piece);
/* A last line without an end is a line all the same. Frees what is inside. */
void lines_end(struct lines *l);

#endif
