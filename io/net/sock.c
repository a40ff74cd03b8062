#include "io/net/sock.h"

#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "io/ring/ring.h"

/* Descriptors stay in blocking mode: io_uring waits for readiness itself, but answers EAGAIN at once
 * for O_NONBLOCK ones. */
static struct err *new_socket(int family, int *fd_out)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(errno, "socket");
    *fd_out = fd;
    return NULL;
}

/* Closes fd and reports; the number is read before close can change it. */
static struct err *drop(int fd, const char *what, const struct addr *at)
{
    int number = errno;
    char text[ADDR_TEXT_MAX];
    close(fd);
    return err_errno(number, "%s %s port %u", what, addr_text(at, text), addr_port(at));
}

static bool set_flag(int fd, int level, int option)
{
    int one = 1;
    return setsockopt(fd, level, option, &one, sizeof(one)) == 0;
}

struct err *sock_listen(const struct addr *at, int backlog, bool reuse_port, int *fd_out)
{
    int fd = -1;
    struct err *e = new_socket(at->sa.sa_family, &fd);
    if (e)
        return e;
    if (!set_flag(fd, SOL_SOCKET, SO_REUSEADDR) ||
        (reuse_port && !set_flag(fd, SOL_SOCKET, SO_REUSEPORT)) ||
        (at->sa.sa_family == AF_INET6 && !set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY)))
        return drop(fd, "prepare socket for", at);
    if (bind(fd, &at->sa, at->len) != 0)
        return drop(fd, "bind", at);
    if (listen(fd, backlog) != 0)
        return drop(fd, "listen on", at);
    *fd_out = fd;
    return NULL;
}

static struct err *unix_addr(const char *path, struct sockaddr_un *out)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof(un.sun_path))
        return err_new(ERR_CONFIG, 0, "unix-domain name too long: %s", path);
    memcpy(un.sun_path, path, n + 1);
    *out = un;
    return NULL;
}

struct err *sock_listen_unix(const char *path, mode_t mode, int backlog, int *fd_out)
{
    struct sockaddr_un un;
    struct err *e = unix_addr(path, &un);
    int fd = -1;
    if (!e)
        e = new_socket(AF_UNIX, &fd);
    if (e)
        return e;
    struct stat st;
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(path); /* left by a process that is gone */
    /* fchmod on the socket before bind sets the mode the name is made with: no open moment. */
    if (fchmod(fd, mode) == 0 && bind(fd, (struct sockaddr *)&un, sizeof(un)) == 0 &&
        chmod(path, mode) == 0 && listen(fd, backlog) == 0) {
        *fd_out = fd;
        return NULL;
    }
    int number = errno;
    close(fd);
    return err_errno(number, "listen on %s", path);
}

void sock_nodelay(int fd)
{
    (void)set_flag(fd, IPPROTO_TCP, TCP_NODELAY); /* only speed is lost */
}

struct err *sock_connect(const struct addr *to, const struct addr *bind_to, int64_t deadline_ns,
                         int *fd_out)
{
    int fd = -1;
    struct err *e = new_socket(to->sa.sa_family, &fd);
    if (e)
        return e;
    if (bind_to && bind_to->sa.sa_family == to->sa.sa_family) {
        struct addr from = *bind_to;
        addr_set_port(&from, 0);
        if (bind(fd, &from.sa, from.len) != 0)
            return drop(fd, "bind", &from);
    }
    e = io_connect(fd, &to->sa, to->len, deadline_ns);
    if (e) {
        close(fd); /* nothing was sent on it: does not wait */
        return e;
    }
    sock_nodelay(fd);
    *fd_out = fd;
    return NULL;
}

struct err *sock_connect_unix(const char *path, int64_t deadline_ns, int *fd_out)
{
    struct sockaddr_un un;
    struct err *e = unix_addr(path, &un);
    int fd = -1;
    if (!e)
        e = new_socket(AF_UNIX, &fd);
    if (e)
        return e;
    e = io_connect(fd, (struct sockaddr *)&un, sizeof(un), deadline_ns);
    if (e) {
        close(fd);
        return err_in(e, "connect to %s", path);
    }
    *fd_out = fd;
    return NULL;
}

struct err *sock_peer(int fd, struct addr *out)
{
    struct addr a;
    memset(&a, 0, sizeof(a));
    a.len = sizeof(a.ss);
    if (getpeername(fd, &a.sa, &a.len) != 0)
        return err_errno(errno, "getpeername");
    *out = a;
    return NULL;
}

struct err *sock_local(int fd, struct addr *out)
{
    struct addr a;
    memset(&a, 0, sizeof(a));
    a.len = sizeof(a.ss);
    if (getsockname(fd, &a.sa, &a.len) != 0)
        return err_errno(errno, "getsockname");
    *out = a;
    return NULL;
}
