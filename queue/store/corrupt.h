/* corrupt: what is damaged is set aside: corrupt/<id> for a message, beside it corrupt/<id>.content when its
 * content had a file of its own; corrupt/seg-<epoch>-<offset> for bytes of the log that have no name.
 *
 * corrupt/<id> is two records (record.h) back to back: first a MESSAGE with the envelope as it was
 * known when the message was set aside (who has it already, who has not) and no content, made whole;
 * then the bytes of its record as they stand in the log, good or bad. */
#ifndef QUEUE_STORE_CORRUPT_H
#define QUEUE_STORE_CORRUPT_H

#include "queue/store/private.h"

enum { CORRUPT_NAME_MAX = 64 };

/* A MESSAGE record that a scan found damaged, without a word. name_out: corrupt/<name>; the queue id
 * when its envelope is whole, else the place in the log. */
void corrupt_keep(struct store *s, uint64_t epoch, const struct scan_item *item,
                  char name_out[CORRUPT_NAME_MAX]);
void corrupt_drop(struct store *s, const char *name); /* it is not wanted after all */

/* What there is of a message that was set aside: its envelope in a, and its content as it lies there,
 * unchecked. *found_out false: there is none of this id. [any] */
struct corrupt_reader;
struct err *corrupt_open(struct store *s, struct str id, struct arena *a, struct store_row *row_out,
                         struct corrupt_reader **out, bool *found_out) MUST_USE;
/* corrupt_next, corrupt_close: queue.h. */

#endif
