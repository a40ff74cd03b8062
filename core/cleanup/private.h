/* private: what the files of core/cleanup share. */
#ifndef CORE_CLEANUP_PRIVATE_H
#define CORE_CLEANUP_PRIVATE_H

#include "core/cleanup/cleanup.h"
#include "core/rewrite/rewrite.h"
#include "io/base/hash.h"

struct cleanup_rcpt {
    struct str address, original, orcpt;
    uint8_t notify;
};

struct cleanup {
    const struct service *svc;
    struct draft *draft; /* NULL once it is committed; and in tests, which look at block instead */
    bool queued;         /* it has or had one */
    unsigned flags;
    enum cleanup_status status; /* the first thing that went wrong */
    const char *why;            /* reply text that goes with it, or NULL */
    char id[QUEUE_ID_MAX];
    int64_t arrival_us;
    struct arena *arena;   /* the draft's, for the envelope: the message's in the end */
    struct arena *scratch; /* one header, one recipient */
    struct envelope env;
    struct buf rcpts; /* struct cleanup_rcpt */
    struct buf attrs; /* struct attr */
    struct str full_name;

    /* --- content */
    bool in_body;
    bool in_line;       /* the last piece was not the end of its line */
    size_t line_at;     /* bytes of the current line so far */
    struct buf drops;   /* struct str: the names of message_drop_headers */
    struct buf header;  /* the header being gathered, lines joined by LF */
    bool header_open;
    bool header_full;   /* went past header_size_limit: what follows is dropped */
    unsigned headers_seen; /* bit per enum header_id */
    unsigned hops;
    bool resent;
    enum rewrite_context context;
    bool rewrite;       /* complete addresses, add missing headers */
    struct buf block;   /* output not yet given to the draft */
    uint64_t size;      /* bytes with CRLF */
    uint64_t record_size; /* what Postfix's queue file would hold: its size=, and the measure of
                             message_size_limit */
    uint64_t envelope_size;
};

/* cleanup.c: draft NULL in tests: then the arena is its own. */
struct cleanup *cleanup_new(const struct service *service, unsigned flags, struct draft *draft);
/* content.c */
void cleanup_emit(struct cleanup *c, struct str line); /* one line, without its end */
void cleanup_flush(struct cleanup *c);
void cleanup_content_end(struct cleanup *c);
void cleanup_fail(struct cleanup *c, enum cleanup_status status, const char *why);
/* headers.c. Once, before any header */
void cleanup_headers_begin(struct cleanup *c);
/* one header as gathered, "Name: value\n continuation" */
bool cleanup_is_header(struct str line, size_t *name_len_out);
void cleanup_header(struct cleanup *c, struct str header);
void cleanup_headers_done(struct cleanup *c);
/* expand.c */
void cleanup_expand(struct cleanup *c);

#endif
