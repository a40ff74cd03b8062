/* lines: a file that grows by lines from several workers: --acked, --received. Each worker gathers
 * lines of its own and appends them ten times a second and at its end, whole lines in one write
 * (O_APPEND), so that a reader sees them within 0.1 s and a kill of the peer loses none. */
#ifndef PERF_LOAD_LINES_H
#define PERF_LOAD_LINES_H

#include "io/base/buf.h"
#include "io/base/err.h"

struct lines {
    int fd; /* -1: no file is wanted, everything below does nothing */
    struct buf waiting, leaving;
};

/* Appends; makes the file when there is none. path NULL: none is wanted, fd_out is -1. */
struct err *lines_open(const char *path, int *fd_out) MUST_USE;
static inline void lines_init(struct lines *l, int fd)
{
    *l = (struct lines){.fd = fd};
}
/* Adds text and a line end. */
void lines_add(struct lines *l, struct str text);
/* The same with a blank and the wall clock's microseconds behind it. */
void lines_add_stamped(struct lines *l, struct str text, int64_t wall_us);
/* Yields; one fiber at a time. */
struct err *lines_flush(struct lines *l) MUST_USE;
/* The worker's fiber for it: flushes until canceled; arg is the struct lines. Errors go to stderr. */
void lines_fiber(void *arg);
/* After the worker has ended. */
void lines_fini(struct lines *l);

#endif
