#include "io/base/str.h"

char str_lower_char(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

bool str_is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

bool str_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool str_is_alnum(char c)
{
    char low = str_lower_char(c);
    return str_is_digit(c) || (low >= 'a' && low <= 'z');
}

bool str_eq_nocase_bytes(const char *a, const char *b, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (str_lower_char(a[i]) != str_lower_char(b[i]))
            return false;
    return true;
}

int str_cmp(struct str a, struct str b)
{
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter ? memcmp(a.ptr, b.ptr, shorter) : 0;
    if (order)
        return order;
    return a.len < b.len ? -1 : a.len > b.len;
}

bool str_starts(struct str s, struct str prefix)
{
    return s.len >= prefix.len && str_eq(str_head(s, prefix.len), prefix);
}

bool str_starts_nocase(struct str s, struct str prefix)
{
    return s.len >= prefix.len && str_eq_nocase(str_head(s, prefix.len), prefix);
}

bool str_ends(struct str s, struct str suffix)
{
    return s.len >= suffix.len && str_eq(str_from(s, s.len - suffix.len), suffix);
}

bool str_ends_nocase(struct str s, struct str suffix)
{
    return s.len >= suffix.len && str_eq_nocase(str_from(s, s.len - suffix.len), suffix);
}

ssize_t str_index(struct str s, char c)
{
    const char *at = s.len ? memchr(s.ptr, c, s.len) : NULL;
    return at ? at - s.ptr : -1;
}

ssize_t str_rindex(struct str s, char c)
{
    const char *at = s.len ? memrchr(s.ptr, c, s.len) : NULL;
    return at ? at - s.ptr : -1;
}

ssize_t str_find(struct str s, struct str needle)
{
    if (needle.len == 0)
        return 0;
    const char *at = s.len ? memmem(s.ptr, s.len, needle.ptr, needle.len) : NULL;
    return at ? at - s.ptr : -1;
}

struct str str_trim(struct str s)
{
    while (s.len && str_is_space(s.ptr[0]))
        s = str_from(s, 1);
    while (s.len && str_is_space(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

struct chars {
    uint64_t bits[4];
};

static struct chars chars_of(const char *text)
{
    struct chars set = {{0}};
    for (; *text; text++)
        set.bits[(unsigned char)*text / 64] |= UINT64_C(1) << ((unsigned char)*text % 64);
    return set;
}

static bool among(const struct chars *set, char c)
{
    return set->bits[(unsigned char)c / 64] >> ((unsigned char)c % 64) & 1;
}

static inline bool take_token(struct str *rest, const char *separators, bool braces,
                              struct str *token_out)
{
    const struct chars seps = chars_of(separators);
    size_t from = 0;
    while (from < rest->len && among(&seps, rest->ptr[from]))
        from++;
    if (from == rest->len) {
        *rest = str_from(*rest, from);
        return false;
    }
    size_t to = from, depth = 0;
    for (; to < rest->len; to++) {
        char c = rest->ptr[to];
        if (braces && c == '{')
            depth++;
        else if (braces && c == '}' && depth > 0)
            depth--;
        else if (depth == 0 && among(&seps, c))
            break;
    }
    *token_out = str_make(rest->ptr + from, to - from);
    *rest = str_from(*rest, to);
    return true;
}

bool str_token(struct str *rest, const char *seps, struct str *token_out)
{
    return take_token(rest, seps, false, token_out);
}

bool str_token_braces(struct str *rest, const char *seps, struct str *token_out)
{
    return take_token(rest, seps, true, token_out);
}

/* Eight bytes at a time: the high bit of each says that it lies below ' ' or above '~'. A borrow or a carry may set one
 * more, never one less. */
bool str_is_printable(struct str s)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), high = ones * 0x80;
    uint64_t outside = 0, eight;
    size_t i = 0;
    for (; s.len - i >= sizeof eight; i += sizeof eight) {
        memcpy(&eight, s.ptr + i, sizeof eight);
        outside |= (eight - ones * ' ') | (eight + ones) | eight;
    }
    bool good = (outside & high) == 0;
    for (; i < s.len; i++)
        good = good && s.ptr[i] >= ' ' && s.ptr[i] <= '~';
    return good;
}

bool str_u64(struct str s, uint64_t *out)
{
    uint64_t value = 0;
    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (!str_is_digit(s.ptr[i]) || __builtin_mul_overflow(value, 10U, &value) ||
            __builtin_add_overflow(value, (uint64_t)(s.ptr[i] - '0'), &value))
            return false;
    }
    *out = value;
    return true;
}

bool str_i64(struct str s, int64_t *out)
{
    bool minus = s.len > 0 && s.ptr[0] == '-';
    uint64_t value;
    if (!str_u64(minus ? str_from(s, 1) : s, &value))
        return false;
    if (value > (uint64_t)INT64_MAX + (minus ? 1U : 0U))
        return false;
    /* Negated as unsigned: -INT64_MIN does not exist. */
    *out = (int64_t)(minus ? 0 - value : value);
    return true;
}

size_t str_copy(char *dst, size_t dst_size, struct str s)
{
    if (dst_size == 0)
        return 0;
    size_t n = s.len < dst_size ? s.len : dst_size - 1;
    if (n)
        memcpy(dst, s.ptr, n);
    dst[n] = '\0';
    return n;
}
