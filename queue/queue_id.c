#include "queue/queue_id.h"

/* Postfix's alphabet: no vowels, so that no words appear. Base 51 leaves the last one, 'z', out. */
static const char digits[] = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";
static const char hex_digits[] = "0123456789ABCDEF";

enum { SEC_DIGITS_MIN = 6, USEC_DIGITS = 4, SHORT_USEC_DIGITS = 5 };

static inline char *put_base(char *to, uint64_t v, const char *alphabet, unsigned base,
                             size_t digits_min)
{
    char rev[16];
    size_t n = 0;
    do {
        rev[n++] = alphabet[v % base];
        v /= base;
    } while (v != 0);
    while (n < digits_min)
        rev[n++] = alphabet[0];
    while (n > 0)
        *to++ = rev[--n];
    return to;
}

static bool get_base(struct str s, unsigned base, uint64_t *out)
{
    uint64_t v = 0;
    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        const char *d = s.ptr[i] != '\0' ? strchr(digits, s.ptr[i]) : NULL;
        if (d == NULL || (unsigned)(d - digits) >= base)
            return false;
        if (__builtin_mul_overflow(v, base, &v) ||
            __builtin_add_overflow(v, (unsigned)(d - digits), &v))
            return false;
    }
    *out = v;
    return true;
}

void queue_id_format(bool long_ids, int64_t arrival_us, uint64_t seq, char out[QUEUE_ID_MAX])
{
    uint64_t us = arrival_us > 0 ? (uint64_t)arrival_us : 0;
    char *to;
    if (long_ids) {
        to = put_base(out, us / 1000000, digits, 52, SEC_DIGITS_MIN);
        to = put_base(to, us % 1000000, digits, 52, USEC_DIGITS);
        *to++ = 'z';
        to = put_base(to, seq, digits, 51, 1);
    } else {
        to = put_base(out, us % 1000000, hex_digits, 16, SHORT_USEC_DIGITS);
        to = put_base(to, seq, hex_digits, 16, 1);
    }
    *to = '\0';
}

static bool parse_long(struct str text, size_t z, uint64_t *seq, uint32_t *usec)
{
    uint64_t sec = 0, us = 0, n = 0;
    if (z < SEC_DIGITS_MIN + USEC_DIGITS || z > 16 ||
        !get_base(str_head(text, z - USEC_DIGITS), 52, &sec) ||
        !get_base(str_make(text.ptr + z - USEC_DIGITS, USEC_DIGITS), 52, &us) || us >= 1000000 ||
        !get_base(str_from(text, z + 1), 51, &n))
        return false;
    *seq = n;
    *usec = (uint32_t)us;
    return true;
}

static bool get_hex(struct str s, uint64_t *out)
{
    uint64_t v = 0;
    if (s.len == 0 || s.len > 16)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        unsigned d;
        if (c >= '0' && c <= '9')
            d = (unsigned)(c - '0');
        else if (c >= 'A' && c <= 'F')
            d = (unsigned)(c - 'A') + 10;
        else
            return false;
        v = v << 4 | d;
    }
    *out = v;
    return true;
}

bool queue_id_parse(struct str text, uint64_t *seq_out, uint32_t *usec_out)
{
    uint64_t us = 0, seq = 0;
    uint32_t usec = 0;
    if (text.len >= QUEUE_ID_MAX)
        return false;
    ssize_t z = str_rindex(text, 'z');
    if (z >= 0) {
        if (!parse_long(text, (size_t)z, &seq, &usec))
            return false;
    } else {
        if (text.len <= SHORT_USEC_DIGITS || text.ptr[SHORT_USEC_DIGITS] == '0' ||
            !get_hex(str_head(text, SHORT_USEC_DIGITS), &us) || us >= 1000000 ||
            !get_hex(str_from(text, SHORT_USEC_DIGITS), &seq))
            return false;
        usec = (uint32_t)us;
    }
    if (seq_out != NULL)
        *seq_out = seq;
    if (usec_out != NULL)
        *usec_out = usec;
    return true;
}
