/* talk: what the client and the log are told. */
#include <stdio.h>
#include <time.h>
#include "core/mail/address.h"
#include "core/mail/reply.h"
#include "core/smtpd/session.h"
#include "io/base/clock.h"
#include "io/base/codec.h"
#include "io/base/expand.h"
#include "io/base/format.h"
#include "io/base/log.h"
#include "io/fiber/fiber.h"

#define LINES_FIRST 255 /* the usual EHLO */

int64_t smtpd_deadline(const struct smtpd *s)
{
    return clock_coarse_ns() + s->p->smtpd_timeout * NS_PER_S;
}

void smtpd_trouble(struct smtpd *s, const struct err *e)
{
    if (s->end == END_NOT)
        s->end = e->kind == ERR_TIMEOUT    ? END_TIMEOUT
                 : e->kind == ERR_CANCELED ? END_CANCELED
                                           : END_LOST;
}

void smtpd_flush(struct smtpd *s)
{
    if (stream_unsent(s->stream) == 0)
        return;
    struct err *e = stream_flush(s->stream, smtpd_deadline(s));
    if (e)
        smtpd_trouble(s, e);
}

static void put(struct smtpd *s, struct str bytes)
{
    struct err *e = stream_put(s->stream, bytes, smtpd_deadline(s));
    if (e)
        smtpd_trouble(s, e);
}

/* --- smtpd_reject_footer (postconf(5)) */

static struct str address_part(struct str address, bool domain)
{
    return domain ? address_domain(address) : address_local(address);
}

static bool footer_value(void *ctx, struct str name, struct str *out)
{
    struct smtpd *s = ctx;
    struct str recipient = s->log_recipient ? *s->log_recipient : STR("");
    struct tm tm;
    time_t now = (time_t)(clock_wall_us() / US_PER_S);
    char text[64];

    if (str_eq(name, STR("client_address")))
        *out = str_of(s->address);
    else if (str_eq(name, STR("client_port")))
        *out = arena_printf(s->cmd, "%u", addr_port(&s->client));
    else if (str_eq(name, STR("client_name")))
        *out = s->name;
    else if (str_eq(name, STR("reverse_client_name")))
        *out = s->reverse_name;
    else if (str_eq(name, STR("helo_name")))
        *out = buf_str(&s->helo);
    else if (str_eq(name, STR("sender")))
        *out = s->in_mail ? (s->sender.len ? s->sender : STR("<>")) : STR("");
    else if (str_eq(name, STR("sender_name")))
        *out = address_part(s->sender, false);
    else if (str_eq(name, STR("sender_domain")))
        *out = address_part(s->sender, true);
    else if (str_eq(name, STR("recipient")))
        *out = recipient;
    else if (str_eq(name, STR("recipient_name")))
        *out = address_part(recipient, false);
    else if (str_eq(name, STR("recipient_domain")))
        *out = address_part(recipient, true);
    else if (str_eq(name, STR("server_name")))
        *out = str_of(s->p->myhostname);
    else if (str_eq(name, STR("localtime")) && localtime_r(&now, &tm) &&
             strftime(text, sizeof text, "%b %d %H:%M:%S", &tm) > 0)
        *out = arena_str(s->cmd, str_of(text));
    else
        return false;
    return true;
}

static void footer_unknown(void *ctx, struct str name)
{
    struct smtpd *s = ctx;
    log_warning(s->svc->log_tag, "unknown macro name \"%.*s\" in expansion request", STR_ARG(name));
}

static struct str footer(struct smtpd *s)
{
    struct expand x = {footer_value, footer_unknown, s};
    struct str text;
    struct err *e = expand_text(s->cmd, str_of(s->p->smtpd_reject_footer), &x, &text);

    if (!e)
        return text;
    log_warning(s->svc->log_tag, "smtpd_reject_footer: %s", e->text);
    return STR("\\c");
}

/* Sleep-on-anything: a client that makes one mistake after the other waits for every reply. */
static void slow_down(struct smtpd *s)
{
    if (s->errors < s->p->smtpd_soft_error_limit || s->p->smtpd_error_sleep_time == 0)
        return;
    smtpd_flush(s);
    struct err *e = fiber_sleep_until(clock_in_s(s->p->smtpd_error_sleep_time));
    if (e)
        smtpd_trouble(s, e);
}

