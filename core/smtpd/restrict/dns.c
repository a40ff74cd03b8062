#include "core/smtpd/restrict/dns.h"

enum dns_presence dns_presence(struct smtpd *s, struct str domain, const enum dns_type *types)
{
    const char *name = arena_cstr(s->cmd, domain);
    bool failed = false;

    for (; *types; types++) {
        struct dns_answer answer;
        dns_lookup(s->cmd, name, *types, smtpd_deadline(s), &answer);
        if (answer.status == DNS_FOUND && answer.count > 0)
            return *types == DNS_MX && answer.count == 1 && answer.records[0].name[0] == '\0'
                       ? DNS_NULL_MX
                       : DNS_PRESENT;
        failed = failed || answer.status == DNS_TEMPORARY;
        if (answer.status == DNS_NXDOMAIN)
            break;
    }
    return failed ? DNS_UNSURE : DNS_ABSENT;
}
