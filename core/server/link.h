/* link: what supervisor and engine say to each other, over a SOCK_SEQPACKET pair: one packet a message,
 * a listening socket may ride along (SCM_RIGHTS). Blocking; each side reads it from its main thread. */
#ifndef CORE_SERVER_LINK_H
#define CORE_SERVER_LINK_H

#include "io/base/err.h"

enum link_verb {
    /* to the engine */
    LINK_LISTEN = 'L', /* text: index of the service in master.cf; one socket */
    LINK_RELOAD = 'R', /* sockets were sent: read the configuration (again) and serve those, no others */
    LINK_STOP = 'S',   /* end in an orderly way */
    /* to the supervisor */
    LINK_READY = 'Y',  /* serving */
    LINK_FAILED = 'F', /* text: why it cannot start or reload */
};

#define LINK_TEXT_MAX 1024

struct link_msg {
    enum link_verb verb;
    char text[LINK_TEXT_MAX];
    int fd; /* -1 none; the receiver owns it */
};

struct err *link_pair(int *supervisor_fd_out, int *engine_fd_out) MUST_USE;
struct err *link_send(int fd, enum link_verb verb, const char *text, int pass_fd);
/* Waits. ERR_CLOSED: the other side is gone. */
struct err *link_recv(int fd, struct link_msg *out) MUST_USE;

#endif
