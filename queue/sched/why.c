#include "queue/sched/why.h"

#include "io/base/clock.h"
#include "io/base/hash.h"
#include "io/base/mem.h"

#define TEXT_MAX_BYTES 400

static void forget(struct why_reply *r)
{
    mem_free(r->dest);
    mem_free(r->text);
    *r = (struct why_reply){0};
}

void why_fini(struct why_memory *w)
{
    for (size_t i = 0; w->replies && i < WHY_DESTS; i++)
        forget(&w->replies[i]);
    mem_free(w->replies);
    mem_free(w->tried);
    *w = (struct why_memory){0};
}

static size_t place_of(const char *transport, const char *nexthop)
{
    uint64_t hash = hash_sum(transport, strlen(transport) + 1, 0);
    return hash_sum(nexthop, strlen(nexthop), hash) % WHY_DESTS;
}

static bool is_of(const struct why_reply *r, const char *transport, const char *nexthop)
{
    size_t n = strlen(transport);
    return r->dest && strncmp(r->dest, transport, n) == 0 && r->dest[n] == ':' &&
           strcmp(r->dest + n + 1, nexthop) == 0;
}

static bool internal(const char *transport)
{
    return strcmp(transport, "retry") == 0 || strcmp(transport, "error") == 0 ||
           strcmp(transport, "discard") == 0;
}

void why_replied(struct why_memory *w, const struct request *r)
{
    if (internal(r->transport) || r->rcpt_count == 0)
        return;
    if (!w->replies)
        w->replies = mem_zalloc(WHY_DESTS * sizeof(*w->replies));
    struct why_reply *at = &w->replies[place_of(r->transport, r->nexthop)];
    const struct request_rcpt *last = &r->rcpts[0];
    for (size_t i = 1; i < r->rcpt_count; i++)
        if (r->rcpts[i].turn > last->turn)
            last = &r->rcpts[i];
    char text[TEXT_MAX_BYTES];
    str_copy(text, sizeof(text), last->dsn.text);
    if (!is_of(at, r->transport, r->nexthop)) {
        struct buf name = {0};
        forget(at);
        buf_printf(&name, "%s:%s", r->transport, r->nexthop);
        at->dest = mem_strdup(name.ptr);
        buf_fini(&name);
    }
    if (!at->text || strcmp(at->text, text) != 0) {
        mem_free(at->text);
        at->text = mem_strdup(text);
    }
    at->at_us = clock_wall_us();
    at->result = last->result;
    memcpy(at->status, last->dsn.status, sizeof(at->status));
}

void why_tried(struct why_memory *w, uint64_t seq)
{
    if (!w->tried)
        w->tried = mem_zalloc(WHY_MESSAGES * sizeof(*w->tried));
    w->tried[seq % WHY_MESSAGES] = (struct why_tried){.seq = seq, .at_us = clock_wall_us()};
}

const struct why_reply *why_last_reply(const struct why_memory *w, const char *transport,
                                       const char *nexthop)
{
    const struct why_reply *at = w->replies ? &w->replies[place_of(transport, nexthop)] : NULL;
    return at && is_of(at, transport, nexthop) ? at : NULL;
}

int64_t why_last_tried_us(const struct why_memory *w, uint64_t seq)
{
    const struct why_tried *at = w->tried ? &w->tried[seq % WHY_MESSAGES] : NULL;
    return at && at->seq == seq ? at->at_us : 0;
}
