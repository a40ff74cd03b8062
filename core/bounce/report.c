/* report: three parts: words for people, fields for programs, the original. */
#include "core/bounce/report.h"

#include "core/mail/address.h"
#include "core/mail/date.h"
#include "io/base/clock.h"
#include "io/base/codec.h"
#include "io/base/log.h"

#define WRAP_WIDTH  79
#define WRAP_INDENT 4

struct texts {
    const char *subject, *postmaster_subject, *what; /* what: in front of "Message" */
    uint8_t notify;
};
static const struct texts texts[] = {
    [NOTICE_BOUNCE] = {"Undelivered Mail Returned to Sender", "Postmaster Copy: Undelivered Mail",
                       "Undelivered ", NOTIFY_FAILURE},
    [NOTICE_DELAY] = {"Delayed Mail (still being retried)", "Postmaster Warning: Delayed Mail",
                      "Undelivered ", NOTIFY_DELAY},
    [NOTICE_SUCCESS] = {"Successful Mail Delivery Report", "Successful Mail Delivery Report", "",
                        NOTIFY_SUCCESS},
};

static const char *const bounce_words[] = {
    "", "I'm sorry to have to inform you that your message could not",
    "be delivered to one or more recipients. It's attached below.", NULL};
static const char *const help_words[] = {
    "", "For further assistance, please send mail to postmaster.", "",
    "If you do so, please include this problem report. You can",
    "delete your own text from the attached returned message.", NULL};
static const char *const delay_words[] = {
    "", "####################################################################",
    "# THIS IS A WARNING ONLY.  YOU DO NOT NEED TO RESEND YOUR MESSAGE. #",
    "####################################################################", "", NULL};
static const char *const damaged_words[] = {
    "", "The message itself is not attached: it was damaged while it was",
    "in our mail queue.", NULL};
static const char *const unread_words[] = {
    "", "The message itself is not attached: it cannot be read from our", "mail queue.", NULL};
static const char *const success_words[] = {
    "", "Your message was successfully delivered to the destination(s)",
    "listed below. If the message was delivered to mailbox you will",
    "receive no further notifications. Otherwise you may still receive",
    "notifications of mail delivery errors from other systems.", NULL};

static void put(struct report *r, const char *fmt, ...) PRINTF(2, 3);
static void put(struct report *r, const char *fmt, ...)
{
    struct buf b = {0};
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    r->line(r->ctx, buf_str(&b), true);
    buf_fini(&b);
}

static void put_words(struct report *r, const char *const *words)
{
    for (; *words; words++)
        r->line(r->ctx, str_of(*words), true);
}

/* Breaks at blanks so that lines stay within 79 columns; lines after the first are indented. */
static void put_wrapped(struct report *r, struct str text)
{
    size_t width = WRAP_WIDTH;
    bool first = true;

    while (text.len) {
        size_t cut = text.len;
        if (text.len > width) {
            cut = 0;
            for (size_t i = 1; i < text.len && (i <= width || cut == 0); i++)
                if (text.ptr[i] == ' ' || text.ptr[i] == '\t')
                    cut = i;
            if (cut == 0)
                cut = text.len;
        }
        struct str line = str_trim(str_head(text, cut));
        put(r, "%s%.*s", first ? "" : "    ", STR_ARG(line));
        text = str_from(text, cut);
        while (text.len && (text.ptr[0] == ' ' || text.ptr[0] == '\t'))
            text = str_from(text, 1);
        if (first)
            width -= WRAP_INDENT;
        first = false;
    }
}

static bool wanted(const struct rcpt *rcpt, uint8_t notify, bool postmaster)
{
    if (postmaster)
        return true;
    if (rcpt->notify == 0)
        return notify != NOTIFY_SUCCESS;
    return rcpt->notify & notify;
}

static const struct rcpt *rcpt_at(const struct notice *n, size_t i)
{
    return &n->msg->env->rcpts[n->rcpts[i]];
}

