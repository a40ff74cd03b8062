/* What verify.c (the log) and verify_index.c (index, large content) share. */
#ifndef QUEUE_STORE_VERIFY_PRIVATE_H
#define QUEUE_STORE_VERIFY_PRIVATE_H

#include "io/base/hash.h"
#include "queue/store/private.h"
#include "queue/store/segment.h"
#include "queue/store/verify.h"

/* What the log says of a message, in 64 bits: where it lies (or where its removal does), and this: */
#define SEEN_REMOVED ((uint64_t)1 << 63)
#define SEEN_DAMAGED ((uint64_t)1 << 62)
#define SEEN_SPILLED ((uint64_t)1 << 61)
#define SEEN_IN_INDEX ((uint64_t)1 << 60)
#define SEEN_POS     (SEEN_IN_INDEX - 1)

struct verify_segment {
    uint64_t epoch;
    char name[SEGMENT_NAME_MAX];
    bool header_bad, has_data;
    uint64_t bytes;
    uint64_t after; /* what its first batch says of the log before it; 0 = nothing */
};

struct checking {
    struct verify *v;
    uint64_t secret; /* 0 = no header block tells it */
    uint64_t first;  /* the epoch the log begins with; 0 = any */
    struct store *as; /* what the index wants to know of a store: the secret */
    int log_fd, content_fd;
    struct buf segments; /* of struct verify_segment, oldest first */
    struct umap seqs;    /* seq -> SEEN_* */
    struct buf bad;      /* of struct finding: damage of the log, until the index has been asked */
};

static inline uint64_t seen(const struct checking *c, uint64_t seq)
{
    return (uint64_t)(uintptr_t)umap_get(&c->seqs, seq);
}
static inline void see(struct checking *c, uint64_t seq, uint64_t what)
{
    (void)umap_put(&c->seqs, seq, (void *)(uintptr_t)what);
}

/* --- verify.c */
PRINTF(6, 7)
void verify_tell(struct checking *c, enum finding_kind kind, const char *where, uint64_t seq,
                 const char *id, const char *fmt, ...);
void verify_pass_on(struct checking *c, const struct finding *f);
void verify_at(char where[64], const char *segment, uint32_t at);
/* The head and the first bytes of the MESSAGE record at pos. False: there is none of this seq. */
bool verify_peek(const struct checking *c, uint64_t pos, uint64_t seq, struct record_head *head_out,
                 struct message_body *body_out, struct buf *first_out);
const struct verify_segment *verify_segment_of(const struct checking *c, uint64_t epoch);

/* --- verify_index.c */
/* The secret the index knows, when no segment tells it. */
uint64_t verify_secret(struct checking *c);
struct err *verify_rest(struct checking *c) MUST_USE;

#endif
