/* session: the dialogue, from the greeting to the disconnect line. */
#include "core/smtpd/session.h"

#include "core/smtpd/restrict/restrict.h"
#include "io/base/codec.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/base/metric.h"
#include "io/fiber/fiber.h"

/* A client that is silent for so long is waited for with little memory. */
#define REST_AFTER_MS 1000

#define COMMAND(NAME, name, flags) smtpd_##name,
static bool (*const verbs[VERB_UNKNOWN])(struct smtpd *s, const struct command *c) = {
#include "core/mail/commands.def"
};
#undef COMMAND

void smtpd_mail_reset(struct smtpd *s)
{
    if (s->cleanup)
        cleanup_abort(s->cleanup);
    s->cleanup = NULL;
    s->state = STATE_READY;
    s->in_mail = false;
    s->in_content = false;
    s->sender = s->recipient = STR("");
    s->options = (struct mail_options){0};
    s->rcpt_count = 0;
    s->overshoot = 0;
    s->size = 0;
    s->id[0] = '\0';
    buf_fini(&s->chunk_rest);
    arena_reset(s->msg);
}

/* --- one command */

/* Replies are gathered while further commands wait in the input (RFC 2920 §3.2). */
static void flush_if_drained(struct smtpd *s)
{
    struct str ahead = stream_peek(s->stream);

    if (ahead.len == 0 || !memchr(ahead.ptr, '\n', ahead.len))
        smtpd_flush(s);
}

/* A line beyond line_length_limit: the beginning is the command, the rest is thrown away. */
static struct err *cut_line(struct smtpd *s, struct line *line)
{
    struct str kept = arena_str(s->cmd, str_head(line->text, (size_t)s->p->line_length_limit));
    struct str shown = smtpd_printable(s->cmd, str_head(kept, 30));
    enum line_end end = line->end;

    log_warning(s->svc->log_tag, "%s: request longer than %lld: %.*s...", s->namaddr,
                (long long)s->p->line_length_limit, STR_ARG(shown));
    while (end == LINE_LONG) {
        struct err *e = stream_line(s->stream, (size_t)s->p->line_length_limit, smtpd_deadline(s),
                                    line);
        if (e)
            return e;
        end = line->end;
    }
    *line = (struct line){kept, end};
    return NULL;
}

static bool read_line(struct smtpd *s, struct line *line)
{
    flush_if_drained(s);
    if (s->end != END_NOT)
        return false;
    const size_t limit = (size_t)s->p->line_length_limit;
    struct err *e = stream_line(s->stream, limit, smtpd_deadline(s), line);
    if (!e && (line->end == LINE_LONG || line->text.len >= limit))
        e = cut_line(s, line);
    if (e)
        smtpd_trouble(s, e);
    return !e;
}

static bool matches(struct smtpd *s, struct match_list *list, struct str word)
{
    bool match = false;
    struct err *e = match_list_name(list, s->cmd, word, &match);

    if (e)
        log_warning(s->svc->log_tag, "command list lookup error: %s", e->text);
    return !e && match;
}

static void unknown_command(struct smtpd *s, const struct command *c, struct str line)
{
    if (command_is_header(c->word) || matches(s, s->lists->smtpd_forbidden_commands, c->word)) {
        ssize_t nul = str_index(line, '\0');
        struct str text = str_trim(nul < 0 ? line : str_head(line, (size_t)nul));
        struct str shown = str_head(smtpd_escape(s->cmd, text), 100);
        log_warning(s->svc->log_tag, "non-SMTP command from %s: %.*s", s->namaddr, STR_ARG(shown));
        smtpd_reply(s, "221 2.7.0 Error: I can break rules, too. Goodbye.");
        if (s->end == END_NOT)
            s->end = END_DONE;
        return;
    }
    if (s->denied)
        smtpd_reply(s, "503 5.7.0 Error: access denied for %s", s->namaddr);
    else
        smtpd_reply(s, "500 5.5.2 Error: command not recognized");
    s->errors++;
}

/* Does the client send ahead where RFC 2920 §3.1 forbids it? True: the session is over. */
static bool talks_ahead(struct smtpd *s, const struct command *c)
{
    struct str ahead = stream_peek(s->stream);

    if (ahead.len == 0 || s->ahead_logged || s->stand_alone ||
        (s->esmtp && !(command_flags(c->verb) & COMMAND_LAST)))
        return false;
    struct str shown = smtpd_escape(s->cmd, str_head(ahead, 100));
    log_info(s->svc->log_tag, "improper command pipelining after %s from %s: %.*s", s->where,
             s->namaddr, STR_ARG(shown));
    s->ahead_logged = true;
    if (!s->p->smtpd_forbid_unauth_pipelining || s->stand_alone)
        return false;
    smtpd_reply(s, "554 5.5.0 Error: SMTP protocol synchronization");
    if (s->end == END_NOT)
        s->end = END_DONE;
    return true;
}

