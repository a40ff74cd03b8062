/* sockets: which listening sockets a configuration wants (inet services of master.cf, inet_interfaces,
 * inet_protocols), and having them: those that are open already are kept over a reload. */
#ifndef CORE_SERVER_SOCKETS_H
#define CORE_SERVER_SOCKETS_H

#include "core/config/snapshot.h"

struct socket_row {
    size_t service_index; /* in master.cf */
    struct addr addr;
    int fd;
};
struct sockets {
    struct socket_row *rows;
    size_t count;
};

/* Opens what `s` wants, taking over open ones from *old (may be empty). On success the rest of *old is
 * closed and *old is replaced; on error nothing changes. Blocks (name lookups of host:port services). */
struct err *sockets_update(const struct snapshot *s, struct sockets *old) MUST_USE;
void sockets_close(struct sockets *s);

#endif