static void reply_text(struct smtpd *s, char *text, size_t len)
{
    slow_down(s);
    if (s->p->soft_bounce)
        reply_soften(text, len);
    bool negative = text[0] == '4' || text[0] == '5';
    if (negative && s->p->smtpd_reject_footer[0]) {
        struct buf out = {0};
        reply_with_footer(&out, str_make(text, len), footer(s));
        put(s, buf_str(&out));
        buf_fini(&out);
    } else {
        put(s, str_make(text, len));
        put(s, STR("\r\n"));
    }
    if (s->end == END_NOT && (strncmp(text, "421", 3) == 0 || strncmp(text, "521", 3) == 0))
        s->end = END_DONE;
}

void smtpd_reply(struct smtpd *s, const char *fmt, ...)
{
    va_list ap;
    struct buf text = {0};
    char fixed[256];

    va_start(ap, fmt);
    size_t len = text_format(fixed, sizeof fixed, fmt, ap);
    va_end(ap);
    if (len < sizeof fixed) {
        reply_text(s, fixed, len);
        return;
    }
    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    reply_text(s, text.ptr, text.len);
    buf_fini(&text);
}

void smtpd_reply_verdict(struct smtpd *s, const struct verdict *v)
{
    smtpd_reply(s, "%d %s%s%.*s", v->code, v->dsn, v->dsn[0] ? " " : "", STR_ARG(v->text));
}

void smtpd_reply_lines(struct smtpd *s, const char *code, const char *const *lines, size_t n)
{
    struct buf text = {0};

    buf_reserve(&text, LINES_FIRST);
    for (size_t i = 0; i < n; i++) {
        buf_add_c(&text, code);
        buf_add_char(&text, i + 1 < n ? '-' : ' ');
        buf_add_c(&text, lines[i]);
        buf_add(&text, "\r\n", 2);
    }
    put(s, buf_str(&text));
    buf_fini(&text);
}

/* --- log */

const char *smtpd_id(const struct smtpd *s)
{
    return s->id[0] ? s->id : "NOQUEUE";
}

const char *smtpd_proto(const struct smtpd *s)
{
    return s->esmtp ? "ESMTP" : "SMTP";
}

void smtpd_log_whatsup(struct smtpd *s, const char *what, struct str text)
{
    struct buf line = {0};
    const struct str helo = buf_str(&s->helo);
    const struct str *sender = s->log_sender ? s->log_sender : s->in_mail ? &s->sender : NULL;
    const struct str *rcpt = s->log_recipient;
    const struct str *name = s->log_helo ? s->log_helo : helo.len ? &helo : NULL;

    buf_printf(&line, "%s: %s: %s from %s: %.*s;", smtpd_id(s), what, s->where, s->namaddr,
               STR_ARG(text));
    if (sender) {
        struct str quoted = address_quote(s->cmd, *sender);
        buf_printf(&line, " from=<%.*s>", STR_ARG(quoted));
    }
    if (rcpt) {
        struct str quoted = address_quote(s->cmd, *rcpt);
        buf_printf(&line, " to=<%.*s>", STR_ARG(quoted));
    }
    buf_printf(&line, " proto=%s", smtpd_proto(s));
    if (name)
        buf_printf(&line, " helo=<%.*s>", STR_ARG(*name));
    log_info(s->svc->log_tag, "%s", line.ptr);
    buf_fini(&line);
}

struct str smtpd_escape(struct arena *a, struct str bytes)
{
    static const char names[] = "\a\b\f\n\r\t\v";
    static const char letters[] = "abfnrtv";
    char *out = arena_alloc(a, bytes.len * 4 + 1);
    size_t n = 0;

    for (size_t i = 0; i < bytes.len; i++) {
        unsigned char c = (unsigned char)bytes.ptr[i];
        const char *name = c ? strchr(names, c) : NULL;
        if (name || c == '\\') {
            out[n++] = '\\';
            out[n++] = name ? letters[name - names] : '\\';
        } else if (c < ' ' || c > '~') {
            n += (size_t)sprintf(out + n, "\\%03o", c);
        } else {
            out[n++] = (char)c;
        }
    }
    out[n] = '\0';
    return str_make(out, n);
}

struct str smtpd_printable(struct arena *a, struct str bytes)
{
    char *out = arena_alloc(a, bytes.len + 1);
    bool utf8 = utf8_valid(bytes);

    for (size_t i = 0; i < bytes.len; i++) {
        unsigned char c = (unsigned char)bytes.ptr[i];
        out[i] = c < ' ' || c == 127 || (c > 127 && !utf8) ? '?' : (char)c;
    }
    out[bytes.len] = '\0';
    return str_make(out, bytes.len);
}
