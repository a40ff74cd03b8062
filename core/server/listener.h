/* listener: the acceptor thread takes connections of the inet services and feeds sessions to workers. One
 * thread is enough for tens of thousands of connections a second: it does no more than accept and post. */
#ifndef CORE_SERVER_LISTENER_H
#define CORE_SERVER_LISTENER_H

#include "core/config/snapshot.h"
#include "io/fiber/worker.h"
#include "queue/queue.h"

struct listeners;

struct err *listeners_start(struct queue *queue, struct worker **workers, size_t n_workers,
                            struct listeners **out) MUST_USE;
/* fd is listening and belongs to the n-th service of master.cf. Taken into use by the next commit. Main thread. */
void listeners_add(struct listeners *l, size_t service_index, int fd);
/* What was added since the last commit is not wanted after all. Main thread. */
void listeners_forget(struct listeners *l);
/* What was added since the last commit serves when this returns, with `snapshot` (a reference is taken); older
 * sockets are closed. Sessions go on. Main thread. */
void listeners_commit(struct listeners *l, struct snapshot *snapshot);
/* No more connections: waits until the last socket is closed; sessions go on. Main thread. */
void listeners_stop(struct listeners *l);
void listeners_free(struct listeners *l); /* after the workers have ended */

#endif
