/* sock: making sockets. fds are non-blocking-safe, close-on-exec; io_* of ring.h drives them. */
#ifndef IO_NET_SOCK_H
#define IO_NET_SOCK_H

#include "io/net/addr.h"

/* Bound and listening. v6 sockets are v6 only. reuse_port: several acceptors on one address. */
struct err *sock_listen(const struct addr *at, int backlog, bool reuse_port, int *fd_out) MUST_USE;
struct err *sock_listen_unix(const char *path, mode_t mode, int backlog, int *fd_out) MUST_USE;
/* Yields (fiber) or blocks. bind_to NULL = kernel's choice. TCP_NODELAY is set. */
struct err *sock_connect(const struct addr *to, const struct addr *bind_to, int64_t deadline_ns,
                         int *fd_out) MUST_USE;
struct err *sock_connect_unix(const char *path, int64_t deadline_ns, int *fd_out) MUST_USE;
void sock_nodelay(int fd);
struct err *sock_peer(int fd, struct addr *out) MUST_USE;
struct err *sock_local(int fd, struct addr *out) MUST_USE;

#endif
