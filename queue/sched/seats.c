#include "queue/sched/seats.h"

#include "io/base/check.h"

static int64_t at_least_0(int64_t n)
{
    return n > 0 ? n : 0;
}

static int64_t extra_free(const struct seat_share *s)
{
    int64_t mine = s->extra_max - s->extra_taken, all = s->pool->extra - s->pool->extra_taken;
    return at_least_0(mine < all ? mine : all);
}

int64_t seats_free(const struct seat_share *s)
{
    return at_least_0(s->pool->limit - s->pool->taken) + extra_free(s);
}

bool seats_take(struct seat_share *s)
{
    if (s->pool->taken < s->pool->limit) {
        s->taken++;
        s->pool->taken++;
        return true;
    }
    if (extra_free(s) == 0)
        return false;
    s->extra_taken++;
    s->pool->extra_taken++;
    return true;
}

void seats_leave(struct seat_share *s)
{
    CHECK(s->taken + s->extra_taken > 0);
    if (s->extra_taken > 0) {
        s->extra_taken--;
        s->pool->extra_taken--;
        return;
    }
    s->taken--;
    s->pool->taken--;
}

void seats_pass(struct seat_share *s)
{
    if (s->extra_max == 0)
        s->extra_max = (at_least_0(s->pool->extra - s->pool->extra_taken) + 1) / 2;
}
