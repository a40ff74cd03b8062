/* smtpd: smtpd(8): one SMTP server session in a fiber. */
#ifndef CORE_SMTPD_SMTPD_H
#define CORE_SMTPD_SMTPD_H

#include "core/config/snapshot.h"
#include "queue/queue.h"

/* Runs the whole session and closes fd. svc keeps its snapshot alive through the caller's reference,
 * which the caller drops afterwards. */
void smtpd_session(const struct service *svc, struct queue *queue, int fd,
                   const struct addr *client);
/* The same over stdin/stdout, for sendmail -bs: submitter is the local user. */
void smtpd_session_stdio(const struct service *svc, struct queue *queue, int in_fd, int out_fd);

/* What a configuration must have beyond its syntax: relay control in every smtpd service. ERR_CONFIG
 * names file and line. For start, check and reload; a session looks again and refuses. */
struct err *smtpd_check(const struct snapshot *s) MUST_USE;

#endif
