#include "core/server/link.h"

#include <sys/socket.h>
#include <unistd.h>

struct err *link_pair(int *supervisor_fd_out, int *engine_fd_out)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return err_errno(errno, "socketpair");
    *supervisor_fd_out = fds[0];
    *engine_fd_out = fds[1];
    return NULL;
}

union fd_control {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
};

struct err *link_send(int fd, enum link_verb verb, const char *text, int pass_fd)
{
    char head = (char)verb;
    struct iovec iov[2] = {{&head, 1}, {(char *)text, text ? strlen(text) : 0}};
    if (iov[1].iov_len >= LINK_TEXT_MAX)
        iov[1].iov_len = LINK_TEXT_MAX - 1;
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
    union fd_control control = {0};
    if (pass_fd >= 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &pass_fd, sizeof(int));
    }
    ssize_t n;
    do
        n = sendmsg(fd, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? err_errno(errno, "send to the other process") : NULL;
}

struct err *link_recv(int fd, struct link_msg *out)
{
    char head = 0;
    struct iovec iov[2] = {{&head, 1}, {out->text, sizeof(out->text) - 1}};
    union fd_control control = {0};
    struct msghdr msg = {.msg_iov = iov,
                         .msg_iovlen = 2,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    ssize_t n;
    do
        n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_errno(errno, "receive from the other process");
    if (n == 0)
        return err_new(ERR_CLOSED, 0, "the other process is gone");
    out->verb = (enum link_verb)head;
    out->text[n - 1] = '\0';
    out->fd = -1;
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
        memcpy(&out->fd, CMSG_DATA(c), sizeof(int));
    return NULL;
}