size_t report_count(const struct notice *n, bool postmaster)
{
    size_t count = 0;

    for (size_t i = 0; i < n->rcpt_count; i++)
        count += wanted(rcpt_at(n, i), texts[n->kind].notify, postmaster);
    return count;
}

static bool is_global(const struct report *r)
{
    return r->notice->msg->env->flags & ENV_SMTPUTF8;
}

/* With smtputf8_enable all parts are declared as 8-bit, since any of them may hold UTF-8. */
static void put_encoding(struct report *r)
{
    if (r->svc->params->smtputf8_enable || (r->notice->msg->env->flags & ENV_8BIT))
        put(r, "Content-Transfer-Encoding: 8bit");
}

static void header(struct report *r)
{
    const struct texts *t = &texts[r->notice->kind];
    struct str to = address_quote(r->arena, r->to);
    const char *from = strcmp(r->svc->params->header_from_format, "obsolete") == 0
                           ? "MAILER-DAEMON (Mail Delivery System)"
                           : "Mail Delivery System <MAILER-DAEMON>";

    put(r, "From: %s", from);
    put(r, "Subject: %s", r->postmaster ? t->postmaster_subject : t->subject);
    put(r, "To: %.*s", STR_ARG(to));
    put(r, "Auto-Submitted: %s", r->postmaster ? "auto-generated" : "auto-replied");
    put(r, "MIME-Version: 1.0");
    put(r, "Content-Type: multipart/report; report-type=delivery-status;");
    put(r, "\tboundary=\"%s\"", r->boundary);
    put_encoding(r);
    put(r, "%s", "");
    put(r, "This is a MIME-encapsulated message.");
}

static void part(struct report *r, const char *description)
{
    put(r, "%s", "");
    put(r, "--%s", r->boundary);
    put(r, "Content-Description: %s", description);
}

static void boilerplate(struct report *r)
{
    const struct params *p = r->svc->params;

    put(r, "This is the mail system at host %s.", p->myhostname);
    switch (r->notice->kind) {
    case NOTICE_BOUNCE:
        put_words(r, bounce_words);
        put_words(r, help_words);
        break;
    case NOTICE_DELAY:
        put_words(r, delay_words);
        put(r, "Your message could not be delivered for more than %lld hour(s).",
            (long long)(p->delay_warning_time / 3600));
        put(r, "It will be retried until it is %lld day(s) old.",
            (long long)(p->maximal_queue_lifetime / 86400));
        put_words(r, help_words);
        break;
    case NOTICE_SUCCESS:
        put_words(r, success_words);
        break;
    }
    put(r, "%s", "");
    put(r, "                   The mail system");
}

static void words_of(struct report *r, const struct rcpt *rcpt)
{
    struct str address = address_quote(r->arena, rcpt->address);
    struct str original = address_quote(r->arena, rcpt->original), why = rcpt->why.text, text;

    if (original.len && !str_eq_nocase(original, address))
        text = arena_printf(r->arena, "<%.*s> (expanded from <%.*s>): %.*s", STR_ARG(address),
                            STR_ARG(original), STR_ARG(why));
    else
        text = arena_printf(r->arena, "<%.*s>: %.*s", STR_ARG(address), STR_ARG(why));
    put(r, "%s", "");
    put_wrapped(r, text);
}

static void notification(struct report *r)
{
    const struct notice *n = r->notice;

    part(r, "Notification");
    put(r, "Content-Type: text/plain; charset=%s",
        r->svc->params->smtputf8_enable ? "utf-8" : "us-ascii");
    put_encoding(r);
    put(r, "%s", "");
    if (!r->postmaster)
        boilerplate(r);
    if (r->unread)
        put_words(r, r->damaged ? damaged_words : unread_words);
    for (size_t i = 0; i < n->rcpt_count; i++)
        if (wanted(rcpt_at(n, i), texts[n->kind].notify, r->postmaster))
            words_of(r, rcpt_at(n, i));
}

static const char *address_type(const struct report *r, struct str address)
{
    return is_global(r) && !ascii_only(address) ? "utf-8" : "rfc822";
}

