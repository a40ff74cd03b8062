/* queue_log: what Postfix wrote down of the recipients of a message: defer/ has the reasons why they wait, bounce/ those
 * whose sender is still to be told. Pure.
 *
 *   log    = *(block 1*LF)
 *   block  = "<" recipient ">: " text LF *(name "=" value LF)
 *
 * names: recipient, offset (of its record in the message file), status, action, reason, mta_type, mta_mname, diag_type, diag_text. */
#ifndef CORE_IMPORT_QUEUE_LOG_H
#define CORE_IMPORT_QUEUE_LOG_H

#include "core/import/queue_file.h"

/* Sets state and why of the recipients that the log names: state is RCPT_DEFERRED (for who is left) or RCPT_BOUNCED. Blocks that
 * name nobody in the file are passed over. Texts go to a. */
void queue_log_apply(struct str log, enum rcpt_state state, struct queue_file *f, struct arena *a);

/* Where Postfix has a file of this message: "0/4/04999A720B6" with two levels of folders. false: not a queue id, or too
 * short for that depth. */
bool queue_log_path(struct str id, unsigned depth, char *out, size_t size);

#endif
