/* dice: the chance of a simulated world, the moments at which it may end, and the one fault it has.
 * All comes from one seed. */
#ifndef SIM_DICE_H
#define SIM_DICE_H

#include <stdbool.h>
#include <stdint.h>

/* --- random numbers of the world, by seed */
void sim_seed(uint64_t seed);
uint64_t sim_rand(void);
uint64_t sim_below(uint64_t n);
bool sim_chance(unsigned percent);

/* --- points and faults. A point is a moment at which the power may be cut: each change of the
 * disk, and each moment at which a write is under way. */
void sim_point_hook(void (*fn)(void));
void sim_point(void);
enum fault_at { FAULT_NONE, FAULT_CHANGE, FAULT_READ };
/* The n-th (from 1) change, or read, from now on gives this errno; `times` of them in a row. A
 * write that fails may have reached the disk all the same, and what was synced by it is not. */
void sim_fault(enum fault_at at, uint64_t n, int number, unsigned times);
bool sim_fault_hit(void);
/* 0, or the errno this operation is to give. */
int sim_fault_now(enum fault_at at);

#endif
