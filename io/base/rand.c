#include "io/base/rand.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/random.h>

#include "io/base/check.h"

/* xoshiro256**, David Blackman and Sebastiano Vigna, in the public domain. */
struct state {
    uint64_t s[4];
    unsigned generation;
};

static _Thread_local struct state local;
/* Counts forks: a child must not go on with its parent's numbers. 0 = the hook is not in place. */
static _Atomic unsigned generation;
static pthread_once_t hook_once = PTHREAD_ONCE_INIT;
static _Atomic(uint64_t (*)(void)) replaced;

static void forked(void)
{
    (void)atomic_fetch_add(&generation, 1);
}

static void hook(void)
{
    (void)pthread_atfork(NULL, NULL, forked);
    atomic_store(&generation, 1);
}

static void seed(struct state *r)
{
    (void)pthread_once(&hook_once, hook);
    do {
        ssize_t n = getrandom(r->s, sizeof r->s, 0);
        CHECK(n == (ssize_t)sizeof r->s);
    } while ((r->s[0] | r->s[1] | r->s[2] | r->s[3]) == 0);
    r->generation = atomic_load(&generation);
}

static uint64_t rotl(uint64_t x, unsigned k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t rand_u64(void)
{
    uint64_t (*other)(void) = atomic_load_explicit(&replaced, memory_order_relaxed);
    if (other)
        return other();
    struct state *r = &local;
    if (r->generation == 0 ||
        r->generation != atomic_load_explicit(&generation, memory_order_relaxed))
        seed(r);
    uint64_t result = rotl(r->s[1] * 5, 7) * 9;
    uint64_t t = r->s[1] << 17;
    r->s[2] ^= r->s[0];
    r->s[3] ^= r->s[1];
    r->s[1] ^= r->s[2];
    r->s[0] ^= r->s[3];
    r->s[2] ^= t;
    r->s[3] = rotl(r->s[3], 45);
    return result;
}

uint64_t rand_below(uint64_t n)
{
    CHECK(n > 0);
    /* Values under 2^64 mod n would make the low results more likely. */
    uint64_t reject_below = (0 - n) % n, value;
    do {
        value = rand_u64();
    } while (value < reject_below);
    return value % n;
}

void rand_replace(uint64_t (*next)(void))
{
    atomic_store(&replaced, next);
}
