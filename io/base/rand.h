/* rand: random numbers, as a seam: a simulator seeds it. Per-thread state seeded from getrandom(2),
 * anew after a fork. Hard to guess, but no secrets are to be made of them. */
#ifndef IO_BASE_RAND_H
#define IO_BASE_RAND_H

#include <stdint.h>

uint64_t rand_u64(void);
uint64_t rand_below(uint64_t n); /* 0..n-1, without bias; n > 0 */
void rand_replace(uint64_t (*next)(void)); /* NULL puts the real one back */

#endif
