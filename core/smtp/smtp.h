/* smtp: smtp(8): the SMTP client as a delivery agent. */
#ifndef CORE_SMTP_SMTP_H
#define CORE_SMTP_SMTP_H

#include "core/deliver/agent.h"

agent_deliver smtp_deliver;

#endif
