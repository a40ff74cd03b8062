#include "perf/load/zone.h"

#include <stdio.h>

enum {
    HEADER = 12,
    NAME_MAX_TEXT = 255,
    TYPE_A = 1,
    TYPE_SOA = 6,
    TYPE_MX = 15,
    TYPE_OPT = 41,
    CLASS_IN = 1,
    RCODE_SERVFAIL = 2,
    RCODE_NXDOMAIN = 3,
};

/* One record:  NAME (a pointer to the question) TYPE CLASS TTL RDLENGTH RDATA */
struct out {
    char *bytes;
    size_t n;
};

static void put8(struct out *o, unsigned v)
{
    if (o->n < ZONE_REPLY_MAX)
        o->bytes[o->n++] = (char)v;
}

static void put16(struct out *o, unsigned v)
{
    put8(o, v >> 8 & 255);
    put8(o, v & 255);
}

static void put32(struct out *o, uint32_t v)
{
    put16(o, v >> 16);
    put16(o, v & 65535);
}

static void put_record(struct out *o, unsigned type, uint32_t ttl, unsigned length)
{
    put16(o, 0xC000 | HEADER);
    put16(o, type);
    put16(o, CLASS_IN);
    put32(o, ttl);
    put16(o, length);
}

/* The question's name as text, lower case. Returns the bytes it takes, 0 when it is no name. */
static size_t read_name(struct str query, char text[NAME_MAX_TEXT + 1], size_t *len_out)
{
    size_t at = HEADER, n = 0;
    while (at < query.len && query.ptr[at] != 0) {
        size_t label = (unsigned char)query.ptr[at++];
        if (label > 63 || at + label >= query.len || n + label + 1 > NAME_MAX_TEXT)
            return 0;
        if (n > 0)
            text[n++] = '.';
        for (size_t i = 0; i < label; i++)
            text[n++] = str_lower_char(query.ptr[at + i]);
        at += label;
    }
    *len_out = n;
    return at < query.len ? at + 1 - HEADER : 0;
}

/* prefix<n>suffix? */
static bool domain_number(const struct zone *z, struct str name, uint64_t *n_out)
{
    if (name.len <= z->prefix.len + z->suffix.len || !str_starts(name, z->prefix) ||
        !str_ends(name, z->suffix))
        return false;
    struct str digits = str_make(name.ptr + z->prefix.len,
                                 name.len - z->prefix.len - z->suffix.len);
    return digits.ptr[0] != '0' && str_u64(digits, n_out) && *n_out >= 1 && *n_out <= z->count;
}

/* mx<k>.prefix<n>suffix? */
static bool exchanger_number(const struct zone *z, struct str name, uint64_t *k_out, uint64_t *n_out)
{
    ssize_t dot = str_index(name, '.');
    return dot > 2 && str_starts(name, STR("mx")) &&
           str_u64(str_make(name.ptr + 2, (size_t)dot - 2), k_out) && *k_out >= 1 &&
           *k_out <= z->mx && domain_number(z, str_from(name, (size_t)dot + 1), n_out);
}

static void put_exchangers(const struct zone *z, struct out *o)
{
    char label[24];
    for (uint32_t k = 1; k <= z->mx; k++) {
        int len = snprintf(label, sizeof label, "mx%u", k);
        put_record(o, TYPE_MX, z->ttl, 2 + 1 + (unsigned)len + 2);
        put16(o, 10 * k);
        put8(o, (unsigned)len);
        for (int i = 0; i < len; i++)
            put8(o, (unsigned char)label[i]);
        put16(o, 0xC000 | HEADER);
    }
}

/* Without an answer there is a SOA in the authority section, so that the "no" can be cached. */
static void put_soa(const struct zone *z, struct out *o)
{
    put8(o, 0); /* of the root: fits every name */
    put16(o, TYPE_SOA);
    put16(o, CLASS_IN);
    put32(o, z->ttl);
    put16(o, 22);
    put16(o, 0); /* two root names */
    for (int i = 0; i < 4; i++)
        put32(o, 1);
    put32(o, z->ttl); /* how long a "no" is good */
}

enum zone_kind zone_answer(const struct zone *z, struct str query, char reply[ZONE_REPLY_MAX],
                           size_t *n_out)
{
    char text[NAME_MAX_TEXT + 1];
    size_t text_len, name = 0;
    if (query.len >= HEADER && query.len <= 512 && (query.ptr[2] & 0xF8) == 0)
        name = read_name(query, text, &text_len);
    if (name == 0 || HEADER + name + 4 > query.len)
        return ZONE_IGNORED;
    const unsigned char *tail = (const unsigned char *)query.ptr + HEADER + name;
    unsigned type = (unsigned)tail[0] << 8 | tail[1];
    bool edns = query.ptr[10] != 0 || query.ptr[11] != 0;
    struct str asked = str_make(text, text_len);
    uint64_t n = 0, k = 1;
    unsigned answers = 0, rcode = 0;
    enum zone_kind kind = ZONE_OTHER;

    struct out o = {reply, 0};
    memcpy(reply, query.ptr, HEADER + name + 4);
    o.n = HEADER + name + 4;
    bool domain = domain_number(z, asked, &n), host = !domain && exchanger_number(z, asked, &k, &n);
    if (!domain && !host) {
        rcode = RCODE_NXDOMAIN;
        kind = ZONE_NXDOMAIN;
    } else if (z->servfail_every > 0 && n % z->servfail_every == 0) {
        rcode = RCODE_SERVFAIL;
        kind = ZONE_SERVFAIL;
    } else if (domain && type == TYPE_MX) {
        put_exchangers(z, &o);
        answers = z->mx;
        kind = ZONE_MX;
    } else if (host && type == TYPE_A) {
        put_record(&o, TYPE_A, z->ttl, 4);
        put32(&o, z->first + (uint32_t)((n - 1) % z->sites) + 65536U * ((uint32_t)k - 1));
        answers = 1;
        kind = ZONE_A;
    }
    bool soa = answers == 0 && rcode != RCODE_SERVFAIL;
    if (soa)
        put_soa(z, &o);
    if (edns) {
        put8(&o, 0);
        put16(&o, TYPE_OPT);
        put16(&o, ZONE_REPLY_MAX);
        put32(&o, 0);
        put16(&o, 0);
    }
    struct out head = {reply, 2};
    put8(&head, 0x84 | ((unsigned char)query.ptr[2] & 1)); /* reply, authoritative; RD as asked */
    put8(&head, 0x80 | rcode);                             /* recursion available */
    put16(&head, 1);
    put16(&head, answers);
    put16(&head, soa);
    put16(&head, edns);
    *n_out = o.n;
    return kind;
}
