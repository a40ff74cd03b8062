/* stream_in: the input half of a stream, shared by stream.c and stream_line.c and nobody else. */
#ifndef IO_NET_STREAM_IN_H
#define IO_NET_STREAM_IN_H

#include "io/net/stream.h"

#define STREAM_IN_IDLE (4 * 1024)  /* commands */
#define STREAM_IN_DATA (16 * 1024) /* the usual message in one or two reads */
#define STREAM_IN_MAX  (64 * 1024) /* grown into while reads fill the buffer */

struct stream_in {
    char *bytes;
    size_t cap, at, end; /* bytes[at .. end) wait to be taken */
    bool filled;         /* the last read used all the room it had */
};

struct stream_in *stream_in(struct stream *s);
/* Read once more, into a buffer of at least cap_wanted bytes. Views given before are void. Moves the
 * deadline (stream_set_idle). Yields. */
struct err *stream_fill(struct stream *s, size_t cap_wanted, int64_t *deadline_ns) MUST_USE;

#endif
