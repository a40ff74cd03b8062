#include "io/net/dns_msg.h"

#include <arpa/inet.h>

enum {
    HEADER_BYTES = 12,
    LABEL_MAX = 63,
    NAME_MAX_BYTES = 253,
    WIRE_NAME_MAX = 255,
    CHAIN_MAX = 16, /* CNAMEs in a row */
    RCODE_OK = 0,
    RCODE_NXDOMAIN = 3,
    CLASS_IN = 1,
};

bool dns_name_check(struct str name, char lower_out[DNS_NAME_TEXT_MAX])
{
    if (name.len > 0 && name.ptr[name.len - 1] == '.')
        name.len--;
    if (name.len == 0 || name.len > NAME_MAX_BYTES)
        return false;
    size_t label = 0;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool dot = c == '.';
        /* A backslash would be an escape to the resolver. */
        if (c <= ' ' || c > '~' || c == '\\' || (dot && label == 0) || (!dot && label == LABEL_MAX))
            return false;
        label = dot ? 0 : label + 1;
        lower_out[i] = str_lower_char(c);
    }
    lower_out[name.len] = '\0';
    return label > 0;
}

const char *dns_status_text(enum dns_status status)
{
    switch (status) {
    case DNS_FOUND:
        return "";
    case DNS_NXDOMAIN:
        return "Host not found";
    case DNS_NODATA:
        return "Host found but no data record of requested type";
    case DNS_INVALID:
        return "invalid host or domain name";
    case DNS_TEMPORARY:
        break;
    }
    return "Host not found, try again";
}

struct msg {
    const uint8_t *bytes;
    size_t len, at;
};

static bool u16(struct msg *m, uint16_t *out)
{
    if (m->len - m->at < 2)
        return false;
    *out = (uint16_t)(m->bytes[m->at] << 8 | m->bytes[m->at + 1]);
    m->at += 2;
    return true;
}

static bool u32(struct msg *m, uint32_t *out)
{
    uint16_t high, low;
    if (!u16(m, &high) || !u16(m, &low))
        return false;
    *out = (uint32_t)high << 16 | low;
    return true;
}

/* Bytes that could be taken for something else are written \DDD. */
static size_t label_text(const uint8_t *bytes, size_t n, char *out)
{
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = bytes[i];
        if (c > ' ' && c <= '~' && c != '.' && c != '\\') {
            out[at++] = str_lower_char((char)c);
            continue;
        }
        out[at++] = '\\';
        out[at++] = (char)('0' + c / 100);
        out[at++] = (char)('0' + c / 10 % 10);
        out[at++] = (char)('0' + c % 10);
    }
    return at;
}

/* Moves m->at behind the name. */
static bool name_text(struct msg *m, char out[DNS_NAME_TEXT_MAX])
{
    size_t at = m->at, behind = 0, wire = 0, n = 0;
    size_t lowest = at; /* pointers must go down, so that the walk ends */
    for (;;) {
        if (at >= m->len)
            return false;
        size_t len = m->bytes[at];
        if ((len & 0xc0) == 0xc0) {
            if (at + 1 >= m->len)
                return false;
            size_t target = (len & 0x3f) << 8 | m->bytes[at + 1];
            if (behind == 0)
                behind = at + 2;
            if (target >= lowest)
                return false;
            lowest = at = target;
            continue;
        }
        wire += len + 1;
        if (len > LABEL_MAX || wire > WIRE_NAME_MAX || at + 1 + len > m->len)
            return false;
        if (len == 0)
            break;
        if (n > 0)
            out[n++] = '.';
        n += label_text(m->bytes + at + 1, len, out + n);
        at += 1 + len;
    }
    out[n] = '\0';
    m->at = behind ? behind : at + 1;
    return true;
}

struct rr {
    char owner[DNS_NAME_TEXT_MAX];
    uint16_t type, class, len;
    uint32_t ttl;
    size_t data; /* where its bytes start */
};

static bool next_rr(struct msg *m, struct rr *out)
{
    if (!name_text(m, out->owner) || !u16(m, &out->type) || !u16(m, &out->class) ||
        !u32(m, &out->ttl) || !u16(m, &out->len) || m->len - m->at < out->len)
        return false;
    if (out->ttl > INT32_MAX)
        out->ttl = 0; /* RFC 2181 §8 */
    out->data = m->at;
    m->at += out->len;
    return true;
}

/* A name that is all of the data from `skip` on. */
static bool rr_name(const struct msg *m, const struct rr *rr, size_t skip,
                    char out[DNS_NAME_TEXT_MAX])
{
    struct msg part = {m->bytes, m->len, rr->data + skip};
    return rr->len > skip && name_text(&part, out) && part.at == rr->data + rr->len;
}

static bool join_strings(struct arena *a, const uint8_t *data, size_t len, struct str *out)
{
    char *text = arena_alloc(a, len + 1);
    size_t n = 0;
    for (size_t at = 0; at < len;) {
        size_t part = data[at];
        if (at + 1 + part > len)
            return false;
        memcpy(text + n, data + at + 1, part);
        n += part;
        at += 1 + part;
    }
    text[n] = '\0';
    *out = str_make(text, n);
    return true;
}

