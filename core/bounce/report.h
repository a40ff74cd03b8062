/* report: one notice as text (RFC 3462, 3464; bounce(5) default templates), line by line into a message
 * that cleanup makes. For core/bounce only. */
#ifndef CORE_BOUNCE_REPORT_H
#define CORE_BOUNCE_REPORT_H

#include "core/config/snapshot.h"
#include "queue/queue.h"

struct cleanup;

struct report {
    const struct service *svc;
    const struct notice *notice;
    struct arena *arena;
    void (*line)(void *ctx, struct str text, bool whole); /* where the text goes */
    void *ctx;
    struct str to;
    bool postmaster;       /* a copy: no polite words, and NOTIFY does not matter */
    bool headers_only;     /* of the original */
    bool damaged;          /* the original's content. Found out by report_write */
    bool unread;           /* for this or another reason none of it is sent */
    int64_t now_us;
    const char *boundary;  /* made by report_write */
};

/* Recipients the notice speaks of: NOTIFY asks for it, or says nothing. 0 = nobody wants to know. */
size_t report_count(const struct notice *n, bool postmaster);
/* Everything after the Received: and Date: headers. Yields (content). ERR of reading the original, but a damaged one
 * is none. */
struct err *report_write(struct report *r) MUST_USE;

#endif
