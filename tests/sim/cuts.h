/* cuts: the power goes at every point of a run. A simulation gives a workload, which keeps a model
 * of what must be true beside it, and says what a start on what is left has to find. One seed is a
 * run that is cut at each of its points, and one (or many) in which an operation fails. */
#ifndef SIM_CUTS_H
#define SIM_CUTS_H

#include <stddef.h>
#include "disk_sim.h"
#include "driver.h"

#define CUTS_QUEUE SIM_ROOT "/queue"

/* A disk after the cut, and what was true when it came. */
struct cut {
    struct disk *disk; /* the current one */
    int64_t at_ns;
    void *model;
    size_t point;
};

struct cut_test {
    const char *name;
    uint64_t seeds;                /* how many run when nobody says */
    size_t model_bytes;            /* copied whole at each point; zeros when the workload begins */
    int64_t world_s;               /* a run that takes longer hangs */
    void (*workload)(void *model); /* fiber */
    void (*recovery)(void *model); /* fiber: a start, the check, a stop */
    void (*after_cut)(const struct cut *c); /* calls one of cuts_recover* */
    void (*logged)(const char *text);       /* as in struct driver */
    void (*end)(void);                      /* before the sum; NULL: nothing */
};

int cuts_main(const struct cut_test *t, int argc, char **argv);

/* Runs fn in a fiber of a worker of its own, and so with a clock that begins where it is told. */
void cuts_run(int64_t at_ns, void (*fn)(void *arg), void *arg);
/* Recovery runs on what is left. */
void cuts_recover(const struct cut *c);
/* It is cut too, at one of its points, and then runs to its end. */
void cuts_recover_twice(const struct cut *c);
/* The disk as it was at a point. */
struct disk *cuts_disk(size_t point);

#endif
