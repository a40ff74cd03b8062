#include "io/base/block.h"

#include <pthread.h>

#include "io/base/mem.h"

#if defined(__SANITIZE_ADDRESS__)
static const size_t spares_max = 0; /* what is used after it was freed is to be seen */
#else
static const size_t spares_max = 2048; /* 32 MiB, after a burst */
#endif

struct block {
    struct block *next;
};

static struct {
    pthread_mutex_t lock;
    struct block *first;
    size_t count, least; /* least: since the last trim */
} spare = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct buf block_buf(void)
{
    pthread_mutex_lock(&spare.lock);
    struct block *b = spare.first;
    if (b) {
        spare.first = b->next;
        spare.count--;
        if (spare.count < spare.least)
            spare.least = spare.count;
    }
    pthread_mutex_unlock(&spare.lock);
    char *bytes = b ? (char *)b : mem_alloc(BLOCK_BYTES);
    bytes[0] = '\0';
    return (struct buf){.ptr = bytes, .cap = BLOCK_BYTES};
}

void block_buf_fini(struct buf *buf)
{
    struct block *b = buf->cap == BLOCK_BYTES ? (struct block *)(void *)buf->ptr : NULL;
    if (b) {
        pthread_mutex_lock(&spare.lock);
        if (spare.count < spares_max) {
            b->next = spare.first;
            spare.first = b;
            spare.count++;
            *buf = (struct buf){0};
        }
        pthread_mutex_unlock(&spare.lock);
    }
    buf_fini(buf);
}

void block_trim(void)
{
    struct block *gone = NULL;
    pthread_mutex_lock(&spare.lock);
    for (size_t n = (spare.least + 1) / 2; n > 0; n--) {
        struct block *b = spare.first;
        spare.first = b->next;
        spare.count--;
        b->next = gone;
        gone = b;
    }
    spare.least = spare.count;
    pthread_mutex_unlock(&spare.lock);
    while (gone) {
        struct block *b = gone;
        gone = b->next;
        mem_free(b);
    }
}

size_t block_spares(void)
{
    pthread_mutex_lock(&spare.lock);
    size_t n = spare.count;
    pthread_mutex_unlock(&spare.lock);
    return n;
}
