/* wire: frames between commands and the running server (control.h): u32 length, u8 verb, body packed with
 * buf.h. A request, then answers, the last of them WIRE_END; then the next request, if any. Blocking outside
 * fibers. */
#ifndef CORE_SERVER_WIRE_H
#define CORE_SERVER_WIRE_H

#include "io/base/buf.h"
#include "io/base/err.h"

enum wire_verb {
    /* requests */
    WIRE_LIST = 1, /* -> ENTRY ... END */
    WIRE_DO,       /* u8 queue_act, lstr ids ("" = all), u8 queue_name, lstr sender, lstr domain, lstr destination (queue.h),
                      u8 ids wanted -> ID ... END(count). An empty ID says only that it goes on */
    WIRE_FLUSH,    /* lstr id, lstr site -> END(count 1 = found) */
    WIRE_FIND,     /* lstr id -> ENTRY, CONTENT ..., END; END(count 0) = no such message */
    WIRE_SUBMIT,   /* lstr sender, u8 ret, lstr envid, lstr full name, u32 flags (WIRE_SUBMIT_*), u32 n, n x (lstr address, u8 notify, lstr orcpt);
                      then LINE ... DONE from the client -> END(text = queue id) */
    WIRE_SMTPD,    /* the rest of the connection is an SMTP dialogue (sendmail -bs) */
    WIRE_COUNTS,   /* -> COUNTS, END */
    WIRE_LINE,     /* u8 whole, bytes: a piece of a content line (client) */
    WIRE_DONE,     /* end of content (client) */
    /* why mail waits: core/server/control_why.c */
    WIRE_SHAPE,    /* u32 queues, u8 senders (queue.h, struct queue_shape) -> CONTENT (its rows) ..., END */
    WIRE_WHY,      /* lstr queue id, domain or destination, u8 JSON -> CONTENT ..., END(count 0 = nothing of that name) */
    WIRE_SUSPEND,  /* lstr what -> END(count 1 = it was not before, text = its whole name) */
    WIRE_RESUME,   /* lstr what ("" = all) -> END(count) */
    WIRE_SUSPENDED, /* u8 JSON -> CONTENT ..., END */
    /* an import, on a connection of its own: core/server/control_import.c */
    WIRE_IMPORT = 16,   /* -> CONTENT ... (lines of the ledger, core/import/ledger.h), END(count = finished of an earlier one);
                           then MAIL, CONTENT ..., DONE or CANCEL from the client -> END(text = queue id), again and again */
    WIRE_IMPORT_MAIL,   /* i64 due_us, u8 warned, packed envelope */
    WIRE_IMPORT_POST,   /* i64 uid, packed envelope; then LINE ... instead of CONTENT: mail that is new, as with SUBMIT;
                           rejected mail is END(WIRE_REJECTED) */
    WIRE_IMPORT_CANCEL, /* this message cannot be read to its end */
    WIRE_IMPORT_CLOSE,  /* that was all -> END */
    /* answers */
    WIRE_ENTRY = 32, /* u64 seq, lstr id, u8 queue_name, u64 next_try_us, u8 forced_expire, packed envelope */
    WIRE_ID,         /* lstr id */
    WIRE_CONTENT,    /* bytes */
    WIRE_COUNT_ROWS, /* u32 n, n x (lstr name, u64 value) */
    WIRE_PROGRESS,   /* u8 percent, once a second and before all others: what was asked for waits until so much of the log is read */
    WIRE_END,        /* u8 status: enum wire_status, u64 count, lstr text */
};
enum wire_status { WIRE_OK, WIRE_ERROR, WIRE_DENIED, WIRE_REJECTED };
enum { WIRE_SUBMIT_8BIT = 1, WIRE_SUBMIT_UTF8 = 2, WIRE_SUBMIT_GATEWAY = 4 /* sendmail -G */ };

#define WIRE_FRAME_MAX (64u << 20)

/* A frame being built: b is reset, room for the length is left, the verb is put. */
void wire_begin(struct buf *b, enum wire_verb verb);
/* Yields in a fiber. */
struct err *wire_send(int fd, struct buf *b) MUST_USE;
/* Several frames for one send: each is begun, filled, ended; wire_flush sends them all and resets b. */
size_t wire_more(struct buf *b, enum wire_verb verb);
void wire_ended(struct buf *b, size_t begun);
struct err *wire_flush(int fd, struct buf *b) MUST_USE;
/* Body in *b (reset). ERR_CLOSED at end of file. Yields in a fiber. */
struct err *wire_recv(int fd, struct buf *b, enum wire_verb *verb_out) MUST_USE;
/* The same for somebody who gets many: reads what is there, gives frame after frame. The body is borrowed until the
 * next call. Zero-initialised is ready; after WIRE_END nothing is left in it. */
struct wire_in {
    struct buf bytes;
    size_t at;
};
struct err *wire_next(int fd, struct wire_in *in, struct str *body_out, enum wire_verb *verb_out) MUST_USE;
struct err *wire_send_end(int fd, struct buf *b, enum wire_status status, uint64_t count,
                          struct str text) MUST_USE;

#endif
