/* ring_sim: the other world under io/ring/ring.h. One thread, a clock that moves only when nothing
 * else can happen, completions in random order. File operations act on disk_sim; a read of a real
 * descriptor (the worker's eventfd) never completes, for there is no other thread to wake us. */
#ifndef SIM_RING_SIM_H
#define SIM_RING_SIM_H

#include <stdint.h>

/* Puts the simulated clocks and random numbers in place. */
void sim_world_begin(uint64_t seed);
/* Another moment of it, between two runs of a worker. */
void sim_clock_set(int64_t mono_ns);
/* A world that does nothing for this long of its own time, with fibers left, hangs. */
void sim_deadline(int64_t seconds);

#endif
