/* session: what the verbs of one SMTP session share; private to core/smtpd.
 *
 * One fiber owns a session. Memory: `arena` lives as long as the connection, `msg` is reset with the
 * transaction, `cmd` after each command; both are empty while a silent client is waited for.
 *
 * Legal moves of `state` (a move not listed cannot happen, the verb answers 503 instead):
 *
 *     READY   --MAIL-->          MAIL
 *     MAIL    --RCPT taken-->    RCPT
 *     RCPT    --DATA, its end--> READY
 *     RCPT    --BDAT-->          CHUNKS --BDAT LAST--> READY
 *     any     --BDAT refused-->  SWALLOW --BDAT LAST--> READY   (chunks are read and thrown away)
 *     any     --RSET HELO EHLO-> READY
 *
 * `end` is set once; the loop in session.c then finishes. A verb's function returns false when what the
 * client did counts as an error (smtpd_hard_error_limit). */
#ifndef CORE_SMTPD_SESSION_H
#define CORE_SMTPD_SESSION_H

#include "core/cleanup/cleanup.h"
#include "core/mail/command.h"
#include "core/smtpd/smtpd.h"
#include "io/net/dns.h"
#include "io/net/stream.h"

enum smtpd_state { STATE_READY, STATE_MAIL, STATE_RCPT, STATE_CHUNKS, STATE_SWALLOW };

enum smtpd_end {
    END_NOT,
    END_DONE,     /* QUIT, or a reply that hangs up */
    END_LOST,     /* the client is gone */
    END_TIMEOUT,  /* smtpd_timeout */
    END_ERRORS,   /* smtpd_hard_error_limit */
    END_CANCELED, /* the server stops */
};

/* Where a log line says it happened, when that is no verb. */
#define AFTER_CONNECT "CONNECT"
#define AFTER_EOM     "END-OF-MESSAGE"

/* A restriction that decides later: the first one that asked keeps its words. */
struct smtpd_deferral {
    bool active;
    struct verdict verdict;
};

struct smtpd {
    const struct service *svc;
    const struct params *p;
    const struct lists *lists;
    struct queue *queue;
    struct stream *stream;
    struct arena *arena, *msg, *cmd;
    bool stand_alone; /* sendmail -bs */

    /* --- the client (peer.c) */
    struct addr client;
    char address[ADDR_TEXT_MAX];
    struct str name, reverse_name;          /* "unknown" */
    enum dns_status name_status, reverse_status;
    const char *namaddr;                    /* "name[address]" */
    bool local_headers;                     /* local_header_rewrite_clients */

    /* --- the dialogue */
    enum smtpd_state state;
    enum smtpd_end end;
    const char *where;
    bool esmtp, denied, ahead_logged;
    struct buf helo;                        /* empty = not given */
    unsigned discard;                       /* EHLO keywords, a set (ehlo.h) */
    enum bare_newline bare_newline;
    int64_t errors, junk;
    struct verb_count {
        unsigned all, good;
    } counts[VERB_COUNT];

    /* --- the transaction: msg arena */
    bool in_mail;
    struct str sender, recipient;           /* internal form; recipient: the first */
    struct mail_options options;
    size_t rcpt_count;
    int64_t overshoot;
    struct cleanup *cleanup;                /* from the first good recipient on */
    char id[QUEUE_ID_MAX];                  /* "" = none */

    /* --- its content (content.c) */
    int64_t size;                           /* as smtpd counts: each piece and two bytes */
    enum cleanup_status content;            /* what went wrong with it */
    bool in_content, bare_lf;
    bool any_line, in_line;                 /* of the client: one began; it goes on in the next piece */
    int64_t content_since_ns;
    struct buf chunk_rest;                  /* an unfinished line between chunks */

    /* --- restrictions (restrict/) */
    bool warn_if_reject, rcpt_checked, sender_checked;
    struct smtpd_deferral defer_if_permit, defer_if_reject;
    struct smtpd_deferral early; /* asked for before MAIL, with smtpd_delay_reject = no */
    const struct str *log_sender, *log_recipient, *log_helo; /* while a list is evaluated */
};

/* --- talk.c: replies and log lines */
int64_t smtpd_deadline(const struct smtpd *s);
/* "250 2.0.0 Ok". Soft errors sleep first; 4xx and 5xx get the footer; 421 and 521 end the session. The
 * bytes wait until input is drained. Yields. */
void smtpd_reply(struct smtpd *s, const char *fmt, ...) PRINTF(2, 3);
void smtpd_reply_verdict(struct smtpd *s, const struct verdict *v);
/* One line of several: code, '-' or ' ', text. */
void smtpd_reply_lines(struct smtpd *s, const char *code, const char *const *lines, size_t n);
void smtpd_flush(struct smtpd *s);
/* The stream said no: why the session ends. */
void smtpd_trouble(struct smtpd *s, const struct err *e);
const char *smtpd_id(const struct smtpd *s); /* or NOQUEUE */
/* "<id>: reject: RCPT from name[ip]: <text>; from=<..> to=<..> proto=ESMTP helo=<..>" */
void smtpd_log_whatsup(struct smtpd *s, const char *what, struct str text);
/* Bytes a log must not take as they are: \n for line ends, \ooo for the rest. */
struct str smtpd_escape(struct arena *a, struct str bytes);
struct str smtpd_printable(struct arena *a, struct str bytes); /* '?' */
const char *smtpd_proto(const struct smtpd *s); /* "ESMTP" */

/* --- session.c */
void smtpd_mail_reset(struct smtpd *s); /* forget the transaction, abort what is being written */

/* --- peer.c: yields (DNS) */
void smtpd_peer(struct smtpd *s);
bool smtpd_peer_matches(struct smtpd *s, struct match_list *list, const char *what);

/* --- content.c */
bool smtpd_open(struct smtpd *s);   /* takes the queue id; false: the reply was sent */
void smtpd_content_begin(struct smtpd *s, bool chunked);
void smtpd_content_line(struct smtpd *s, const struct line *line);
void smtpd_content_plain(struct smtpd *s, struct dot *dot, size_t max); /* what can be taken in bulk now */
int64_t smtpd_content_deadline(const struct smtpd *s);
/* Restrictions, commit, reply; the transaction is over in every case. Yields. */
bool smtpd_content_end(struct smtpd *s, bool chunked);
/* The client went away or was too slow in the middle of it. */
void smtpd_content_broken(struct smtpd *s, const struct err *e);

/* --- the address of MAIL, RCPT and VRFY (path.c). raw: as typed. False: the reply was sent. */
bool smtpd_path(struct smtpd *s, struct str raw, bool empty_ok, struct str *out);

/* --- one function a verb */
#define COMMAND(NAME, name, flags) bool smtpd_##name(struct smtpd *s, const struct command *c);
#include "core/mail/commands.def"
#undef COMMAND

#endif
