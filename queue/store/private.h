/* What the files of store/ share. Locks, in the order they may be taken: log.lock, then store.lock.
 * Both are held for copies and list work only, never across a yield or a system call. */
#ifndef QUEUE_STORE_PRIVATE_H
#define QUEUE_STORE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include "io/base/hash.h"
#include "io/fiber/wait.h"
#include "io/kv/kv.h"
#include "queue/store/index.h"
#include "queue/store/segment.h"
#include "queue/store/writer.h"

enum { MESSAGE_MAGIC = 0x4d736731, STORE_MAGIC = 0x53746f31 };
enum { FIRST_SEQ = 0x10000 }; /* ids look like Postfix's from the first one on */

/* Bytes of a fresh message's content, as they came. */
struct content {
    _Atomic uint32_t refs;
    struct store *store;
    struct buf bytes;
};

/* Where a message stands on its way to the index; the scheduler thread moves it.
 *
 *     YOUNG --older than index_delay--> ROUND --row committed--> INDEXED
 *     any --store_remove--> dead (an INDEXED one's row is deleted in the next round)            */
enum message_stage { STAGE_NEW, STAGE_YOUNG, STAGE_ROUND, STAGE_INDEXED };

struct message {
    struct qmsg pub; /* first: a struct qmsg * is one of these */
    struct store *store;
    enum message_stage stage;
    bool dirty, dead, removing;
    bool flying;  /* its row is being written on the index's thread, as it was when that began */
    bool changed; /* since then */
    bool dests_new; /* `dests` are not those of the row */
    uint32_t flags;
    int64_t due_us;
    int64_t born_ns;
    struct str dests; /* as in index_row, as last resolved; empty = never */
    uint64_t batch_pos;     /* log position of its batch; 0 = not submitted. log.lock */
    struct list link;       /* YOUNG: log.young (log.lock); ROUND: the round's list */
    struct list dirty_link; /* store.dirty, with a reference */
};

/* What is in memory of a message in part (part.c). Scheduler thread. */
struct part {
    uint32_t total;
    uint32_t counts[RCPT_NOTIFIED + 1]; /* by state */
    uint8_t *states;                    /* of all, as they were last marked */
    struct envelope_place read_to;
    struct buf changes; /* marks that the row does not have (envelope_pack_change) */
    size_t put;         /* so much of them is in the transaction that is open */
};

struct segment {
    struct list link;
    uint64_t epoch, size;
    int fd; /* for writing; -1 once closed */
    bool poisoned;
    bool unusable; /* in raw: it is to be deleted when it is the first */
    bool unwritten;              /* to its end: it was only allocated */
    uint32_t unit;               /* batches are written in multiples of this: 512 to 4096 */
    bool has_data;               /* recovery: a batch stands in it */
    uint64_t after;              /* recovery: what that batch says of the log before it */
    char name[SEGMENT_NAME_MAX]; /* in log/ */
    uint64_t rows_bytes;         /* of records that index rows point to. store.lock */
    uint32_t pins;               /* readers. store.lock */
    /* --- of one that was begun in this run, and not as its first (between.c). log.lock while it is written to */
    bool follows;        /* a segment of this run that was whole to its end */
    bool said_much;      /* too much to keep count of */
    uint64_t seq_floor;  /* next_seq when its first batch was written; 0 = of an earlier run */
    uint64_t seq_end;    /* and when the log went on to another; 0 = it did not, or of an earlier run */
    struct buf said;     /* u64 each: messages from before seq_floor of which a MARK or REMOVE stands in it */
};

struct store {
    uint32_t magic;
    struct worker *home; /* the scheduler thread */
    char *directory;
    int lock_fd, log_dir_fd, content_dir_fd, corrupt_dir_fd;
    uint64_t secret;
    uint64_t segment_bytes;
    bool no_direct;
    _Atomic bool direct; /* O_DIRECT works here */
    /* --- limits, changed by store_reconfigure */
    _Atomic bool long_ids;
    _Atomic uint64_t minfree_bytes, inline_limit_bytes, memory_limit_bytes;
    _Atomic int64_t mark_delay_ms;
    _Atomic uint32_t slice; /* recipients; 0 = messages are never in part */
    int64_t index_delay_ms;
    uint64_t replay_at_once;
    uint32_t replay_rows;

    _Atomic uint64_t next_seq;
    uint64_t run_seq; /* what it was at the start */
    _Atomic uint64_t content_bytes;
    _Atomic int64_t drafts; /* begun, and neither safe nor given up */
    _Atomic int64_t space_checked_ns;
    _Atomic bool space_short;
    _Atomic uint64_t young_bytes;
    _Atomic uint64_t alive; /* messages */
    _Atomic int64_t held;   /* of those: on hold */
    _Atomic uint64_t corrupt;

    struct log log;

