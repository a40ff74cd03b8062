/* verify: does all that is in a queue directory agree with itself? For postsuper -s and
 * tests/tools/queue_dump.c. Everything is only read: the segments record by record, each large content
 * against the sum in its record, each row of the index against the log, and the index's tables against
 * each other. No store is open here, and no fiber is needed.
 *
 * Memory: one segment, and 16 to 32 bytes for each message the log speaks of. The index is read in a
 * process of its own, because LMDB ends the process on some damage.
 *
 * running: a server works on the queue meanwhile. What looks damaged is looked at a second time, and
 * what can only be told of a queue at rest is left out. */
#ifndef QUEUE_STORE_VERIFY_H
#define QUEUE_STORE_VERIFY_H

#include "io/base/err.h"
#include "queue/queue_id.h"

struct segment_scan;
struct scan_item;

enum finding_kind {
    /* --- nothing is wrong */
    FINDING_TORN,  /* the last write was cut short; a start leaves it out */
    FINDING_STRAY, /* a file that nothing refers to; a start removes it */
    FINDING_SCAR,  /* damage that no message depends on: it goes when the segment is used again */
    /* --- damage */
    FINDING_HEADER,  /* the header block of a segment */
    FINDING_GAP,     /* bytes of the log that are no record */
    FINDING_RECORD,  /* a message's record */
    FINDING_MARK,    /* a record that says what became of a message since */
    FINDING_CONTENT, /* a large content: gone, or not what it was */
    FINDING_LOST,    /* a message the index tells of, and the log does not have */
    FINDING_INDEX,   /* the index: it can be built again */
};

struct finding {
    enum finding_kind kind;
    char where[64]; /* "log/seg-0000000000000001:4160", "content/...", "index" */
    uint64_t seq;   /* of the message; 0 = none, or not known */
    char id[QUEUE_ID_MAX]; /* its queue id; "" = not known */
    uint64_t pos, bytes;   /* in the log, epoch << 32 | offset; bytes: GAP */
    char why[200];
};

struct verify {
    const char *directory;
    bool running;
    void *ctx;
    void (*found)(void *ctx, const struct finding *f);
    /* Each record and each gap of the log, in its order; bad: what is wrong with it, NULL = nothing. May be
     * NULL. */
    void (*item)(void *ctx, const struct segment_scan *scan, const struct scan_item *item,
                 const char *bad);
    /* May be NULL. */
    void (*progress)(void *ctx, uint64_t done_bytes, uint64_t all_bytes);
    /* --- what there was */
    uint64_t segments, records, messages, large, rows;
    uint64_t damaged; /* findings that are damage */
    bool index_unfit; /* one of them says so: a start should build it again */
};
/* An error is that it could not be read: what was found until then was told. */
struct err *verify_queue(struct verify *v) MUST_USE;

#endif
