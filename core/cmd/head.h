/* head: the headers of a message that is being posted: where they end, and whom they name (sendmail -t). Pure. */
#ifndef CORE_CMD_HEAD_H
#define CORE_CMD_HEAD_H

#include "io/base/arena.h"
#include "io/base/buf.h"

/* Does this line belong to the headers? after_header: the line before it did. */
bool head_line(struct str line, bool after_header);
/* Recipients of To, Cc and Bcc; of their Resent- forms alone when these name any. lines: the header section with its
 * lines ending in LF. Internal form. Appends to *list_out, which is a buf of struct str; memory from a. */
void head_recipients(struct arena *a, struct str lines, struct buf *list_out);

#endif