    pthread_mutex_t lock; /* the rest of this block */
    struct umap messages; /* seq -> struct message: every one in memory */
    struct list segments; /* oldest first; the last is written to */
    struct umap by_epoch; /* of those */
    size_t segment_count;
    struct list spares; /* headers written, ready */
    struct list raw;    /* written full once, header stale; the one that was freed first is first */
    size_t spare_count, raw_count;
    struct sem raw_turn; /* one segment after the other loses what it held */
    uint64_t next_epoch;
    uint64_t rows_bytes; /* sum over segments */
    /* Some of this segment could not be read when the index was built: the log from there on is
     * kept, until a start can. 0 = none is like that. */
    uint64_t unread_epoch;

    /* --- scheduler thread only */
    struct index *index;
    struct offload_thread *index_thread; /* changes it (index_work.c) */
    struct sem index_turn;
    uint64_t covered;   /* log position the committed index covers */
    uint64_t log_ended; /* at start: the log that was there is whole to here; 0 = not known */
    /* Rows of messages with a lower number are not to be believed: the log before rebuild.end is
     * being replayed. 0 = all rows are good. (rebuild.c) */
    uint64_t first_new;
    struct rebuild {
        uint64_t end, last; /* position, exclusive; epochs from `last` on may end in a torn write */
        uint64_t below;     /* what first_new was last: these may have rows though they are young */
        bool settle;        /* and have not been brought up to date since */
        bool sweep; /* content/ is to be looked through, once the index is proven: */
        uint64_t sweep_below; /* for what has no row there goes */
        bool damaged;       /* the index as it is: it is to be set aside */
        char why[160];
        unsigned unreadable; /* attempts in a row that ended at a place that cannot be read */
        int64_t renewed_ns;
        int64_t began_ns, told_ns;
        uint64_t bytes, done; /* of the log */
    } rebuild;
    unsigned scrub_rows; /* looked at in one go, at most */
    uint32_t purge_rows; /* store_options */
    bool proven; /* every row of the index fits the others (scrub.c): space may be taken by it */
    struct event ready, minder_wanted, minder_gone;
    bool waits_over;
    void (*on_ready)(void *ctx);
    void *on_ready_ctx;
    _Atomic int ready_percent;
    struct list dirty;  /* INDEXED messages whose row is stale */
    struct umap dead;   /* seq of removed messages whose row is still there -> anything */
    struct buf dead_new; /* struct index_dead each: of those that no round has taken; some may have left `dead` since */
    struct buf unlinks; /* seq (u64 each) of spilled files to delete once REMOVE is safe */
    struct timer mark_timer;
    bool mark_timer_set;
    struct event keeper_wanted, keeper_gone;
    bool stopping;
    struct sem round; /* one index round at a time */
    int64_t round_ns; /* when the last one began */
    unsigned lookers; /* census under way, from other threads */
    bool stuck;       /* it failed: what has come or changed since is known in memory alone */
    int64_t warned_ns;
    _Atomic bool wake_posted;
    struct mbox_msg wake_msg;
};

/* An old message, and what the log says of it is not known yet. */
static inline bool store_hides(const struct store *s, uint64_t seq)
{
    return seq < s->first_new;
}
/* No segment may be freed by what the index says. */
static inline bool store_keeps_all(const struct store *s)
{
    return s->first_new != 0 || !s->proven;
}
/* Nor this one, nor those behind it: there may be mail the index does not know of. store.lock */
static inline bool segment_unread(const struct store *s, const struct segment *g)
{
    return s->unread_epoch != 0 && g->epoch >= s->unread_epoch;
}
static inline uint64_t log_pos(uint64_t epoch, uint32_t at)
{
    return epoch << 32 | at;
}
static inline struct message *message_of(struct qmsg *m)
{
    return (struct message *)m;
}

/* --- message.c */
struct message *message_new(struct store *s, uint64_t seq, uint32_t flags, struct arena *a,
                            struct envelope *env);
void message_publish(struct message *m);                         /* into the table */
void message_name(uint64_t seq, char out[24]);                   /* content/<name> */
struct content *content_new(struct store *s, struct buf *bytes); /* takes the bytes */
struct content *content_ref(struct content *c);
void content_unref(struct content *c);

/* --- part.c */
/* A row with more recipients than store_slice? */
bool part_wanted(const struct store *s, const struct index_row *row);
/* A message in part. ERR_DAMAGED. */
struct err *part_load(struct store *s, const struct index_row *row, struct arena *a,
                      struct envelope **env_out, struct part **out) MUST_USE;
void part_free(struct part *p);
void part_mark(struct part *p, const struct mark *k);
void part_put_done(struct part *p); /* the row has it */
/* m->env, or the envelope of a message in part, in *arena, which is made. The caller frees it, NULL too. */
struct err *part_whole(const struct qmsg *m, struct arena **arena, const struct envelope **out) MUST_USE;

