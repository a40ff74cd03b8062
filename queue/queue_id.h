/* queue_id: Postfix-looking names of messages. A message's number (`seq`) is unique for the life of
 * the queue; the name carries it, so that a name is found without a search.
 *   short  %05X of the microseconds, %X of seq        "3EDA640AEC"
 *   long   base-52 seconds (>= 6), base-52 microseconds (4), 'z', base-51 seq   (spec SMTPD-16) */
#ifndef QUEUE_QUEUE_ID_H
#define QUEUE_QUEUE_ID_H

#include "io/base/str.h"

#define QUEUE_ID_MAX 32 /* with NUL */

void queue_id_format(bool long_ids, int64_t arrival_us, uint64_t seq, char out[QUEUE_ID_MAX]);
/* Gives seq and microsecond part (both forms); false when it is no queue id. */
bool queue_id_parse(struct str text, uint64_t *seq_out, uint32_t *usec_out);

#endif
