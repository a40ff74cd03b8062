/* queue_file: a message as Postfix keeps it, one file each in incoming, active, deferred, hold and maildrop. Pure: bytes
 * come from a source, structs go out; any bytes at all are harmless. Learned from files that Postfix 3.7 wrote and from
 * what postcat(1) says of them.
 *
 *   file     = *record
 *   record   = type length data       ; type: one byte
 *   length   = *%x80-FF %x00-7F       ; 7 bits each, the low ones first
 *
 * Sections: envelope, then M, content, X, what was found in the content, E.
 *
 *   C  sizes: message size, offset of the content, recipients, -, -, SMTPUTF8 bits     T  arrival: seconds microseconds
 *   A  name=value        S  sender       W  when to warn of delay, 0 = done            F  full name of a local sender
 *   O  original recipient, of the next:  R  recipient    D  one who is done    /  one who was taken off
 *   L  content filter    >  redirect     V  VERP delimiters     <  i  o  n  DSN: return, id, original recipient, notify
 *   N  a line of content     L  (there) a piece of a line that goes on in the next record
 *   p  go on at this offset; 0 = here    w  nothing    K c P I f r e  of no concern here
 *
 * DSN options of a recipient stand before it (attributes notify_flags, dsn_orig_rcpt). Milters leave what they replaced where it
 * is, put p over its beginning and write at the end of the file; so offsets lead back and forth, but no byte is read twice. */
#ifndef CORE_IMPORT_QUEUE_FILE_H
#define CORE_IMPORT_QUEUE_FILE_H

#include "queue/envelope.h"

/* Bytes from `at` on: n, or less at the end. May yield. */
struct queue_file_source {
    struct err *(*read)(void *ctx, uint64_t at, char *bytes, size_t n, size_t *n_out);
    void *ctx;
    uint64_t size;
};

struct queue_file {
    struct envelope env; /* ENV_* as the content has it; recipients RCPT_TODO or RCPT_DONE; size in wire form */
    uint64_t *rcpt_at;   /* where each recipient's record stands: logs name it */
    uint64_t content_at;
    bool sized;          /* false: posted by sendmail, not yet through cleanup (maildrop) */
    bool warned;         /* the sender was told of the delay */
    bool probe;          /* sendmail -bv, or address verification: no mail to deliver */
    struct str filter, verp, full_name; /* "" = none */
};

/* Envelope, and a first look at the content. ERR_DAMAGED with what is wrong and where; errors of the source. */
struct err *queue_file_read(const struct queue_file_source *src, struct arena *a, struct queue_file *out) MUST_USE;

/* Content, record by record, cut in pieces: ends says that the line is whole with this one. The last line always ends. */
typedef struct err *queue_file_piece(void *ctx, struct str text, bool ends);
struct err *queue_file_content(const struct queue_file_source *src, const struct queue_file *f, queue_file_piece *each,
                               void *ctx) MUST_USE;

/* Text that a line cannot hold is made blank, as cleanup does: LF always, CR when mask_cr. In place. */
void queue_file_mask(char *text, size_t n, bool mask_cr);

#endif
