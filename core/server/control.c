#include "core/server/control.h"

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/server/control_private.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/file/file.h"
#include "io/fiber/fiber.h"
#include "io/net/sock.h"
#include "io/ring/ring.h"

struct control {
    struct queue *queue;
    struct worker *worker;
    int fd;
};

typedef struct err *handler(struct caller *c, struct rd *body);

/* Which verb needs which right. */
static const struct {
    enum wire_verb verb;
    handler *run;
    bool privileged;
} handlers[] = {
    {WIRE_LIST, control_list, false},     {WIRE_DO, control_do, true},
    {WIRE_FLUSH, control_flush, false},   {WIRE_FIND, control_find, true},
    {WIRE_SUBMIT, control_submit, false}, {WIRE_SMTPD, control_smtpd, false},
    {WIRE_COUNTS, control_counts, false}, {WIRE_IMPORT, control_import, true},
    {WIRE_SHAPE, control_shape, true},    {WIRE_WHY, control_why, false},
    {WIRE_SUSPEND, control_suspend, true}, {WIRE_RESUME, control_resume, true},
    {WIRE_SUSPENDED, control_suspended, false},
};

static struct err *dispatch(struct caller *c)
{
    enum wire_verb verb;
    struct err *e = wire_recv(c->fd, &c->in, &verb);
    if (e)
        return e;
    for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++) {
        if (handlers[i].verb != verb)
            continue;
        if (handlers[i].privileged && !c->privileged)
            return wire_send_end(c->fd, &c->out, WIRE_DENIED, 0,
                                 STR("use of this command is reserved for the superuser"));
        struct rd body = rd_of(buf_str(&c->in));
        return handlers[i].run(c, &body);
    }
    return wire_send_end(c->fd, &c->out, WIRE_ERROR, 0, STR("unknown request"));
}

static bool is_privileged(int64_t uid)
{
    return uid == 0 || uid == (int64_t)geteuid();
}

static void caller_main(void *arg)
{
    struct caller *c = arg;
    struct ucred cred;
    socklen_t len = sizeof(cred);
    c->arena = arena_new(4096, 0);
    if (c->uid < 0 && getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0)
        c->uid = cred.uid;
    c->privileged = is_privileged(c->uid);
    struct err *e = NULL;
    while (!e && c->fd >= 0) {
        e = dispatch(c);
        arena_reset(c->arena);
    }
    if (e && e->kind != ERR_CLOSED && e->kind != ERR_CANCELED)
        log_warning("master", "control socket: %s", e->text);
    if (c->fd >= 0)
        (void)io_close(c->fd);
    arena_free(c->arena);
    buf_fini(&c->in);
    buf_fini(&c->out);
    mem_free(c);
}

bool control_serve(struct queue *queue, int fd, int64_t uid)
{
    struct caller *c = MEM_NEW(struct caller);
    c->queue = queue;
    c->fd = fd;
    c->uid = uid;
    if (fiber_spawn("control", caller_main, c))
        return true;
    close(fd);
    mem_free(c);
    return false;
}

static void accept_main(void *arg)
{
    struct control *control = arg;
    for (;;) {
        struct sockaddr_storage peer;
        int fd;
        struct err *e = io_accept(control->fd, &peer, DEADLINE_NEVER, &fd);
        if (e && e->kind == ERR_CANCELED)
            break;
        if (e) {
            log_warning("master", "control socket: accept: %s", e->text);
            if (fiber_sleep_until(clock_in_s(1)))
                break;
            continue;
        }
        (void)control_serve(control->queue, fd, -1);
    }
}

struct err *control_start(struct queue *queue, struct worker *w, const char *queue_directory,
                          struct control **out)
{
    char path[1024];
    snprintf(path, sizeof(path), "%s/public", queue_directory);
    struct err *e = file_mkdirs(path, 0755);
    if (e)
        return e;
    /* The engine's working directory is the queue directory: a relative name fits into sun_path. */
    (void)unlink(CONTROL_SOCKET);
    int fd;
    e = sock_listen_unix(CONTROL_SOCKET, 0666, 64, &fd);
    if (e)
        return err_in(e, "control socket %s/%s", queue_directory, CONTROL_SOCKET);
    struct control *c = MEM_NEW(struct control);
    c->queue = queue;
    c->worker = w;
    c->fd = fd;
    worker_spawn(w, "control", accept_main, c);
    *out = c;
    return NULL;
}

void control_stop(struct control *c)
{
    (void)c;
    (void)unlink(CONTROL_SOCKET);
}

void control_free(struct control *c)
{
    close(c->fd);
    mem_free(c);
}