static bool fill_addr(const uint8_t *data, size_t len, struct dns_record *out)
{
    if (out->addr.sa.sa_family == AF_INET && len == 4) {
        memcpy(&out->addr.in.sin_addr, data, 4);
        out->addr.len = sizeof(out->addr.in);
        return true;
    }
    if (out->addr.sa.sa_family == AF_INET6 && len == 16) {
        memcpy(&out->addr.in6.sin6_addr, data, 16);
        out->addr.len = sizeof(out->addr.in6);
        return true;
    }
    return false;
}

static bool fill_record(struct arena *a, const struct msg *m, const struct rr *rr,
                        struct dns_record *out)
{
    char name[DNS_NAME_TEXT_MAX];
    const uint8_t *data = m->bytes + rr->data;
    size_t skip = 0;
    out->ttl = rr->ttl;
    switch (rr->type) {
    case DNS_A:
    case DNS_AAAA:
        out->addr.sa.sa_family = rr->type == DNS_A ? AF_INET : AF_INET6;
        return fill_addr(data, rr->len, out);
    case DNS_MX:
        if (rr->len < 3)
            return false;
        out->preference = (uint16_t)(data[0] << 8 | data[1]);
        skip = 2;
        __attribute__((fallthrough));
    case DNS_NS:
    case DNS_CNAME:
    case DNS_PTR:
        if (!rr_name(m, rr, skip, name))
            return false;
        out->name = arena_cstr(a, str_of(name));
        return true;
    case DNS_TXT:
        return join_strings(a, data, rr->len, &out->bytes);
    default:
        out->bytes = arena_str(a, str_make((const char *)data, rr->len));
        return true;
    }
}

/* Where the answers start; false when the header or the question is cut off. */
static bool skip_question(struct msg *m, uint16_t *rcode_out, uint16_t *answers_out)
{
    uint16_t id, flags, questions, other;
    char name[DNS_NAME_TEXT_MAX];
    if (!u16(m, &id) || !u16(m, &flags) || !u16(m, &questions) || !u16(m, answers_out) ||
        !u16(m, &other) || !u16(m, &other))
        return false;
    *rcode_out = flags & 0xf;
    for (uint16_t i = 0; i < questions; i++) {
        if (!name_text(m, name) || !u16(m, &other) || !u16(m, &other))
            return false;
    }
    return true;
}

/* Follows one CNAME of `owner`; *found_out false when there is none. */
static bool follow(struct msg m, uint16_t answers, char owner[DNS_NAME_TEXT_MAX], bool *found_out)
{
    struct rr rr;
    *found_out = false;
    for (uint16_t i = 0; i < answers; i++) {
        if (!next_rr(&m, &rr))
            return false;
        if (rr.type == DNS_CNAME && rr.class == CLASS_IN && strcmp(rr.owner, owner) == 0) {
            *found_out = true;
            return rr_name(&m, &rr, 0, owner);
        }
    }
    return true;
}

static bool collect(struct arena *a, struct msg m, uint16_t answers, const char *owner,
                    enum dns_type type, struct dns_answer *out)
{
    struct rr rr;
    size_t room = 0;
    struct msg again = m;
    for (uint16_t i = 0; i < answers; i++) {
        if (!next_rr(&again, &rr))
            return false;
        room += rr.type == type;
    }
    out->records = arena_zalloc(a, (room ? room : 1) * sizeof(*out->records));
    for (uint16_t i = 0; i < answers; i++) {
        if (!next_rr(&m, &rr))
            return false;
        if (rr.type != type || rr.class != CLASS_IN || strcmp(rr.owner, owner) != 0)
            continue;
        if (!fill_record(a, &m, &rr, &out->records[out->count]))
            return false;
        struct dns_record *r = &out->records[out->count];
        /* A target with odd bytes in it is no host: as if the record were not there. */
        if (!r->name || !strchr(r->name, '\\'))
            out->count++;
        else
            *r = (struct dns_record){0};
    }
    return true;
}

bool dns_msg_parse(struct arena *a, struct str packet, const char *name, enum dns_type type,
                   struct dns_answer *out)
{
    struct msg m = {(const uint8_t *)packet.ptr, packet.len, 0};
    struct dns_answer answer = *out;
    char owner[DNS_NAME_TEXT_MAX];
    uint16_t rcode, answers;
    if (packet.len < HEADER_BYTES || !skip_question(&m, &rcode, &answers))
        return false;
    str_copy(owner, sizeof(owner), str_of(name));
    bool more = type != DNS_CNAME;
    for (int i = 0; more; i++) {
        if (i == CHAIN_MAX || !follow(m, answers, owner, &more))
            return false;
    }
    answer.count = 0;
    if (!collect(a, m, answers, owner, type, &answer))
        return false;
    answer.name = arena_cstr(a, str_of(owner));
    if (rcode == RCODE_OK)
        answer.status = answer.count > 0 ? DNS_FOUND : DNS_NODATA;
    else
        answer.status = rcode == RCODE_NXDOMAIN ? DNS_NXDOMAIN : DNS_TEMPORARY;
    if (answer.status != DNS_FOUND)
        answer.count = 0;
    answer.why = dns_status_text(answer.status);
    *out = answer;
    return true;
}
