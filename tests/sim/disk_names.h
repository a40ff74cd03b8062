/* disk_names: the names in the folders of the simulated disk: a table of (folder, name, file). */
#ifndef SIM_DISK_NAMES_H
#define SIM_DISK_NAMES_H

#include <stddef.h>
#include <stdint.h>
#include "disk_sim.h"

struct entry {
    uint64_t dir, ino;
    char name[SIM_NAME_MAX];
};

struct names {
    struct entry *at;
    size_t n, cap;
};

struct names names_copy(const struct names *t);
struct entry *name_find(const struct names *t, uint64_t dir, const char *name);
void name_put(struct names *t, uint64_t dir, const char *name, uint64_t ino);
void name_del(struct names *t, uint64_t dir, const char *name);
/* Any name of this file, or NULL. */
const struct entry *name_of(const struct names *t, uint64_t ino);

#endif
