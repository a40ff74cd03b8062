/* UTF-8 (RFC 3629 §4). Declared in codec.h.
 *
 *     UTF8-char = %x00-7F
 *               / %xC2-DF UTF8-tail
 *               / %xE0 %xA0-BF UTF8-tail / %xE1-EC 2( UTF8-tail ) / %xED %x80-9F UTF8-tail
 *               / %xEE-EF 2( UTF8-tail )
 *               / %xF0 %x90-BF 2( UTF8-tail ) / %xF1-F3 3( UTF8-tail ) / %xF4 %x80-8F 2( UTF8-tail
 * ) */
#include "io/base/codec.h"

static bool between(unsigned char c, unsigned low, unsigned high)
{
    return c >= low && c <= high;
}

size_t utf8_char(struct str s)
{
    const unsigned char *p = (const unsigned char *)s.ptr;
    if (s.len == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    size_t n = between(p[0], 0xc2, 0xdf)   ? 2
               : between(p[0], 0xe0, 0xef) ? 3
               : between(p[0], 0xf0, 0xf4) ? 4
                                           : 0;
    if (n == 0 || s.len < n)
        return 0;
    /* The second byte keeps out overlong forms, surrogates and what is beyond U+10FFFF. */
    unsigned low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    unsigned high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (!between(p[1], low, high))
        return 0;
    for (size_t i = 2; i < n; i++)
        if (!between(p[i], 0x80, 0xbf))
            return 0;
    return n;
}

bool utf8_valid(struct str s)
{
    while (s.len) {
        size_t n = utf8_char(s);
        if (n == 0)
            return false;
        s = str_from(s, n);
    }
    return true;
}

bool ascii_only(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] >= 0x80)
            return false;
    return true;
}
