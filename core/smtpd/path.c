/* path: the address of MAIL, RCPT and VRFY: syntax, and whether anything could be done with it. */
#include "core/mail/address.h"
#include "core/rewrite/resolve.h"
#include "core/smtpd/session.h"
#include "io/base/log.h"

bool smtpd_path(struct smtpd *s, struct str raw, bool empty_ok, struct str *out)
{
    struct str rest, address = STR("");
    enum address_parse parse = address_parse_path(s->cmd, raw, s->p->strict_rfc821_envelopes,
                                                  empty_ok, &address, &rest);

    bool good = parse != ADDRESS_BAD_SYNTAX && rest.len == 0 &&
                (address.len == 0 || resolve_valid(s->svc, s->cmd, address, s->options.smtputf8));
    if (!good) {
        struct str shown = smtpd_printable(s->cmd, raw);
        log_warning(s->svc->log_tag, "Illegal address syntax from %s in %s command: %.*s",
                    s->namaddr, s->where, STR_ARG(shown));
        return false;
    }
    *out = address;
    return true;
}
