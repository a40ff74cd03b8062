#include "io/base/hash.h"

#include <pthread.h>
#include <sys/random.h>

/* Debian's library for amd64 chooses among SSE2, AVX2 and AVX-512 as it runs. */
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#include "io/base/check.h"
#include "io/base/mem.h"

#define FIRST_SLOTS 16U

static uint64_t secret;
static pthread_once_t secret_once = PTHREAD_ONCE_INIT;

static void make_secret(void)
{
    CHECK(getrandom(&secret, sizeof secret, 0) == (ssize_t)sizeof secret);
}

uint64_t hash_sum(const void *bytes, size_t n, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes, n, seed);
}

uint64_t hash_key(struct str key)
{
    (void)pthread_once(&secret_once, make_secret);
    return XXH3_64bits_withSeed(key.ptr, key.len, secret);
}

/* Linear probing over a power of two. A deleted slot keeps its place (`dead` counts them) so that a
 * walk may delete; growing sweeps them out. At most three quarters of the slots are not empty. */
static bool crowded(size_t count, size_t dead, size_t cap)
{
    return (count + dead + 1) * 4 > cap * 3;
}

/* Mostly dead slots: the same size will do. */
static size_t grown(size_t count, size_t cap)
{
    if (cap == 0)
        return FIRST_SLOTS;
    return count * 2 < cap ? cap : cap * 2;
}

struct hmap_slot {
    uint64_t hash;
    char *key; /* NULL = never used */
    size_t len;
    void *value; /* NULL with a key = deleted */
};

static char dead_key[1];

void hmap_fini(struct hmap *m)
{
    for (size_t i = 0; i < m->cap; i++)
        if (m->slots[i].value)
            mem_free(m->slots[i].key);
    mem_free(m->slots);
    *m = (struct hmap){0};
}

static struct hmap_slot *hmap_find(const struct hmap *m, struct str key, uint64_t hash)
{
    if (m->count == 0)
        return NULL;
    for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct hmap_slot *s = &m->slots[i];
        if (!s->key)
            return NULL;
        if (s->value && s->hash == hash && str_eq(str_make(s->key, s->len), key))
            return s;
    }
}

void *hmap_get(const struct hmap *m, struct str key)
{
    struct hmap_slot *s = m->count ? hmap_find(m, key, hash_key(key)) : NULL;
    return s ? s->value : NULL;
}

static struct hmap_slot *hmap_free_slot(struct hmap_slot *slots, size_t cap, uint64_t hash)
{
    size_t i = hash & (cap - 1);
    while (slots[i].value)
        i = (i + 1) & (cap - 1);
    return &slots[i];
}

static void hmap_grow(struct hmap *m)
{
    size_t cap = grown(m->count, m->cap);
    struct hmap_slot *slots = mem_zalloc(cap * sizeof *slots);
    for (size_t i = 0; i < m->cap; i++)
        if (m->slots[i].value)
            *hmap_free_slot(slots, cap, m->slots[i].hash) = m->slots[i];
    mem_free(m->slots);
    m->slots = slots;
    m->cap = cap;
    m->dead = 0;
}

void *hmap_put(struct hmap *m, struct str key, void *value)
{
    CHECK(value != NULL);
    uint64_t hash = hash_key(key);
    struct hmap_slot *s = hmap_find(m, key, hash);
    if (s) {
        void *old = s->value;
        s->value = value;
        return old;
    }
    if (crowded(m->count, m->dead, m->cap))
        hmap_grow(m);
    s = hmap_free_slot(m->slots, m->cap, hash);
    if (s->key)
        m->dead--;
    char *copy = mem_alloc(key.len);
    if (key.len)
        memcpy(copy, key.ptr, key.len);
    *s = (struct hmap_slot){hash, copy, key.len, value};
    m->count++;
    return NULL;
}

void *hmap_del(struct hmap *m, struct str key)
{
    struct hmap_slot *s = m->count ? hmap_find(m, key, hash_key(key)) : NULL;
    if (!s)
        return NULL;
    void *old = s->value;
    mem_free(s->key);
    *s = (struct hmap_slot){0, dead_key, 0, NULL};
    m->count--;
    m->dead++;
    return old;
}

bool hmap_next(const struct hmap *m, size_t *at, struct str *key_out, void **value_out)
{
    while (*at < m->cap) {
        const struct hmap_slot *s = &m->slots[(*at)++];
        if (!s->value)
            continue;
        *key_out = str_make(s->key, s->len);
        *value_out = s->value;
        return true;
    }
    return false;
}

struct umap_slot {
    uint64_t key;
    void *value; /* NULL = never used */
};

static char dead_value[1];

static bool umap_live(const struct umap_slot *s)
{
    return s->value && s->value != dead_value;
}

static size_t umap_home(uint64_t key, size_t cap)
{
    /* The finaliser of splitmix64: ids are often consecutive. */
    key = (key ^ (key >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    key = (key ^ (key >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (key ^ (key >> 31)) & (cap - 1);
}

void umap_fini(struct umap *m)
{
    mem_free(m->slots);
    *m = (struct umap){0};
}

static struct umap_slot *umap_find(const struct umap *m, uint64_t key)
{
    if (m->count == 0)
        return NULL;
    for (size_t i = umap_home(key, m->cap);; i = (i + 1) & (m->cap - 1)) {
        struct umap_slot *s = &m->slots[i];
        if (!s->value)
            return NULL;
        if (s->key == key && umap_live(s))
            return s;
    }
}

void *umap_get(const struct umap *m, uint64_t key)
{
    struct umap_slot *s = umap_find(m, key);
    return s ? s->value : NULL;
}

static struct umap_slot *umap_free_slot(struct umap_slot *slots, size_t cap, uint64_t key)
{
    size_t i = umap_home(key, cap);
    while (umap_live(&slots[i]))
        i = (i + 1) & (cap - 1);
    return &slots[i];
}

static void umap_grow(struct umap *m)
{
    size_t cap = grown(m->count, m->cap);
    struct umap_slot *slots = mem_zalloc(cap * sizeof *slots);
    for (size_t i = 0; i < m->cap; i++)
        if (umap_live(&m->slots[i]))
            *umap_free_slot(slots, cap, m->slots[i].key) = m->slots[i];
    mem_free(m->slots);
    m->slots = slots;
    m->cap = cap;
    m->dead = 0;
}

void *umap_put(struct umap *m, uint64_t key, void *value)
{
    CHECK(value != NULL);
    struct umap_slot *s = umap_find(m, key);
    if (s) {
        void *old = s->value;
        s->value = value;
        return old;
    }
    if (crowded(m->count, m->dead, m->cap))
        umap_grow(m);
    s = umap_free_slot(m->slots, m->cap, key);
    if (s->value)
        m->dead--;
    *s = (struct umap_slot){key, value};
    m->count++;
    return NULL;
}

void *umap_del(struct umap *m, uint64_t key)
{
    struct umap_slot *s = umap_find(m, key);
    if (!s)
        return NULL;
    void *old = s->value;
    s->value = dead_value;
    m->count--;
    m->dead++;
    return old;
}

bool umap_next(const struct umap *m, size_t *at, uint64_t *key_out, void **value_out)
{
    while (*at < m->cap) {
        const struct umap_slot *s = &m->slots[(*at)++];
        if (!umap_live(s))
            continue;
        *key_out = s->key;
        *value_out = s->value;
        return true;
    }
    return false;
}
