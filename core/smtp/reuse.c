/* reuse: a connection carries further messages for its destination while there are any, and waits a
 * moment for the next one. The scheduler knows the destination; a connection just asks it. */
#include "core/smtp/session.h"

#include "io/base/clock.h"

bool smtp_reuse_wanted(const struct smtp_session *s)
{
    const struct params *p = s->svc->params;
    if (!s->keep || s->dead || !p->smtp_connection_cache_on_demand)
        return false;
    if (p->smtp_connection_reuse_count_limit > 0 &&
        s->uses >= (uint64_t)p->smtp_connection_reuse_count_limit)
        return false;
    return clock_mono_ns() - s->opened_ns < p->smtp_connection_reuse_time_limit * NS_PER_S;
}

/* Most destinations get one message and then none for long: their connection waits an eighth of
 * smtp_connection_cache_time_limit. Each message that did come doubles the trust, up to the whole.
 */
static int64_t patience_ns(const struct smtp_session *s)
{
    int64_t limit = s->svc->params->smtp_connection_cache_time_limit * NS_PER_S;
    unsigned seen = s->uses > 0 ? s->uses - 1 : 0;
    return seen >= 3 ? limit : limit >> (3 - seen);
}

struct request *smtp_reuse_next(struct smtp_session *s, struct request *r)
{
    return request_next(r, clock_mono_ns() + patience_ns(s));
}
