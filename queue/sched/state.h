/* state: the scheduler's own structures, private to queue/sched and queue/queue.c. All of it is
 * touched on the scheduler thread only, so nothing here is locked.
 *
 * Message (struct active, qmsg.sched):
 *     RESOLVING --resolve hook answered--> RUNNING --last entry back--> NOTIFYING (if there is
 * something to tell the sender) --> ended: removed, deferred, held Destination (struct dest): READY
 * todo may go out while busy < window.size PAUSED  rate delay: nothing until the timer fires DEAD
 * window.size 0: nothing until the timer fires, what comes is deferred at once; then one probe */
#ifndef QUEUE_SCHED_STATE_H
#define QUEUE_SCHED_STATE_H

#include <stdatomic.h>
#include "io/base/hash.h"
#include "io/base/heap.h"
#include "io/fiber/wait.h"
#include "queue/queue.h"
#include "queue/sched/feedback.h"
#include "queue/sched/line.h"
#include "queue/sched/request.h"
#include "queue/sched/sched.h"
#include "queue/sched/seats.h"
#include "queue/sched/sheaf.h"
#include "queue/sched/suspend.h"
#include "queue/sched/why.h"
#include "queue/store/store.h"

struct sched;

enum dest_state { DEST_READY, DEST_PAUSED, DEST_DEAD };

/* How a site has taken its last mail (pace.c). Those that wait for a process stand in a line for each. */
enum pace { PACE_QUICK, PACE_NEW, PACE_SLOW, PACES };

struct transport {
    struct sched *sched;
    struct sched_transport opts;
    struct hmap dests; /* key -> struct dest */
    int64_t busy;      /* requests out */
    int64_t stalled;     /* of them: out for patience_ms and more */
    int64_t quick;       /* of them: for quick sites, and not stalled */
    struct list running; /* struct request: those that are not stalled, the oldest first */
    struct timer stall;  /* when the oldest is; while it is `watched` */
    bool watched;
    struct line waiting[PACES]; /* jobs whose dests found no slot; empty while there is one for them */
    size_t offered;             /* of them, in all */
    unsigned grants;            /* slots that went to those who waited */
    uint64_t *paces;            /* pace.c */
    struct slot_rules rules;
    struct timer pause; /* transport_rate_delay: nothing goes out while `paused` */
    bool paused;
    bool internal; /* retry, error, discard: no site that could be dead */
    bool deferred; /* in defer_transports: only what was flushed is tried */
    struct seat_pool seats; /* of messages in part */
    struct list held;       /* struct held that have some, in the order in which their messages came */
    size_t held_count;      /* recipients of all of them */
    struct timer retry; /* transport_retry_time: what comes while `broken` is deferred at once */
    char *broken;       /* "4.3.0 why"; NULL = it works */
};

/* A dest that waits for a slot of its transport offers what it would send. */
struct offer {
    struct list link; /* turn->offers */
    struct dest *dest;
    struct entry *entry; /* NULL: nothing offered */
};

struct dest {
    struct transport *transport;
    char *key; /* nexthop, or the recipient where the recipient limit is 1 */
    char *nexthop;
    enum dest_state state;
    enum pace pace;
    uint32_t stalls; /* deliveries since the last one that ended in time */
    int64_t stalled; /* of those that are out, how many have been for long */
    struct window window;
    int64_t busy;
    uint32_t pins;    /* somebody holds a pointer while entries are being made */
    struct line todo; /* struct entry */
    size_t todo_count;
    /* Where the recipient limit is 1 all of a next hop have their share together: that of a dest under the next hop's own
     * name, which has no mail itself. Else this one. The following are the site's. */
    struct dest *site;
    size_t sharing; /* messages that have a share waiting (share.c); those in part have seats */
    size_t coming;  /* messages that are being resolved, and are thought to be for it */
    struct offer offers[2]; /* who is first, and who would pass */
    int64_t waiting_ns;     /* since when it waits for a slot; 0 = it does not */
    struct list idle;    /* struct agent_wait: open connections, the latest first */
    struct dsn why;      /* DEAD: what was wrong; strings on the heap */
    struct timer timer;  /* end of PAUSED or DEAD */
    uint64_t number;     /* store_destination, while it is in sched->full; else 0 */
    uint64_t left;       /* so often a message found no place because it had its share (share.c) */
    struct buf known;    /* u64 each: their numbers, of as many as are kept */
    size_t known_at;     /* bytes of it that are used up */
    uint64_t walked;     /* of the others: before `walk` began */
    struct store_query *walk; /* through them; NULL: none has begun */
    struct list hungry;       /* sched->hungry */
};

