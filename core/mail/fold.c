#include "core/mail/fold.h"

/* Two-byte sequences only (U+0080..U+07FF): every letter folded here stays in that range. */
static unsigned fold_point(unsigned u)
{
    if ((u >= 0xC0 && u <= 0xDE && u != 0xD7) || (u >= 0x391 && u <= 0x3A9 && u != 0x3A2) ||
        (u >= 0x410 && u <= 0x42F))
        return u + 32;
    if (u >= 0x400 && u <= 0x40F)
        return u + 80;
    if (u == 0x178)
        return 0xFF;
    if (u == 0x3C2) /* final sigma */
        return 0x3C3;
    if ((u >= 0x100 && u <= 0x12F) || (u >= 0x132 && u <= 0x137) || (u >= 0x14A && u <= 0x177) ||
        (u >= 0x460 && u <= 0x481) || (u >= 0x48A && u <= 0x4BF) || (u >= 0x4D0 && u <= 0x52F))
        return u | 1u;
    if ((u >= 0x139 && u <= 0x148) || (u >= 0x179 && u <= 0x17E))
        return (u & 1u) ? u + 1 : u;
    return u;
}

struct str fold_text(struct arena *a, struct str s)
{
    char *out = arena_alloc(a, s.len + 1);

    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        unsigned char d = i + 1 < s.len ? (unsigned char)s.ptr[i + 1] : 0;
        if (c >= 0xC2 && c <= 0xDF && d >= 0x80 && d <= 0xBF) {
            unsigned u = fold_point(((c & 0x1Fu) << 6) | (d & 0x3Fu));
            out[i] = (char)(unsigned char)(0xC0u | (u >> 6));
            out[i + 1] = (char)(unsigned char)(0x80u | (u & 0x3Fu));
            i++;
        } else {
            out[i] = str_lower_char(s.ptr[i]);
        }
    }
    out[s.len] = '\0';
    return str_make(out, s.len);
}

bool fold_eq(struct arena *a, struct str x, struct str y)
{
    return str_eq(fold_text(a, x), fold_text(a, y));
}
