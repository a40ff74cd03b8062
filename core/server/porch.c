#include "core/server/porch.h"

#include "io/fiber/fiber.h"

void porch_init(struct porch *p, void (*begin)(struct list *link))
{
    *p = (struct porch){.begin = begin};
    list_init(&p->waiting);
}

static void porter(void *arg)
{
    struct porch *p = arg;
    for (;;) {
        struct list *link;
        p->begun = 0;
        while (p->begun < PORCH_PER_TURN && (link = list_pop_front(&p->waiting)) != NULL) {
            p->begun++;
            p->begin(link);
        }
        if (p->begun == 0)
            break;
        fiber_yield();
    }
    p->attended = false;
}

void porch_enter(struct porch *p, struct list *link)
{
    if (!p->attended)
        p->attended = fiber_spawn("porter", porter, p) != NULL;
    if (!p->attended) {
        p->begin(link); /* no fiber for the porter, so none for a session */
    } else if (p->begun < PORCH_PER_TURN && list_empty(&p->waiting)) {
        p->begun++;
        p->begin(link);
    } else {
        list_push_back(&p->waiting, link);
    }
}
