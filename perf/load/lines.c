#include "perf/load/lines.h"

#include <fcntl.h>
#include <stdio.h>
#include "io/base/clock.h"
#include "io/fiber/fiber.h"
#include "io/ring/ring.h"

enum { FLUSH_MS = 100 };

struct err *lines_open(const char *path, int *fd_out)
{
    *fd_out = -1;
    if (path == NULL)
        return NULL;
    return io_openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0644, fd_out);
}

void lines_add(struct lines *l, struct str text)
{
    if (l->fd < 0)
        return;
    buf_add_str(&l->waiting, text);
    buf_add_char(&l->waiting, '\n');
}

void lines_add_stamped(struct lines *l, struct str text, int64_t wall_us)
{
    if (l->fd < 0)
        return;
    buf_add_str(&l->waiting, text);
    buf_printf(&l->waiting, " %lld\n", (long long)wall_us);
}

struct err *lines_flush(struct lines *l)
{
    if (l->waiting.len == 0)
        return NULL;
    struct buf swap = l->leaving;
    l->leaving = l->waiting;
    l->waiting = swap;
    struct err *e = io_pwrite(l->fd, l->leaving.ptr, l->leaving.len, IO_STREAM);
    buf_reset(&l->leaving);
    return e;
}

static void complain(struct err *e)
{
    if (e)
        fprintf(stderr, "writing ids: %s\n", e->text);
}

void lines_fiber(void *arg)
{
    struct lines *l = arg;
    struct err *canceled = NULL;
    while (!canceled) {
        canceled = fiber_sleep_until(clock_in_ms(FLUSH_MS));
        fiber_shield_begin();
        complain(lines_flush(l));
        fiber_shield_end();
    }
}

void lines_fini(struct lines *l)
{
    complain(lines_flush(l));
    buf_fini(&l->waiting);
    buf_fini(&l->leaving);
}
