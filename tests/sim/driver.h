/* driver: the main program of each simulation: which seeds run, how a failure is told, and that it
 * exits with status 1 and the one command that repeats it. The simulation fills `struct driver` and
 * calls driver_main. cuts.h is the part that cuts the power. */
#ifndef SIM_DRIVER_H
#define SIM_DRIVER_H

#include "dice.h"
#include "io/base/log.h"

/* The run that is under way. */
struct sim_run {
    uint64_t seed;
    long point;         /* of a power cut; -1: in the workload */
    uint64_t fault;     /* the operation that fails; 0: none */
    enum fault_at kind; /* of it */
    const char *phase;
    const char *note; /* behind the phase, as " without index" */
    bool verbose;
};
extern struct sim_run sim;

/* What the command line asked for, of one who cuts the power. */
struct sim_asked {
    long point;            /* this one alone; -1: each */
    uint64_t change, read; /* this one fails; 0: chosen by the seed */
    bool every_fault;
};
extern struct sim_asked sim_asked;

/* An option of the simulation's own: --name VALUE. */
struct driver_option {
    const char *name, *help;
    const char **value;
};

struct driver {
    const char *name;
    uint64_t seeds;      /* how many run when nobody says */
    bool cuts;           /* takes the options about points and faults */
    void (*begin)(void); /* NULL: nothing */
    void (*one_seed)(void);
    void (*progress)(void); /* to stderr, without an end of line; NULL: none */
    void (*end)(void);      /* sums up; NULL: nothing */
    const struct driver_option *options; /* until one without name; NULL: none */
    /* What is logged, but for LOG_LEVEL_INFO in silence; NULL: nobody reads it. */
    void (*logged)(const char *text);
};

int driver_main(const struct driver *d, int argc, char **argv);

/* What failed, in which run and point; ends the process with status 1. */
void sim_fail(const char *fmt, ...) PRINTF(1, 2) __attribute__((noreturn));

#endif
