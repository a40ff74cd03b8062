/* shape: qshape's table: counts by domain and age, and how they are printed (qshape(1), spec CMD-17). Pure. */
#ifndef CORE_CMD_SHAPE_H
#define CORE_CMD_SHAPE_H

#include "io/base/arena.h"
#include "io/base/buf.h"
#include "io/base/hash.h"

enum { SHAPE_BUCKETS_MAX = 1000 };

struct shape {
    bool senders, parents, linear;
    uint64_t min_subdomains;
    size_t buckets;
    double tick_min; /* minutes of the first bucket */
    int width;
    size_t top;    /* so many rows at most; 0 = all */
    int64_t now_s; /* ages are up to here */
    /* --- its own */
    struct hmap domains; /* -> struct shape_row */
    struct shape_row *total;
    struct arena *arena;
};

/* Postfix's defaults. */
void shape_init(struct shape *s, int64_t now_s);
void shape_fini(struct shape *s);
/* Rows as queue_shape packs them. */
void shape_add(struct shape *s, struct str rows);
void shape_print(struct shape *s, struct buf *out);

#endif
