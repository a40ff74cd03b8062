/* The keeper: a fiber on the scheduler's worker that brings the index up to date about once a
 * second (round.c), frees and prepares segments, and compacts. */
#include "io/base/block.h"
#include "io/base/check.h"
#include "io/base/log.h"
#include "io/ring/ring.h"
#include "queue/store/private.h"

enum { WARN_EVERY_S = 60, TIDY_MS = 200 };


static void wake_arrived(struct mbox_msg *m)
{
    struct store *s = CONTAINER(m, struct store, wake_msg);
    atomic_store(&s->wake_posted, false);
    event_set(&s->keeper_wanted);
}

void keeper_wake(struct store *s)
{
    if (!atomic_exchange(&s->wake_posted, true)) {
        s->wake_msg.fn = wake_arrived;
        worker_post(s->home, &s->wake_msg);
    }
}

static bool spares_short(struct store *s)
{
    pthread_mutex_lock(&s->lock);
    bool is = s->spare_count + s->raw_count < SPARES_WANTED && s->segment_count > 1;
    pthread_mutex_unlock(&s->lock);
    return is;
}

/* Goes on at once when there is more, after the keeper's other duties. */
static struct err *tidy(struct store *s)
{
    int64_t until = clock_in_ms(TIDY_MS);
    struct err *e = NULL;
    bool more = true;
    while (e == NULL && more && !s->stopping && clock_mono_ns() < until) {
        e = index_tidy(s, &more);
        if (e == NULL && more)
            fiber_yield();
    }
    if (e == NULL && more)
        event_set(&s->keeper_wanted);
    return e;
}

static struct err *keep(struct store *s)
{
    struct err *e = NULL;
    bool more = true;
    if (spares_short(s) || clock_mono_ns() - s->round_ns >= s->index_delay_ms * NS_PER_MS) {
        e = keeper_round(s, s->index_delay_ms);
        block_trim();
    }
    space_free(s);
    if (e == NULL)
        e = space_free_between(s);
    while (e == NULL && more && !s->stopping)
        e = space_prepare(s, &more);
    if (e == NULL)
        e = index_trouble(s, tidy(s));
    if (e == NULL && !s->stopping && !store_keeps_all(s) && space_wants_compaction(s))
        e = space_compact(s);
    return e;
}

static void keeper(void *arg)
{
    struct store *s = arg;
    fiber_shield_begin();
    while (!s->stopping) {
        struct err *e = keep(s);
        if (e != NULL &&
            (s->warned_ns == 0 || clock_mono_ns() - s->warned_ns > WARN_EVERY_S * NS_PER_S)) {
            s->warned_ns = clock_mono_ns();
            log_warning("queue", "keeping the queue's index and log in order: %s", e->text);
        }
        if (s->stopping)
            break;
        e = event_wait(&s->keeper_wanted, clock_in_ms(s->index_delay_ms));
        event_clear(&s->keeper_wanted);
    }
    fiber_shield_end();
    event_set(&s->keeper_gone);
}

void keeper_start(struct store *s)
{
    s->round_ns = clock_mono_ns();
    worker_spawn(s->home, "queue-keeper", keeper, s);
}

void keeper_stop(struct store *s)
{
    s->stopping = true;
    event_set(&s->keeper_wanted);
    fiber_shield_begin();
    struct err *e = event_wait(&s->keeper_gone, DEADLINE_NEVER);
    fiber_shield_end();
    CHECK(e == NULL);
}