/* Who took delivered mail: "delivery via host[address]:port: reply" (core/deliver/report.h) is another
 * server, which is responsible now; "delivery via virtual: ..." is a mailbox. */
static bool relayed(const struct rcpt *rcpt, struct str *host_out, struct str *reply_out)
{
    static const struct str via = STR("delivery via ");
    struct str text = rcpt->why.text;

    if (!str_starts(text, via))
        return false;
    text = str_from(text, via.len);
    ssize_t end = str_find(text, STR(": ")), bracket = str_index(text, '[');
    if (end < 0 || bracket < 0 || bracket > end)
        return false;
    *host_out = str_head(text, (size_t)bracket);
    *reply_out = str_from(text, (size_t)end + 2);
    return true;
}

/* RFC 3464 §2.3 */
static void fields_of(struct report *r, const struct rcpt *rcpt)
{
    char date[DATE_TEXT_MAX];
    const struct envelope *env = r->notice->msg->env;
    struct str address = address_quote(r->arena, rcpt->address);
    struct str mta = rcpt->why.mta, diagnostic = rcpt->why.diagnostic, host, reply;
    const char *action = r->notice->kind == NOTICE_BOUNCE  ? "failed"
                         : r->notice->kind == NOTICE_DELAY ? "delayed"
                                                           : "delivered";

    if (r->notice->kind == NOTICE_SUCCESS && relayed(rcpt, &host, &reply)) {
        action = "relayed";
        mta = host;
        diagnostic = arena_printf(r->arena, "smtp; %.*s", STR_ARG(reply));
    }
    put(r, "%s", "");
    put(r, "Final-Recipient: %s; %.*s", address_type(r, address), STR_ARG(address));
    if (rcpt->orcpt.len)
        put(r, "Original-Recipient: %.*s", STR_ARG(rcpt->orcpt));
    put(r, "Action: %s", action);
    put(r, "Status: %s", rcpt->why.status);
    if (mta.len)
        put_wrapped(r, arena_printf(r->arena, "Remote-MTA: dns; %.*s", STR_ARG(mta)));
    if (diagnostic.len)
        put_wrapped(r, arena_printf(r->arena, "Diagnostic-Code: %.*s", STR_ARG(diagnostic)));
    else
        put_wrapped(r, arena_printf(r->arena, "Diagnostic-Code: X-Postfix; %.*s",
                                    STR_ARG(rcpt->why.text)));
    if (r->notice->kind == NOTICE_DELAY)
        put(r, "Will-Retry-Until: %s",
            date_rfc5322(env->arrival_us + r->svc->params->maximal_queue_lifetime * US_PER_S, date));
}

/* The null sender has a name here. */
static struct str sender_shown(const struct report *r)
{
    struct str sender = r->notice->msg->env->sender;

    return sender.len ? address_quote(r->arena, sender)
                      : arena_printf(r->arena, "MAILER-DAEMON@%s", r->svc->params->myhostname);
}

/* RFC 3464 §2.2; the X- fields carry the mail system's name. */
static void delivery_status(struct report *r)
{
    char date[DATE_TEXT_MAX];
    const struct notice *n = r->notice;
    const struct envelope *env = n->msg->env;
    char *name = arena_cstr(r->arena, str_of(r->svc->params->mail_name));
    struct str sender = sender_shown(r);

    for (char *c = name; *c; c++)
        if (*c == ' ')
            *c = '-';
    part(r, "Delivery report");
    put(r, "Content-Type: message/%sdelivery-status", is_global(r) ? "global-" : "");
    if (is_global(r))
        put_encoding(r);
    put(r, "%s", "");
    put(r, "Reporting-MTA: dns; %s", r->svc->params->myhostname);
    if (env->envid.len)
        put(r, "Original-Envelope-Id: %.*s", STR_ARG(env->envid));
    put(r, "X-%s-Queue-ID: %s", name, n->msg->id);
    put(r, "X-%s-Sender: %s; %.*s", name, address_type(r, sender), STR_ARG(sender));
    put(r, "Arrival-Date: %s", date_rfc5322(env->arrival_us, date));
    for (size_t i = 0; i < n->rcpt_count; i++)
        if (wanted(rcpt_at(n, i), texts[n->kind].notify, r->postmaster))
            fields_of(r, rcpt_at(n, i));
}

