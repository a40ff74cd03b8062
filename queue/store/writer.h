/* writer: group commit. One write in flight; what is appended meanwhile gathers in the next batch
 * and goes out as one contiguous write once the disk has answered. There is no thread and no timer
 * in it: whoever appends while nothing is in flight, and the completion when something has gathered, have
 * their worker submit at the end of its turn, which is when the kernel would see it anyway: so those whose
 * messages end in the same turn, there and on other workers, share the write. While less than half of the
 * open drafts are in it and the worker's next turn begins without a sleep, the write waits for that one's
 * end, for a millisecond at most: a message that comes alone is written at once, many that come together
 * under load share more of the disk's time. Only what needs to wait (making a segment because no spare is ready) is done by a fiber on the scheduler's worker.
 *
 *     IDLE --wanted--> DUE --end of the turn--> WRITING --done, nothing gathered--> IDLE
 *                                                 |  done, more gathered: DUE again
 *                                                 `--no segment ready--> SLOW --segment made--> WRITING
 *                                                                         `--not made: all that waits fails--> IDLE
 *
 * A write that fails poisons its segment (it is never written or trusted for more again); the batch
 * is tried once more in the next segment before its waiters are told. Marks of a failed batch are
 * carried over to the next. */
#ifndef QUEUE_STORE_WRITER_H
#define QUEUE_STORE_WRITER_H

#include <pthread.h>
#include "io/fiber/wait.h"
#include "io/fiber/worker.h"
#include "io/ring/ring.h"
#include "queue/store/record.h"

struct store;
struct segment;
struct message;

enum { BATCH_MAX = 1 << 20, BATCHES_WAITING_MAX = 8, LOG_WHY_MAX = 160 };

struct batch {
    struct batch *next;
    char *memory;
    uint8_t *bytes; /* aligned to 4 KiB */
    size_t len, cap;
    uint32_t records, commits;
    struct list entries; /* of struct log_entry */
};

/* Who wants to know what became of a record (or, without one, of all before it). */
struct log_entry {
    struct list link;
    /* A new message: gets its place, and stays in log.young unless it fails. */
    struct message *fresh;
    uint32_t rel, length; /* in the batch */
    uint64_t epoch;       /* where it went */
    uint32_t at;
    bool waits; /* done is signalled; else the entry is only filled in */
    struct completion done;
    bool failed;
    enum err_kind kind;
    int code;
    char why[LOG_WHY_MAX];
};

enum log_state { LOG_IDLE, LOG_DUE, LOG_WRITING, LOG_SLOW };

struct log {
    struct store *store;
    pthread_mutex_t lock; /* all of it */
    enum log_state state;
    struct batch *flying;
    size_t flying_bytes; /* that are written of it */
    struct batch *first, *last; /* gathering; NULL = none */
    size_t waiting;             /* of those */
    struct batch *pool;         /* emptied, for reuse */
    size_t pooled;
    bool flush; /* go on though nobody waits */
    struct segment *active;
    uint32_t at;      /* where the next batch goes */
    uint64_t number;  /* of the last batch in active */
    unsigned tries;   /* of the flying batch */
    uint64_t durable; /* position behind the last batch that is safe */
    uint64_t ended;   /* the same, and at a start where the log before it had ended; 0 = not known */
    struct ring_op op;
    struct turn_end due;
    int64_t due_ns; /* since when */
    struct list young; /* messages without index row, in the order of the log */
    struct list room;  /* commits that wait because too much has gathered */
    uint64_t commits, writes, bytes_written;
};

void log_init(struct log *l, struct store *s);
void log_fini(struct log *l);
/* Begin writing in this segment. ended: where the log before it is whole to; 0 = not known. */
void log_start_segment(struct log *l, struct segment *g, uint64_t ended);
/* The disk is full: the first write looks for a segment. durable: what the index covers. */
void log_start_without(struct log *l, uint64_t durable);
/* Append and, when e->waits, wait until it is safe (yields). ERR_FULL, ERR_IO: it is not in the log
 * for anybody who asks. [any] */
struct err *log_append_wait(struct log *l, const struct record *r, struct log_entry *e) MUST_USE;
/* Append, never wait. e may be NULL; else it is filled in by the time a later log_sync returns. */
void log_append(struct log *l, const struct record *r, struct log_entry *e);
/* Have the disk begin on what was appended. */
void log_flush(struct log *l);
struct err *log_sync(struct log *l) MUST_USE; /* yields */
/* Bytes written to the active segment. */
uint32_t log_used(struct log *l);

#endif
