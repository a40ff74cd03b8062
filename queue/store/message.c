/* Messages in memory: one object each, found by seq; and the bytes of fresh content. */
#include "io/base/block.h"
#include "io/base/check.h"
#include "io/base/mem.h"
#include "queue/store/private.h"

#include <stdio.h>

void message_name(uint64_t seq, char out[24])
{
    (void)snprintf(out, 24, "%016llx", (unsigned long long)seq);
}

void store_id(uint32_t flags, int64_t arrival_us, uint64_t seq, char out[QUEUE_ID_MAX])
{
    queue_id_format(flags & MESSAGE_LONG_ID, arrival_us, seq, out);
}

struct message *message_new(struct store *s, uint64_t seq, uint32_t flags, struct arena *a,
                            struct envelope *env)
{
    struct message *m = MEM_NEW(struct message);
    m->pub.magic = MESSAGE_MAGIC;
    m->pub.refs = 1;
    m->pub.seq = seq;
    m->pub.arena = a;
    m->pub.env = env;
    store_id(flags, env->arrival_us, seq, m->pub.id);
    m->store = s;
    m->flags = flags;
    list_init(&m->link);
    list_init(&m->dirty_link);
    return m;
}

void message_publish(struct message *m)
{
    struct store *s = m->store;
    pthread_mutex_lock(&s->lock);
    (void)umap_put(&s->messages, m->pub.seq, m);
    pthread_mutex_unlock(&s->lock);
}

struct qmsg *qmsg_ref(struct qmsg *m)
{
    CHECK_MAGIC(m, MESSAGE_MAGIC);
    (void)__atomic_fetch_add(&m->refs, 1, __ATOMIC_RELAXED);
    return m;
}

void qmsg_unref(struct qmsg *pub)
{
    if (pub == NULL)
        return;
    CHECK_MAGIC(pub, MESSAGE_MAGIC);
    if (__atomic_sub_fetch(&pub->refs, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    struct message *m = message_of(pub);
    struct store *s = m->store;
    pthread_mutex_lock(&s->lock);
    /* Another object may have taken its place since the count fell to zero. */
    if (umap_get(&s->messages, pub->seq) == m)
        (void)umap_del(&s->messages, pub->seq);
    pthread_mutex_unlock(&s->lock);
    content_unref(pub->content);
    part_free(pub->part);
    arena_free(pub->arena);
    pub->magic = 0;
    mem_free(m);
}

/* Not from zero: that object is on its way out. */
static bool ref_if_alive(struct qmsg *m)
{
    uint32_t n = __atomic_load_n(&m->refs, __ATOMIC_RELAXED);
    while (n != 0) {
        if (__atomic_compare_exchange_n(&m->refs, &n, n + 1, true, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED))
            return true;
    }
    return false;
}

struct qmsg *store_get_cached(struct store *s, uint64_t seq)
{
    pthread_mutex_lock(&s->lock);
    struct message *m = umap_get(&s->messages, seq);
    if (m != NULL && !ref_if_alive(&m->pub))
        m = NULL;
    pthread_mutex_unlock(&s->lock);
    return m != NULL ? &m->pub : NULL;
}

uint32_t qmsg_flags(const struct qmsg *m)
{
    return ((const struct message *)m)->flags;
}

int64_t qmsg_due_us(const struct qmsg *m)
{
    return ((const struct message *)m)->due_us;
}

bool qmsg_removed(const struct qmsg *m)
{
    return ((const struct message *)m)->dead;
}

/* --- content in memory */

struct content *content_new(struct store *s, struct buf *bytes)
{
    struct content *c = MEM_NEW(struct content);
    atomic_init(&c->refs, 1);
    c->store = s;
    c->bytes = *bytes;
    *bytes = (struct buf){0};
    atomic_fetch_add_explicit(&s->content_bytes, c->bytes.cap, memory_order_relaxed);
    return c;
}

struct content *content_ref(struct content *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void content_unref(struct content *c)
{
    if (c == NULL || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    atomic_fetch_sub_explicit(&c->store->content_bytes, c->bytes.cap, memory_order_relaxed);
    block_buf_fini(&c->bytes);
    mem_free(c);
}

bool store_crowded(const struct store *s)
{
    uint64_t limit = atomic_load_explicit(&s->memory_limit_bytes, memory_order_relaxed);
    return atomic_load_explicit(&s->content_bytes, memory_order_relaxed) > limit / 2 && limit > 0;
}

void qmsg_drop_content(struct qmsg *m)
{
    struct store *s = message_of(m)->store;
    pthread_mutex_lock(&s->lock);
    struct content *c = m->content;
    m->content = NULL;
    pthread_mutex_unlock(&s->lock);
    content_unref(c);
}
