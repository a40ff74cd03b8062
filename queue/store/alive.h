/* alive: which messages have a row, about, told from memory: a bit of a table for each, by its number. What
 * has a row is found always; what has none is found sometimes, too (its bit is another's). For looking at
 * hints by the million without a look at the rows. */
#ifndef QUEUE_STORE_ALIVE_H
#define QUEUE_STORE_ALIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct alive {
    uint64_t *words; /* NULL = not in use */
    unsigned shift;
    uint64_t set; /* bits */
};

void alive_init(struct alive *v, uint64_t rows); /* about so many are coming */
void alive_fini(struct alive *v);
void alive_add(struct alive *v, uint64_t seq);
bool alive_has(const struct alive *v, uint64_t seq);
/* Of a hundred that have no row so many are found all the same. */
unsigned alive_wrong_percent(const struct alive *v);

#endif
