#include "core/smtp/command.h"

#include "core/mail/address.h"
#include "core/mail/ehlo.h"
#include "io/base/codec.h"

static void add_path(struct buf *out, const char *verb, struct str address, bool quote)
{
    buf_add_c(out, verb);
    buf_add_c(out, ":<");
    if (quote)
        address_quote_to(out, address);
    else
        buf_add_str(out, address);
    buf_add_char(out, '>');
}

void smtp_command_mail(struct buf *out, struct arena *a, const struct envelope *env,
                       const struct smtp_wording *w)
{
    add_path(out, "MAIL FROM", env->sender, w->quote);
    if (EHLO_HAS(w->features, SIZE) && !w->no_size)
        buf_printf(out, " SIZE=%llu", (unsigned long long)env->data_size);
    if (EHLO_HAS(w->features, 8BITMIME) && (env->flags & ENV_8BIT) != 0)
        buf_add_c(out, " BODY=8BITMIME");
    else if (EHLO_HAS(w->features, 8BITMIME) && (env->flags & ENV_7BIT) != 0)
        buf_add_c(out, " BODY=7BIT");
    if (EHLO_HAS(w->features, DSN) && env->envid.len > 0) {
        buf_add_c(out, " ENVID=");
        buf_add_str(out, xtext_encode(a, env->envid));
    }
    if (EHLO_HAS(w->features, DSN) && env->ret != RET_NONE)
        buf_add_c(out, env->ret == RET_FULL ? " RET=FULL" : " RET=HDRS");
    if (EHLO_HAS(w->features, SMTPUTF8) && (env->flags & ENV_SMTPUTF8) != 0)
        buf_add_c(out, " SMTPUTF8");
    buf_add(out, "\r\n", 2);
}

static unsigned code_point(const char *p, size_t n)
{
    unsigned c = (unsigned char)p[0];
    if (n == 1)
        return c;
    c &= 0x7fU >> n;
    for (size_t i = 1; i < n; i++)
        c = c << 6 | ((unsigned char)p[i] & 0x3fU);
    return c;
}

/* RFC 6533 §3, utf-8-addr-unitext: \x{HEXPOINT} for all but plain ASCII. False: not UTF-8. */
static bool add_unitext(struct buf *out, struct str text)
{
    while (text.len > 0) {
        size_t n = utf8_char(text);
        if (n == 0)
            return false;
        unsigned c = code_point(text.ptr, n);
        if (c <= 32 || c >= 127 || c == '+' || c == '=' || c == '\\')
            buf_printf(out, "\\x{%02X}", c);
        else
            buf_add_char(out, (char)c);
        text = str_from(text, n);
    }
    return true;
}

/* Without an ORCPT of the sender's, the address before rewriting stands for it, as in Postfix. */
static void add_orcpt(struct buf *out, struct arena *a, const struct envelope *env,
                      const struct rcpt *rcpt)
{
    struct str orcpt = rcpt->orcpt;
    if (orcpt.len == 0 && rcpt->original.len > 0) {
        struct str quoted = address_quote(a, rcpt->original);
        bool utf8 = (env->flags & ENV_SMTPUTF8) != 0 && !ascii_only(quoted);
        orcpt = arena_printf(a, "%s;%.*s", utf8 ? "utf-8" : "rfc822", STR_ARG(quoted));
    }
    if (orcpt.len == 0)
        return;
    size_t before = out->len;
    buf_add_c(out, " ORCPT=");
    if (!str_starts_nocase(orcpt, STR("utf-8;")))
        buf_add_str(out, xtext_encode(a, orcpt));
    else if (!add_unitext(out, orcpt))
        out->len = before;
}

static void add_notify(struct buf *out, uint8_t notify)
{
    static const struct {
        uint8_t bit;
        const char *name;
    } names[] = {{NOTIFY_NEVER, "NEVER"},
                 {NOTIFY_SUCCESS, "SUCCESS"},
                 {NOTIFY_FAILURE, "FAILURE"},
                 {NOTIFY_DELAY, "DELAY"}};
    const char *before = " NOTIFY=";
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!(notify & names[i].bit))
            continue;
        buf_add_c(out, before);
        buf_add_c(out, names[i].name);
        before = ",";
    }
}

void smtp_command_rcpt(struct buf *out, struct arena *a, const struct envelope *env,
                       const struct rcpt *rcpt, const struct smtp_wording *w)
{
    struct str address = rcpt->resolved.len > 0 ? rcpt->resolved : rcpt->address;
    add_path(out, "RCPT TO", address, w->quote);
    if (EHLO_HAS(w->features, DSN)) {
        add_orcpt(out, a, env, rcpt);
        add_notify(out, rcpt->notify);
    }
    buf_add(out, "\r\n", 2);
}
