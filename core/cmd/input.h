/* input: standard input, line by line, through the one reader of line ends (io/net/stream.h). A last line without an end is
 * a line. Blocks outside fibers. */
#ifndef CORE_CMD_INPUT_H
#define CORE_CMD_INPUT_H

#include "io/net/stream.h"

#define INPUT_PIECE_MAX 2048

struct input {
    struct stream *stream;
};
void input_open(struct input *in);
/* False at the end, and on errors. *whole_out false: the line goes on. Text is good until the next call. */
bool input_line(struct input *in, struct str *text_out, bool *whole_out, struct err **e_out);
void input_close(struct input *in);

#endif
