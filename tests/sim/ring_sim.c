#include "ring_sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "dice.h"
#include "disk_sim.h"
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/mem.h"
#include "io/base/rand.h"
#include "io/ring/private.h"

enum { WORLD_BEGAN_S = 1700000000, STEP_NS_MAX = 200000, TURN_NS = 1000, SLOW_PERCENT = 5 };

struct op {
    struct op *next;
    struct ring_op *ring_op;
    struct ring_call call;
    struct disk_write *write;
    bool canceled;
};

struct ring {
    struct op *first;
    size_t count; /* that can complete */
    size_t pending;
};

static _Thread_local struct ring *thread_ring;
static int64_t now_ns, dead_ns = DEADLINE_NEVER;

static int64_t sim_mono(void)
{
    return now_ns;
}

static int64_t sim_wall(void)
{
    return WORLD_BEGAN_S * US_PER_S + now_ns / NS_PER_US;
}

void sim_world_begin(uint64_t seed)
{
    sim_seed(seed);
    now_ns = NS_PER_S;
    clock_replace(sim_mono, sim_wall);
    rand_replace(sim_rand);
}

void sim_clock_set(int64_t mono_ns)
{
    now_ns = mono_ns;
}

void sim_deadline(int64_t seconds)
{
    dead_ns = now_ns + seconds * NS_PER_S;
}

struct ring *ring_of_worker(void)
{
    return thread_ring;
}

void ring_bind_thread(struct ring *r)
{
    thread_ring = r;
}

int ring_fd(const struct ring *r)
{
    (void)r;
    return -1;
}

bool ring_has_more(const struct ring *r)
{
    return r->count > 0; /* each turn completes some */
}

size_t ring_pending(const struct ring *r)
{
    return r->pending;
}

struct err *ring_probe(void)
{
    return NULL;
}

struct err *ring_new(unsigned entries, struct ring **out)
{
    (void)entries;
    *out = MEM_NEW(struct ring);
    return NULL;
}

void ring_free(struct ring *r)
{
    mem_free(r);
}

/* --- starting */

static bool waits_for_ever(const struct op *o)
{
    return o->call.code == RING_READ && o->call.fd < SIM_FD;
}

void ring_start(struct ring_op *op, const struct ring_call *call)
{
    struct ring *r = thread_ring;
    struct op *o = MEM_NEW(struct op);
    CHECK(r != NULL);
    o->ring_op = op;
    o->call = *call;
    op->background = call->background;
    if (!op->background)
        r->pending++;
    if (call->code == RING_WRITE)
        o->write = disk_write_begin(call->fd, call->ptr, call->n, call->at);
    o->next = r->first;
    r->first = o;
    r->count += !waits_for_ever(o);
}

void ring_cancel(struct ring_op *op)
{
    struct ring *r = thread_ring;
    for (struct op *o = r->first; o != NULL; o = o->next) {
        if (o->ring_op != op || o->canceled)
            continue;
        r->count += waits_for_ever(o);
        o->canceled = waits_for_ever(o); /* a file operation runs to its end */
    }
}

void ring_pwrite(struct ring_op *op, int fd, const void *bytes, size_t n, uint64_t at)
{
    ring_start(op,
               &(struct ring_call){.code = RING_WRITE, .fd = fd, .ptr = bytes, .n = n, .at = at});
}

void ring_fsync(struct ring_op *op, int fd, bool data_only)
{
    ring_start(op, &(struct ring_call){.code = RING_FSYNC, .fd = fd, .flags = data_only});
}

void ring_accept_multishot(struct ring_op *op, int listen_fd)
{
    (void)op;
    (void)listen_fd;
    CHECK("the simulated world has no sockets" == NULL);
}

void ring_wake(struct ring *self, int target_ring_fd)
{
    (void)self;
    (void)target_ring_fd;
}

/* --- completing */

static int act(struct op *o)
{
    const struct ring_call *c = &o->call;
    if (o->canceled)
        return -ECANCELED;
    switch (c->code) {
    case RING_READ:
        return (int)disk_read(c->fd, (void *)(uintptr_t)c->ptr, c->n, c->at);
    case RING_WRITE:
        return (int)disk_write_end(o->write, sim_fault_now(FAULT_CHANGE));
    case RING_OPENAT:
        return disk_open(c->fd, c->ptr, (int)c->flags);
    case RING_FSYNC:
        return disk_fsync(c->fd);
    case RING_FALLOCATE:
        return disk_size(c->fd, c->at + c->n, true);
    case RING_RENAMEAT:
        return disk_rename(c->fd, c->ptr, c->fd2, c->ptr2);
    case RING_UNLINKAT:
        return disk_unlink(c->fd, c->ptr, c->flags != 0);
    case RING_CLOSE:
        return disk_close(c->fd);
    default:
        CHECK("the simulated world has no such operation" == NULL);
    }
    return -ENOSYS;
}

static void complete_one(struct ring *r)
{
    size_t nth = (size_t)sim_below(r->count);
    struct op **at = &r->first;
    for (; *at != NULL; at = &(*at)->next) {
        if (waits_for_ever(*at) && !(*at)->canceled)
            continue;
        if (nth-- == 0)
            break;
    }
    struct op *o = *at;
    CHECK(o != NULL);
    *at = o->next;
    r->count--;
    int res = act(o);
    struct ring_op *op = o->ring_op;
    if (!op->background)
        r->pending--;
    mem_free(o);
    op->done(op, res, false);
}

void ring_turn(struct ring *r, int64_t until_ns)
{
    now_ns += TURN_NS;
    if (r->count > 0 && until_ns > now_ns && until_ns != DEADLINE_NEVER &&
        sim_chance(SLOW_PERCENT)) {
        now_ns = until_ns; /* a disk that takes its time: timers come first */
    } else if (r->count > 0) {
        now_ns += (int64_t)sim_below(STEP_NS_MAX);
        for (size_t n = 1 + (size_t)sim_below(r->count); n > 0 && r->count > 0; n--)
            complete_one(r);
    } else if (until_ns > now_ns) {
        /* Nothing under way: on to the next timer. Without one this world has come to rest with
         * fibers that wait for ever. */
        now_ns = until_ns == DEADLINE_NEVER ? dead_ns : until_ns;
    }
    if (now_ns >= dead_ns) {
        fprintf(stderr, "sim: nothing more happens, and somebody still waits\n");
        abort();
    }
}