static void junk(struct smtpd *s)
{
    if (s->junk++ > s->p->smtpd_junk_command_limit)
        s->errors++;
}

static void run(struct smtpd *s, const struct command *c)
{
    s->where = command_verb_name(c->verb);
    if (s->denied && c->verb != VERB_QUIT) {
        smtpd_reply(s, "503 5.7.0 Error: access denied for %s", s->namaddr);
        s->errors++;
        return;
    }
    if (talks_ahead(s, c))
        return;
    if (verbs[c->verb](s, c))
        s->counts[c->verb].good++;
    else
        s->errors++;
    if (command_flags(c->verb) & COMMAND_JUNK)
        junk(s);
}

static void bare_lf_refused(struct smtpd *s)
{
    smtpd_log_whatsup(s, "reject", STR("bare <LF> received"));
    smtpd_reply(s, "%d 5.5.2 %s Error: bare <LF> received",
                (int)s->p->smtpd_forbid_bare_newline_reject_code, s->p->myhostname);
    if (s->end == END_NOT)
        s->end = END_DONE;
}

static void bad_line(struct smtpd *s, const char *what)
{
    smtpd_reply(s, "500 5.5.2 Error: bad %ssyntax", what);
    s->errors++;
}

static void one_command(struct smtpd *s)
{
    struct command c;
    struct line line;

    if (s->errors >= s->p->smtpd_hard_error_limit) {
        smtpd_reply(s, "421 4.7.0 %s Error: too many errors", s->p->myhostname);
        if (s->end == END_NOT || s->end == END_DONE)
            s->end = END_ERRORS;
        return;
    }
    if (!read_line(s, &line))
        return;
    if (line.end == LINE_LF && s->bare_newline == BARE_NEWLINE_REJECT) {
        bare_lf_refused(s);
    } else if (s->p->smtputf8_enable && !utf8_valid(line.text)) {
        bad_line(s, "UTF-8 ");
    } else if (!command_read(line.text, &c)) {
        bad_line(s, "");
    } else if (s->p->smtpd_noop_commands[0] && matches(s, s->lists->smtpd_noop_commands, c.word)) {
        smtpd_reply(s, "250 2.0.0 Ok");
        junk(s);
    } else {
        s->counts[c.verb].all++;
        if (c.verb == VERB_UNKNOWN) {
            s->where = command_verb_name(VERB_UNKNOWN);
            unknown_command(s, &c, line.text);
        } else {
            run(s, &c);
        }
    }
    arena_reset(s->cmd);
}

/* --- the whole session */

static enum bare_newline bare_newline_policy(struct smtpd *s)
{
    static const struct {
        const char *name;
        enum bare_newline policy;
    } words[] = {{"normalize", BARE_NEWLINE_NORMALIZE}, {"yes", BARE_NEWLINE_NORMALIZE},
                 {"reject", BARE_NEWLINE_REJECT},       {"note", BARE_NEWLINE_NOTE},
                 {"no", BARE_NEWLINE_NO}};
    enum bare_newline policy = BARE_NEWLINE_NORMALIZE;

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (str_eq_nocase(str_of(s->p->smtpd_forbid_bare_newline), str_of(words[i].name)))
            policy = words[i].policy;
    if (policy != BARE_NEWLINE_NO &&
        (s->stand_alone || smtpd_peer_matches(s, s->lists->smtpd_forbid_bare_newline_exclusions,
                                              "smtpd_forbid_bare_newline_exclusions")))
        policy = BARE_NEWLINE_NO;
    return policy;
}

static void greeting(struct smtpd *s)
{
    struct verdict v = {0};

    if (!s->stand_alone && !s->p->smtpd_delay_reject)
        v = restrict_connect(s);
    if (v.code) {
        s->denied = true;
        smtpd_reply_verdict(s, &v);
    } else {
        smtpd_reply(s, "220 %s", s->p->smtpd_banner);
    }
}

