/* access: how commands reach the queue: through the running server's control socket, or, when it is down, by
 * opening the queue directory in this process. Everything here runs in a fiber of access_run. */
#ifndef CORE_CMD_ACCESS_H
#define CORE_CMD_ACCESS_H

#include "core/config/snapshot.h"
#include "core/server/wire.h"
#include "queue/queue.h"

struct access {
    const struct snapshot *snapshot;
    int fd;              /* connected to the server; -1 = offline */
    struct queue *queue; /* offline */
    int64_t uid;         /* of the user who runs the command */
    struct arena *arena;
    struct buf in, out;
    struct wire_in many; /* answers of many frames */
};

/* Runs fn(a, ctx) with the queue at hand; its return value is the exit status. tag: the command's name for messages ("postqueue:
 * fatal: ..."). need_offline: may the queue be opened when the server is down? Else that is an error. */
int access_run(const struct snapshot *s, const char *tag, bool may_offline,
               int (*fn)(struct access *a, void *ctx), void *ctx);

/* This user may open the queue itself: root (who becomes mail_owner) or whose mail system it is. */
bool access_may_offline(const struct snapshot *s);

/* Each message; entry and its memory are good during the call only. each returns false to stop. */
struct err *access_list(struct access *a, bool (*each)(void *ctx, const struct queue_entry *e), void *ctx) MUST_USE;
struct err *access_do(struct access *a, enum queue_act act, const struct queue_select *what,
                      void (*each)(void *ctx, const char *id), void *ctx, uint64_t *count_out) MUST_USE;
struct err *access_flush(struct access *a, struct str id, struct str site, bool *found_out) MUST_USE;
/* entry first (once), then content pieces in wire form. */
struct err *access_find(struct access *a, struct str id,
                        void (*entry)(void *ctx, const struct queue_entry *e),
                        void (*content)(void *ctx, struct str piece), void *ctx, bool *found_out) MUST_USE;

/* A message from sendmail. Lines come from next_line: false at the end. */
struct submission {
    struct str sender;
    uint8_t ret;
    struct str envid;
    struct str full_name; /* for the From: of a message that has none */
    uint32_t flags; /* WIRE_SUBMIT_* */
    const struct str *rcpts;
    size_t rcpt_count;
    uint8_t notify;
    bool (*next_line)(void *ctx, struct str *text_out, bool *whole_out, struct err **e_out);
    void *ctx;
};
/* id_out: QUEUE_ID_MAX. ERR_REFUSED with text = what the server said when it was rejected (ERR_LIMIT: 5xx kind). */
struct err *access_submit(struct access *a, const struct submission *m, char *id_out) MUST_USE;

/* From here on a->fd leads to whoever serves: the server, or, when it is down, a fiber of this process. */
struct err *access_channel(struct access *a) MUST_USE;
/* Sends the request that stands in a->out; content(ctx, piece) is called for each CONTENT of the answer until END. */
struct err *access_ask(struct access *a, void (*content)(void *ctx, struct str piece), void *ctx, uint64_t *count_out,
                       struct str *text_out) MUST_USE;
/* END, just received, or still to come: status, count and text; the outs may be NULL. Other frames are an error. */
struct err *access_end_of(struct access *a, enum wire_verb verb, uint64_t *count_out, struct str *text_out) MUST_USE;
struct err *access_end(struct access *a, uint64_t *count_out, struct str *text_out) MUST_USE;

/* No server holds the queue's pid file. */
bool access_is_down(const struct snapshot *s);
/* postfix flush, postqueue -f, sendmail -q. Exit status. */
int access_flush_all(const struct snapshot *s, const char *tag);

#endif
