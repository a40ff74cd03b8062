/* private: what the files of core/virtual share: one delivery to one recipient's mailbox. */
#ifndef CORE_VIRTUAL_PRIVATE_H
#define CORE_VIRTUAL_PRIVATE_H

#include "core/deliver/agent.h"
#include "core/deliver/lines.h"
#include "queue/queue.h"

#define HOST_MAX 256

/* A delivery that failed: data, not an error (style §4.4). */
struct failure {
    bool permanent;
    const char *dsn;
    const char *text;       /* memory of the request */
    const char *diagnostic; /* for the notice; NULL = made from text */
    bool damaged;           /* the message cannot be read; text says why */
};

struct mailbox {
    const struct service *svc;
    struct request *request;
    const struct rcpt *rcpt;
    struct arena *arena; /* the request's */
    const char *path;    /* whole; ends in / for a maildir */
    uid_t uid;
    gid_t gid;
};

/* Both yield. false: *why says what went wrong, and nothing of the message is left in the mailbox. */
bool mbox_deliver(const struct mailbox *m, struct failure *why);
bool maildir_deliver(const struct mailbox *m, struct failure *why);

/* failure of an error of the file system. fmt: what was tried; the reason is appended after ": ". */
void failure_set(struct failure *why, struct arena *a, bool permanent, const char *dsn,
                 const struct err *e, const char *fmt, ...) PRINTF(6, 7);

/* --- letter.c: the message as a mailbox file has it. */
enum letter_style { LETTER_MAILDIR, LETTER_MBOX };
struct letter {
    enum letter_style style;
    int fd;
    uint64_t at;    /* where the next byte goes */
    uint64_t limit; /* the file may not grow beyond; 0 = none */
    struct buf out;
    bool failed; /* a write failed; why is set */
    struct err_note {
        enum err_kind kind;
        int code;
        char text[200];
    } why;
};
/* Lines ahead of the content: From_ (mbox), Return-Path, X-Original-To, Delivered-To. Pure. */
void letter_head(const struct mailbox *m, enum letter_style style, int64_t now_us, struct buf *out);
/* One line of content into *out, quoted when an mbox reader would take it for a From_ line. Pure. */
void letter_line(enum letter_style style, struct str text, bool starts, bool ends, struct buf *out);
/* All of it into fd from `at` on, and to the disk. true: done; false: *why is set. prefix: how the failure begins. */
bool letter_write(const struct mailbox *m, enum letter_style style, int fd, uint64_t at,
                  struct failure *why, const char *prefix);

#endif
