/* Recipients that were read, and found no seat of their transport (refill.c): their places in the message are noted, and the
 * transport's seats go to the messages that came first. */
#include "io/base/check.h"
#include "io/base/mem.h"
#include "queue/sched/state.h"

static struct held *held_of(const struct list *node)
{
    return CONTAINER(node, struct held, line);
}

static void stand_in_line(struct held *h)
{
    struct list *line = &h->job->transport->held, *at = line->prev;
    while (at != line && held_of(at)->since_ns > h->since_ns)
        at = at->prev;
    list_push_front(at, &h->line);
}

void held_add(struct job *j, struct active *a, int64_t since_ns, uint32_t index)
{
    struct held *h = j->held;
    if (!h) {
        h = j->held = MEM_NEW(struct held);
        *h = (struct held){.active = a, .job = j, .since_ns = since_ns};
        list_init(&h->line);
    }
    if (h->count == 0) {
        h->first = 0;
        stand_in_line(h);
    }
    if (h->first + h->count == h->room && h->first > h->room / 2) {
        memmove(h->list, h->list + h->first, h->count * sizeof(*h->list));
        h->first = 0;
    }
    if (h->first + h->count == h->room) {
        h->room = h->room ? h->room * 2 : 64;
        h->list = mem_realloc(h->list, h->room * sizeof(*h->list));
    }
    h->list[h->first + h->count++] = index;
    j->transport->held_count++;
}

uint32_t held_take(struct held *h)
{
    CHECK(h->count > 0);
    h->job->transport->held_count--;
    if (--h->count == 0)
        list_remove(&h->line);
    return h->list[h->first++];
}

/* One that ends has all its seats until its last request is back, and wants no more. */
struct held *held_first(const struct transport *t)
{
    LIST_EACH(&t->held, node)
    {
        const struct active *a = held_of(node)->active;
        if (!a->want_remove && !a->want_hold && !a->again && !a->damaged)
            return held_of(node);
    }
    return NULL;
}

void held_end(struct job *j)
{
    struct held *h = j->held;
    if (!h)
        return;
    j->transport->held_count -= h->count;
    list_remove(&h->line);
    mem_free(h->list);
    mem_free(h);
    j->held = NULL;
}
