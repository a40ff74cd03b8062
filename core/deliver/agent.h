/* agent: a delivery agent by the name of its master.cf command. core/server binds names to functions;
 * each room exports
 * its own: smtp_deliver (core/smtp/smtp.h), virtual_deliver (core/virtual/virtual.h), error_deliver,
 * retry_deliver, discard_deliver (core/error/error.h). */
#ifndef CORE_DELIVER_AGENT_H
#define CORE_DELIVER_AGENT_H

#include "core/config/snapshot.h"
#include "queue/sched/request.h"

/* Runs in a fiber. Must end r, and every request that request_next gave it, exactly once
 * (request_done or request_next) after reporting each recipient (core/deliver/report.h). */
typedef void agent_deliver(const struct service *svc, struct request *r);

#endif
