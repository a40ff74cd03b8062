#include "dice.h"

#include <string.h>

/* --- chance */

static uint64_t rand_state;

void sim_seed(uint64_t seed)
{
    rand_state = seed * 2 + 1;
    (void)sim_rand();
    (void)sim_rand();
}

uint64_t sim_rand(void)
{
    rand_state += 0x9e3779b97f4a7c15U;
    uint64_t z = rand_state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

uint64_t sim_below(uint64_t n)
{
    return sim_rand() % n;
}

bool sim_chance(unsigned percent)
{
    return sim_below(100) < percent;
}

/* --- points and faults */

static void (*point_hook)(void);
static struct {
    enum fault_at at;
    uint64_t n, seen[3];
    int number;
    unsigned times;
    bool hit;
} fault;

void sim_point_hook(void (*fn)(void))
{
    point_hook = fn;
}

void sim_point(void)
{
    if (point_hook != NULL)
        point_hook();
}

void sim_fault(enum fault_at at, uint64_t n, int number, unsigned times)
{
    memset(&fault, 0, sizeof fault);
    fault.at = at;
    fault.n = n;
    fault.number = number;
    fault.times = times;
}

bool sim_fault_hit(void)
{
    return fault.hit;
}

int sim_fault_now(enum fault_at at)
{
    uint64_t n = ++fault.seen[at];
    if (fault.at != at || n < fault.n || n >= fault.n + fault.times)
        return 0;
    fault.hit = true;
    return fault.number;
}
