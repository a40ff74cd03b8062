/* peer: who the client is: address, and a name that its own zone and the address's zone agree upon. */
#include "core/mail/address.h"
#include "core/smtpd/session.h"
#include "io/base/log.h"

static const struct str unknown = {"unknown", sizeof "unknown" - 1};

/* hosts(5) goes before the DNS, as getnameinfo(3) has it: no question leaves the process for it. */
static bool in_hosts_file(struct smtpd *s)
{
    const char *name;
    struct addr *list;
    size_t n;
    struct err *e = dns_hosts_name(s->cmd, &s->client, &name);

    if (e || !name || !address_domain_valid(str_of(name)))
        return false;
    e = dns_hosts_file(s->cmd, name, &list, &n);
    if (e)
        return false;
    s->reverse_name = arena_str(s->arena, str_of(name));
    s->reverse_status = DNS_FOUND;
    for (size_t i = 0; i < n; i++) {
        if (!addr_eq_host(&list[i], &s->client))
            continue;
        s->name = s->reverse_name;
        s->name_status = DNS_FOUND;
        return true;
    }
    return false;
}

/* Does the name lead back to the address? Its own words for the log when it does not. */
static enum dns_status confirm(struct smtpd *s, const char *name)
{
    enum dns_type type = s->client.sa.sa_family == AF_INET6 ? DNS_AAAA : DNS_A;
    struct dns_answer answer;

    dns_lookup(s->cmd, name, type, smtpd_deadline(s), &answer);
    if (answer.status != DNS_FOUND) {
        log_warning(s->svc->log_tag, "hostname %s does not resolve to address %s: %s", name,
                    s->address, answer.why ? answer.why : "no answer");
        return answer.status;
    }
    for (size_t i = 0; i < answer.count; i++)
        if (addr_eq_host(&answer.records[i].addr, &s->client))
            return DNS_FOUND;
    log_warning(s->svc->log_tag, "hostname %s does not resolve to address %s", name, s->address);
    return DNS_NXDOMAIN;
}

static void look_up(struct smtpd *s)
{
    struct dns_answer answer;

    if (in_hosts_file(s))
        return;
    dns_reverse(s->cmd, &s->client, smtpd_deadline(s), &answer);
    s->name_status = s->reverse_status = answer.status;
    if (answer.status != DNS_FOUND || answer.count == 0)
        return;
    const char *name = answer.records[0].name;
    struct str text = str_of(name);
    if (!address_domain_valid(text) || address_domain_numeric(text) || text.ptr[0] == '[') {
        log_warning(s->svc->log_tag, "malformed domain name in resource data of PTR record for %s",
                    s->address);
        s->name_status = s->reverse_status = DNS_NXDOMAIN;
        return;
    }
    s->reverse_name = arena_str(s->arena, text);
    s->name_status = confirm(s, name);
    if (s->name_status == DNS_FOUND)
        s->name = s->reverse_name;
}

bool smtpd_peer_matches(struct smtpd *s, struct match_list *list, const char *what)
{
    bool match = false;

    if (!list)
        return false;
    struct err *e = match_list_client(list, s->cmd, s->name, &s->client, &match);
    if (e)
        log_warning(s->svc->log_tag, "%s lookup error for %s: %s", what, s->namaddr, e->text);
    return !e && match;
}

static bool on_own_interface(const struct smtpd *s)
{
    const struct snapshot *snapshot = s->svc->snapshot;

    for (size_t i = 0; i < snapshot->own_addr_count; i++)
        if (addr_eq_host(&snapshot->own_addrs[i].addr, &s->client))
            return true;
    return false;
}

/* local_header_rewrite_clients (postconf(5)). */
static bool local_headers(struct smtpd *s)
{
    struct str list = str_of(s->p->local_header_rewrite_clients), word;

    while (str_token(&list, ", \t\r\n", &word)) {
        if (str_eq_nocase(word, STR("permit_inet_interfaces"))) {
            if (on_own_interface(s))
                return true;
        } else if (str_eq_nocase(word, STR("permit_mynetworks"))) {
            if (smtpd_peer_matches(s, s->lists->mynetworks, "mynetworks"))
                return true;
        } else if (!str_starts_nocase(word, STR("permit_sasl_")) &&
                   !str_starts_nocase(word, STR("permit_tls_"))) {
            log_warning(s->svc->log_tag, "local_header_rewrite_clients: %.*s is not supported",
                        STR_ARG(word));
        }
    }
    return false;
}

void smtpd_peer(struct smtpd *s)
{
    s->name = s->reverse_name = unknown;
    s->name_status = s->reverse_status = DNS_NXDOMAIN;
    if (s->stand_alone) {
        s->name = s->reverse_name = STR("localhost");
        s->name_status = s->reverse_status = DNS_FOUND;
        addr_parse(STR("127.0.0.1"), 0, &s->client);
    }
    addr_text(&s->client, s->address);
    bool inet = s->client.sa.sa_family == AF_INET || s->client.sa.sa_family == AF_INET6;
    if (!s->stand_alone && inet && s->p->smtpd_peername_lookup)
        look_up(s);
    s->namaddr = arena_printf(s->arena, "%.*s[%s]", STR_ARG(s->name), s->address).ptr;
    s->local_headers = s->stand_alone || local_headers(s);
    arena_reset(s->cmd);
}
