/* control_private: what control.c, control_queue.c and control_mail.c share. */
#ifndef CORE_SERVER_CONTROL_PRIVATE_H
#define CORE_SERVER_CONTROL_PRIVATE_H

#include "core/cleanup/cleanup.h"
#include "core/server/control.h"
#include "core/server/wire.h"

/* One connection of a command. */
struct caller {
    struct queue *queue;
    int fd;
    int64_t uid;
    bool privileged;
    struct arena *arena;
    struct buf in, out;
};

/* What is about all mail waits until all of it is known; the caller is told how far that has come meanwhile. An error is for the
 * connection. */
struct err *control_await_all(struct caller *c);

/* Each answers with WIRE_END itself, or returns the error for which the caller closes. */
struct err *control_list(struct caller *c, struct rd *body);
struct err *control_do(struct caller *c, struct rd *body);
struct err *control_flush(struct caller *c, struct rd *body);
struct err *control_find(struct caller *c, struct rd *body);
struct err *control_counts(struct caller *c, struct rd *body);
struct err *control_submit(struct caller *c, struct rd *body);
struct err *control_smtpd(struct caller *c, struct rd *body); /* closes c->fd */
/* control_why.c */
struct err *control_shape(struct caller *c, struct rd *body);
struct err *control_why(struct caller *c, struct rd *body);
struct err *control_suspend(struct caller *c, struct rd *body);
struct err *control_resume(struct caller *c, struct rd *body);
struct err *control_suspended(struct caller *c, struct rd *body);
/* e, told to the caller. */
struct err *control_error(struct caller *c, const struct err *e);
/* The service named, or the one that keeps mail. */
const struct service *control_service(const struct snapshot *s, const char *name);
/* Received: for mail that a user of this machine posted. */
void control_received(struct cleanup *c, const struct params *p, struct arena *a, int64_t uid);
/* The rest of the connection is the import of another queue. */
struct err *control_import(struct caller *c, struct rd *body);
/* postsuper -r: through cleanup again, under a new id. */
struct err *control_requeue(struct queue *queue, const struct queue_select *what,
                            void (*each)(void *ctx, const char *id), void *ctx, uint64_t *count_out);

#endif
