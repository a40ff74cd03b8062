#include "io/base/format.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "io/base/check.h"

#define DIGITS_MAX 24

struct out {
    char *to;
    size_t room, len;
};

/* One conversion as it stands in the text. */
struct spec {
    bool zeros, cut;
    unsigned width, precision, longs; /* longs: 0 int, 1 long, size_t and intmax_t, 2 long long */
    char kind;
};

static inline void put(struct out *o, const char *bytes, size_t n)
{
    if (o->len < o->room)
        memcpy(o->to + o->len, bytes, n < o->room - o->len ? n : o->room - o->len);
    o->len += n;
}

static inline void fill(struct out *o, char c, size_t n)
{
    while (n-- > 0)
        put(o, &c, 1);
}

static void put_text(struct out *o, const struct spec *s, const char *text)
{
    size_t n = s->cut ? strnlen(text, s->precision) : strlen(text);
    if (s->width > n)
        fill(o, ' ', s->width - n);
    put(o, text, n);
}

static void put_number(struct out *o, const struct spec *s, uintmax_t value, bool minus)
{
    char digits[DIGITS_MAX];
    size_t at = sizeof digits;
    unsigned base = s->kind == 'x' ? 16 : 10;
    do
        digits[--at] = "0123456789abcdef"[value % base];
    while ((value /= base) > 0);
    size_t n = sizeof digits - at + minus, pad = s->width > n ? s->width - n : 0;
    if (!s->zeros)
        fill(o, ' ', pad);
    if (minus)
        put(o, "-", 1);
    if (s->zeros)
        fill(o, '0', pad);
    put(o, digits + at, sizeof digits - at);
}

static unsigned number(const char **at)
{
    unsigned n = 0;
    for (; **at >= '0' && **at <= '9' && n < 1000; (*at)++)
        n = n * 10 + (unsigned)(**at - '0');
    return n;
}

/* What follows the %; a precision of * is the caller's to take. False: not of our grammar. */
static bool parse(const char **at, struct spec *s, bool *star_out)
{
    const char *p = *at;
    *s = (struct spec){0};
    *star_out = false;
    if (*p == '0') {
        s->zeros = true;
        p++;
    }
    s->width = number(&p);
    if (*p == '.') {
        s->cut = true;
        *star_out = *++p == '*';
        p += *star_out;
        s->precision = number(&p);
    }
    for (; (*p == 'l' && s->longs < 2) || ((*p == 'z' || *p == 'j') && s->longs == 0); p++)
        s->longs++;
    s->kind = *p;
    *at = p + 1;
    if (s->kind == 's' || s->kind == 'c' || s->kind == '%')
        return s->longs == 0 && !s->zeros && (s->kind == 's' || (!s->cut && s->width == 0));
    return (s->kind == 'd' || s->kind == 'i' || s->kind == 'u' || s->kind == 'x') && !s->cut;
}

static intmax_t take_signed(const struct spec *s, va_list *ap)
{
    return s->longs == 0 ? va_arg(*ap, int) : s->longs == 1 ? va_arg(*ap, long) : va_arg(*ap, long long);
}

static uintmax_t take_unsigned(const struct spec *s, va_list *ap)
{
    return s->longs == 0   ? va_arg(*ap, unsigned)
           : s->longs == 1 ? va_arg(*ap, unsigned long)
                           : va_arg(*ap, unsigned long long);
}

static void put_argument(struct out *o, const struct spec *s, va_list *ap)
{
    if (s->kind == 's') {
        const char *text = va_arg(*ap, const char *);
        put_text(o, s, text ? text : "(null)");
    } else if (s->kind == 'c') {
        char c = (char)va_arg(*ap, int);
        put(o, &c, 1);
    } else if (s->kind == '%') {
        put(o, "%", 1);
    } else if (s->kind == 'u' || s->kind == 'x') {
        put_number(o, s, take_unsigned(s, ap), false);
    } else {
        intmax_t value = take_signed(s, ap);
        put_number(o, s, value < 0 ? -(uintmax_t)value : (uintmax_t)value, value < 0);
    }
}

/* False: something is not of our grammar, and what was written is void. */
static bool format(struct out *o, const char *fmt, va_list *ap)
{
    for (;;) {
        const char *percent = strchrnul(fmt, '%');
        put(o, fmt, (size_t)(percent - fmt));
        if (*percent == '\0')
            return true;
        struct spec s;
        bool star;
        fmt = percent + 1;
        if (!parse(&fmt, &s, &star))
            return false;
        if (star) {
            int n = va_arg(*ap, int);
            s.cut = n >= 0;
            s.precision = s.cut ? (unsigned)n : 0;
        }
        put_argument(o, &s, ap);
    }
}

size_t text_format(char *out, size_t room, const char *fmt, va_list ap)
{
    struct out o = {out, room, 0};
    va_list own;
    va_copy(own, ap);
    bool done = format(&o, fmt, &own);
    va_end(own);
    if (!done) {
        int n = vsnprintf(out, room, fmt, ap);
        CHECK(n >= 0);
        return (size_t)n;
    }
    if (room > 0)
        out[o.len < room ? o.len : room - 1] = '\0';
    return o.len;
}
