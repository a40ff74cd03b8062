/* dns: the caller's side. Runs on workers; the resolver thread is dns_unbound.c. */
#include "io/net/dns.h"

#include <stdatomic.h>
#include <stdio.h>
#include "io/base/check.h"
#include "io/base/mem.h"
#include "io/net/dns_recent.h"

enum { TIMEOUT_MS = 30000 };

static _Atomic int64_t timeout_ms = TIMEOUT_MS;

struct err *dns_start(const struct dns_options *options)
{
    atomic_store(&timeout_ms, options->timeout_ms > 0 ? options->timeout_ms : TIMEOUT_MS);
    dns_recent_forget();
    struct err *e = dns_hosts_path(options->hosts);
    return e ? e : dns_thread_start(options);
}

void dns_stop(void)
{
    dns_thread_stop();
    dns_hosts_forget();
}

/* True: it arrived. False: the resolver owns q now. */
static bool wait_answer(struct dns_query *q, int64_t deadline_ns)
{
    while (!q->arrived) {
        if (!fiber_park(deadline_ns) || q->arrived)
            continue;
        if (dns_thread_abandon(q))
            return false;
        /* It is in our mailbox already: the next turn of the loop brings it. */
        fiber_shield_begin();
        while (!q->arrived)
            (void)fiber_park(DEADLINE_NEVER);
        fiber_shield_end();
    }
    return true;
}

static void no_answer(struct dns_answer *out, enum dns_status status)
{
    out->status = status;
    out->why = dns_status_text(status);
}

static void take_answer(struct arena *a, const struct dns_query *q, struct dns_answer *out)
{
    no_answer(out, DNS_TEMPORARY);
    if (!q->packet)
        return;
    if (!dns_msg_parse(a, str_make(q->packet, q->packet_len), q->name, q->type, out)) {
        out->why = "Malformed or unexpected name server reply";
        return;
    }
    out->secure = q->secure;
}

void dns_lookup(struct arena *a, const char *name, enum dns_type type, int64_t deadline_ns,
                struct dns_answer *out)
{
    CHECK(fiber_self() != NULL);
    char lower[DNS_NAME_TEXT_MAX];
    *out = (struct dns_answer){.name = arena_cstr(a, str_of(name))};
    if (!dns_name_check(str_of(name), lower)) {
        no_answer(out, DNS_INVALID);
        return;
    }
    const struct dns_query *recent = dns_recent(lower, type);
    if (recent) {
        take_answer(a, recent, out);
        return;
    }
    struct dns_query *q = MEM_NEW(struct dns_query);
    str_copy(q->name, sizeof(q->name), str_of(lower));
    q->type = type;
    q->home = worker_self();
    q->waiter = fiber_self();
    q->state = QUERY_WAITING;
    if (!dns_thread_ask(q)) {
        mem_free(q);
        no_answer(out, DNS_TEMPORARY);
        return;
    }
    int64_t latest = clock_in_ms(atomic_load(&timeout_ms));
    if (!wait_answer(q, deadline_ns < latest ? deadline_ns : latest)) {
        no_answer(out, DNS_TEMPORARY);
        return;
    }
    take_answer(a, q, out);
    dns_recent_keep(q, out);
}

static void reverse_name(const struct addr *addr, char *out, size_t size)
{
    if (addr->sa.sa_family == AF_INET) {
        const uint8_t *b = (const uint8_t *)&addr->in.sin_addr;
        snprintf(out, size, "%u.%u.%u.%u.in-addr.arpa", b[3], b[2], b[1], b[0]);
        return;
    }
    size_t at = 0;
    for (int i = 15; i >= 0; i--) {
        uint8_t byte = addr->in6.sin6_addr.s6_addr[i];
        out[at++] = "0123456789abcdef"[byte & 15];
        out[at++] = '.';
        out[at++] = "0123456789abcdef"[byte >> 4];
        out[at++] = '.';
    }
    snprintf(out + at, size - at, "ip6.arpa");
}

void dns_reverse(struct arena *a, const struct addr *addr, int64_t deadline_ns,
                 struct dns_answer *out)
{
    char name[96];
    if (addr->sa.sa_family != AF_INET && addr->sa.sa_family != AF_INET6) {
        *out = (struct dns_answer){.name = "unknown"};
        no_answer(out, DNS_INVALID);
        return;
    }
    reverse_name(addr, name, sizeof(name));
    dns_lookup(a, name, DNS_PTR, deadline_ns, out);
}

static const char *type_name(enum dns_type type)
{
    switch (type) {
    case DNS_A:
        return "A";
    case DNS_NS:
        return "NS";
    case DNS_CNAME:
        return "CNAME";
    case DNS_PTR:
        return "PTR";
    case DNS_MX:
        return "MX";
    case DNS_TXT:
        return "TXT";
    case DNS_AAAA:
        return "AAAA";
    case DNS_TLSA:
        return "TLSA";
    }
    return "unknown";
}

const char *dns_error_text(struct arena *a, const char *name, enum dns_type type,
                           const struct dns_answer *answer)
{
    struct str text;
    if (answer->status == DNS_INVALID)
        text = arena_printf(a, "Name service error for %s: invalid host or domain name", name);
    else
        text = arena_printf(a, "Name service error for name=%s type=%s: %s", name, type_name(type),
                            answer->why);
    return text.ptr;
}
