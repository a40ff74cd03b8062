/* command: the grammar of SMTP commands (RFC 5321 §4.1, RFC 1870, 3030, 3461, 4954, 6152, 6531), pure.
 * Mistakes are worded as Postfix words them; what a server does about them stands in core/smtpd. */
#ifndef CORE_MAIL_COMMAND_H
#define CORE_MAIL_COMMAND_H

#include "core/mail/verdict.h"
#include "io/base/arena.h"

enum command_flags { COMMAND_JUNK = 1, COMMAND_LAST = 2 };

#define COMMAND(NAME, name, flags) VERB_##NAME,
enum command_verb {
#include "core/mail/commands.def"
    VERB_UNKNOWN,
    VERB_COUNT
};
#undef COMMAND

const char *command_verb_name(enum command_verb v); /* "HELO"; "UNKNOWN" */
const char *command_stat(enum command_verb v); /* "helo"; "unknown": the disconnect line */
unsigned command_flags(enum command_verb v);

struct command {
    enum command_verb verb;
    struct str word; /* as it was typed */
    struct str args; /* without blanks at both ends */
};
/* Views into line. A NUL ends the line, as it does in Postfix. False: nothing but blanks. */
bool command_read(struct str line, struct command *out);

/* Take the next word off *rest. Blanks inside "...", <...> and [...] belong to it (a backslash quotes
 * one byte); *broken_out: such a bracket stays open. False: no more words. */
bool command_word(struct str *rest, struct str *word_out, bool *broken_out);

/* Does the word look like a mail header ("Subject:")? Then the peer is no mail client. */
bool command_is_header(struct str word);

/* MAIL: "FROM:" path options; RCPT: "TO:" path options. *path_out gets the path's words as typed and
 * *options_out what follows. */
bool command_path(struct str args, struct str keyword, struct str *path_out, struct str *options_out,
                  bool *broken_out);

/* What the server allows. */
struct command_rules {
    bool dsn;      /* RET ENVID NOTIFY ORCPT */
    bool smtputf8;
};

struct mail_options {
    int64_t size;   /* SIZE=, -1 beyond int64_t, 0 not given */
    bool body_8bit; /* BODY=8BITMIME */
    bool body_7bit; /* BODY=7BIT */
    bool smtputf8;
    uint8_t ret;       /* RET_* of queue/envelope.h; 0 = not given */
    struct str envid;  /* decoded; arena memory */
    bool envid_given;
};
/* Fills io option by option, so that what was read before a mistake stays. False: *why has the
 * reply. */
bool command_mail_options(struct arena *a, struct str options, const struct command_rules *rules,
                          struct mail_options *io, struct verdict *why);

struct rcpt_options {
    uint8_t notify;       /* NOTIFY_* of queue/envelope.h; 0 = not given */
    struct str orcpt;     /* "rfc822;user@example.com", decoded; arena memory; empty = not given */
    struct str bad_notify; /* an unknown NOTIFY word, for the log */
    struct str bad_notify_list;
};
bool command_rcpt_options(struct arena *a, struct str options, const struct command_rules *rules,
                          struct rcpt_options *io, struct verdict *why);

/* BDAT size [LAST]. False: syntax. */
bool command_bdat(struct str args, uint64_t *size_out, bool *last_out);

#endif
