/* control: the unix socket by which commands act on the running server: <queue_directory>/public/ringpost. Who
 * may do what follows from the peer's uid (SO_PEERCRED): root, mail_owner and the engine's own user may do
 * all; others may post mail, list and flush (authorized_*_users later). Verbs: wire.h. */
#ifndef CORE_SERVER_CONTROL_H
#define CORE_SERVER_CONTROL_H

#include "queue/queue.h"

#define CONTROL_SOCKET "public/ringpost"

struct control;
/* Its fibers run on w. Main thread. */
struct err *control_start(struct queue *queue, struct worker *w, const char *queue_directory,
                          struct control **out) MUST_USE;
/* One connection, in a fiber of this worker; takes fd. uid of the caller; -1 = ask the socket. Also for a command
 * that serves itself while the server is down. false: too many fibers, fd is closed. */
bool control_serve(struct queue *queue, int fd, int64_t uid);
void control_stop(struct control *c); /* no new connections */
void control_free(struct control *c); /* after w ended */

#endif
