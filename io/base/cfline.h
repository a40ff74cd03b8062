/* cfline: logical lines of main.cf, master.cf and lookup table source text (postconf(5),
 * postmap(1)).
 *
 * A line that begins with white space goes on with the one before it. Empty lines, lines of white
 * space and lines whose first visible character is '#' are skipped, also between a line and its
 * continuation. Text in quotes is not unquoted. The pieces are joined as they stand, without their
 * line ends. A text that begins with a continuation belongs to no line: the caller sees it as a
 * logical line that starts with a blank, and reports it (cfline_stray). */
#ifndef IO_BASE_CFLINE_H
#define IO_BASE_CFLINE_H

#include <stdio.h>

#include "io/base/buf.h"
#include "io/base/err.h"

#define CFLINE_BYTES_MAX (16U * 1024U * 1024U) /* a logical line */

struct cfline {
    FILE *fp;        /* borrowed; NULL when reading text */
    struct str rest; /* of the text */
    struct buf line;
    char *raw; /* the physical line, and one read ahead */
    size_t raw_cap;
    struct str ahead;
    bool have_ahead;
    int number; /* of the physical line read last */
};

void cfline_init_file(struct cfline *c, FILE *fp);
void cfline_init_text(struct cfline *c, struct str text);
void cfline_fini(struct cfline *c);
/* The next logical line; good until the next call. *number_out is that of its first physical line,
 * from 1. line_out->ptr is NULL at the end. Trailing white space is left off.
 *   errors   ERR_IO    ERR_LIMIT: a line beyond CFLINE_BYTES_MAX     yields no */
MUST_USE struct err *cfline_next(struct cfline *c, struct str *line_out, int *number_out);
/* True for a continuation without a line to go on with: Postfix warns and ignores it. */
bool cfline_stray(struct str line);
/* "name = value", white space around both removed. ERR_CONFIG in Postfix's words: missing attribute
 * name, missing '=' after attribute name. */
MUST_USE struct err *cfline_split(struct str line, struct str *name_out, struct str *value_out);

#endif
