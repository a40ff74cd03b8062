#include "core/smtp/reach.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "io/base/clock.h"
#include "io/base/hash.h"

enum { WAYS = 4, BUCKETS = 1024, PLACES = 2 * WAYS };

/* An address is known by a keyed hash of 64 bits: should two ever meet, one of them is tried later than
 * it might be, and that is all. */
struct place {
    _Atomic uint64_t key; /* 0: free */
    _Atomic int64_t due_ns;
};
static_assert(WAYS * sizeof(struct place) == 64, "a look-up is two lines of the cache");

static struct {
    _Alignas(64) struct place places[BUCKETS][WAYS];
    _Atomic size_t used;
    pthread_mutex_t lock; /* over all writes but a probe's claim */
} memory = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint64_t key_of(const struct params *p, const struct addr *to)
{
    uint8_t bytes[16 + 2 + 46];
    size_t n = 16;
    uint16_t port = addr_port(to);
    const char *from = p->smtp_bind_address;
    memset(bytes, 0, n);
    if (to->sa.sa_family == AF_INET6) {
        memcpy(bytes, &to->in6.sin6_addr, 16);
        from = p->smtp_bind_address6;
    } else {
        memcpy(bytes, &to->in.sin_addr, 4);
    }
    memcpy(bytes + n, &port, sizeof(port));
    n += sizeof(port);
    struct str source = str_head(str_of(from), sizeof(bytes) - n);
    if (source.len > 0)
        memcpy(bytes + n, source.ptr, source.len);
    uint64_t key = hash_key(str_make((const char *)bytes, n + source.len));
    return key ? key : 1;
}

static uint64_t key_at(struct place *at)
{
    return atomic_load_explicit(&at->key, memory_order_acquire);
}

/* Where it may stand: of two buckets the emptier one is taken, so that none is full while half of the places are free; with one to
 * choose some are when a tenth is taken. */
static struct place *place_of(uint64_t key, size_t i)
{
    uint64_t bucket = (i < WAYS ? key : key >> 32) % BUCKETS;
    return &memory.places[bucket][i % WAYS];
}

static struct place *find(uint64_t key)
{
    for (size_t i = 0; i < PLACES; i++)
        if (key_at(place_of(key, i)) == key)
            return place_of(key, i);
    return NULL;
}

static bool is_empty(void)
{
    return atomic_load_explicit(&memory.used, memory_order_relaxed) == 0;
}

static int64_t wait_ns(const struct params *p)
{
    return p->minimal_backoff_time * NS_PER_S;
}

/* Many may find that the time is up; one of them moves it on. */
static bool claim(struct place *at, int64_t now_ns, int64_t wait)
{
    int64_t due = atomic_load_explicit(&at->due_ns, memory_order_relaxed);
    return now_ns >= due && atomic_compare_exchange_strong_explicit(&at->due_ns, &due, now_ns + wait,
                                                                    memory_order_relaxed,
                                                                    memory_order_relaxed);
}

size_t smtp_reach_order(const struct params *p, struct smtp_target *list, size_t count,
                        int64_t now_ns)
{
    size_t front = 0;
    if (is_empty())
        return count;
    for (size_t i = 0; i < count; i++) {
        struct place *at = find(key_of(p, &list[i].addr));
        list[i].unreachable = at && !(front == 0 && claim(at, now_ns, wait_ns(p)));
        if (list[i].unreachable)
            continue;
        struct smtp_target t = list[i];
        memmove(&list[front + 1], &list[front], (i - front) * sizeof(t));
        list[front++] = t;
    }
    return front;
}

/* A free place in the bucket that has more of them, or the one whose time is up first. */
static struct place *make_room(uint64_t key)
{
    struct place *oldest = place_of(key, 0), *free_at[2] = {NULL, NULL};
    size_t free_count[2] = {0, 0};
    for (size_t i = 0; i < PLACES; i++) {
        struct place *at = place_of(key, i);
        if (key_at(at) == 0) {
            free_at[i / WAYS] = at;
            free_count[i / WAYS]++;
        }
        if (at->due_ns < oldest->due_ns)
            oldest = at;
    }
    struct place *best = free_at[free_count[1] > free_count[0]];
    if (best == NULL)
        return oldest;
    atomic_fetch_add_explicit(&memory.used, 1, memory_order_relaxed);
    return best;
}

void smtp_reach_failed(const struct params *p, const struct addr *to, int64_t now_ns)
{
    uint64_t key = key_of(p, to);
    pthread_mutex_lock(&memory.lock);
    struct place *at = find(key);
    if (!at)
        at = make_room(key);
    atomic_store_explicit(&at->due_ns, now_ns + wait_ns(p), memory_order_relaxed);
    atomic_store_explicit(&at->key, key, memory_order_release);
    pthread_mutex_unlock(&memory.lock);
}

static void forget(struct place *at)
{
    atomic_store_explicit(&at->key, 0, memory_order_release);
    atomic_fetch_sub_explicit(&memory.used, 1, memory_order_relaxed);
}

void smtp_reach_ok(const struct params *p, const struct addr *to)
{
    if (is_empty())
        return;
    uint64_t key = key_of(p, to);
    if (!find(key))
        return;
    pthread_mutex_lock(&memory.lock);
    struct place *at = find(key);
    if (at)
        forget(at);
    pthread_mutex_unlock(&memory.lock);
}

void smtp_reach_clear(void)
{
    pthread_mutex_lock(&memory.lock);
    for (size_t i = 0; i < BUCKETS * WAYS; i++)
        if (key_at(&memory.places[i / WAYS][i % WAYS]) != 0)
            forget(&memory.places[i / WAYS][i % WAYS]);
    pthread_mutex_unlock(&memory.lock);
}
