/* content: from the first good recipient to the final reply; DATA and BDAT bring the lines. */
#include "core/mail/address.h"
#include "core/mail/date.h"
#include "core/smtpd/restrict/restrict.h"
#include "core/smtpd/session.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/metric.h"

static void attributes(struct smtpd *s)
{
    struct str helo = buf_str(&s->helo), address = str_of(s->address);
    const char *proto = smtpd_proto(s);
    struct str port = s->stand_alone ? STR("unknown") : arena_printf(s->cmd, "%u", addr_port(&s->client));
    /* Postfix writes the number of the address family. */
    struct str family = arena_printf(s->cmd, "%u", s->client.sa.sa_family);
    const struct {
        struct str name, value;
    } rows[] = {
        {STR("log_client_name"), s->name},
        {STR("log_client_address"), address},
        {STR("log_client_port"), port},
        {STR("log_message_origin"), str_of(s->namaddr)},
        {STR("log_helo_name"), helo},
        {STR("log_protocol_name"), str_of(proto)},
        {STR("client_name"), s->name},
        {STR("reverse_client_name"), s->reverse_name},
        {STR("client_address"), address},
        {STR("client_port"), port},
        {STR("helo_name"), helo},
        {STR("protocol_name"), str_of(proto)},
        {STR("client_address_type"), family},
        {STR("rewrite_context"), s->local_headers ? STR("local") : STR("remote")},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].value.len)
            cleanup_attr(s->cleanup, rows[i].name, rows[i].value);
}

bool smtpd_open(struct smtpd *s)
{
    const struct service *service = config_service(s->svc->snapshot, "cleanup", NULL);
    unsigned flags = (s->local_headers ? CLEANUP_LOCAL : 0U) |
                     (s->options.smtputf8 ? CLEANUP_UTF8 : 0U);
    unsigned env = (s->options.body_8bit ? ENV_8BIT : 0U) | (s->options.body_7bit ? ENV_7BIT : 0U) |
                   (s->options.smtputf8 ? ENV_SMTPUTF8 : 0U);

    enum cleanup_status status = cleanup_begin(service ? service : s->svc, s->queue, flags,
                                               &s->cleanup);
    if (status != CLEANUP_OK) {
        struct verdict v = status == CLEANUP_QUEUE_FULL
                               ? verdict_of(452, "4.3.1", "Insufficient system storage")
                               : verdict_of(451, "4.3.0", "Error: queue file write error");
        s->cleanup = NULL;
        smtpd_log_whatsup(s, "reject", verdict_print(s->cmd, &v));
        smtpd_reply_verdict(s, &v);
        return false;
    }
    str_copy(s->id, sizeof s->id, str_of(cleanup_id(s->cleanup)));
    log_info(s->svc->log_tag, "%s: client=%s", s->id, s->namaddr);
    cleanup_sender(s->cleanup, s->sender, s->options.ret, s->options.envid, env);
    attributes(s);
    return true;
}

/* Received: (RFC 5321 §4.4), as Postfix lays it out. */
static void trace_header(struct smtpd *s)
{
    struct cleanup *c = s->cleanup;
    char date[DATE_TEXT_MAX];
    const char *when = date_rfc5322(cleanup_arrival_us(c), date);
    bool v6 = s->client.sa.sa_family == AF_INET6;
    struct str helo = s->helo.len ? buf_str(&s->helo) : STR("unknown");

    cleanup_line(c, arena_printf(s->cmd, "Received: from %.*s (%.*s [%s%s])", STR_ARG(helo),
                                 STR_ARG(s->name), v6 ? "IPv6:" : "", s->address), true);
    cleanup_line(c, arena_printf(s->cmd, "\tby %s (%s) with %s%s id %s%s", s->p->myhostname,
                                 s->p->mail_name, s->options.smtputf8 && s->esmtp ? "UTF8" : "",
                                 smtpd_proto(s) + (s->options.smtputf8 && s->esmtp ? 1 : 0),
                                 s->id, s->rcpt_count == 1 ? "" : ";"), true);
    if (s->rcpt_count == 1) {
        struct str rcpt = address_quote(s->cmd, s->recipient);
        cleanup_line(c, arena_printf(s->cmd, "\tfor <%.*s>; %s", STR_ARG(rcpt), when), true);
    } else {
        cleanup_line(c, arena_printf(s->cmd, "\t%s", when), true);
    }
}

void smtpd_content_begin(struct smtpd *s, bool chunked)
{
    s->size = 0;
    s->content = CLEANUP_OK;
    s->bare_lf = s->in_line = false;
    s->any_line = chunked; /* Postfix leaves chunks as they are */
    s->content_since_ns = clock_coarse_ns();
    trace_header(s);
}

