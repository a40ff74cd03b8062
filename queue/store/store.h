/* store: durable half of the queue: segment log, LMDB index, spilled content. queue/queue.c and
 * queue/sched stand on it; nothing above the queue floor includes it.
 *
 * Division of labour. The store knows which messages exist, where their bytes lie, and what their
 * present state is (recipients' states, flags, due time); it keeps log and index in step by itself.
 * The scheduler decides: it takes committed messages, marks them, removes them, and asks which are
 * due. There is at most one `struct qmsg` per message in the process at any time.
 *
 * Threads: functions marked [any] run in a fiber on any worker; all others on the scheduler thread,
 * the worker store_open was called on. */
#ifndef QUEUE_STORE_STORE_H
#define QUEUE_STORE_STORE_H

#include "queue/queue.h"

struct store;

struct store_options {
    const char *directory; /* queue_directory: log/ content/ index/ corrupt/ are made in it */
    bool long_ids;
    uint64_t minfree_bytes;      /* 0 = no check */
    uint64_t inline_limit_bytes; /* 0 = 1 MiB */
    uint64_t segment_bytes;      /* 0 = 8 MiB; rounded up to 4 KiB */
    uint64_t memory_limit_bytes; /* 0 = 256 MiB */
    int64_t mark_delay_ms;       /* 0 = 100 */
    int64_t index_delay_ms;      /* a message that lives longer gets an index row; 0 = 1000 */
    bool no_direct;              /* never O_DIRECT (tests of the fallback) */
    /* So much log is replayed before store_open returns; what is longer, after it. 0 = 64 MiB */
    uint64_t replay_at_once_bytes;
    uint32_t replay_rows; /* so many index rows in one go after it; 0 = 1000 */
    uint32_t purge_rows;  /* from so many rows that go at once they leave the due table first, in its order; 0 = 4000 */
};

/* Locks the directory, opens the index, replays the log behind it into the index, starts a new
 * segment and a keeper fiber on this worker. After it returns mail may be committed, and the index
 * holds every message, unless store_ready says no. Yields. ERR_REFUSED: another process has the queue
 * open, or a newer version of the program has written it. */
struct err *store_open(const struct store_options *options, struct store **out) MUST_USE;
/* Limits only: long_ids, minfree, inline_limit, memory_limit, mark_delay. Any thread. */
void store_reconfigure(struct store *s, const struct store_options *options);
/* Syncs the log, brings the index up to date, stops the keeper, frees. All drafts must have ended
 * and all qmsg references (but the store's own) be given back: else the store's memory stays, with
 * a warning, and nothing may be asked of it but qmsg_unref and content_close. Yields. */
struct err *store_close(struct store *s) MUST_USE;

/* --- rebuilding. The index is missing, damaged or far behind the log: it is brought up to date by a
 * fiber while mail is taken and delivered. Until that has ended, nothing is known of the messages
 * that were there before, but those in memory: store_due may list some, store_get gives an error for
 * them (ERR_TIMEOUT), store_list waits. */
bool store_ready(const struct store *s); /* scheduler thread */
/* Waits for it. ERR_CANCELED: the store is about to close. Yields. */
struct err *store_wait_ready(struct store *s) MUST_USE;
/* This one is not known yet. */
bool store_hidden(const struct store *s, uint64_t seq);
int store_ready_percent(const struct store *s); /* [any] of the old log that is read; 100 = ready */
/* Called on the scheduler thread each time it has ended. fn NULL: no more. */
void store_on_ready(struct store *s, void (*fn)(void *ctx), void *ctx);
/* A stop is near: nobody waits any longer. */
void store_end_waits(struct store *s);

/* --- producers [any]. queue_begin, queue_commit of queue.h are these with a scheduler behind them;
 * draft_write, draft_take and queue_abort live here (draft.c) as they stand in queue.h. */
struct err *store_begin(struct store *s, struct queue *q, struct draft **out) MUST_USE;
/* It would be refused: less than minfree_bytes left. Looks at the disk once a second (yields). */
bool store_full(struct store *s);
/* Content in memory is more than half of memory_limit_bytes. */
bool store_crowded(const struct store *s);
/* Durable when it returns NULL: the draft is consumed, *out has one reference for the caller.
 * env is copied into the message's arena with size = bytes of the draft (data_size stays the
 * caller's), arrival_us = the draft's when 0. ENV_HOLD in env->flags sets MESSAGE_HOLD. On error
 * the draft is aborted. Cannot be canceled. Yields. */
struct err *store_commit(struct draft *d, const struct envelope *env, struct qmsg **out) MUST_USE;

