#include "core/smtp/reach.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "io/base/clock.h"
#include "io/base/hash.h"

enum { WAYS = 4, BUCKETS = 1024 };

/* An address is known by a keyed hash of 64 bits: should two ever meet, one of them is tried later than
 * it might be, and that is all. */
struct place {
    _Atomic uint64_t key; /* 0: free */
    _Atomic int64_t due_ns;
};
static_assert(WAYS * sizeof(struct place) == 64, "a look-up is one line of the cache");

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

static struct place *find(uint64_t key)
{
    struct place *bucket = memory.places[key % BUCKETS];
    for (size_t i = 0; i < WAYS; i++)
        if (key_at(&bucket[i]) == key)
            return &bucket[i];
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

/* A free place, or the one whose time is up first. */
static struct place *make_room(uint64_t key)
{
    struct place *bucket = memory.places[key % BUCKETS], *oldest = &bucket[0];
    for (size_t i = 0; i < WAYS; i++) {
        if (key_at(&bucket[i]) == 0) {
            atomic_fetch_add_explicit(&memory.used, 1, memory_order_relaxed);
            return &bucket[i];
        }
        if (bucket[i].due_ns < oldest->due_ns)
            oldest = &bucket[i];
    }
    return oldest;
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
