/* queue: the front door of where mail sleeps. Producers (smtpd, pickup, bounce) begin a draft, write
 * content, commit; the scheduler thread owns the message from then on. README.md tells the whole life.
 *
 * Promise: queue_commit returns NULL only when envelope and content are on stable storage. */
#ifndef QUEUE_QUEUE_H
#define QUEUE_QUEUE_H

#include "io/fiber/worker.h"
#include "queue/envelope.h"
#include "queue/hooks.h"
#include "queue/queue_id.h"

struct queue;

/* Everything the floor needs of main.cf; filled by core/config (queue floors never read it). */
struct queue_options {
    const char *directory;       /* queue_directory */
    const char *data_directory;  /* data_directory: what is suspended is kept in it; NULL = not kept */
    bool long_ids;               /* enable_long_queue_ids */
    bool offline;                /* for commands while the server is down: serve acts, deliver nothing */
    bool read_only;              /* with offline: only look */
    uint64_t minfree_bytes;      /* queue_minfree; 0 = 1.5 * message_size_limit is the caller's business */
    uint64_t inline_limit_bytes; /* queue_inline_limit: beyond it a file of its own; 0 = 1 MiB */
    uint64_t segment_bytes;      /* queue_segment_size; 0 = 8 MiB; a multiple of 4 KiB */
    int64_t mark_delay_ms;       /* queue_mark_delay; 0 = 100 */
    uint64_t memory_limit_bytes; /* queue_memory_limit: content of fresh mail kept in memory; 0 = 256 MiB */
    uint64_t replay_at_once_bytes; /* queue_replay_limit; 0 = 64 MiB */
    struct sched_options *sched; /* queue/sched/sched.h; copied */
};

/* Opens or makes the queue and recovers it, on the calling worker (fiber), which becomes the
 * scheduler thread. `workers` run resolve and deliver fibers. Mail may be committed when it returns.
 * ERR_REFUSED: another process has it open. Errors name the file. */
struct err *queue_open(const struct queue_options *options, const struct queue_hooks *hooks,
                       struct worker **workers, size_t n_workers, struct queue **out) MUST_USE;
/* New parameters after a reload: limits, backoff, lifetimes. Any thread; takes effect soon. */
void queue_reconfigure(struct queue *q, const struct queue_options *options);
/* Clean stop in two steps, each in a fiber of the scheduler thread. Drain: no new requests go out; waits for running
 * ones; ERR_TIMEOUT at the deadline (then stop the workers, so that their fibers give up). Close: when the
 * workers have ended and no draft is open: syncs marks and index, closes, frees. */
struct err *queue_drain(struct queue *q, int64_t deadline_ns) MUST_USE;
struct err *queue_close(struct queue *q) MUST_USE;

/* --- producers: a fiber on any worker. */
struct draft {
    struct queue *queue;
    uint64_t seq;
    int64_t arrival_us;
    char id[QUEUE_ID_MAX];
    uint64_t size;          /* content bytes so far */
    struct buf content;     /* while it is inline */
    struct draft_spill *spill; /* when it went past inline_limit */
    uint32_t flags;         /* store.h: MESSAGE_* it begins with; ENV_HOLD adds its own */
    int64_t due_us;         /* no attempt before; 0 = at once */
    struct arena *arena;    /* of the message in the end */
    bool envelope_inside;   /* the envelope's memory is this arena's: it need not be copied */
};
/* ERR_FULL: less than queue_minfree left (452). Cheap: no I/O. */
struct err *queue_begin(struct queue *q, struct draft **out) MUST_USE;
/* What it would say. Looks at the disk once a second (yields). */
bool queue_full(struct queue *q);
/* More comes in than leaves: fresh content fills half of its memory. What has an index row by then (queue mail that
 * waits for a second or more) is read from the log again when its turn comes. Does not wait. */
bool queue_crowded(const struct queue *q);
/* Content in wire form: lines end in CRLF. Yields only when it spills to a file.
 * ERR_FULL: disk full (452). After an error only abort is allowed. */
struct err *draft_write(struct draft *d, struct str bytes) MUST_USE;
/* The same; bytes is empty afterwards. A buffer that is well filled becomes the content as it lies: no copy. */
struct err *draft_take(struct draft *d, struct buf *bytes) MUST_USE;
/* Group commit. Yields until it is safe. Envelope is copied, see envelope_inside. On success the draft is consumed and the
 * message is under way: a fiber on this worker resolves it and hands it to the scheduler. On error
 * (ERR_FULL, ERR_IO) nothing is queued and the draft is aborted. */
struct err *queue_commit(struct draft *d, struct envelope *env) MUST_USE;
void queue_abort(struct draft *d);

/* --- one message, shared: refcounted. envelope/rcpts: see envelope.h for who may change what. */
struct qmsg {
    uint32_t magic;
    uint32_t refs; /* atomic; use qmsg_ref/unref */
    struct queue *queue;
    uint64_t seq;
    char id[QUEUE_ID_MAX];
    struct arena *arena;
    struct envelope *env;
    struct content *content; /* in memory, or NULL: it must be read */
    struct qmsg_place {
        uint64_t epoch;      /* of the segment */
        uint32_t at, length; /* the MESSAGE record in it */
        bool spilled;        /* content is in a file of its own */
    } place;
    uint32_t claimed;        /* atomic: somebody is bringing it into the active queue, or it is there */
    struct mbox_msg mbox;    /* on its way to the scheduler */
    int64_t active_since_us; /* when it came into the active queue: delays=a/b */
    void *sched;             /* the scheduler's own */
    const uint32_t *order;   /* its too: recipients by address, from when they are resolved */
    struct part *part;       /* NULL: env has all recipients. Else those that the scheduler has read (store.h) */
};
struct qmsg *qmsg_ref(struct qmsg *m);
void qmsg_unref(struct qmsg *m);