/* --- state of a message. */
enum message_flags {
    MESSAGE_HOLD = 1,   /* not due until released */
    MESSAGE_EXPIRE = 2, /* forced expiry was asked for (postsuper -e) */
    MESSAGE_WARNED = 4, /* delay warning was sent */
    MESSAGE_IMPORT = 8, /* with HOLD: its import has not ended (queue/import.h) */
    /* Its name is a long one: what enable_long_queue_ids was when it came. store_mark does not change it. */
    MESSAGE_LONG_ID = 16,
    MESSAGE_SUSPENDED = 32, /* some recipient waits by an operator's word (queue/sched/suspend.h) */
};
uint32_t qmsg_flags(const struct qmsg *m);
int64_t qmsg_due_us(const struct qmsg *m); /* wall clock; 0 = at once */
bool qmsg_removed(const struct qmsg *m);   /* store_remove was called */
/* Bytes of content in memory are not needed any more: they will be read from the log. [any] */
void qmsg_drop_content(struct qmsg *m);

/* --- messages in part. With more recipients than store_slice a message that comes from the index has none of them in
 * memory but a byte each: m->part is set, and env->rcpts is the scheduler's, who reads some at a time. What is marked
 * is in memory until its row knows. Nothing here is of those whose envelope is whole, but where it says so. */
void store_set_slice(struct store *s, uint32_t recipients); /* 0 = no message is in part */
uint32_t store_slice(const struct store *s); /* [any] */
/* Of any message: all recipients; those in these states (bits 1 << RCPT_...). */
size_t qmsg_recipients(const struct qmsg *m);
size_t qmsg_count(const struct qmsg *m, unsigned states);
enum { RCPTS_LEFT = 1 << RCPT_TODO | 1 << RCPT_DEFERRED };
/* The first ones of them from this index on, at most max; how many. */
size_t store_part_find(const struct qmsg *m, uint32_t from, unsigned states, uint32_t *indexes_out, size_t max);
/* These, in rising order, as they are now. ERR_TIMEOUT: the index is being built again. Does not yield. */
struct err *store_part_read(struct qmsg *m, const uint32_t *indexes, size_t n, struct arena *a,
                            struct rcpt *out) MUST_USE;
/* Of any message: its whole envelope, a copy without the answers of hooks.resolve; errors as above. */
struct err *store_envelope(const struct qmsg *m, struct arena *a, struct envelope **out) MUST_USE;

struct mark_rcpt {
    uint32_t index;
    enum rcpt_state state;
    struct dsn why; /* copied */
};
struct mark {
    uint32_t flags; /* the new MESSAGE_* flags, whole */
    int64_t due_us; /* the new due time */
    const struct mark_rcpt *rcpts;
    size_t rcpt_count;
};
/* Sets the message's flags, due time and these recipients' state and why in memory (m->env), and
 * appends a MARK. Lazy: safe after mark_delay_ms, with the next commit, or after store_sync. Never
 * waits, never fails: a mark that is lost is a duplicate, never a loss. */
void store_mark(struct qmsg *m, const struct mark *k);
/* The message is finished: appends REMOVE (lazy as above), forgets it. A MARK before it is not
 * needed. References may live on; content stays readable through open readers only. */
void store_remove(struct qmsg *m);
/* Everything appended until now is on stable storage: acts, clean stop. [any] Yields. */
struct err *store_sync(struct store *s) MUST_USE;
/* Content or envelope turned out to be damaged: what is there of it goes to corrupt/<id> (corrupt.c
 * says in which form), a warning to the log, and the message is removed. On error it could not be set
 * aside, and stays. Yields. */
struct err *store_quarantine(struct qmsg *m, const char *why) MUST_USE;

/* --- finding messages. */
/* A reference, from memory or from the index; *out = NULL when there is no such message. The
 * recipients' answers of hooks.resolve are empty in one that comes from the index. Does not yield.
 */
struct err *store_get(struct store *s, uint64_t seq, struct qmsg **out) MUST_USE;
/* The same without looking into the index: NULL = not in memory. [any] */
struct qmsg *store_get_cached(struct store *s, uint64_t seq);

struct store_due {
    int64_t due_us;
    uint64_t seq;
};
/* Messages by due time, those on hold left out: the first `max` behind `after` (zeros = from the
 * start) with due_us <= until_us. Only messages that have an index row, that is all that were there
 * at store_open or lived longer than index_delay_ms; a mark shows here up to that much later, so
 * the scheduler keeps what is due sooner in memory. Messages in memory are listed too: skip those.
 * Does not yield. */
struct err *store_due(struct store *s, struct store_due after, int64_t until_us,
                      struct store_due *out, size_t max, size_t *count_out) MUST_USE;

