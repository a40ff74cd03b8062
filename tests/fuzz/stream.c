/* io/net stream_line, stream_dot, stream_plain (while reads are cut): lines and the ending dot are what the bytes say,
 * however the reads cut them. */
#include "fuzz.h"
#include "io/base/buf.h"
#include "io/fiber/fiber.h"
#include "io/net/stream.h"

struct cut_layer {
    struct stream_layer layer;
    struct str in;
    struct fuzz_rand *cuts; /* NULL: all at once */
};

static struct err *cut_read(struct stream_layer *l, void *bytes, size_t n, int64_t deadline_ns,
                            size_t *n_out)
{
    struct cut_layer *c = (struct cut_layer *)l;
    (void)deadline_ns;
    if (c->in.len == 0)
        return err_new(ERR_CLOSED, 0, "end");
    size_t most = !c->cuts ? n : 1 + fuzz_below(c->cuts, fuzz_below(c->cuts, 4) ? 8 : 5000);
    struct str take = str_head(c->in, most < n ? most : n);
    memcpy(bytes, take.ptr, take.len);
    c->in = str_from(c->in, take.len);
    *n_out = take.len;
    return NULL;
}

static struct err *cut_writev(struct stream_layer *l, struct iovec *iov, int iovs, int64_t deadline_ns)
{
    (void)l, (void)iov, (void)iovs, (void)deadline_ns;
    return NULL;
}

static void cut_close(struct stream_layer *l)
{
    (void)l;
}

static const struct stream_layer_ops ops = {cut_read, cut_writev, cut_close};

static void note(struct buf *out, const struct line *line)
{
    for (size_t i = 0; i < line->text.len; i++)
        CHECK(line->text.ptr[i] != '\n');
    buf_add_u8(out, (uint8_t)line->end);
    buf_add_lstr(out, line->text);
}

static void commands(struct stream *s, size_t max, struct buf *out)
{
    struct line line;
    while (!stream_line(s, max, DEADLINE_NEVER, &line)) {
        CHECK(line.text.len <= max);
        note(out, &line);
    }
}

/* What stream_plain takes, line by line. */
static void plain(struct dot *d, size_t max, struct buf *out)
{
    struct plain lines;
    if (!stream_plain(d, max, &lines))
        return;
    size_t over = 0;
    for (; lines.lines > 0; lines.lines--) {
        ssize_t end = str_find(lines.text, STR("\r\n"));
        CHECK(end >= 0 && (size_t)end <= max);
        over += end > 127;
        note(out, &(struct line){str_head(lines.text, (size_t)end), LINE_CRLF});
        lines.text = str_from(lines.text, (size_t)end + 2);
    }
    CHECK(lines.text.len == 0 && over == lines.over_127);
}

static void content(struct stream *s, size_t max, enum bare_newline policy, bool bulk, struct buf *out)
{
    struct dot d;
    bool ended = false;
    struct line line;
    dot_begin(&d, s, policy);
    struct err *e = NULL;
    while (!e && !ended) {
        if (bulk)
            plain(&d, max, out);
        e = stream_dot(&d, max, DEADLINE_NEVER, &line, &ended);
        if (!e && !ended)
            note(out, &line);
    }
    buf_add_u8(out, ended);
    buf_add_u8(out, d.bare_lf);
    if (ended)
        commands(s, max, out); /* what follows the dot is for the next reader, whole */
}

static void play(struct str in, size_t max, int policy, struct fuzz_rand *cuts, struct buf *out)
{
    struct cut_layer layer = {{.ops = &ops}, in, cuts};
    struct stream *s = stream_new_layer(&layer.layer);
    if (policy < 0)
        commands(s, max, out);
    else
        content(s, max, (enum bare_newline)policy, cuts != NULL, out);
    stream_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = fuzz_str(data, size);
    struct fuzz_rand cuts = fuzz_rand_of(in, 1);
    size_t lengths[] = {1 + fuzz_below(&cuts, 9), 2048};
    for (int policy = -1; policy <= BARE_NEWLINE_REJECT; policy++) {
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            struct buf whole = {0}, cut = {0};
            play(in, lengths[i], policy, NULL, &whole);
            play(in, lengths[i], policy, &cuts, &cut);
            CHECK(str_eq(buf_str(&whole), buf_str(&cut)));
            buf_fini(&whole);
            buf_fini(&cut);
        }
    }
    return 0;
}
