/* ledger: what was imported, so that nothing is imported twice: the file log/imported in the queue directory, text, one line
 * a message, only ever appended to:
 *
 *   begin                            an import began
 *   <origin> SP <our queue id>       this message is here now
 *   end                              it ended in an orderly way: nothing of it is half-done
 *
 * A line counts when its LF is there. One import at a time (flock, waited for a little). Yields in a fiber. */
#ifndef CORE_IMPORT_LEDGER_H
#define CORE_IMPORT_LEDGER_H

#include "io/base/buf.h"
#include "io/base/err.h"

struct ledger;

/* ERR_REFUSED: another import is running. *orderly_out: the last one ended, or there was none. */
struct err *ledger_open(const char *queue_directory, struct ledger **out, bool *orderly_out) MUST_USE;
/* Whole lines; on stable storage when it returns. */
struct err *ledger_append(struct ledger *l, struct str lines) MUST_USE;
/* The next whole lines, from the first one on; empty at the end. Good until the next call. ERR_DAMAGED. */
struct err *ledger_next(struct ledger *l, struct str *lines_out) MUST_USE;
void ledger_rewind(struct ledger *l);
void ledger_close(struct ledger *l);

/* The first line of *lines, which is taken off: false at the end. origin "" = begin or end. Pure. */
bool ledger_line(struct str *lines, struct str *origin_out, struct str *id_out);
#define LEDGER_BEGIN STR("begin\n")
#define LEDGER_END   STR("end\n")

#endif
