/* suspend: what an operator has told to wait: a destination, a recipient domain, a next hop by whatever
 * transport, a whole transport. Mail for it stays in the queue: nothing is attempted, nothing counts
 * as a failure, nothing expires. Kept in a file (queue_options.data_directory), so it outlasts
 * reloads and restarts. As it is written:
 *
 *     example.com          recipients in this domain; "@example.com" is the same
 *     smtp:[relay]:25      what goes to this destination
 *     [relay]:25           the same, by whatever transport
 *     smtp:                what goes by this transport; without the colon too, where there is one of
 *                          that name
 *
 * Letters count in either case. Scheduler thread only. */
#ifndef QUEUE_SCHED_SUSPEND_H
#define QUEUE_SCHED_SUSPEND_H

#include "io/base/hash.h"
#include "io/fiber/wait.h"
#include "queue/envelope.h"
#include "queue/store/store.h"

struct sched;
struct qmsg;
struct active;

enum suspend_kind { SUSPEND_DOMAIN, SUSPEND_DESTINATION, SUSPEND_NEXTHOP, SUSPEND_TRANSPORT };

struct suspensions {
    struct hmap set; /* as written above, in lower case -> struct suspension */
    char *path;      /* NULL: not kept */
    struct sem file; /* one writer at a time */
};

/* The way it is written, whole and in lower case, in a. What it says must make sense: ERR_REFUSED with the
 * reason. is_transport: is there one of this name? */
struct err *suspend_parse(struct str text, bool (*is_transport)(const void *ctx, struct str name),
                          const void *ctx, struct arena *a, struct str *out,
                          enum suspend_kind *kind_out) MUST_USE;
/* Of a name as suspend_parse gives it. */
enum suspend_kind suspend_kind_of(struct str name);
/* Finds what may wait by it; MESSAGE_SUSPENDED says what does. */
struct store_query suspend_query(enum suspend_kind kind, struct str name);
/* Reads the file. Yields. */
struct err *suspend_open(struct suspensions *p, const char *data_directory) MUST_USE;
void suspend_close(struct suspensions *p);
/* False: it was in that state before. Safe on disk when it returns; when it could not be written it is as
 * before. Yields. */
struct err *suspend_set(struct suspensions *p, struct str name, bool on, bool *changed_out) MUST_USE;

/* Must this recipient wait? transport and nexthop NULL = not known. The name it waits by, or NULL. */
const char *suspend_find(const struct suspensions *p, struct str address, const char *transport,
                         const char *nexthop);
/* In order of their names: each(ctx, name, since_us). */
void suspend_each(const struct suspensions *p, void (*each)(void *ctx, const char *name, int64_t since_us),
                  void *ctx);
/* What a recipient that waits says of itself: that, and behind it what it said before. */
struct dsn suspend_why(const struct dsn *before, struct arena *a);
bool suspend_says(const struct dsn *why);

/* --- in the scheduler: struct active's `suspended` = some recipient was found to have to wait */
/* One that is to be delivered now has to wait: this is noted in it. */
bool suspend_holds(struct active *a, struct rcpt *r);
/* Is it one of those, and must it still? */
bool suspend_waits(const struct active *a, const struct rcpt *r);
struct suspend_sum {
    uint32_t waiting; /* recipients that wait by an operator's word */
    uint32_t freed;   /* that did, and need no longer: they were not attempted */
    uint32_t others;  /* that are left */
};
struct suspend_sum suspend_sum(const struct active *a);
/* The list has changed: what is in the active queue and not on its way yet is looked at anew. Yields. */
void suspend_pull(struct sched *s);

#endif