/* With per-request deadlines a steady sender buys time (smtpd_min_data_rate). */
int64_t smtpd_content_deadline(const struct smtpd *s)
{
    if (!s->p->smtpd_per_request_deadline)
        return smtpd_deadline(s);
    int64_t bought_s = s->size / s->p->smtpd_min_data_rate;
    return s->content_since_ns + (s->p->smtpd_timeout + bought_s) * NS_PER_S;
}

/* Text that begins with the "From x Mon Jan  1" of a mailbox file was pasted from one: its lines become
 * headers. A first line with a blank in front would go on our Received: header. */
static void first_line(struct smtpd *s, struct str text, bool whole)
{
    struct str from = text;

    while (from.len && from.ptr[0] == '>')
        from = str_from(from, 1);
    if (str_starts(from, STR("From "))) {
        cleanup_line(s->cleanup, STR("X-Mailbox-Line: "), false);
        cleanup_line(s->cleanup, text, whole);
        return;
    }
    s->any_line = true;
    if (text.len && (text.ptr[0] == ' ' || text.ptr[0] == '\t'))
        cleanup_line(s->cleanup, STR(""), true);
    cleanup_line(s->cleanup, text, whole);
}

void smtpd_content_line(struct smtpd *s, const struct line *line)
{
    bool whole = line->end != LINE_LONG;

    int64_t limit = s->p->message_size_limit, len = (int64_t)line->text.len + 2;

    if (s->content != CLEANUP_OK)
        return;
    if (limit > 0 && limit - s->size < len) {
        s->content = CLEANUP_TOO_BIG;
        log_warning(s->svc->log_tag, "%s: queue file size limit exceeded", smtpd_id(s));
        cleanup_abort(s->cleanup); /* what comes is only swallowed: it holds no memory */
        s->cleanup = NULL;
        return;
    }
    s->size += len;
    if (s->any_line || s->in_line)
        cleanup_line(s->cleanup, line->text, whole);
    else
        first_line(s, line->text, whole);
    s->in_line = !whole;
}

/* What is near the limit goes line by line, so that the one that is too much is known. */
void smtpd_content_plain(struct smtpd *s, struct dot *dot, size_t max)
{
    const size_t longest = max < CLEANUP_PLAIN_MAX ? max : CLEANUP_PLAIN_MAX;
    const int64_t limit = s->p->message_size_limit, waiting = (int64_t)stream_pending(s->stream);
    struct plain lines;

    if (s->content != CLEANUP_OK || !s->any_line || !cleanup_plain(s->cleanup) ||
        (limit > 0 && limit - s->size < waiting) || !stream_plain(dot, longest, &lines))
        return;
    s->size += (int64_t)lines.text.len;
    cleanup_lines(s->cleanup, &lines);
}

void smtpd_content_broken(struct smtpd *s, const struct err *e)
{
    smtpd_trouble(s, e);
    if (s->cleanup)
        cleanup_abort(s->cleanup);
    s->cleanup = NULL;
}

/* smtpd_forbid_bare_newline = reject and note. */
static bool bare_lf_refused(struct smtpd *s)
{
    bool refused = s->bare_lf && s->bare_newline == BARE_NEWLINE_REJECT;

    if (refused || (s->bare_lf && s->bare_newline == BARE_NEWLINE_NOTE)) {
        s->log_recipient = &s->recipient;
        smtpd_log_whatsup(s, refused ? "reject" : "note", STR("bare <LF> received"));
        s->log_recipient = NULL;
    }
    if (refused)
        smtpd_reply(s, "%d 5.5.2 %s Error: bare <LF> received",
                    (int)s->p->smtpd_forbid_bare_newline_reject_code, s->p->myhostname);
    return refused;
}

static bool accept_content(struct smtpd *s, bool chunked)
{
    struct str why = STR("");

    if (bare_lf_refused(s))
        return false;
    if (s->content == CLEANUP_OK && !s->stand_alone) {
        struct verdict v = restrict_eod(s);
        if (v.code) {
            smtpd_reply_verdict(s, &v);
            return false;
        }
    }
    if (s->content == CLEANUP_OK) {
        struct cleanup *c = s->cleanup;
        s->cleanup = NULL;
        s->content = cleanup_commit(c, s->cmd, &why);
    }
    if (s->content != CLEANUP_OK) {
        if (why.len)
            smtpd_reply(s, "%.*s", STR_ARG(why));
        else
            smtpd_reply(s, "%s", cleanup_status_reply(s->content));
        return false;
    }
    metric_add(METRIC_smtpd_messages, 1);
    s->errors = s->junk = 0;
    if (chunked)
        smtpd_reply(s, "250 2.0.0 Ok: %lld bytes queued as %s", (long long)s->size, s->id);
    else
        smtpd_reply(s, "250 2.0.0 Ok: queued as %s", s->id);
    return true;
}

bool smtpd_content_end(struct smtpd *s, bool chunked)
{
    s->where = AFTER_EOM;
    s->in_content = false;
    bool accepted = accept_content(s, chunked);
    smtpd_mail_reset(s);
    return accepted;
}
