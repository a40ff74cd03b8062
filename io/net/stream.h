/* stream: buffered bytes with deadlines over a layer (a socket now, TLS on top of it later), and
 * stream_line and stream_dot, the ONLY readers of line endings and of the ending dot in the house.
 * One fiber at a time. Every call that may wait yields and takes an absolute deadline. */
#ifndef IO_NET_STREAM_H
#define IO_NET_STREAM_H

#include <sys/uio.h>
#include "io/base/arena.h"
#include "io/base/err.h"

/* The layer under a stream. TLS wraps the previous layer and is pushed with stream_push. */
struct stream_layer;
struct stream_layer_ops {
    /* At least 1 byte, or ERR_CLOSED at end of file. */
    struct err *(*read)(struct stream_layer *l, void *bytes, size_t n, int64_t deadline_ns,
                        size_t *n_out);
    /* All of it; may change iov. */
    struct err *(*writev)(struct stream_layer *l, struct iovec *iov, int iovs, int64_t deadline_ns);
    void (*close)(struct stream_layer *l); /* frees it and what is under it */
};
struct stream_layer {
    const struct stream_layer_ops *ops;
    struct stream_layer *under;
};

struct stream;
/* Over a connected socket; owns fd from now on. Input buffer 4 KiB, grown for DATA, given back when
 * idle (stream_shrink). */
struct stream *stream_new(int fd);
struct stream *stream_new_layer(struct stream_layer *layer); /* tests, TLS */
/* Flushes nothing; closes the socket. */
void stream_free(struct stream *s);
int stream_fd(const struct stream *s);
/* Put a layer on top. Bytes read ahead and not yet taken are an attack (STARTTLS injection): the
 * caller checks stream_pending first and refuses; they are thrown away here, for plain bytes must
 * never be taken for protected ones. `layer->under` is set here. */
void stream_push(struct stream *s, struct stream_layer *layer);
size_t stream_pending(const struct stream *s); /* bytes read from the peer, not yet taken */
struct str stream_peek(const struct stream *s); /* those bytes, until the next call that reads */
/* Read once more behind them, into a buffer of at least `room` bytes: more than are pending, 64 KiB at
 * most. For readers that look at whole pieces of content (perf/load) instead of lines. */
struct err *stream_more(struct stream *s, size_t room, int64_t deadline_ns) MUST_USE;
void stream_shrink(struct stream *s);          /* give idle buffers back */

/* per_request (smtpd_per_request_deadline): the deadline given is for the whole call. Without it,
 * each arrival of bytes moves the deadline to now + idle_s. 0 = per request. */
void stream_set_idle(struct stream *s, int64_t idle_s);

/* A reader for whom no byte has come in after_ms (1 s unless told) gives back the stream's buffers and
 * its fiber's stack pages, calls fn(arg) (may be NULL) so that the owner gives back his, and waits on
 * without them. Once a wait: a session under load never gets there. Over a bare socket in a fiber. */
void stream_set_rest(struct stream *s, int64_t after_ms, void (*fn)(void *arg), void *arg);

/* --- lines (RFC 5321 §2.3.8). */
enum line_end {
    LINE_CRLF, /* <CR><LF> */
    LINE_LF,   /* bare <LF> */
    LINE_LONG, /* max bytes without an end: the next call goes on with the same line */
};
struct line {
    struct str text; /* without its end; in the stream's buffer, good until the next call */
    enum line_end end;
};
/* One line of at most max bytes. A lone CR inside is data. ERR_CLOSED at end of file (bytes of an
 * unfinished last line are dropped). */
struct err *stream_line(struct stream *s, size_t max, int64_t deadline_ns, struct line *out) MUST_USE;
/* The rule under stream_line, for bytes that are in memory already (a BDAT chunk): the first line or
 * LINE_LONG piece of `have`. False: the bytes do not decide it yet. *scanned (0 for a new line)
 * remembers what was searched while `have` grows; *took_out counts the end too. */
bool line_scan(struct str have, size_t max, size_t *scanned, struct line *out, size_t *took_out);

/* --- DATA content (RFC 5321 §4.5.2), one line after the other, dots already removed.
 * bare newline policy = smtpd_forbid_bare_newline (postconf(5)):
 *   NO         <LF> ends a line, and <LF>.<LF>, <LF>.<CR><LF>, <CR><LF>.<LF> end the content; CRs
 *              before a line's end belong to the end, so that .<CR><CR><LF> ends it too
 *   NORMALIZE  <LF> ends a line, but the content ends only at <CR><LF>.<CR><LF> (the command line's
 *              end counts as the first <CR><LF>); a lone dot with any other ends about it vanishes,
 *              as in Postfix. One CR belongs to the end, further ones are data.
 *   NOTE       as NORMALIZE, and bare_lf is reported for the log
 *   REJECT     as NORMALIZE, and bare_lf is reported so that the caller refuses                  */
enum bare_newline { BARE_NEWLINE_NO, BARE_NEWLINE_NORMALIZE, BARE_NEWLINE_NOTE, BARE_NEWLINE_REJECT };
struct dot {
    struct stream *stream;
    enum bare_newline policy;
    bool bare_lf;      /* a bare <LF> was seen (policy decides what it means) */
    bool after_line;   /* the last piece ended its line: a leading dot now counts */
    bool ended;        /* the end was read */
    enum line_end prev; /* how the line before this one ended */
};
void dot_begin(struct dot *d, struct stream *s, enum bare_newline policy);
/* Next line or (LINE_LONG) piece of at most max bytes; *ended_out true and no line at the end. After
 * an error in the caller keep calling to swallow the rest. */
struct err *stream_dot(struct dot *d, size_t max, int64_t deadline_ns, struct line *out,
                       bool *ended_out) MUST_USE;
/* Lines in bulk: those at the front of what has been read that need no look at each: ended by CRLF, no other CR
 * or LF and no dot in front, at most `longest` bytes. False: there is none, or a line is under way; stream_dot has the
 * next one. Reads nothing. The view is good until the next call. */
struct plain {
    struct str text;        /* with their ends */
    size_t lines, over_127; /* how many, and how many of them have more than 127 bytes before the end */
};
bool stream_plain(struct dot *d, size_t longest, struct plain *out);
/* The rule under stream_plain, for bytes that are in memory already and begin a line. */
bool plain_lines(struct str have, size_t longest, struct plain *out);
/* Exactly n bytes of BDAT (RFC 3030) or fewer if the buffer holds fewer now: at least 1. */
struct err *stream_bytes(struct stream *s, size_t n, int64_t deadline_ns, struct str *out) MUST_USE;

/* --- output: gathered in a buffer, sent by flush, or when 16 KiB wait. */
struct err *stream_put(struct stream *s, struct str bytes, int64_t deadline_ns) MUST_USE;
struct err *stream_printf(struct stream *s, int64_t deadline_ns, const char *fmt, ...) PRINTF(3, 4) MUST_USE;
/* Over a bare socket, in a fiber, it only starts the send: one system call does it and the read that follows.
 * An error then shows at the next output, or as the end of input; stream_free waits for it. */
struct err *stream_flush(struct stream *s, int64_t deadline_ns) MUST_USE;
/* Sends what waits and then these pieces, without copying them. */
struct err *stream_putv(struct stream *s, struct iovec *iov, int iovs, int64_t deadline_ns) MUST_USE;
size_t stream_unsent(const struct stream *s);

#endif