/* --- space.c */
void segments_init(struct store *s);
void segments_fini(struct store *s);
/* A ready one, appended to the sequence; NULL = none. [any] store.lock not held. */
struct segment *segment_take(struct store *s);
/* Make one that was never written (slow O_DSYNC, but at once) and append it. Yields. */
struct err *segment_make(struct store *s, struct segment **out) MUST_USE;
void segment_known(struct store *s, struct segment *g); /* recovery: append, by_epoch */
/* One spare, if any is missing: by a new header on a raw one, or a new file written
 * full. Yields. */
struct err *space_prepare(struct store *s, bool *made_out) MUST_USE;
/* Oldest segments that nothing needs go to raw or away. Yields. */
void space_free(struct store *s);
/* This one is not needed any more; what was given before it goes, or is used, before it. Yields. */
void segment_give(struct store *s, struct segment *g);
/* Live bytes moved by an index transaction. */
void space_rows_add(struct store *s, uint64_t epoch, int64_t bytes);
/* A segment that stays while it is read; false = not there. */
bool segment_pin(struct store *s, uint64_t epoch, char name_out[SEGMENT_NAME_MAX]);
void segment_unpin(struct store *s, uint64_t epoch);
/* A server that hardly gets mail does not write spares full: the first is made when 1/8 of the
 * active segment is used. */
enum { SPARES_WANTED = 1, SPARES_MAX = 8, SEGMENTS_FLOOR = 4, SPARE_WHEN_USED = 8 };

/* --- between.c */
/* Segments that nothing needs, wherever they lie. Yields. */
struct err *space_free_between(struct store *s) MUST_USE;
/* It can be freed without being the oldest once nothing lives in it. log.lock and store.lock. */
bool segment_between(const struct store *s, const struct segment *g);
void segment_said(struct segment *g, uint64_t seq); /* log.lock */

/* --- store.c */
/* Its present state is appended once more, all of it: what was said of it before is not needed. Safe after the next
 * log_sync, as store_say_removed is. */
struct err *store_say_again(struct qmsg *m) MUST_USE;
/* A REMOVE of a message that is gone already. */
void store_say_removed(struct store *s, uint64_t seq);
/* Its index row is to go. due_us: as the row has it, if nothing has changed since. */
void store_set_dead(struct store *s, uint64_t seq, int64_t due_us);
void store_set_dirty(struct message *m); /* its index row is to be written */
/* store_remove for a message that is in the index and not in memory. */
void store_remove_row(struct store *s, uint64_t seq, uint32_t flags, int64_t due_us, bool spilled);

/* --- index_work.c */
/* fn(x, ctx) on the index's thread; the calling fiber waits its turn, and for the end. Nothing that fn looks at may change
 * meanwhile; what the scheduler's thread may change goes in as a copy. Its error comes back. Yields. */
struct err *index_work(struct store *s, struct err *(*fn)(struct index *x, void *ctx), void *ctx) MUST_USE;
/* Between them nobody changes or replaces the index. Yields. */
struct index *index_turn_begin(struct store *s);
void index_turn_end(struct store *s);

/* --- keeper.c */
void keeper_start(struct store *s);
void keeper_stop(struct store *s);
void keeper_wake(struct store *s); /* [any] */

/* --- round.c */
/* Brings the index up to date: messages older than min_age_ms and all changes. Yields. */
struct err *keeper_round(struct store *s, int64_t min_age_ms) MUST_USE;

/* --- compact.c */
bool space_wants_compaction(struct store *s);
/* Copies what lives in the oldest segment to the head of the log. Yields. */
struct err *space_compact(struct store *s) MUST_USE;

/* --- recover.c */
struct err *recover(struct store *s) MUST_USE;
/* The files of content/ that no row names, with numbers below `below`: drafts that were never
 * committed, messages whose removal is in the log. They go, or to corrupt/ when it may be that their
 * record is what was damaged. Yields. */
struct err *sweep_content(struct store *s, uint64_t below) MUST_USE;
/* The file's bytes from `from` on, at most to its size; on the heap. */
struct err *segment_read(struct store *s, const char *name, uint64_t from,
                         struct buf *out) MUST_USE;

/* --- rebuild.c */
void minder_start(struct store *s);
void minder_stop(struct store *s);
/* ERR_DAMAGED from the index: it is set aside soon, and built again from the log. Returns e. */
struct err *index_trouble(struct store *s, struct err *e);
/* Sets the index aside and makes an empty one, which covers nothing. s->index may be NULL or open; on
 * error it is as it was. Yields. */
struct err *index_renew(struct store *s, const char *why) MUST_USE;
uint64_t log_begin_pos(struct store *s); /* of the oldest segment; 0 = there is none */
/* Whoever opens an index that was there tells so on disk first, and takes it back when it has been
 * looked through. Said already: *why tells it. */
void index_trial_begin(struct store *s, struct buf *why);
void index_trial_end(struct store *s);

/* --- scrub.c */
struct err *scrub(struct store *s) MUST_USE;

/* --- corrupt.c */
void corrupt_save(struct store *s, const char *name, struct str bytes, const char *why);

#endif
