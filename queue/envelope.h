/* envelope: sender, recipients and what is known of a message beside its content. Immutable once
 * committed, but for the recipients' `state` part, which only the scheduler thread changes.
 * Serialised in MESSAGE records (envelope_pack/unpack) and, in two halves, in index rows. */
#ifndef QUEUE_ENVELOPE_H
#define QUEUE_ENVELOPE_H

#include "io/base/arena.h"
#include "io/base/buf.h"
#include "io/base/err.h"

/* RFC 3461 §4.1 NOTIFY. 0 = not given. */
enum { NOTIFY_NEVER = 1, NOTIFY_SUCCESS = 2, NOTIFY_FAILURE = 4, NOTIFY_DELAY = 8 };
/* RFC 3461 §4.3 RET. 0 = not given. */
enum { RET_NONE = 0, RET_FULL = 1, RET_HDRS = 2 };

enum envelope_flags {
    ENV_8BIT = 1,       /* BODY=8BITMIME or 8-bit content seen: encoding attribute */
    ENV_SMTPUTF8 = 2,   /* SMTPUTF8 was asked for */
    ENV_HOLD = 4,       /* goes to hold at once */
    ENV_DOTS = 8,       /* some content line begins with a dot */
    ENV_LONG_LINES = 16,/* some content line is longer than 998 bytes */
    ENV_BOUNCE = 32,    /* a notice made here: no delay warning for it */
    ENV_LOCAL = 64,     /* posted locally (sendmail): rewrite_context local */
    ENV_7BIT = 128,     /* BODY=7BIT; not together with ENV_8BIT */
};

/* RFC 3463 status and the reply or reason that came with it. */
struct dsn {
    char status[12];   /* "5.1.1" */
    struct str text;   /* "host x[1.2.3.4] said: 550 no such user (in reply to RCPT TO command)" */
    struct str mta;    /* remote MTA name, "" none */
    struct str diagnostic; /* "smtp; 550 5.1.1 no such user" for RFC 3464; "" none */
};

enum rcpt_state {
    RCPT_TODO,     /* to be delivered */
    RCPT_DEFERRED, /* tried, to be tried again */
    RCPT_DONE,     /* delivered */
    RCPT_BOUNCED,  /* failed for good; notice not sent */
    RCPT_NOTIFIED, /* failed for good, notice sent or not wanted */
};

struct rcpt {
    struct str address;  /* final envelope recipient */
    struct str original; /* X-Original-To: before aliases; may equal address */
    struct str orcpt;    /* RFC 3461 ORCPT, decoded "rfc822;user@x"; empty = none */
    uint8_t notify;      /* NOTIFY_* */
    uint32_t index;      /* in the message, where only some of its recipients are in memory (store.h) */
    /* --- scheduler thread */
    enum rcpt_state state;
    uint32_t turn;       /* in which the recipients of this time in the active queue failed; 0 = earlier */
    struct dsn why;      /* last failure; in the message's arena */
    /* --- answers of hooks.resolve, made anew for each time in the active queue; arena memory */
    const char *transport; /* "smtp" */
    const char *nexthop;   /* "example.com", "[127.0.0.1]:2525", text for error: */
    struct str resolved;   /* address to give to the agent (after virtual mailbox / rewriting); usually = address */
};

struct attr {
    struct str name, value;
};

struct envelope {
    struct str sender;   /* "" = null sender */
    int64_t arrival_us;  /* wall clock */
    unsigned flags;      /* ENV_* */
    uint8_t ret;         /* RET_* */
    struct str envid;    /* decoded; "" = none */
    uint64_t size;       /* content bytes as stored (CRLF); what logs call size= is data_size */
    uint64_t data_size;  /* bytes with LF line ends: Postfix's size= */
    struct attr *attrs;  /* named as postcat shows them: log_client_name, log_client_address,
                            log_client_port, log_helo_name, log_protocol_name, client_name,
                            reverse_client_name, client_address, client_port,
                            server_address, server_port, helo_name, protocol_name,
                            client_address_type, dsn_orig_rcpt ..., rewrite_context */
    size_t attr_count;
    struct rcpt *rcpts;
    size_t rcpt_count;
    struct str sender_shown; /* answer of hooks.resolve: the sender as log lines show it, quoted; not set =
                                as sender */
};

/* Appends. States of recipients are included (log records). */
void envelope_pack(const struct envelope *e, struct buf *out);
/* All memory from a. ERR_DAMAGED. */
struct err *envelope_unpack(struct str bytes, struct arena *a, struct envelope **out) MUST_USE;
/* In two halves (index rows): what never changes, and the recipients' `state` and `why`. */
void envelope_pack_fixed(const struct envelope *e, struct buf *out);
void envelope_pack_states(const struct envelope *e, struct buf *out);
struct err *envelope_unpack_halves(struct str fixed, struct str states, struct arena *a,
                                   struct envelope **out) MUST_USE;
/* Packed halves looked at where they lie: nothing is copied, no memory taken. */
struct envelope_view {
    struct str sender;
    int64_t arrival_us;
    uint32_t left; /* recipients that envelope_next_rcpt has not given */
    struct rd at, states;
    unsigned tag;
};
/* False: damaged. */
bool envelope_look(struct str fixed, struct str states, struct envelope_view *out);
/* False: no more, or damaged. */
bool envelope_next_rcpt(struct envelope_view *v, enum rcpt_state *state_out,
                        struct str *address_out);
/* Some of the recipients of packed halves. Where one of them begins in the fixed half; zeros: the first. */
struct envelope_place {
    uint32_t index;
    size_t at;
};
/* What stands before the recipients; how many these are. ERR_DAMAGED. */
struct err *envelope_unpack_head(struct str fixed, struct arena *a, struct envelope **out,
                                 uint32_t *count_out) MUST_USE;
/* A byte each. False: damaged. */
bool envelope_unpack_states(struct str states, uint32_t count, uint8_t *out);
/* Those with these indexes, in rising order, to out; states: STR_NULL = their `state` and `why` stay unset. *place is
 * not behind the first of them, and then behind the last. ERR_DAMAGED. */
struct err *envelope_unpack_some(struct str fixed, struct str states, const uint32_t *indexes, size_t n,
                                 struct arena *a, struct rcpt *out, struct envelope_place *place) MUST_USE;
/* What becomes of recipients, one after the other, packed: appends. */
struct rcpt_change {
    uint32_t index;
    enum rcpt_state state;
    const struct dsn *why;
};
void envelope_pack_change(const struct rcpt_change *c, struct buf *out);
/* The packed states after these changes: as envelope_pack_states would have them. False: damaged. */
bool envelope_change_states(struct str states, uint32_t count, struct str changes, struct buf *out);
/* The same for those in memory: n with these indexes, in rising order (NULL: 0, 1, 2 ...). */
void envelope_change_rcpts(struct str changes, const uint32_t *indexes, size_t n, struct arena *a,
                           struct rcpt *rcpts);
/* Deep copy. */
struct envelope *envelope_copy(const struct envelope *e, struct arena *a);
struct str envelope_attr(const struct envelope *e, const char *name); /* "" = absent */

#endif
