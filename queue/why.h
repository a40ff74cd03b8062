/* why: what the queue knows of why mail waits, and what an operator has told to wait. Any worker's fiber;
 * each looks on the scheduler thread. Memory from the arena given. */
#ifndef QUEUE_WHY_H
#define QUEUE_WHY_H

#include "queue/queue.h"

struct queue_route {
    const char *transport, *nexthop; /* NULL = not known now */
};

/* --- a destination */
enum queue_dest_state {
    QUEUE_DEST_QUIET, /* nothing is under way for it, and nothing is held against it */
    QUEUE_DEST_READY,
    QUEUE_DEST_PAUSED, /* rate delay */
    QUEUE_DEST_DEAD,
};
struct queue_dest {
    struct queue_route route;
    bool declared; /* master.cf has this transport */
    enum queue_dest_state state;
    int64_t until_us; /* end of PAUSED or DEAD, wall clock */
    struct dsn why;   /* DEAD */
    int64_t window, busy, waiting; /* requests: may be out, are out; entries that wait. Not QUIET */
    int64_t concurrency_limit, rate_delay_ms;          /* of a destination; 0 = none */
    int64_t transport_rate_delay_ms;
    int64_t process_limit, transport_busy, transport_lingering; /* 0 = none; requests out; that do not count */
    int64_t seats, seats_taken, held; /* of the transport, for long lists; recipients that wait for one */
    bool transport_deferred;                           /* defer_transports */
    const char *suspended;                             /* by this word of the operator; NULL = not */
    /* the last reply since the start */
    int64_t replied_us; /* 0 = not known */
    bool sent;
    char status[12];
    struct str reply;
};
struct err *queue_dest(struct queue *q, struct queue_route route, struct arena *a,
                       struct queue_dest *out) MUST_USE;
/* Where mail for this domain is under way to now, and destinations of this name; or, of a transport, its
 * destinations that have mail. At most QUEUE_ROUTES_MAX. */
enum { QUEUE_ROUTES_MAX = 50 };
struct err *queue_routes(struct queue *q, struct str domain, struct str transport, struct arena *a,
                         struct queue_route **out, size_t *count_out) MUST_USE;

/* --- what waits for a recipient domain, or for a destination (queue_select.destination) */
struct queue_tally {
    uint64_t counts[QUEUE_CORRUPT]; /* messages by enum queue_name */
    uint64_t messages, suspended;
    int64_t oldest_us;        /* arrival; 0 = none */
    int64_t next_try_us;      /* of what is deferred: the first; 0 = none */
    char latest[QUEUE_ID_MAX]; /* one that was tried lately; "" = none */
};
struct err *queue_tally(struct queue *q, struct str domain, struct str destination,
                        struct queue_tally *out) MUST_USE;

/* --- a message */
struct queue_why {
    struct queue_entry entry;
    struct queue_route *routes; /* of entry.env's recipients; known while it is active */
    int64_t tried_us;           /* when its last attempt ended; 0 = not known */
    uint32_t running;           /* attempts under way */
    bool resolving, waiting;    /* addresses are being looked up; some recipient waits for its turn */
    bool suspended;
    bool no_room;               /* due, and not in the active queue */
};
struct err *queue_why(struct queue *q, struct str id, struct arena *a, struct queue_why *out,
                      bool *found_out) MUST_USE;

/* --- suspended by an operator; queue/sched/suspend.h has what may be said. ERR_REFUSED: that makes no
 * sense. Safe on disk when it returns, and holds for what has not gone out yet. */
struct err *queue_suspend(struct queue *q, struct str what, struct arena *a, struct str *name_out,
                          bool *changed_out) MUST_USE;
/* What waited by it is tried now, unless it waits by another. what empty: all. */
struct err *queue_resume(struct queue *q, struct str what, struct arena *a, uint64_t *count_out) MUST_USE;
struct err *queue_suspended(struct queue *q, void (*each)(void *ctx, const char *name, int64_t since_us),
                            void *ctx) MUST_USE;

#endif
