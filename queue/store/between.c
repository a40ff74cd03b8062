/* Segments that nothing needs any more, between others that hold mail: beside a large backlog that lies
 * still, mail that comes and leaves at once must not push the whole of it through the log (compact.c) for
 * the sake of its own few segments.
 *
 * What is said in such a segment of a message that lies in an older one is said again at the head of the log
 * first, and is safe there before the segment goes (queue/README.md has the argument). It is little: marks
 * of the backlog, and removals of messages that crossed a border between segments. Which messages these are
 * is noted while the segment is written; one of an earlier run stays until it is the oldest. */
#include "queue/store/private.h"

#include <stdlib.h>

enum { SAID_MAX = 4096, SAY_AT_ONCE = 64 };

void segment_said(struct segment *g, uint64_t seq)
{
    if (seq >= g->seq_floor || seq == 0 || g->said_much)
        return;
    if (g->said.len >= SAID_MAX * sizeof seq) {
        g->said_much = true;
        buf_fini(&g->said);
        return;
    }
    buf_add(&g->said, &seq, sizeof seq);
}

/* Its first batch is not where a torn end before it is told from damage. What is read of it here does not change any
 * more once the log has gone on to another. */
bool segment_between(const struct store *s, const struct segment *g)
{
    return g->follows && g->seq_end != 0 && !g->said_much && !g->poisoned && g->epoch < s->covered >> 32;
}

static bool is_free(const struct store *s, const struct segment *g)
{
    return segment_between(s, g) && g->rows_bytes == 0 && g->pins == 0;
}

/* The oldest one that is free, and up to which number messages may lie in older ones. */
static struct segment *find_free(struct store *s, uint64_t *older_out)
{
    struct segment *found = NULL;
    pthread_mutex_lock(&s->log.lock);
    pthread_mutex_lock(&s->lock);
    for (struct list *node = s->segments.prev; node != &s->segments; node = node->prev) {
        struct segment *g = CONTAINER(node, struct segment, link);
        if (g->seq_floor == 0 || node->prev == &s->segments)
            break;
        if (is_free(s, g)) {
            const struct segment *before = CONTAINER(node->prev, struct segment, link);
            found = g;
            *older_out = before->seq_end != 0 ? before->seq_end : s->run_seq;
        }
    }
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_unlock(&s->log.lock);
    return found;
}

/* Unless it is needed after all. */
static bool detach(struct store *s, struct segment *g)
{
    pthread_mutex_lock(&s->lock);
    bool is = !store_keeps_all(s) && is_free(s, g);
    if (is) {
        list_remove(&g->link);
        (void)umap_del(&s->by_epoch, g->epoch);
        s->segment_count--;
    }
    pthread_mutex_unlock(&s->lock);
    return is;
}

static struct err *say_again(struct store *s, uint64_t epoch, uint64_t seq, uint64_t older)
{
    struct qmsg *m = NULL;
    struct err *e = store_get(s, seq, &m);
    if (e == NULL && m != NULL && m->place.epoch < epoch)
        e = store_say_again(m);
    else if (e == NULL && m == NULL && seq < older)
        store_say_removed(s, seq);
    qmsg_unref(m);
    return e;
}

static int by_seq(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static struct err *say_all_again(struct store *s, struct segment *g, uint64_t older)
{
    struct err *e = NULL;
    uint64_t last = 0;
    if (g->said.len == 0)
        return NULL;
    qsort(g->said.ptr, g->said.len / sizeof last, sizeof last, by_seq);
    for (size_t at = 0, n = 0; e == NULL && at < g->said.len && !store_keeps_all(s); at += sizeof last) {
        uint64_t seq;
        memcpy(&seq, g->said.ptr + at, sizeof seq);
        if (seq != last)
            e = say_again(s, g->epoch, seq, older);
        last = seq;
        if (++n % SAY_AT_ONCE == 0)
            fiber_yield();
    }
    return e == NULL ? log_sync(&s->log) : e;
}

struct err *space_free_between(struct store *s)
{
    uint64_t older = 0;
    struct segment *g;
    while (!store_keeps_all(s) && (g = find_free(s, &older)) != NULL) {
        struct err *e = say_all_again(s, g, older);
        if (e != NULL)
            return e;
        if (detach(s, g))
            segment_give(s, g);
    }
    return NULL;
}
