/* Many messages go at once: their entries of `due` lie all over it in the order of their rows, so
 * that each costs a page. In their own order, a page is written once for all that leave it. */
#include "queue/store/index_private.h"

#include <stdlib.h>

#include "io/fiber/offload.h"

enum { KEYS_AT_ONCE = 4000, LOOKED = 1024 };

static int by_seq(const void *a, const void *b)
{
    const struct index_dead *l = a, *r = b;
    return (l->seq > r->seq) - (l->seq < r->seq);
}

static int by_due(const void *a, const void *b)
{
    const struct index_dead *l = a, *r = b;
    return l->due_us != r->due_us ? (l->due_us > r->due_us) - (l->due_us < r->due_us) : by_seq(a, b);
}

void index_sort_dead(struct buf *dead)
{
    if (dead->len > 0)
        qsort(dead->ptr, dead->len / sizeof(struct index_dead), sizeof(struct index_dead), by_seq);
}

static void sort_by_seq(void *arg)
{
    index_sort_dead(arg);
}

static void sort_by_due(void *arg)
{
    struct buf *dead = arg;
    qsort(dead->ptr, dead->len / sizeof(struct index_dead), sizeof(struct index_dead), by_due);
}

struct slice {
    struct index_dead *dead;
    size_t n;
};

/* One that is not where it was thought to be is looked for when its row goes. */
static struct err *drop(struct index *x, const struct slice *l)
{
    struct err *e = NULL;
    for (size_t i = 0; e == NULL && i < l->n; i++) {
        struct index_dead *d = &l->dead[i];
        uint8_t key[DUE_KEY];
        index_due_key(d->due_us, d->seq, key);
        e = kv_del(x->txn, x->due, str_make((const char *)key, DUE_KEY), &d->purged);
        index_looked(x, LOOKED);
    }
    return e;
}

static struct err *drop_some(struct index *x, void *ctx)
{
    const struct slice *l = ctx;
    struct err *e = index_begin(x);
    if (e == NULL) {
        e = drop(x, l);
        if (e == NULL)
            e = index_commit(x);
        else
            index_abort(x);
    }
    for (size_t i = 0; e != NULL && i < l->n; i++)
        l->dead[i].purged = false;
    return e;
}

struct err *index_purge_due(struct store *s, struct buf *dead)
{
    struct err *e = NULL;
    size_t count = dead->len / sizeof(struct index_dead);
    if (count == 0)
        return NULL;
    offload(sort_by_due, dead);
    struct index_dead *d = (struct index_dead *)(void *)dead->ptr;
    for (size_t at = 0; e == NULL && at < count; at += KEYS_AT_ONCE) {
        struct slice l = {d + at, count - at < KEYS_AT_ONCE ? count - at : KEYS_AT_ONCE};
        e = index_work(s, drop_some, &l);
    }
    offload(sort_by_seq, dead);
    return e;
}
