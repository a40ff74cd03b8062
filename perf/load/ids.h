/* ids: which messages were here before. Sets of 64-bit hashes (8 to 16 bytes an entry), and a table
 * of first times for greylisting. Any thread; nothing yields. */
#ifndef PERF_LOAD_IDS_H
#define PERF_LOAD_IDS_H

#include <pthread.h>
#include <stdint.h>
#include "io/base/hash.h"

enum { IDS_SHARDS = 64 };

struct idset {
    struct idset_shard {
        pthread_mutex_t lock;
        uint64_t *slots; /* 0 = free */
        size_t count, cap;
    } shards[IDS_SHARDS];
};
void idset_init(struct idset *s);
void idset_fini(struct idset *s);
bool idset_add(struct idset *s, uint64_t hash); /* false: was in it already */
uint64_t idset_count(struct idset *s);

struct first_times {
    pthread_mutex_t lock;
    struct umap map;
};
void first_times_init(struct first_times *f);
/* When the hash was seen first: now, or a time given before. now_ns > 0. */
int64_t first_times_see(struct first_times *f, uint64_t hash, int64_t now_ns);

#endif
