/* engine: everything but privileges (design §2): acceptor, workers, scheduler, resolver, offload, logger. Runs
 * as a child of the supervisor, as mail_owner when started by root. */
#ifndef CORE_SERVER_ENGINE_H
#define CORE_SERVER_ENGINE_H

#include "core/config/snapshot.h"
#include "io/fiber/worker.h"
#include "queue/queue.h"

/* The process: serves until told to stop. link_fd: see link.h. Exit status. */
int engine_main(const char *config_dir, int link_fd);

/* How a snapshot sets up the queue. Strings borrowed from the snapshot; *sched_out holds its part. */
void engine_queue_options(const struct snapshot *s, struct queue_options *out,
                          struct sched_options *sched_out);
struct err *engine_log_start(const struct snapshot *s, bool also_stderr) MUST_USE;

#endif
