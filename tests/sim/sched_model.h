/* sched_model: the sites that sim.sched delivers to, and what may never happen at one of them. Each
 * attempt is played here: it takes the site's time, and ends as the site is at that moment. */
#ifndef SIM_SCHED_MODEL_H
#define SIM_SCHED_MODEL_H

#include "queue/queue.h"
#include "queue/sched/request.h"
#include "queue/sched/sched.h"

enum {
    SITES_MAX = 5000,
    DOWN_SITE = 0, /* down from the start: a backlog waits for it */
    STALL_SITE = 2, /* the first of those that stall: a flood of mail waits for them */
    STALL_SITES = 5,
    TRAFFIC_S = 4 * 3600,
    MINIMAL_S = 300,
    EARLY_S = 1, /* a queue run takes what is due within the next second, as Postfix's does */
    MAXIMAL_S = 4000,
    DAY_S = 86400,
    AGENT_RETRY_S = 60, /* transport_retry_time */
};

enum site_kind {
    SITE_PLAIN,
    SITE_TWO_HOSTS, /* the first one cannot be reached for hours */
    SITE_GREY,      /* defers what it has not known for long enough */
    SITE_LIMITED,   /* 421 above so many connections */
    SITE_SLOW,
    SITE_DOWN, /* for hours */
    SITE_STALLING, /* takes a minute and more for each mail */
    SITE_KINDS,
};
extern const char *const site_kinds[SITE_KINDS];

struct site {
    enum site_kind kind;
    bool paced; /* by the rate delay of its transport */
    int64_t latency_ns, grey_ns;
    int64_t down_from_ns, down_for_ns, every_ns; /* of SITE_DOWN; of the first of two hosts */
    int capacity;                                /* 0: any */
    int busy;
    int64_t begun_ns, ended_ns, probed_ns;
    uint64_t attempts, refused, probes;
    /* the first of two hosts */
    int64_t lost_ns; /* when its last attempt failed; 0: it is not known to be dead */
    int asking;      /* attempts at it that are under way */
    int first;       /* attempts at it that began before the first had failed */
    uint64_t asked_dead, passed_by;
};

struct model {
    struct site sites[SITES_MAX];
    size_t count; /* of them */
    struct sched_transport transports[2]; /* smtp; rate, for those that are paced */
    int out[2];
    int64_t agent_from_ns, agent_for_ns; /* when the agent of the paced ones dies of each request */
    int64_t agent_tried_ns;              /* the last time it did; 0: it was not tried */
    uint64_t agent_deaths;
    int64_t burst_ns; /* when DOWN_SITE got its backlog; 0: not yet */
};
extern struct model model;

/* days: 0 = hours. count: of sites, 1 to SITES_MAX. */
void model_begin(int days, size_t count);
int64_t model_ms(int64_t from, int64_t to); /* some time between, in ns */
void model_nap(int64_t ns);
bool site_is_down(const struct site *s, int64_t now);
/* Takes what comes within seconds. */
bool site_is_healthy(const struct site *s);
/* The agent dies of this request: nobody answers it. */
bool agent_dies(const struct site *s, const struct request *r);
/* Plays an attempt. False: the site refused it, all of it. Yields. */
bool site_attempt(struct site *s, const struct request *r);

#endif
