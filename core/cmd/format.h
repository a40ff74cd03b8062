/* format: how the queue is printed: mailq's listing, postqueue -j, and the names postcat gives to messages. Pure: text goes
 * into a buffer. The layouts are Postfix's (spec CMD-12, postqueue(1) JSON OBJECT FORMAT). */
#ifndef CORE_CMD_FORMAT_H
#define CORE_CMD_FORMAT_H

#include "queue/queue.h"

const char *format_queue_name(enum queue_name queue);
void format_list_head(struct buf *out, bool long_ids);
void format_list_entry(struct buf *out, bool long_ids, const struct queue_entry *e);
void format_list_foot(struct buf *out, uint64_t bytes, uint64_t count);
void format_json_entry(struct buf *out, const struct queue_entry *e);
/* Could it be a queue id, of this queue or of another? */
bool format_id_valid(struct str id);
/* "deferred/3/3EDA640AEC": where Postfix would have the file. */
void format_path(struct buf *out, const struct queue_entry *e);
/* Still to be delivered? */
bool format_rcpt_left(const struct rcpt *r);

#endif