struct turn {
    struct line_item item; /* transport->waiting */
    struct list offers;    /* of dests; empty: in no line */
};

/* What one message has to deliver through one transport. */
struct job {
    struct transport *transport; /* NULL: not in use */
    struct slots slots;
    bool paid; /* its entries stand among the paid of their lines */
    struct turn turns[PACES];
    int64_t since_ns;
    struct seat_share seats; /* of a message in part */
    struct held *held;       /* NULL: none ever was */
    struct job *next; /* active->job */
};

/* Recipients of a message in part that were read, and found no seat of their transport. */
struct held {
    struct list line; /* transport->held; empty: there are none now */
    struct active *active;
    struct job *job;
    int64_t since_ns; /* the message's place in the line */
    uint32_t first, count, room;
    uint32_t *list; /* their places in the message, from `first` on */
};

/* One message's recipients for one destination: becomes one request for each recipient_limit of
 * them. */
struct entry {
    struct line_item item; /* dest->todo */
    struct list peers;     /* active->entries */
    struct active *active;
    struct job *job; /* NULL: it does not count for one yet */
    struct dest *dest;
    int64_t requests;   /* it counts for so many in job->slots.left */
    bool sharing;       /* it counts in dest->site->sharing, for its message */
    uint32_t at, count; /* the first that has not gone out; all */
    uint32_t rcpts[];   /* indexes */
};

enum active_state { ACTIVE_RESOLVING, ACTIVE_RUNNING, ACTIVE_NOTIFYING };

struct active {
    struct qmsg *m;
    struct sched *sched;
    enum active_state state;
    struct list entries; /* waiting on a dest */
    struct job job;      /* the first of a list; nearly always all of it */
    uint32_t running;    /* requests out */
    uint32_t weight;     /* it counts for so many in sched->recipients */
    bool want_remove, want_hold;
    bool again; /* comes back at once, resolved anew (requeue, release) */
    bool force_expire, expired;
    bool flushed;       /* somebody asked for it: defer_transports does not count */
    bool bounce_failed; /* no bounce could be made in this cycle */
    bool damaged;       /* it cannot be read: to corrupt/ with it */
    bool suspended;     /* some recipient was found to be (suspend.h) */
    uint32_t *fresh; /* recipients that came to DONE in this cycle and asked for NOTIFY=SUCCESS */
    uint32_t fresh_count;
    uint32_t turns; /* the last one given to a recipient that failed */
    struct dest *expected; /* share_expect; pinned */
    struct refill *refill; /* it is in memory in part (refill.c); NULL: all of its recipients are */
    struct mbox_msg mbox;
};

/* An agent that keeps its connection and waits in request_next. Lives on that fiber's stack. */
struct agent_wait {
    struct mbox_msg to_sched, leave, answer;
    struct sched *sched;
    struct request *done;
    struct request *next;
    struct fiber *fiber;
    struct worker *worker;
    struct dest *dest;
    bool answered, leave_acked;
    bool listed;
    struct list link; /* dest->idle */
};

struct sched {
    struct queue *queue;
    struct worker *home;
    struct worker **workers;
    size_t n_workers, next_worker;
    const struct queue_hooks *hooks;
    struct sched_options opts; /* strings owned by `opts_arena` */
    struct arena *opts_arena;
    struct store *store;
    struct suspensions suspensions;
    struct why_memory memory;
    struct hmap transports;
    struct umap active;  /* seq -> struct active */
    uint64_t recipients; /* of those that have more than qmgr_message_recipient_minimum and are in memory whole */
    uint64_t budget;     /* for these; see loader_fits */
    size_t reading;      /* recipients of messages in part that are being resolved */
    uint64_t jobs;       /* made since start: their ids */
    size_t requests_out; /* fibers that will post back: requests, resolves, notices, flushes */
    bool draining;
    struct event idle;             /* draining, and nothing is out */
    _Atomic uint64_t active_count; /* of `active`, for other threads to read */
    _Atomic uint64_t arriving;     /* committed, and not yet here */
    /* loader.c */
    struct timer run_timer;  /* next queue run */
    struct timer step_timer; /* next step of the one that is under way (`loading`) */
    enum { RUN_URGENT, RUN_GATHER, RUN_LOAD } run_step;
    struct sheaf sheaf;         /* what a run has found to be due */
    struct store_due run_after; /* up to here */
    bool run_read;              /* and that is all */
    struct store_due urgent_after;
    int64_t run_until_us;
    struct event room; /* a message left the active queue */
    bool more;         /* the last run ended for want of room */
    bool wide;         /* for recipients, at least */
    bool loading, started;
    bool run_whole;     /* it looks at all that is due, not only at what comes first */
    size_t run_skipped; /* messages that have no place */
    int64_t run_began_ns;
    int64_t room_next_ns; /* the next run because there is room */
    int64_t whole_next_ns; /* when a run is to be whole */
    int64_t strays_until_ns; /* until then mail that was left in the log may come up in the index */
    /* share.c */
    size_t share;          /* 0: not computed */
    int64_t share_ns;      /* when it was */
    size_t dests_full;     /* had it when it was computed */
    size_t dests_left;     /* have `left` */
    size_t known_left;     /* numbers they know */
    size_t known_max;      /* how many are kept; the others are looked for */
    struct umap full;      /* number -> struct dest: had its share, and perhaps still has */
    struct list hungry;    /* struct dest: have room for some that were left */
    bool feeding, trimming; /* a fiber is at it */
    int64_t trim_next_ns;
};