/* Stored content has CRLF line ends and no other LF. A piece may end anywhere. */
struct splitter {
    struct report *report;
    bool in_line;
    bool held_cr; /* the last piece ended in CR */
    bool done;    /* the headers are through, and only they were wanted */
};

static void split(struct splitter *s, struct str piece)
{
    struct report *r = s->report;

    while (piece.len && !s->done) {
        ssize_t lf = str_index(piece, '\n');
        struct str line = lf < 0 ? piece : str_head(piece, (size_t)lf);
        if (s->held_cr && lf != 0) {
            r->line(r->ctx, STR("\r"), false);
            s->in_line = true;
        }
        s->held_cr = false;
        piece = lf < 0 ? STR("") : str_from(piece, (size_t)lf + 1);
        if (line.len && line.ptr[line.len - 1] == '\r') {
            line.len--;
            s->held_cr = lf < 0;
        }
        if (lf >= 0 && line.len == 0 && !s->in_line && r->headers_only) {
            s->done = true;
            return;
        }
        if (lf >= 0 || line.len)
            r->line(r->ctx, line, lf >= 0);
        s->in_line = lf < 0 && (s->in_line || line.len);
    }
}

static struct err *copy_content(struct report *r)
{
    struct content_reader *reader;
    struct splitter s = {.report = r};
    struct str piece;
    struct err *e = content_open(r->notice->msg, &reader);

    if (e)
        return e;
    while (!s.done && !(e = content_next(reader, &piece)) && piece.len)
        split(&s, piece);
    content_close(reader);
    if (s.in_line)
        r->line(r->ctx, STR(""), true);
    return e;
}

static struct err *original(struct report *r)
{
    struct str sender = sender_shown(r);

    part(r, arena_printf(r->arena, "%sMessage%s", texts[r->notice->kind].what,
                         r->headers_only ? " Headers" : "").ptr);
    if (is_global(r))
        put(r, "Content-Type: message/global%s", r->headers_only ? "-headers" : "");
    else
        put(r, "Content-Type: %s", r->headers_only ? "text/rfc822-headers" : "message/rfc822");
    put_encoding(r);
    put(r, "%s", "");
    put(r, "Return-Path: <%.*s>", STR_ARG(sender));
    struct err *e = r->unread ? NULL : copy_content(r);
    put(r, "%s", "");
    put(r, "--%s--", r->boundary);
    return e;
}

/* A disk that does not answer may do so later, but a sender does not wait longer than mail does. */
static bool waited_enough(const struct report *r)
{
    int64_t age_us = r->now_us - r->notice->msg->env->arrival_us;
    return r->notice->kind == NOTICE_BOUNCE && age_us > r->svc->params->maximal_queue_lifetime * US_PER_S;
}

/* The sum is known when all was read, and headers_only stops before that. The sender is told all the same. */
static struct err *look_at_original(struct report *r)
{
    struct err *e = content_check(r->notice->msg);
    r->damaged = e && e->kind == ERR_DAMAGED;
    r->unread = r->damaged || (e && e->kind == ERR_IO && waited_enough(r));
    if (!r->unread)
        return e;
    log_warning("bounce", "%s", e->text);
    r->headers_only = true;
    return NULL;
}

struct err *report_write(struct report *r)
{
    struct err *e = look_at_original(r);
    if (e)
        return e;
    r->boundary = arena_printf(r->arena, "%s.%lld/%s", r->notice->msg->id,
                               (long long)(r->now_us / US_PER_S), r->svc->params->myhostname).ptr;
    header(r);
    notification(r);
    delivery_status(r);
    return original(r);
}
