/* virtual: virtual(8): delivery to mailbox and maildir files. */
#ifndef CORE_VIRTUAL_VIRTUAL_H
#define CORE_VIRTUAL_VIRTUAL_H

#include "core/deliver/agent.h"

agent_deliver virtual_deliver;

#endif
