/* sink: what the parts of smtp_sink share. One struct sink for the process; one struct crew a worker
 * thread; one struct place an address that was connected to, counted by all crews; one fiber a
 * connection. */
#ifndef PERF_LOAD_SINK_H
#define PERF_LOAD_SINK_H

#include <stdatomic.h>
#include "io/fiber/worker.h"
#include "io/net/addr.h"
#include "io/ring/ring.h"
#include "perf/load/hist.h"
#include "perf/load/ids.h"
#include "perf/load/lines.h"
#include "perf/load/manners.h"

#define SINK_HOST "sink.load.example"

struct place {
    const struct manner *manner;
    struct place *next; /* all of them */
    atomic_uint_fast64_t open, connections;
    atomic_uint_fast64_t messages, rcpts, bytes; /* answered with 250 */
    atomic_uint_fast64_t again;                  /* recipients of messages that were here before */
    atomic_uint_fast64_t unmarked;               /* messages without an id */
    atomic_uint_fast64_t refused_4xx, refused_5xx, dropped, hung, over_limit, greylisted;
    atomic_uint_fast64_t times[SINK_STAGES]; /* came to the stage; counted where the manner acts */
    char name[ADDR_TEXT_MAX];
};

struct sink {
    const struct rules *rules;
    uint64_t connections_max, messages_max; /* 0: no limit */
    int64_t timeout_ns, start_ns;
    bool dedupe, stamps;
    struct idset ids, deliveries; /* messages; message and recipient */
    struct first_times greylist;

    pthread_mutex_t lock; /* places */
    struct hmap by_addr;
    struct place *places;

    atomic_uint_fast64_t open, messages, over_limit;
    struct crew *crews;
    size_t crew_count;
};

struct crew {
    struct sink *sink;
    struct worker *worker;
    struct listening *listening; /* one each listening socket */
    size_t listening_count;
    struct lines received;
    struct hist delivered; /* from the stamp in the message until its end was read */
    int64_t first_us, last_us; /* wall clock of messages; 0: none came */
};

/* One accepted connection. */
struct caller {
    struct crew *crew;
    int fd;
};

/* sink_session.c: the connection's fiber; arg is a struct caller, freed by it. */
void sink_session(void *arg);
/* smtp_sink.c: the place of a local address. */
struct place *sink_place(struct sink *s, const struct addr *at);

static inline uint64_t count(atomic_uint_fast64_t *counter, uint64_t n)
{
    return atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* content.c. The end of the content is <CR><LF>.<CR><LF> and nothing else; after_line: the bytes
 * before `have` ended a line. Returns how many bytes belong to the content and its end, 0: the end is
 * not there. */
size_t content_end(struct str have, bool after_line);
/* "X-Load: <id> <microseconds>" in the header. 1 found, 0 not in it, -1 more bytes are needed. */
int content_mark(struct str have, struct str *id_out, int64_t *wall_us_out);

#endif
