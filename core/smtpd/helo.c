/* helo: HELO and EHLO (RFC 5321 §4.1.1.1). */
#include <stdio.h>
#include "core/mail/ehlo.h"
#include "core/smtpd/restrict/restrict.h"
#include "core/smtpd/session.h"
#include "io/base/log.h"

/* What the name may not carry into logs, headers and macros. */
static void keep_name(struct smtpd *s, struct str name)
{
    struct str clean = smtpd_printable(s->cmd, name);

    buf_reset(&s->helo);
    buf_add_str(&s->helo, clean);
    for (size_t i = 0; i < s->helo.len; i++)
        if (strchr(" <>()\\\";@", s->helo.ptr[i]))
            s->helo.ptr[i] = '?';
}

/* Several words are one name. */
static struct str join_words(struct smtpd *s, struct str args)
{
    struct buf name = {0};
    struct str word;
    bool broken;

    while (command_word(&args, &word, &broken)) {
        if (name.len)
            buf_add_char(&name, ' ');
        buf_add_str(&name, word);
    }
    struct str joined = arena_str(s->cmd, buf_str(&name));
    buf_fini(&name);
    return joined;
}

static bool greet(struct smtpd *s, const struct command *c, const char *verb)
{
    if (c->args.len == 0) {
        smtpd_reply(s, "501 Syntax: %s hostname", verb);
        return false;
    }
    struct str name = join_words(s, c->args);
    if (!s->stand_alone && !s->p->smtpd_delay_reject) {
        struct verdict v = restrict_helo(s, name);
        if (v.code) {
            smtpd_reply_verdict(s, &v);
            return false;
        }
    }
    smtpd_mail_reset(s);
    keep_name(s, name);
    return true;
}

bool smtpd_helo(struct smtpd *s, const struct command *c)
{
    if (!greet(s, c, "HELO"))
        return false;
    smtpd_reply(s, "250 %s", s->p->myhostname);
    return true;
}

/* smtpd_discard_ehlo_keywords and its table by client address. */
static unsigned discarded(struct smtpd *s)
{
    struct str list = str_of(s->p->smtpd_discard_ehlo_keywords), found;
    bool have = false;

    struct err *e = map_list_find(&s->lists->smtpd_discard_ehlo_keyword_address_maps, s->cmd,
                                  str_of(s->address), &found, &have);
    if (e)
        log_warning(s->svc->log_tag, "smtpd_discard_ehlo_keyword_address_maps: %s", e->text);
    return ehlo_parse(have ? found : list);
}

bool smtpd_ehlo(struct smtpd *s, const struct command *c)
{
    const char *lines[12];
    size_t n = 0;
    char size[32];

    if (!greet(s, c, "EHLO"))
        return false;
    s->esmtp = true;
    unsigned off = s->discard = discarded(s);
    if (off && !EHLO_HAS(off, SILENT) && !EHLO_HAS(off, ENHANCEDSTATUSCODES)) {
        struct buf names = {0};
        ehlo_print(off, &names);
        log_info(s->svc->log_tag, "discarding EHLO keywords: %s", names.ptr ? names.ptr : "");
        buf_fini(&names);
    }
    lines[n++] = s->p->myhostname;
    if (!EHLO_HAS(off, PIPELINING))
        lines[n++] = "PIPELINING";
    if (!EHLO_HAS(off, SIZE)) {
        snprintf(size, sizeof size, "SIZE %lld", (long long)s->p->message_size_limit);
        lines[n++] = s->p->message_size_limit > 0 ? size : "SIZE";
    }
    if (!s->p->disable_vrfy_command && !EHLO_HAS(off, VRFY))
        lines[n++] = "VRFY";
    if (!EHLO_HAS(off, ETRN))
        lines[n++] = "ETRN";
    if (!EHLO_HAS(off, ENHANCEDSTATUSCODES))
        lines[n++] = "ENHANCEDSTATUSCODES";
    if (!EHLO_HAS(off, 8BITMIME))
        lines[n++] = "8BITMIME";
    if (!EHLO_HAS(off, DSN))
        lines[n++] = "DSN";
    if (s->p->smtputf8_enable && !EHLO_HAS(off, SMTPUTF8))
        lines[n++] = "SMTPUTF8";
    if (!EHLO_HAS(off, CHUNKING))
        lines[n++] = "CHUNKING";
    smtpd_reply_lines(s, "250", lines, n);
    return true;
}
