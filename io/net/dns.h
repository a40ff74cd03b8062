/* dns: libunbound's door. The resolver runs on its own thread in event mode: cache and DNSSEC
 * validation in process. A lookup parks the fiber; answers are copied into the caller's arena.
 * found / not found / error are three different things: not found is an answer, error defers. */
#ifndef IO_NET_DNS_H
#define IO_NET_DNS_H

#include "io/net/addr.h"

enum dns_type { DNS_A = 1, DNS_NS = 2, DNS_CNAME = 5, DNS_PTR = 12, DNS_MX = 15, DNS_TXT = 16, DNS_AAAA = 28, DNS_TLSA = 52 };
enum dns_status {
    DNS_FOUND,
    DNS_NXDOMAIN, /* no such name */
    DNS_NODATA,   /* the name has no record of this type */
    DNS_TEMPORARY, /* SERVFAIL, no answer in time, bogus: try again */
    DNS_INVALID,  /* not a name one can ask for: a permanent failure */
};
struct dns_record {
    uint32_t ttl;
    uint16_t preference; /* MX */
    const char *name;    /* MX, PTR, CNAME, NS target: lower case, no final dot; "" is the null MX (RFC 7505) */
    struct addr addr;    /* A, AAAA; port 0 */
    struct str bytes;    /* TXT (strings joined), TLSA rdata */
};
struct dns_answer {
    enum dns_status status;
    bool secure;      /* DNSSEC validated */
    const char *name; /* owner after CNAMEs */
    const char *why;  /* for the log when not FOUND: as Postfix words it, "Host not found" etc. */
    struct dns_record *records;
    size_t count;
};

struct dns_options {
    const char *forward;      /* "" = read resolv.conf as it is; else addr@port: ask that server */
    const char *resolv_conf;  /* NULL = /etc/resolv.conf */
    const char *hosts;        /* NULL = /etc/hosts */
    bool dnssec;              /* validate (needs trust anchors) */
    const char *anchor_file;  /* "" = none */
    int64_t timeout_ms;       /* whole lookup; 0 = 30000 */
};
struct err *dns_start(const struct dns_options *options) MUST_USE;
void dns_stop(void);
/* Yields. Always fills *out. From a fiber on any worker. */
void dns_lookup(struct arena *a, const char *name, enum dns_type type, int64_t deadline_ns,
                struct dns_answer *out);
/* Name of an address: PTR. */
void dns_reverse(struct arena *a, const struct addr *addr, int64_t deadline_ns,
                 struct dns_answer *out);
/* For the log, as Postfix words it: "Name service error for name=X type=MX: Host not found". The
 * SMTP client puts "Host or domain name not found. " before it. `name` as it was asked for. */
const char *dns_error_text(struct arena *a, const char *name, enum dns_type type,
                           const struct dns_answer *answer);
/* The system's hosts(5) file: addresses of a name in it. Count 0 when not there. */
struct err *dns_hosts_file(struct arena *a, const char *name, struct addr **out, size_t *n_out) MUST_USE;
/* The first name of that address in it; NULL when there is none. */
struct err *dns_hosts_name(struct arena *a, const struct addr *addr, const char **out) MUST_USE;
struct err *dns_hosts_path(const char *path) MUST_USE; /* dns_start does this */
void dns_hosts_forget(void); /* the copy kept in memory; dns_stop does this */

#endif
