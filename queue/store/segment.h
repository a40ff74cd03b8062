/* segment: the files of the log, and how they are read. THE FORMAT CHAPTER.
 *
 * The log is the sequence of segments in order of their epoch; a place in it is epoch and offset.
 * A segment is a file log/seg-<epoch, 16 hex digits> of fixed size, written once from front to end,
 * then, when nothing in it is needed any more, given a new epoch and written again. The epoch in
 * the header block decides, not the name (a rename may be lost in a crash).
 *
 *   block 0      header block, 4 KiB
 *   block 1..    batches, each beginning at a multiple of 4 KiB
 *
 * All numbers are little-endian. Sums are XXH3-64 seeded with the queue's secret, a random number
 * made with the queue that stands in every header block and in the index.
 *
 * Header block                               Batch head, 64 bytes
 *      0  u32  magic "RPs1"                       0  u32  magic "RPb1"
 *      4  u32  format version, 2                  4  u32  number of records
 *      8  u64  epoch                              8  u64  epoch
 *     16  u64  size of the file                  16  u64  number of the batch, from 1
 *     24  u64  next seq when it was made         24  u32  bytes of head and records, no padding
 *     32  u64  the secret                        28  u32  zero
 *     40  i64  wall clock, us                    32  u64  next seq when it was made
 *     48  u64  epoch the log began with          40  i64  wall clock, us
 *     56  u64  sum of bytes 0..55, seed 0        48  u64  where the batch before it ended: position
 *     64  zeros                                  56  u64  sum of bytes 0..55
 *
 * Records (record.h) follow the batch head back to back, then at least one word of zeros up to a
 * multiple of what direct I/O asks for (512 bytes on most disks, 4 KiB at most), unless the last record
 * ends its block. The rest of the block up to the next 4 KiB boundary is not written: zeros, or what an
 * earlier life of the file has left there.
 * A batch is one write with O_DSYNC; one write is in flight at a time; a block that was synced is
 * never written again in the same epoch. So acknowledged bytes cannot be torn by a later write, also
 * where the disk's own blocks have 4 KiB and it takes writes of less.
 *
 * Validity. A header block, batch head or record head counts when its magic, epoch and sum fit;
 * bytes of an earlier life of the file have an older epoch. A record's body is checked apart from
 * its head.
 *
 * Replay, for each segment from the position the index covers (segment_scan does one segment):
 *   1  at a block boundary: a valid batch head opens a batch; walk its records by their lengths
 *   2  anything else where a batch or record should be: look on, in steps of 8 bytes, for the next
 *      valid batch head (at a block boundary) or record head
 *   3  found: what lies between is a damaged middle: set aside in corrupt/, warned about; go on
 *      there. (Zeros up to the next boundary are padding.)  Not found: the torn tail, or where the
 *      writing ended: nobody was told that these bytes are safe
 *   4  a record whose body is damaged is set aside alone
 *   5  damage in the last batch of all may be a torn write, of which nobody was told that it is
 *      safe. It is not called damage; but since it could be an old batch that has gone bad, what is
 *      left of it is kept in corrupt/torn-<epoch>-<offset>
 *      The first batch of the next segment then tells where the log had ended, so a later replay of
 *      the same bytes does not call them damage either; nor what a failed write left behind
 *   6  a clean stop appends a batch of its own (a REMOVE of message 0, which is none): so whatever is
 *      damaged after it is damage, and 5 is for crashes alone
 *
 * Whole records of a torn batch are kept: their senders got no answer and may send again, which
 * SMTP allows for. Records are absolute, so replaying what the index already holds changes nothing.
 * Writing never goes on in a segment of an earlier run: each start begins a new one.
 *
 * Which segments count. Those with the queue's secret, each epoch once, from the highest "epoch the
 * log began with" of all their headers on; older ones had been freed, and wait for a new epoch. A file
 * whose header block is damaged counts by its name if a record of that epoch is found in it. What
 * does not count and was not freed (another queue's, a copy, nothing to be made out) is moved to
 * corrupt/, never deleted.
 *
 * (Until 2026-11 the last block was written whole, with zeros. Either reads what the other wrote.)
 *
 * Versions. In all versions to come magic, version and sum of the header block stay where they are. A
 * program reads every version up to its own and writes its own into each new segment, so a queue
 * moves on by itself as segments are freed. Whatever an older program would take for damage (another
 * record type, another envelope) needs a new version. A segment of a newer version than the program
 * knows refuses the start, and nothing is touched: go back to the newer program, and let it deliver or
 * export what is there. Format 2 has envelopes in which an ORCPT that is the recipient is a bit (queue/envelope.c);
 * what format 1 has is read as before. The index has a version of its own; any other than the program's is set aside
 * and built again. */
#ifndef QUEUE_STORE_SEGMENT_H
#define QUEUE_STORE_SEGMENT_H

#include "queue/store/record.h"

enum { SEGMENT_FORMAT = 2 };
enum { BLOCK = 4096, BATCH_HEAD = 64, SEGMENT_NAME_MAX = 32, UNIT_LEAST = 512 };
/* What is written of a batch with these bytes of head and records: at least one word of zeros behind
 * them, unless they fill their last block. */
static inline size_t batch_written(size_t bytes, size_t unit)
{
    return bytes % BLOCK == 0 ? bytes : round_up(bytes + RECORD_ALIGN, unit);
}

struct segment_header {
    uint64_t epoch, size, next_seq, secret;
    uint64_t first; /* of the log then; 0 = does not say */
};
void segment_header_put(const struct segment_header *h, uint8_t block[BLOCK]);
bool segment_header_get(const uint8_t *block, struct segment_header *out);
/* Of any header block that is whole, also of formats to come; 0 = it is not. */
uint32_t segment_header_version(const uint8_t *block);
void segment_name(uint64_t epoch, char out[SEGMENT_NAME_MAX]);

struct batch_head {
    uint64_t epoch, number, next_seq;
    uint64_t after; /* the end of the whole log before it, also over a crash; 0 = does not say */
    uint32_t records, bytes;
};
void batch_head_put(const struct batch_head *h, uint64_t secret, uint8_t *to);
bool batch_head_get(const uint8_t *at, uint64_t epoch, uint64_t secret, struct batch_head *out);

/* --- walking the bytes of a segment, or of a stretch of it that begins at a block boundary. */
struct segment_scan {
    struct str bytes;
    uint32_t base; /* offset in the segment of the first byte */
    uint64_t epoch, secret;
    /* --- its own */
    size_t at, batch_end, gap; /* batch_end 0: between batches */
    bool lost, found;  /* found: a record */
    uint64_t next_seq; /* the highest seen in batch heads */
    uint64_t batches;  /* heads seen */
    size_t batch_at;   /* where the last of them stands in bytes */
};
struct scan_item {
    enum { SCAN_RECORD, SCAN_GAP } kind;
    uint32_t at;             /* offset in the segment */
    struct str bytes;        /* RECORD: body; GAP: what is damaged */
    struct record_head head; /* RECORD */
};
void segment_scan_init(struct segment_scan *s, struct str bytes, uint32_t base, uint64_t epoch,
                       uint64_t secret);
bool segment_scan_next(struct segment_scan *s, struct scan_item *out);

#endif
