/* err: the one error type (style §4.4). NULL = fine. An error is what the world did to us; an
 * outcome (user unknown, greylisted) is data, a broken invariant is CHECK.
 *
 * Life: errors live in a small reserve of the current fiber (of the thread, outside fibers), so that
 * reporting never needs memory. A pointer stays good until ERR_RESERVE further errors were made in
 * the same fiber; copy its text (arena_str) to keep it longer. Never hand one to another thread. */
#ifndef IO_BASE_ERR_H
#define IO_BASE_ERR_H

#include <errno.h>
#include "io/base/str.h"

enum err_kind {
    ERR_IO,          /* device or network; code = errno */
    ERR_TIMEOUT,     /* the deadline passed */
    ERR_CANCELED,    /* fiber_cancel, or the worker shuts down */
    ERR_CLOSED,      /* the peer ended the connection; a mailbox or queue was shut */
    ERR_FULL,        /* no room: disk, segment, table */
    ERR_NOMEM,       /* a size an outsider chose went past its budget */
    ERR_LIMIT,       /* a named limit was passed */
    ERR_SYNTAX,      /* input does not follow its grammar */
    ERR_NOTFOUND,    /* no such file, id, service: only where a name was given by a person */
    ERR_PROTOCOL,    /* a peer broke its protocol */
    ERR_CONFIG,      /* configuration is wrong; text has file and line */
    ERR_DAMAGED,     /* checksum or structure of stored data is wrong */
    ERR_REFUSED,     /* not allowed: permissions, io_uring refused by the kernel */
    ERR_UNSUPPORTED, /* known, but not built in */
};

#define ERR_TEXT_MAX 480
#define ERR_RESERVE  8

struct err {
    enum err_kind kind;
    int code;         /* errno, LMDB or resolver code; 0 when none */
    const char *file; /* where it was made */
    int line;
    char text[ERR_TEXT_MAX]; /* cause last: "open main.cf: Permission denied" */
};

#define err_new(kind, code, ...) err_make(__FILE__, __LINE__, (kind), (code), __VA_ARGS__)
/* "<fmt>: strerror(number)". Kind from the number: ENOSPC/EDQUOT FULL, ECANCELED CANCELED,
 * ETIME/ETIMEDOUT TIMEOUT, ENOENT NOTFOUND, EPERM/EACCES REFUSED, ECONNRESET/EPIPE CLOSED, else IO. */
#define err_errno(number, ...) err_make_errno(__FILE__, __LINE__, (number), __VA_ARGS__)

struct err *err_make(const char *file, int line, enum err_kind kind, int code, const char *fmt, ...)
    PRINTF(5, 6);
struct err *err_make_errno(const char *file, int line, int number, const char *fmt, ...)
    PRINTF(4, 5);
/* Put a clause before the text on the way up: "commit 3EDA640AEC: write: No space left". Returns e. */
struct err *err_in(struct err *e, const char *fmt, ...) PRINTF(2, 3);

/* No error made so far is looked at any more: the reserve's memory (4 KiB) goes back until the next. For a
 * fiber that is going to wait long. */
void err_forget_all(void);

/* For io/fiber only: the reserve that errors are made in. Swapped at each fiber switch; NULL means
 * the thread's own. Freed by the fiber's end. */
struct err_reserve;
struct err_reserve **err_reserve_slot(void);
void err_reserve_free(struct err_reserve *reserve);

#endif
