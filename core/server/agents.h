/* agents: which commands of master.cf this program has, and the queue's hooks into the rooms. */
#ifndef CORE_SERVER_AGENTS_H
#define CORE_SERVER_AGENTS_H

#include "core/deliver/agent.h"
#include "queue/hooks.h"

/* A delivery agent of that name exists. */
bool agents_exists(const char *command);
/* Anything of that name exists: agents, smtpd, and what became calls (cleanup, qmgr, bounce ...). */
bool agents_service_exists(const char *command);
/* hooks.ctx is not used. */
void agents_hooks(struct queue_hooks *out);
/* One warning line naming the services of master.cf that do not exist here. */
void agents_warn_missing(const struct snapshot *s);

#endif
