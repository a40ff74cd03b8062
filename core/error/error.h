/* error: error(8), retry(8), discard(8): agents that deliver nothing; nexthop is their text. */
#ifndef CORE_ERROR_ERROR_H
#define CORE_ERROR_ERROR_H

#include "core/deliver/agent.h"

agent_deliver error_deliver;   /* bounces */
agent_deliver retry_deliver;   /* defers */
agent_deliver discard_deliver; /* reports sent */

#endif
