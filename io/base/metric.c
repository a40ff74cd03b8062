#include "io/base/metric.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include "io/base/check.h"
#include "io/base/mem.h"

/* One block a thread, in a list that only grows: a thread that ends leaves its block, with its
 * counts, to the next thread that starts. */
struct block {
    _Atomic int64_t values[METRIC_COUNT];
    struct block *next;
    _Atomic int taken;
};

static _Atomic(struct block *) blocks;
static _Thread_local struct block *mine;
static pthread_key_t key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

static void give_back(void *block)
{
    mine = NULL;
    atomic_store_explicit(&((struct block *)block)->taken, 0, memory_order_release);
}

static void make_key(void)
{
    CHECK(pthread_key_create(&key, give_back) == 0);
}

static struct block *take_block(void)
{
    struct block *b = atomic_load(&blocks);
    for (; b; b = b->next) {
        int none = 0;
        if (atomic_compare_exchange_strong(&b->taken, &none, 1))
            break;
    }
    if (!b) {
        b = MEM_NEW(struct block);
        atomic_store(&b->taken, 1);
        b->next = atomic_load(&blocks);
        while (!atomic_compare_exchange_weak(&blocks, &b->next, b)) {
        }
    }
    (void)pthread_once(&key_once, make_key);
    CHECK(pthread_setspecific(key, b) == 0);
    mine = b;
    return b;
}

void metric_add(enum metric m, int64_t n)
{
    struct block *b = mine ? mine : take_block();
    /* No other thread writes here, so that a plain load and store do. */
    int64_t old = atomic_load_explicit(&b->values[m], memory_order_relaxed);
    atomic_store_explicit(&b->values[m], old + n, memory_order_relaxed);
}

int64_t metric_sum(enum metric m)
{
    int64_t sum = 0;
    for (struct block *b = atomic_load(&blocks); b; b = b->next)
        sum += atomic_load_explicit(&b->values[m], memory_order_relaxed);
    return sum;
}

#define METRIC(name, doc) {#name, doc},
static const struct {
    const char *name, *doc;
} rows[METRIC_COUNT] = {
#include "io/base/metrics.def"
};
#undef METRIC

const char *metric_name(enum metric m)
{
    CHECK(m < METRIC_COUNT);
    return rows[m].name;
}

const char *metric_doc(enum metric m)
{
    CHECK(m < METRIC_COUNT);
    return rows[m].doc;
}
