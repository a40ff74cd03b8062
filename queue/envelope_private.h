/* What envelope.c and envelope_part.c share: the packed form, piece by piece (envelope.c). */
#ifndef QUEUE_ENVELOPE_PRIVATE_H
#define QUEUE_ENVELOPE_PRIVATE_H

#include "queue/envelope.h"

enum { VERSION = 1, VERSION_FIXED = 2 };
enum { PART_ORIGINAL = 1, PART_ORCPT = 2, PART_WHY = 4, PART_ORCPT_SAME = 8 };
enum { ATTR_BYTES_MIN = 8, RCPT_BYTES_MIN = 6 };
enum { TAG_STATE = 7, TAG_WHY_HERE = 8, TAG_WHY_AGAIN = 16, TAG_REST = 32 };
enum { WHY_MTA_IN_TEXT = 1, WHY_REPLY_IN_TEXT = 2 };

extern const struct dsn envelope_no_why;
bool envelope_dsn_given(const struct dsn *d);
void envelope_put_why(const struct dsn *d, struct buf *out);
size_t envelope_take_count(struct rd *r, size_t bytes_each);
void envelope_take_head(struct rd *r, unsigned version, struct arena *a, struct envelope *e);
void envelope_take_attrs(struct rd *r, struct arena *a, struct envelope *e);
void envelope_take_rcpt(struct rd *r, bool states, struct arena *a, struct rcpt *out);
struct str envelope_bytes(struct rd *r, size_t n);
/* a NULL: it is passed over. */
void envelope_take_why(struct rd *r, struct arena *a, struct dsn *out);
void envelope_next_state(struct rd *r, unsigned *tag, bool more, struct arena *a, struct dsn *why_out);
struct err *envelope_damaged(size_t bytes);

#endif