struct store_row {
    uint64_t seq;
    uint32_t flags;
    int64_t due_us;
    struct envelope *env; /* arena */
    struct str dests;     /* as index.h has them */
};
/* A destination as a number, and the only one of a message as it was last resolved; false: there are several, or it is not
 * known. Does not yield. */
uint64_t store_destination(const struct store *s, const char *transport, const char *nexthop);
bool store_only_destination(struct store *s, uint64_t seq, uint64_t *out);
/* Is this its only destination ("transport:nexthop" or "nexthop")? */
bool store_goes_to(const struct store *s, struct str dests, struct str destination);
/* All messages in arrival order, in slices: up to max with seq > after_seq; rows and envelopes from
 * a. Exact: what is newer than the index comes from memory. */
struct err *store_list(struct store *s, uint64_t after_seq, size_t max, struct arena *a,
                       struct store_row **out, size_t *count_out) MUST_USE;
/* One row, for showing: *out = NULL when there is none. */
struct err *store_show(struct store *s, uint64_t seq, struct arena *a,
                       struct store_row **out) MUST_USE;

/* Looking at all of them where they lie, for counting: nothing is copied. Several threads do it at the same time, each
 * with its own lane. */
struct store_census;
struct store_lane {
    uint64_t at, to; /* zeros at first */
};
struct store_seen {
    uint64_t seq;
    uint32_t flags;
    bool deferred;
    struct envelope_view *view; /* sender, arrival time, recipients; to be used up */
};
/* Brings the index up to date; messages that come or go later are not met, or are met all the same. Yields. */
struct err *store_census_begin(struct store *s, struct store_census **out) MUST_USE;
/* [any, best no worker] The next ones, at most max: each() is called for every one. Does not yield. *ended_out: there
 * are no more for this lane. */
struct err *store_census_look(struct store_census *c, struct store_lane *lane, size_t max,
                              void (*each)(void *ctx, const struct store_seen *m), void *ctx,
                              bool *ended_out) MUST_USE;
/* Nobody looks any more. e: how that ended, and what is returned. */
struct err *store_census_end(struct store_census *c, struct err *e) MUST_USE;

/* --- bulk: which messages are to be acted on. What is asked for has to fit, all of it; without
 * anything it is every message. Each costs what it touches: senders, domains and destinations are
 * found by labels (index.h), what is on hold by a table of its own. */
struct store_query {
    struct str sender;      /* an address, "@domain", or "<>" */
    struct str domain;      /* of a recipient that is still to be delivered */
    struct str destination; /* "transport:nexthop" or "nexthop", as last resolved */
    bool held;              /* what is on hold */
    bool brief;             /* arrival_us and spilled of what is found are not wanted */
    /* --- the walk's own, zeros at first */
    int step;
    uint64_t at, until;
    bool ended;
};
struct store_pick {
    uint64_t seq;
    int64_t arrival_us, due_us;
    uint32_t flags;
    bool deferred; /* some recipient waits for another attempt */
    bool spilled;
};
/* The next ones, at most max; maybe none of them although q->ended is still false. The first call
 * brings the index up to date; messages that come later are not found. One may be given twice.
 * Yields. */
struct err *store_query(struct store *s, struct store_query *q, struct store_pick *out, size_t max,
                        size_t *count_out) MUST_USE;
/* Does this one fit? */
bool store_fits(const struct qmsg *m, const struct store_query *q);
/* Does nothing for a message that is in memory or gone: false. Else as store_remove; nothing is
 * loaded. */
bool store_remove_pick(struct store *s, const struct store_pick *p);
/* Acts change rows faster than the keeper writes them: waits until not too many are to be written.
 * Yields. */
struct err *store_catch_up(struct store *s) MUST_USE;
/* The transport and nexthop of these recipients of it are known, and will find it: of all that are left, or, of a message in
 * part, of some more. */
void store_note_destinations(struct qmsg *m, const struct rcpt *rcpts, size_t n);

/* What was noted goes into the index now, and not only with the next mark: it is found by it though it was not tried. */
void store_keep_destinations(struct qmsg *m);

struct store_counts {
    uint64_t messages;                        /* alive, in memory and in the index */
    uint64_t held;                            /* of those: on hold */
    uint64_t log_bytes, live_bytes, segments; /* segments: with log data, spares left out */
    uint64_t corrupt;                         /* set aside since start */
    uint64_t commits, writes, bytes_written;  /* since start: messages, batches, bytes of batches */
    uint64_t content_bytes;                   /* content held in memory */
};
struct store_counts store_counts(struct store *s); /* [any], approximate */

/* Read the id of a message for a log line. */
void store_id(uint32_t flags, int64_t arrival_us, uint64_t seq, char out[QUEUE_ID_MAX]);

#endif
