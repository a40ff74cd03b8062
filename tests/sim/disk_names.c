#include "disk_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct entry *name_find(const struct names *t, uint64_t dir, const char *name)
{
    for (size_t i = 0; i < t->n; i++) {
        if (t->at[i].dir == dir && strcmp(t->at[i].name, name) == 0)
            return &t->at[i];
    }
    return NULL;
}

void name_del(struct names *t, uint64_t dir, const char *name)
{
    struct entry *e = name_find(t, dir, name);
    if (e != NULL)
        *e = t->at[--t->n];
}

void name_put(struct names *t, uint64_t dir, const char *name, uint64_t ino)
{
    struct entry *e = name_find(t, dir, name);
    if (e == NULL) {
        if (t->n == t->cap) {
            t->cap = t->cap != 0 ? 2 * t->cap : 32;
            t->at = realloc(t->at, t->cap * sizeof *t->at);
        }
        e = &t->at[t->n++];
    }
    e->dir = dir;
    e->ino = ino;
    snprintf(e->name, sizeof e->name, "%s", name);
}

const struct entry *name_of(const struct names *t, uint64_t ino)
{
    for (size_t i = 0; i < t->n; i++) {
        if (t->at[i].ino == ino)
            return &t->at[i];
    }
    return NULL;
}

struct names names_copy(const struct names *t)
{
    struct names to = {.n = t->n, .cap = t->n};
    to.at = t->n != 0 ? malloc(t->n * sizeof *to.at) : NULL;
    if (t->n != 0)
        memcpy(to.at, t->at, t->n * sizeof *to.at);
    return to;
}
