/* bounce: bounce(8): non-delivery, delay and success notices (RFC 3461, 3462, 3464), made and
 * committed through cleanup like any other mail; double bounces. */
#ifndef CORE_BOUNCE_BOUNCE_H
#define CORE_BOUNCE_BOUNCE_H

#include "core/config/snapshot.h"
#include "queue/queue.h"

/* hooks.notify. svc: the cleanup service of the current snapshot. NULL = the notice is on stable
 * storage, or none is wanted (NOTIFY=NEVER, null sender: then 2bounce as notify_classes says). */
struct err *bounce_notify(const struct service *svc, const struct notice *n) MUST_USE;

#endif
