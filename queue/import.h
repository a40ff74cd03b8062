/* import: mail that another queue had, taken over once. A message is committed on hold, and marked as
 * being imported; its origin is written to a ledger (core/import/ledger.h); then its import is ended and
 * it becomes what it was. So after a crash at any point a message that is here and not in the ledger is
 * one that is marked, and whose import is still to be ended: it has not been delivered meanwhile.
 * An attempt that begins afresh looks for the marked ones first. A fiber on any worker. */
#ifndef QUEUE_IMPORT_H
#define QUEUE_IMPORT_H

#include "queue/queue.h"

#define IMPORT_ORIGIN "import_origin" /* the attribute that says where it is from */

struct import_state {
    int64_t arrival_us; /* its queue id is made from it */
    int64_t due_us;     /* no attempt before; 0 = at once */
    bool warned;        /* the sender was told of the delay */
};
/* As queue_begin. ENV_HOLD in the envelope given to queue_commit is what it is on hold for in the end. */
struct err *queue_import_begin(struct queue *q, const struct import_state *state, struct draft **out) MUST_USE;
/* The same for a draft somebody else began and has not committed, of a message that is new here. */
void queue_import_mark(struct draft *d);
/* Ends the import of these messages: safe when it returns. One that is gone, or ended, is passed over. */
struct err *queue_import_end(struct queue *q, const uint64_t *seqs, size_t n) MUST_USE;
/* Messages whose import has not ended, in arrival order. The entry and its memory are good during the call. */
struct err *queue_import_open(struct queue *q, void (*each)(void *ctx, const struct queue_entry *e),
                              void *ctx) MUST_USE;

#endif
