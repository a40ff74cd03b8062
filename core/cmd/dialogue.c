/* dialogue: sendmail -bs. The session runs in the server, as any other; bytes pass both ways unread. */
#include <sys/socket.h>
#include <unistd.h>

#include "core/cmd/access.h"
#include "core/cmd/post.h"
#include "core/cmd/tell.h"
#include "io/base/clock.h"
#include "io/fiber/wait.h"
#include "io/ring/ring.h"

#define PUMP_BYTES 2048

struct pump {
    int fd; /* the server */
};

/* Until the end of the input, which the server hears of. */
static void pump_in(void *arg)
{
    const struct pump *p = arg;
    char bytes[PUMP_BYTES];
    for (;;) {
        size_t n = 0;
        struct err *e = io_pread(0, bytes, sizeof(bytes), IO_STREAM, &n);
        if (!e && n > 0)
            e = io_send(p->fd, bytes, n, DEADLINE_NEVER);
        if (e || n == 0)
            break;
    }
    shutdown(p->fd, SHUT_WR);
}

static struct err *pump_out(const struct pump *p)
{
    char bytes[PUMP_BYTES];
    for (;;) {
        size_t n = 0;
        struct err *e = io_recv(p->fd, bytes, sizeof(bytes), DEADLINE_NEVER, &n);
        if (e || n == 0)
            return e && e->kind != ERR_CLOSED ? e : NULL;
        e = io_pwrite(1, bytes, n, IO_STREAM);
        if (e)
            return e;
    }
}

static int talk(struct access *a, void *ctx)
{
    (void)ctx;
    struct pump p = {a->fd};
    struct group g;
    wire_begin(&a->out, WIRE_SMTPD);
    struct err *e = wire_send(a->fd, &a->out);
    group_init(&g);
    if (!e && !group_spawn(&g, "pump", pump_in, &p))
        e = err_new(ERR_LIMIT, 0, "no fiber");
    if (!e)
        e = pump_out(&p);
    /* The session is over; input that still comes is nobody's. */
    group_cancel(&g);
    struct err *joined = group_join(&g, DEADLINE_NEVER);
    e = e ? e : joined;
    return e ? tell_fatal(POST_FAILED, "%s", e->text) : 0;
}

int post_dialogue(const struct snapshot *s)
{
    return access_run(s, "sendmail", false, talk, NULL) ? POST_FAILED : 0;
}