/* sched.c */
struct sched *sched_new(struct queue *queue, struct store *store, struct worker **workers, size_t n,
                        const struct queue_hooks *hooks, const struct sched_options *opts);
void sched_free(struct sched *s);
void sched_configure(struct sched *s, const struct sched_options *opts);
void sched_weigh(struct active *a, uint32_t weight); /* it counts for so many in s->recipients */
/* A message comes into the active queue, resolved already or not. Takes m's reference. */
struct active *sched_admit(struct sched *s, struct qmsg *m);
void sched_resolve(struct active *a);    /* asks the hook on a worker */
void sched_resolved(struct active *a);   /* files its recipients under destinations */
void sched_fiber_ended(struct sched *s); /* one of requests_out */
void active_settle(struct active *a);    /* nothing of it is running: decide what comes next */
/* Somebody could not read it. Nothing of it goes out any more. */
void active_damaged(struct active *a);
/* Nothing of it waits or is out: it stays in the log as it is, due, until there is room for it. */
void active_leave(struct active *a);
/* Pull waiting entries back, so that a wanted act can end the cycle. */
void active_stop(struct active *a);
void active_free(struct active *a);
void active_drop(struct active *a); /* its memory alone */
bool active_left(const struct rcpt *r); /* it is still to be delivered to */
/* The present states of these recipients, lazily. */
void active_mark(struct active *a, const uint32_t *rcpts, size_t n);

/* "from=<...>, size=..., nrcpt=... (queue active)" */
void sched_log_active(const struct active *a, struct str sender_shown);
/* These recipients to their destinations; the active's `running` counts for it, and is settled after it. */
struct filing {
    struct active *active;
    uint32_t count;
    const uint32_t *slots; /* places in env->rcpts; NULL: 0, 1, 2 ... */
    const uint32_t *order; /* of the former, as order_recipients has it; NULL: there is one */
    struct arena *arena;   /* freed after it; may be NULL */
};
void sched_file(struct filing *f);

/* refill.c: messages in part; nothing is done for others. */
void refill_begin(struct active *a);
void refill_end(struct active *a);
bool refill_more(struct active *a); /* false: there are none, or no seats */
bool refill_unread(const struct active *a); /* some were not read in this turn, or are held */
void refill_maybe(struct active *a); /* the same as refill_more; else when its time has come */
void refill_serve(struct transport *t); /* it may have free seats */
/* What r said of its recipients is marked: others may have their slots. */
void refill_settled(struct active *a, const struct request *r);
void refill_suspended(struct active *a, const uint32_t *slots, size_t n);
uint32_t refill_waiting(const struct active *a); /* of those */
void refill_waits_by(struct active *a, const char *name); /* some of them, by this word of the operator */
bool refill_some_freed(const struct active *a); /* one of these words is no longer said */
void refill_note_success(struct active *a, uint32_t index);
/* Nothing is on its way: those in these states, or a->fresh, come into env->rcpts, and no others. False: they could
 * not be read. */
bool refill_pick(struct active *a, unsigned states);
bool refill_pick_fresh(struct active *a);

/* held.c */
/* index: its place in a's message, which is in part and has come at since_ns. */
void held_add(struct job *j, struct active *a, int64_t since_ns, uint32_t index);
uint32_t held_take(struct held *h); /* the first of them; there are some */
struct held *held_first(const struct transport *t); /* whose turn it is; NULL: nobody's */
void held_end(struct job *j);

/* order.c: on the worker that has resolved m. Yields. */
void order_recipients(struct qmsg *m);

