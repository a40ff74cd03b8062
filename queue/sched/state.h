/* state: the scheduler's own structures, private to queue/sched and queue/queue.c. All of it is touched on the
 * scheduler thread only, so nothing here is locked.
 *
 * Message (struct active, qmsg.sched):
 *     RESOLVING --resolve hook answered--> RUNNING --last entry back--> NOTIFYING (if there is something to
 *     tell the sender) --> ended: removed, deferred, held
 * Destination (struct dest):
 *     READY   todo may go out while busy < window.size
 *     PAUSED  rate delay: nothing until `until_ns`
 *     DEAD    window.size 0: nothing until `until_ns`, what comes is deferred at once */
#ifndef QUEUE_SCHED_STATE_H
#define QUEUE_SCHED_STATE_H

#include "io/base/hash.h"
#include "io/base/heap.h"
#include "io/fiber/wait.h"
#include "queue/queue.h"
#include "queue/sched/feedback.h"
#include "queue/sched/request.h"
#include "queue/sched/sched.h"
#include "queue/store/store.h"

struct sched;

enum dest_state { DEST_READY, DEST_PAUSED, DEST_DEAD };

struct transport {
    struct sched *sched;
    struct sched_transport opts;
    struct hmap dests;    /* key -> struct dest */
    int64_t busy;         /* requests out, against opts.process_limit */
    struct list waiting;  /* dests with work that found no process slot, in turn */
    bool retired;         /* no longer configured */
};

struct dest {
    struct transport *transport;
    char *key;            /* nexthop, or the recipient where the recipient limit is 1 */
    char *nexthop;
    enum dest_state state;
    struct window window;
    int64_t busy;
    struct list todo;     /* struct entry */
    size_t todo_count;
    struct list idle;     /* struct agent_wait: open connections, the latest first */
    struct dsn why;       /* DEAD: what was wrong; strings on the heap */
    struct timer timer;   /* end of PAUSED or DEAD */
    struct list waiting;  /* in transport->waiting */
    int64_t last_used_ns;
};

/* One message's recipients for one destination: becomes one request. */
struct entry {
    struct list link;      /* dest->todo */
    struct list peers;     /* active->entries */
    struct active *active;
    struct dest *dest;
    uint32_t count;
    uint32_t rcpts[];      /* indexes */
};

enum active_state { ACTIVE_RESOLVING, ACTIVE_RUNNING, ACTIVE_NOTIFYING };

struct active {
    struct qmsg *m;
    struct sched *sched;
    enum active_state state;
    struct list entries;   /* waiting on a dest */
    uint32_t running;      /* requests out */
    bool want_remove, want_hold, force_expire;
    bool expired;
    uint32_t *fresh;       /* recipients that came to DONE in this cycle and asked for NOTIFY=SUCCESS */
    uint32_t fresh_count;
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
    bool want_more;
    bool answered, leave_acked;
    bool listed;
    struct list link;      /* dest->idle */
};

struct sched {
    struct worker *home;
    struct worker **workers;
    size_t n_workers, next_worker;
    const struct queue_hooks *hooks;
    struct sched_options opts; /* strings owned by `opts_arena` */
    struct arena *opts_arena;
    struct store *store;
    struct hmap transports;
    struct umap active;       /* seq -> struct active */
    size_t requests_out;      /* all transports */
    bool draining;
    struct event idle;        /* draining, and nothing is out */
    /* loader.c */
    struct timer run_timer;   /* next queue run */
    struct event room;        /* a message left the active queue */
    bool more;                /* the last run ended for want of room */
    bool loading;
};

/* sched.c */
struct sched *sched_new(struct store *store, struct worker **workers, size_t n,
                        const struct queue_hooks *hooks, const struct sched_options *opts);
void sched_free(struct sched *s);
void sched_configure(struct sched *s, const struct sched_options *opts);
/* A message comes into the active queue, resolved already or not. Takes m's reference. */
struct active *sched_admit(struct sched *s, struct qmsg *m);
void sched_resolve(struct active *a); /* asks the hook on a worker */
void sched_resolved(struct active *a); /* files its recipients under destinations */
void active_settle(struct active *a); /* nothing of it is running: decide what comes next */
/* Pull waiting entries back, so that a wanted act can end the cycle. */
void active_stop(struct active *a);
void active_free(struct active *a);
void active_mark(struct active *a, uint32_t rcpt); /* its present state, lazily */

/* dest.c */
struct transport *transport_get(struct sched *s, const char *name);
struct dest *dest_get(struct transport *t, const char *key, const char *nexthop);
void dest_add(struct dest *d, struct entry *e);
void dest_pump(struct dest *d);
void dest_finished(struct dest *d, bool dead, const struct dsn *why);
void dest_revive(struct dest *d);
void dest_release(struct dest *d); /* freed when nothing is left to remember */
void transport_pump(struct transport *t);

/* loader.c: from the index into the active queue. */
void loader_start(struct sched *s);
void loader_stop(struct sched *s);
void loader_soon(struct sched *s); /* there is mail that found no room, or will be due shortly */
void loader_room(struct sched *s); /* a message left the active queue */
bool loader_full(const struct sched *s);
/* Take m (a reference) into the active queue, unless someone has it already. */
bool loader_take(struct sched *s, struct qmsg *m);
/* Fiber: try everything that is deferred now (site: only what has a recipient there). */
void loader_flush(struct sched *s, struct str site);

/* request.c */
void request_emit(struct dest *d, struct entry *e);
void request_drain(struct sched *s); /* agents that wait for more are told there is none */

#endif