static void last_words(struct smtpd *s)
{
    const char *reason = s->end == END_LOST      ? "lost connection"
                         : s->end == END_TIMEOUT ? "timeout"
                         : s->end == END_ERRORS  ? "too many errors"
                                                 : NULL;

    if (s->end == END_TIMEOUT)
        smtpd_reply(s, "421 4.4.2 %s Error: timeout exceeded", s->p->myhostname);
    if (s->end == END_CANCELED)
        smtpd_reply(s, "421 4.3.2 %s Service shutting down", s->p->myhostname);
    if (s->end != END_LOST && stream_unsent(s->stream) > 0) {
        /* The fiber may be canceled already, and a client that does not read is not waited for long. */
        fiber_shield_begin();
        struct err *e = stream_flush(s->stream, clock_in_s(s->end == END_CANCELED ? 1 : 10));
        (void)e;
        fiber_shield_end();
    }
    if (!reason)
        return;
    if (s->in_content)
        log_info(s->svc->log_tag, "%s after %s (%lld bytes) from %s", reason, s->where,
                 (long long)(s->size + (int64_t)s->chunk_rest.len), s->namaddr);
    else if (s->end != END_LOST || strcmp(s->where, AFTER_EOM) != 0)
        log_info(s->svc->log_tag, "%s after %s from %s", reason, s->where, s->namaddr);
}

/* "disconnect from name[ip] ehlo=1 rcpt=8/11 commands=12/15": good/all where they differ. */
static void disconnected(struct smtpd *s)
{
    struct buf line = {0};
    unsigned all = 0, good = 0;

    for (int v = 0; v <= VERB_UNKNOWN; v++) {
        const struct verb_count *n = &s->counts[v];
        all += n->all;
        good += n->good;
        if (n->all && n->all == n->good)
            buf_printf(&line, " %s=%u", command_stat((enum command_verb)v), n->all);
        else if (n->all)
            buf_printf(&line, " %s=%u/%u", command_stat((enum command_verb)v), n->good, n->all);
    }
    if (all == good && all > 0)
        buf_printf(&line, " commands=%u", all);
    else
        buf_printf(&line, " commands=%u/%u", good, all);
    log_info(s->svc->log_tag, "disconnect from %s%s", s->namaddr, line.ptr);
    buf_fini(&line);
}

static void dialogue(struct smtpd *s)
{
    s->bare_newline = bare_newline_policy(s);
    if (!s->p->smtpd_per_request_deadline)
        stream_set_idle(s->stream, s->p->smtpd_timeout);
    greeting(s);
    while (s->end == END_NOT)
        one_command(s);
    last_words(s);
}

/* The client has said nothing for a while. */
static void rest(void *arg)
{
    struct smtpd *s = arg;

    arena_shrink(s->cmd);
    arena_shrink(s->msg);
    err_forget_all();
}

static void session(struct smtpd *s)
{
    s->arena = arena_new(512, 0);
    s->msg = arena_new(512, 0);
    s->cmd = arena_new(1024, 0);
    s->where = AFTER_CONNECT;
    s->sender = s->recipient = STR("");
    metric_add(METRIC_smtpd_sessions, 1);

    smtpd_peer(s);
    log_info(s->svc->log_tag, "connect from %s", s->namaddr);
    if (s->stand_alone || restrict_relay_checked(s->svc))
        dialogue(s);
    else
        log_fatal(s->svc->log_tag, "%s", restrict_relay_unchecked);
    disconnected(s);

    smtpd_mail_reset(s);
    buf_fini(&s->helo);
    arena_free(s->cmd);
    arena_free(s->msg);
    arena_free(s->arena);
    stream_free(s->stream);
    mem_free(s);
}

static struct smtpd *session_new(const struct service *svc, struct queue *queue)
{
    struct smtpd *s = mem_zalloc(sizeof *s);

    s->svc = svc;
    s->p = svc->params;
    s->lists = svc->lists;
    s->queue = queue;
    return s;
}

void smtpd_session(const struct service *svc, struct queue *queue, int fd,
                   const struct addr *client)
{
    struct smtpd *s = session_new(svc, queue);

    s->client = *client;
    addr_unmap(&s->client);
    s->stream = stream_new(fd);
    stream_set_rest(s->stream, REST_AFTER_MS, rest, s);
    session(s);
}

/* --- sendmail -bs: two descriptors, no network, no restrictions */

#include "core/smtpd/pair.h"

void smtpd_session_stdio(const struct service *svc, struct queue *queue, int in_fd, int out_fd)
{
    struct smtpd *s = session_new(svc, queue);

    s->stand_alone = true;
    s->stream = stream_new_layer(pair_layer_new(in_fd, out_fd));
    session(s);
}
