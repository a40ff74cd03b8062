/* record: what stands in the log. One head of 48 bytes, then the body; all numbers little-endian;
 * records begin at multiples of 8.
 *
 * Head
 *      0  u32  magic "RPr1"
 *      4  u8   type   u8 zero   u16 zero
 *      8  u32  length of the body
 *     12  u32  zero
 *     16  u64  epoch of the segment it was written to
 *     24  u64  seq of the message
 *     32  u64  sum of the body's first part (MESSAGE: fixed part and envelope; else all of it)
 *     40  u64  sum of bytes 0..39, seeded with the queue's secret
 *
 * The head has a sum of its own, so that a length is trusted before it is used, and so that the
 * epoch can be filled in by the writer at the last moment without reading the body again. It is
 * seeded with a random number of this queue, so that nobody can mail us bytes that pass for a
 * record when a scan looks for the next good one behind a damaged place. A record is whole when
 * both sums fit and the epoch is its segment's; a MESSAGE moreover when its content's sum fits.
 *
 * MESSAGE body: a message as it stands, new or copied by compaction
 *      0  u32  bits: 1 content is in content/<seq>, 2 copied by compaction
 *      4  u32  MESSAGE_* flags
 *      8  i64  due_us
 *     16  u32  length of the envelope   u32 zero
 *     24  u64  length of the content
 *     32  u64  sum of the content (chained over pieces of 64 KiB: it can be checked as it streams)
 *     40  packed envelope (envelope.c), then the content unless bit 1
 * MARK body: the new state, absolute, so that replaying it twice does no harm
 *      0  u32  MESSAGE_* flags      i64  due_us      u32  recipients, each:
 *         u32  index   u8 state   lstr status   lstr text   lstr mta   lstr diagnostic
 *         Hold, release, requeue and expiry are MARKs: each is a state of flags and due time.
 * REMOVE body: empty. */
#ifndef QUEUE_STORE_RECORD_H
#define QUEUE_STORE_RECORD_H

#include "queue/store/store.h"

enum { RECORD_HEAD = 48, RECORD_ALIGN = 8, MESSAGE_FIXED = 40, CONTENT_PIECE = 65536 };

enum record_type { RECORD_MESSAGE = 1, RECORD_MARK = 2, RECORD_REMOVE = 3 };

struct record_head {
    enum record_type type;
    uint32_t length;
    uint64_t epoch, seq, body_sum;
};

/* A record about to be appended: head and body in two parts, borrowed. */
struct record {
    enum record_type type;
    uint64_t seq;
    struct str first; /* what body_sum covers */
    struct str rest;  /* content */
    uint64_t body_sum;
};
/* Computes body_sum: the expensive part, done by the caller before any lock. */
void record_sum(struct record *r);
size_t record_bytes(const struct record *r);                    /* in the log, padding included */
void record_put(const struct record *r, uint8_t *to);           /* without epoch and head sum */
void record_seal(uint8_t *at, uint64_t epoch, uint64_t secret); /* fills them in */
/* Total bytes of the sealed or unsealed record that was put at `at`. */
size_t record_span(const uint8_t *at);
uint64_t record_seq(const uint8_t *at);
enum record_type record_type_of(const uint8_t *at);

/* The body too is what was written; of a MESSAGE with its content, unless that is in a file. */
bool record_whole(const struct record_head *head, struct str body);
/* A head that is right in itself and of this epoch. */
bool record_head_get(struct str bytes, uint64_t epoch, uint64_t secret, struct record_head *out);

/* --- bodies */
enum { BODY_SPILLED = 1, BODY_COPY = 2 };
struct message_body {
    uint32_t bits, flags;
    int64_t due_us;
    uint64_t content_size, content_sum;
    struct str envelope; /* packed */
    struct str content;  /* empty when spilled, or when the bytes given end before it */
};
/* Fixed part and envelope into out. */
void message_pack(const struct message_body *b, const struct envelope *env, struct buf *out);
/* bytes: the body or as much of it as has fixed part and envelope. False = damaged. The sum of the
 * first part is checked against head; content's only by content_sum. */
bool message_unpack(const struct record_head *head, struct str bytes, struct message_body *out);
/* Fixed part alone: what a content reader needs. */
bool message_unpack_fixed(struct str bytes, struct message_body *out, uint32_t *envelope_len_out);

void mark_pack(const struct mark *k, struct buf *out);
/* Entries borrow from bytes, the array is a's. False = damaged. */
bool mark_unpack(struct str bytes, struct arena *a, struct mark *out);
/* Sets the recipients' states; texts are copied to a. Unknown indexes are skipped. */
void mark_apply(const struct mark *k, struct envelope *env, struct arena *a);

/* Go on with a content's sum: every piece but the last is CONTENT_PIECE bytes. */
uint64_t content_sum_piece(struct str piece, uint64_t sum);
uint64_t content_sum(struct str content);

static inline size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}
static inline void put_u32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(v >> (8 * i));
}
static inline void put_u64(uint8_t *to, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        to[i] = (uint8_t)(v >> (8 * i));
}
static inline uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t get_u64(const uint8_t *p)
{
    return (uint64_t)get_u32(p) | (uint64_t)get_u32(p + 4) << 32;
}

#endif