/* --- reading content: a fiber on any worker. */
struct content_reader;
struct err *content_open(struct qmsg *m, struct content_reader **out) MUST_USE;
/* Next piece (up to 64 KiB; all of it at once when in memory), borrowed until the next call; empty
 * at the end. ERR_DAMAGED: checksum. Yields. */
struct err *content_next(struct content_reader *r, struct str *piece_out) MUST_USE;
/* Reads all of it. ERR_DAMAGED: it is, or is gone. ERR_IO: who knows. Yields. */
struct err *content_check(struct qmsg *m) MUST_USE;
void content_rewind(struct content_reader *r);
void content_close(struct content_reader *r);

/* --- acts: a fiber on any worker of the process; each runs on the scheduler thread and is on stable
 * storage when it returns. */
enum queue_name { QUEUE_ANY, QUEUE_INCOMING, QUEUE_ACTIVE, QUEUE_DEFERRED, QUEUE_HOLD, QUEUE_CORRUPT };
/* What is given has to fit, all of it. Letters count in either case. */
struct queue_select {
    struct str id;          /* one message, or some, with spaces between; or empty: all that fit */
    enum queue_name queue;  /* restricts; QUEUE_ANY = wherever it is */
    struct str sender;      /* its address, "@domain" of it, or "<>"; or empty */
    struct str domain;      /* some recipient that is left is in it; or empty */
    struct str destination; /* "transport:nexthop" or "nexthop" to which some recipient goes, as last
                               resolved; or empty */
};
enum queue_act {
    QUEUE_ACT_REMOVE,
    QUEUE_ACT_HOLD,
    QUEUE_ACT_RELEASE,
    QUEUE_ACT_REQUEUE,
    QUEUE_ACT_EXPIRE,
    QUEUE_ACT_FIND, /* nothing is done with it */
};
/* Messages that were there at the call, in slices: each(ctx, id) is called on the calling fiber after the act is
 * safe, for every message it touched, some thousands at a time; it may yield. Found may be one twice. Time goes with
 * what fits, not with the queue (store_query). A message being delivered is removed after its running attempt at
 * the latest. On an error what was told of is done. */
struct err *queue_do(struct queue *q, enum queue_act act, const struct queue_select *what,
                     void (*each)(void *ctx, const char *id), void *ctx, uint64_t *count_out) MUST_USE;
/* Try deferred mail now: all, one message, or what waits for one site; dead sites get another chance. Returns when it is
 * under way. */
struct err *queue_flush(struct queue *q, struct str id, struct str site, bool *found_out) MUST_USE;

/* Reads one message from end to end. *aside_out: its content is damaged, and it was moved to corrupt/. ERR_IO: it could
 * not be read, and stays. */
struct err *queue_check(struct queue *q, struct str id, bool *aside_out) MUST_USE;

/* Looking, in slices, so that no LMDB reader stays open. Entries in arrival order. */
struct queue_entry {
    uint64_t seq;
    char id[QUEUE_ID_MAX];
    enum queue_name queue;
    struct envelope *env; /* with recipients that are left and their reasons; arena memory */
    int64_t next_try_us;  /* 0 = none */
    bool forced_expire;
    bool importing; /* its import has not ended (import.h): nothing may be done with it but removal */
};
/* after_seq 0 = from the start; at most max entries. count_out 0 = end. */
struct err *queue_list(struct queue *q, uint64_t after_seq, size_t max, struct arena *a,
                       struct queue_entry **out, size_t *count_out) MUST_USE;
/* One message with a reference for content_open. *found_out false: no such id. */
struct err *queue_find(struct queue *q, struct str id, struct arena *a, struct queue_entry *entry_out,
                       struct qmsg **msg_out, bool *found_out) MUST_USE;

/* One that was set aside in corrupt/ (entry's queue is QUEUE_CORRUPT): the envelope as it was then, all recipients, and what
 * there is of its content, unchecked. */
struct corrupt_reader;
struct err *queue_find_corrupt(struct queue *q, struct str id, struct arena *a, struct queue_entry *entry_out,
                               struct corrupt_reader **reader_out, bool *found_out) MUST_USE;
struct err *corrupt_next(struct corrupt_reader *r, struct str *piece_out) MUST_USE; /* empty at the end */
void corrupt_close(struct corrupt_reader *r);

/* For counting by age and domain (qshape): a row for each message and domain of it, of the queues asked for.
 * Packed: u32 arrival, seconds since 1970; u32 recipients that are left; u8 length; the domain as it
 * is written, the whole address where it has none, the end of it where it is too long. */
struct queue_shape {
    unsigned queues; /* bits: 1 << enum queue_name */
    bool senders;    /* the sender's domain, of each message once; "" = the null sender */
};
/* Time goes with the queue, on threads of the offload pool. each(ctx, rows) is called on fibers of the calling worker, one
 * call at a time, and may yield; it ends the walk by returning false. */
struct err *queue_shape(struct queue *q, const struct queue_shape *what,
                        bool (*each)(void *ctx, struct str rows), void *ctx) MUST_USE;

struct queue_counts {
    uint64_t active, deferred, hold, incoming, corrupt; /* messages */
    uint64_t log_bytes, live_bytes, segments;
};
struct queue_counts queue_counts(struct queue *q); /* any thread, approximate */
/* So much of the log has been read while the index is being built again; 100 = all mail is known. Until then lists and acts
 * on all of it wait. Any thread. */
int queue_ready_percent(const struct queue *q);

#endif
