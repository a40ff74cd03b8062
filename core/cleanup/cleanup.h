/* cleanup: cleanup(8), one message a call: headers completed and rewritten, recipients expanded
 * (virtual_alias_maps), limits watched, content and envelope committed to the queue. Callers: smtpd,
 * pickup (sendmail), bounce. One fiber; all may yield. */
#ifndef CORE_CLEANUP_CLEANUP_H
#define CORE_CLEANUP_CLEANUP_H

#include "core/config/snapshot.h"
#include "queue/queue.h"

enum cleanup_flags {
    CLEANUP_LOCAL = 1,   /* local_header_rewrite_clients / sendmail: complete addresses in headers with
                            myorigin, add missing From: Date: Message-ID: To: */
    CLEANUP_NO_MAP = 2,  /* no virtual_alias_maps (no_address_mappings) */
    CLEANUP_INTERNAL = 4,/* made here (bounce): no checks, no expansion limits beyond our own */
    CLEANUP_UTF8 = 8,
};

/* What cleanup says of a message as a whole: its outcome is data (style §4.4). */
enum cleanup_status {
    CLEANUP_OK,
    CLEANUP_TOO_BIG,   /* 552 5.3.4 message_size_limit */
    CLEANUP_TOO_MANY_HOPS, /* 554 5.4.0 hopcount_limit */
    CLEANUP_NO_RECIPIENTS,
    CLEANUP_REJECTED,  /* header/body checks, later */
    CLEANUP_QUEUE_FULL,/* 452 4.3.1 */
    CLEANUP_TROUBLE,   /* 451 4.3.0: table or queue error, logged */
};

struct cleanup;
/* service: whose parameters and tables count (the cleanup service of the snapshot). A queue id is taken at once. Status
 * QUEUE_FULL when there is no room (out untouched). */
enum cleanup_status cleanup_begin(const struct service *service, struct queue *queue, unsigned flags,
                                  struct cleanup **out) MUST_USE;
const char *cleanup_id(const struct cleanup *c);
int64_t cleanup_arrival_us(const struct cleanup *c);
/* Where it gathers; good until the commit. */
struct draft *cleanup_draft(struct cleanup *c);
/* Envelope first, in any order. Copies. */
void cleanup_sender(struct cleanup *c, struct str sender, uint8_t ret, struct str envid,
                    unsigned env_flags);
void cleanup_attr(struct cleanup *c, struct str name, struct str value);
/* original: as the client gave it (X-Original-To). orcpt decoded "type;address" or empty. */
void cleanup_rcpt(struct cleanup *c, struct str address, struct str original, struct str orcpt,
                  uint8_t notify);
/* Content, line by line without line ends; whole = false: the line goes on in the next call. The first
 * lines are the trace headers made by the caller. Cheap after something went wrong: it only swallows. */
void cleanup_line(struct cleanup *c, struct str text, bool whole);
/* Whole lines in bulk, as stream_plain found them (none longer than CLEANUP_PLAIN_MAX). False: not while headers
 * are read or a line is under way; give them one by one. */
enum { CLEANUP_PLAIN_MAX = 998 }; /* RFC 5322 §2.1.1 */
struct plain;
bool cleanup_plain(const struct cleanup *c);
void cleanup_lines(struct cleanup *c, const struct plain *lines);
/* Ends the message: expands, commits, waits for stable storage. c is gone in every case. On OK id_out (QUEUE_ID_MAX)
 * has the queue id. why_out (arena of the caller) a text for the reply when not OK. */
enum cleanup_status cleanup_commit(struct cleanup *c, struct arena *a, struct str *why_out) MUST_USE;
void cleanup_abort(struct cleanup *c);

/* For replies and exit codes: "552 5.3.4 Error: message file too big" etc. */
const char *cleanup_status_reply(enum cleanup_status s);

#endif