/* transport.c */
/* a's job in it; made when it has none. */
struct job *transport_job(struct transport *t, struct active *a);
struct transport *transport_get(struct sched *s, const char *name);
void transport_configure(struct transport *t); /* after s->opts has changed */
void transport_free(struct transport *t);
void transport_started(struct transport *t, struct request *r);  /* goes out */
void transport_finished(struct transport *t, struct request *r); /* came back */
/* Its agent failed: what waits for it is deferred, and what comes within transport_retry_time. */
void transport_failed(struct transport *t, const struct dsn *why);
void transport_revive(struct transport *t); /* it is tried again from now on */

/* pace.c */
bool transport_has_slot(const struct transport *t, enum pace pace);
int64_t transport_lingering(const struct transport *t); /* that are out and do not count */
bool transport_waited_for(const struct transport *t); /* by somebody for whom there is one */
/* Who has the next slot of those that wait: an item of a job's turn; NULL: none is free for any of them. */
struct line_item *transport_next(struct transport *t);
void pace_started(struct transport *t, struct request *r);
void pace_finished(struct transport *t, struct request *r);
/* Also of a dest that has no work; PACE_NEW: not known, or not any more. */
void pace_remember(const struct dest *d);
enum pace pace_recall(const struct dest *d);

/* dest.c */
struct dest *dest_get(struct transport *t, const char *key, const char *nexthop);
void dest_add(struct dest *d, struct entry *e);
/* Takes e out of its line; its owner frees it or adds it elsewhere. */
void dest_take_out(struct entry *e);
/* It no longer counts for its job. */
void dest_uncount(struct entry *e);
int64_t dest_requests(const struct dest *d, const struct entry *e); /* that are left of e */
void dest_pump(struct dest *d);
void dest_set_pace(struct dest *d, enum pace pace);
void dest_finished(struct dest *d, bool dead, const struct dsn *why);
void dest_revive(struct dest *d);
void dest_suspend_all(struct dest *d); /* what waits for it is deferred */
void dest_release(struct dest *d); /* freed when nothing is left to do or to remember */
void dest_free(struct dest *d);
void transport_pump(struct transport *t);

/* loader.c: from the index into the active queue. */
void loader_start(struct sched *s);
void loader_stop(struct sched *s);
void loader_configure(struct sched *s); /* after s->opts has changed */
void loader_soon(struct sched *s); /* there is mail that found no room, or will be due shortly */
void loader_room(struct sched *s); /* a message left the active queue */
size_t loader_limit(const struct sched *s); /* qmgr_message_active_limit, at least 1 */
bool loader_full(const struct sched *s);
/* There is room for m and its recipients. Small ones always find some, and so do messages in part, so that a few long
 * lists do not keep everybody else out. */
bool loader_fits(const struct sched *s, const struct qmsg *m);
/* Take m (a reference) into the active queue, unless someone has it already. */
bool loader_take(struct sched *s, struct qmsg *m, bool flushed);
/* The same when there is room; else it comes with a run, soon. */
void loader_take_or_leave(struct sched *s, struct qmsg *m);
/* Fiber: try everything that is deferred now (site: only what has a recipient there). */
void loader_flush(struct sched *s, struct str site);
/* Fiber: what waited by an operator's word (name: suspend.h) comes back. */
void loader_resume(struct sched *s, enum suspend_kind kind, struct str name);

/* Some of what q finds for d that is due, at least `want` if there are so many. False: there is no more (or it cannot be
 * read). Yields. */
bool loader_fetch(struct sched *s, struct dest *d, struct store_query *q, size_t want);
/* Of these those that are due: how many came. Yields. */
size_t loader_fetch_these(struct sched *s, struct dest *d, const uint64_t *seqs, size_t n);

/* share.c */
bool share_crowded(const struct sched *s); /* shares count */
/* a, which has been resolved, is left in the log because its destinations have their share: a is gone. */
bool share_leaves(struct active *a);
/* The same of a message in the index, without looking further into it. *dest_out: its destination, as far as it is
 * known and a message is not left for it; or NULL. Does not yield. */
bool share_skips(struct sched *s, uint64_t seq, struct dest **dest_out);
/* a, which is to be resolved, is thought to go to d: it counts there until it has been. */
void share_expect(struct dest *d, struct active *a);
struct dest *share_came(struct active *a); /* pinned; NULL: none */
void share_watch(struct sched *s); /* a message has come into the active queue, or found no room */
void share_eat(struct dest *d);    /* less of it waits than before, or it is well again */
void share_forget(struct dest *d);

/* request.c */
/* A share of e, which is in d's line, and all of it leaves the line at the last. */
void request_emit(struct dest *d, struct entry *e);
void request_drain(struct sched *s); /* agents that wait for more are told there is none */

#endif
