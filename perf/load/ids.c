#include "perf/load/ids.h"

#include "io/base/mem.h"

enum { FIRST_SLOTS = 256 };

void idset_init(struct idset *s)
{
    for (int i = 0; i < IDS_SHARDS; i++) {
        s->shards[i] = (struct idset_shard){0};
        pthread_mutex_init(&s->shards[i].lock, NULL);
    }
}

void idset_fini(struct idset *s)
{
    for (int i = 0; i < IDS_SHARDS; i++) {
        pthread_mutex_destroy(&s->shards[i].lock);
        mem_free(s->shards[i].slots);
    }
}

/* The top bits choose the shard, the lower ones the place in it. */
static uint64_t *place_of(uint64_t *slots, size_t cap, uint64_t hash)
{
    size_t i = hash & (cap - 1);
    while (slots[i] != 0 && slots[i] != hash)
        i = (i + 1) & (cap - 1);
    return &slots[i];
}

static void grow(struct idset_shard *s)
{
    size_t cap = s->cap > 0 ? s->cap * 2 : FIRST_SLOTS;
    uint64_t *slots = mem_zalloc(cap * sizeof *slots);
    for (size_t i = 0; i < s->cap; i++)
        if (s->slots[i] != 0)
            *place_of(slots, cap, s->slots[i]) = s->slots[i];
    mem_free(s->slots);
    s->slots = slots;
    s->cap = cap;
}

bool idset_add(struct idset *set, uint64_t hash)
{
    struct idset_shard *s = &set->shards[hash >> 58];
    if (hash == 0)
        hash = 1; /* 0 marks a free slot */
    pthread_mutex_lock(&s->lock);
    if (s->count * 8 >= s->cap * 7)
        grow(s);
    uint64_t *place = place_of(s->slots, s->cap, hash);
    bool fresh = *place == 0;
    *place = hash;
    s->count += fresh;
    pthread_mutex_unlock(&s->lock);
    return fresh;
}

uint64_t idset_count(struct idset *set)
{
    uint64_t n = 0;
    for (int i = 0; i < IDS_SHARDS; i++) {
        pthread_mutex_lock(&set->shards[i].lock);
        n += set->shards[i].count;
        pthread_mutex_unlock(&set->shards[i].lock);
    }
    return n;
}

void first_times_init(struct first_times *f)
{
    pthread_mutex_init(&f->lock, NULL);
    f->map = (struct umap){0};
}

int64_t first_times_see(struct first_times *f, uint64_t hash, int64_t now_ns)
{
    pthread_mutex_lock(&f->lock);
    intptr_t first = (intptr_t)umap_get(&f->map, hash);
    if (first == 0) {
        (void)umap_put(&f->map, hash, (void *)(intptr_t)now_ns);
        first = (intptr_t)now_ns;
    }
    pthread_mutex_unlock(&f->lock);
    return first;
}
