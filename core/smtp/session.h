/* session: one connection to a next hop, and one delivery over it: what the files of this room
 * share.
 *
 *   route     next hop -> addresses in the order in which to try them
 *   connect   address -> connection
 *   session   connection -> greeting, EHLO or HELO: what the server can; its replies; QUIT
 *   proto     one message: MAIL, RCPT, DATA, content, dot
 *   content   the bytes between DATA's 354 and the dot
 *   trouble   what a failure means for the recipients
 *   reuse     how long a connection is kept for the next message
 *   deliver   all of the above in their order                                                   */
#ifndef CORE_SMTP_SESSION_H
#define CORE_SMTP_SESSION_H

#include "core/config/snapshot.h"
#include "core/mail/ehlo.h"
#include "core/smtp/reply.h"
#include "core/smtp/route.h"
#include "io/net/stream.h"
#include "queue/queue.h"
#include "queue/sched/request.h"

struct smtp_session {
    const struct service *svc;
    struct stream *stream;
    struct arena *arena; /* lives as long as the session */
    struct addr addr;
    const char *host;    /* "mx.example.com" */
    const char *namaddr; /* "mx.example.com[192.0.2.1]" */
    const char *relay;   /* with ":25" */
    bool best_mx;        /* of the lowest preference in its list */
    bool loop_detect;    /* on the usual port: may be ourselves */
    bool only;           /* there was nobody else to try for its next hop */
    unsigned features;   /* EHLO_BIT_* of what the server offers */
    bool esmtp;
    uint64_t size_limit; /* SIZE; 0 = none said */
    int64_t opened_ns;
    unsigned uses; /* messages begun on it */
    bool keep;     /* may carry a further message */
    bool dead;     /* nothing more can be said on it */
    bool quit_sent;
    struct smtp_reply reply; /* the last one */
};

/* Why recipients are not delivered: the latest failure. */
struct smtp_why {
    char status[12];        /* "" = nothing happened */
    const char *reason;     /* memory of the request */
    const char *mta;        /* who said so; NULL = we did */
    const char *diagnostic; /* "smtp; 550 ..."; NULL = none */
};

enum smtp_rcpt_state {
    SMTP_RCPT_TRY,      /* with this server */
    SMTP_RCPT_ACCEPTED, /* its RCPT got a 2xx */
    SMTP_RCPT_KEPT,     /* put off: the next server may take it */
    SMTP_RCPT_DONE,     /* reported */
};

/* One request on its way, over one server after the other. */
struct smtp_try {
    const struct service *svc;
    struct request *r;
    struct smtp_session *s; /* NULL: no connection */
    uint8_t *rcpts;         /* enum smtp_rcpt_state, one a recipient of r */
    size_t left;            /* recipients that are not reported */
    bool final;             /* no other server is left to try */
    bool complete;          /* the server did its part: no trouble of the site's */
    bool stale;             /* a kept connection had ended before our command: begin again */
    struct smtp_why why;
    struct smtp_why put_off; /* of the recipients that are for the next server */
};

/* --- connect.c. Yields. */
/* NULL: t->why says why. */
struct smtp_session *smtp_connect(struct smtp_try *t, const struct smtp_target *target);

/* --- session.c. Yields. */
/* Greeting and EHLO. False: the failure was dealt with (trouble.c). */
bool smtp_session_begin(struct smtp_try *t);
/* Reads one reply into s->reply. */
struct err *smtp_session_reply(struct smtp_session *s, const char *id,
                               int64_t deadline_ns) MUST_USE;
/* QUIT if it can still be said; closes and frees. NULL is fine. */
void smtp_session_end(struct smtp_session *s);
int64_t smtp_deadline(int64_t timeout_s);

/* --- proto.c. Yields. */
/* MAIL to dot for all recipients that are SMTP_RCPT_TRY. Each is reported, or kept for the next
 * server; or t->stale is set and nothing happened. s->keep is false afterwards when the connection
 * cannot go on. */
void smtp_transfer(struct smtp_try *t);

/* --- content.c. Yields. */
/* All content and then `tail`, in one write if it is in memory. *local_out: the error is ours (the
 * queue could not be read), not the connection's. */
struct err *smtp_content_send(struct smtp_try *t, struct str tail, bool *local_out) MUST_USE;

/* Is the content made 7-bit for this server? Then its size is not known before. */
bool smtp_content_downgraded(const struct smtp_try *t);

/* Are there bytes above 127 in the message's header? */
struct err *smtp_content_header_8bit(struct smtp_try *t, bool *out) MUST_USE;

/* --- reuse.c */
/* May a further message go over this connection? Asked before the dot, where QUIT rides along if
 * not. */
bool smtp_reuse_wanted(const struct smtp_session *s);
/* Hands r back; the next request, or NULL. Yields. */
struct request *smtp_reuse_next(struct smtp_session *s, struct request *r);

/* --- trouble.c: each sets t->why and does what follows from it. */
/* The server, or the way to it, is no good: all recipients; the site is throttled. reply NULL:
 * status says it. mta NULL: our own finding. */
void smtp_site_fail(struct smtp_try *t, const char *mta, const char *status,
                    const struct smtp_reply *reply, const char *fmt, ...) PRINTF(5, 6);
/* This message is refused: all recipients; the site is fine. */
void smtp_mesg_fail(struct smtp_try *t, const char *mta, const char *status,
                    const struct smtp_reply *reply, const char *fmt, ...) PRINTF(5, 6);
/* One recipient is refused. */
void smtp_rcpt_fail(struct smtp_try *t, size_t i, const struct smtp_reply *reply, const char *fmt,
                    ...) PRINTF(4, 5);
/* The connection broke, or timed out, while `doing`. */
void smtp_stream_fail(struct smtp_try *t, const struct err *e, const char *doing);
/* The message cannot be read: no server will help. */
void smtp_damaged(struct smtp_try *t, const struct err *e);
/* Nothing is left to try: t->why for all that are left. */
void smtp_sess_fail(struct smtp_try *t);
/* Sets t->why and no more. */
void smtp_why_set(struct smtp_try *t, const char *status, const char *fmt, ...) PRINTF(3, 4);
static inline bool smtp_why_permanent(const struct smtp_why *w)
{
    return w->status[0] == '5';
}
/* One line: the reply's text with blanks for line ends; memory of the request. */
const char *smtp_reply_flat(const struct smtp_try *t, const struct smtp_reply *reply);

#endif
