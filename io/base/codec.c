#include "io/base/codec.h"

#include <idn2.h>
#include <stdint.h>

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

struct str base64_encode(struct arena *a, struct str bytes)
{
    const unsigned char *in = (const unsigned char *)bytes.ptr;
    size_t len = (bytes.len + 2) / 3 * 4;
    char *out = arena_alloc(a, len + 1), *at = out;
    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t n = bytes.len - i < 3 ? bytes.len - i : 3;
        uint32_t group = (uint32_t)in[i] << 16;
        group |= n > 1 ? (uint32_t)in[i + 1] << 8 : 0;
        group |= n > 2 ? (uint32_t)in[i + 2] : 0;
        *at++ = base64_digits[group >> 18];
        *at++ = base64_digits[group >> 12 & 63];
        *at++ = n > 1 ? base64_digits[group >> 6 & 63] : '=';
        *at++ = n > 2 ? base64_digits[group & 63] : '=';
    }
    *at = '\0';
    return str_make(out, len);
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* RFC 4648 §3.2, §3.3, §3.5: padding is required, other characters are refused, and the bits left
 * over at the end must be zero, so that each text has one meaning and each meaning one text. */
bool base64_decode(struct arena *a, struct str text, struct str *out)
{
    size_t pad = 0;
    while (pad < 2 && pad < text.len && text.ptr[text.len - 1 - pad] == '=')
        pad++;
    if (text.len % 4)
        return false;
    size_t digits = text.len - pad, len = 0;
    char *bytes = arena_alloc(a, text.len / 4 * 3 + 1);
    uint32_t group = 0;
    for (size_t i = 0; i < digits; i++) {
        int value = base64_value(text.ptr[i]);
        if (value < 0)
            return false;
        group = group << 6 | (uint32_t)value;
        if (i % 4 != 3)
            continue;
        bytes[len++] = (char)(group >> 16 & 255);
        bytes[len++] = (char)(group >> 8 & 255);
        bytes[len++] = (char)(group & 255);
        group = 0;
    }
    if (pad == 1) {
        if (group & 3)
            return false;
        bytes[len++] = (char)(group >> 10 & 255);
        bytes[len++] = (char)(group >> 2 & 255);
    } else if (pad == 2) {
        if (group & 15)
            return false;
        bytes[len++] = (char)(group >> 4 & 255);
    }
    bytes[len] = '\0';
    *out = str_make(bytes, len);
    return true;
}

/* RFC 3461 §4:
 *
 *     xtext   = *( xchar / hexchar )
 *     xchar   = any ASCII CHAR between "!" (33) and "~" (126) inclusive, except for "+" and "="
 *     hexchar = ASCII "+" immediately followed by two upper case hexadecimal digits */
static bool is_xchar(char c)
{
    return c >= '!' && c <= '~' && c != '+' && c != '=';
}

struct str xtext_encode(struct arena *a, struct str bytes)
{
    static const char hex[] = "0123456789ABCDEF";
    char *out = arena_alloc(a, bytes.len * 3 + 1), *at = out;
    for (size_t i = 0; i < bytes.len; i++) {
        unsigned char c = (unsigned char)bytes.ptr[i];
        if (is_xchar(bytes.ptr[i])) {
            *at++ = bytes.ptr[i];
        } else {
            *at++ = '+';
            *at++ = hex[c >> 4];
            *at++ = hex[c & 15];
        }
    }
    *at = '\0';
    return str_make(out, (size_t)(at - out));
}

static int upper_hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool xtext_decode(struct arena *a, struct str text, struct str *out)
{
    char *bytes = arena_alloc(a, text.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (is_xchar(text.ptr[i])) {
            bytes[len++] = text.ptr[i];
            continue;
        }
        if (text.ptr[i] != '+' || text.len - i < 3)
            return false;
        int high = upper_hex(text.ptr[i + 1]), low = upper_hex(text.ptr[i + 2]);
        if (high < 0 || low < 0)
            return false;
        bytes[len++] = (char)(high << 4 | low);
        i += 2;
    }
    bytes[len] = '\0';
    *out = str_make(bytes, len);
    return true;
}

/* libidn2 reads C strings. */
static bool has_nul(struct str s)
{
    return str_index(s, '\0') >= 0;
}

static bool keep(struct arena *a, int result, char *found, struct str *out)
{
    if (result != IDN2_OK)
        return false;
    *out = arena_str(a, str_of(found));
    idn2_free(found);
    return true;
}

/* Nontransitional UTS 46, as browsers and Postfix do it; ASCII names pass without the library, so
 * that names it dislikes ("_dmarc") stay usable. */
bool idna_to_ascii(struct arena *a, struct str domain, struct str *out)
{
    if (has_nul(domain) || !utf8_valid(domain))
        return false;
    if (ascii_only(domain)) {
        *out = arena_str(a, domain);
        return true;
    }
    char *found = NULL;
    int result = idn2_to_ascii_8z(arena_cstr(a, domain), &found, IDN2_NONTRANSITIONAL);
    return keep(a, result, found, out);
}

bool idna_to_utf8(struct arena *a, struct str domain, struct str *out)
{
    if (has_nul(domain) || !utf8_valid(domain))
        return false;
    char *found = NULL;
    int result = idn2_to_unicode_8z8z(arena_cstr(a, domain), &found, IDN2_NONTRANSITIONAL);
    return keep(a, result, found, out);
}
