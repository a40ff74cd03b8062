#include "core/cmd/input.h"

#include "io/base/clock.h"
#include "io/base/mem.h"
#include "io/ring/ring.h"

/* The layer adds the line feed that the last line lacks, so that nothing of it is dropped. */
struct stdin_layer {
    struct stream_layer layer;
    bool in_line, ended;
};

static struct err *stdin_read(struct stream_layer *l, void *bytes, size_t n, int64_t deadline_ns,
                              size_t *n_out)
{
    struct stdin_layer *s = (struct stdin_layer *)(void *)l;
    (void)deadline_ns; /* the writer is the user's own program, and may take its time */
    size_t got = 0;
    struct err *e = s->ended ? NULL : io_pread(0, bytes, n, IO_STREAM, &got);
    if (e)
        return err_in(e, "standard input");
    if (got > 0) {
        s->in_line = ((char *)bytes)[got - 1] != '\n';
        *n_out = got;
        return NULL;
    }
    s->ended = true;
    if (!s->in_line)
        return err_new(ERR_CLOSED, 0, "end of standard input");
    s->in_line = false;
    *(char *)bytes = '\n';
    *n_out = 1;
    return NULL;
}

static struct err *stdin_writev(struct stream_layer *l, struct iovec *iov, int iovs, int64_t deadline_ns)
{
    (void)l, (void)iov, (void)iovs, (void)deadline_ns;
    return err_new(ERR_REFUSED, 0, "standard input is only read");
}

static void stdin_close(struct stream_layer *l)
{
    mem_free(l);
}

static const struct stream_layer_ops stdin_ops = {stdin_read, stdin_writev, stdin_close};

void input_open(struct input *in)
{
    struct stdin_layer *s = MEM_NEW(struct stdin_layer);
    s->layer.ops = &stdin_ops;
    in->stream = stream_new_layer(&s->layer);
}

bool input_line(struct input *in, struct str *text_out, bool *whole_out, struct err **e_out)
{
    struct line line;
    struct err *e = stream_line(in->stream, INPUT_PIECE_MAX, DEADLINE_NEVER, &line);
    *e_out = e && e->kind == ERR_CLOSED ? NULL : e;
    if (e)
        return false;
    *text_out = line.text;
    *whole_out = line.end != LINE_LONG;
    return true;
}

void input_close(struct input *in)
{
    stream_free(in->stream);
}
