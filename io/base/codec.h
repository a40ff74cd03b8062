/* codec: base64 (RFC 4648), xtext (RFC 3461 §4), hexadecimal, UTF-8 and IDNA (libidn2's door).
 * Outputs go to an arena; nothing yields. */
#ifndef IO_BASE_CODEC_H
#define IO_BASE_CODEC_H

#include "io/base/arena.h"
#include "io/base/err.h"

struct str base64_encode(struct arena *a, struct str bytes);
bool base64_decode(struct arena *a, struct str text, struct str *out); /* strict */
struct str xtext_encode(struct arena *a, struct str bytes);
bool xtext_decode(struct arena *a, struct str text, struct str *out);
/* Bytes of the first character of s, 1 to 4; 0 when it is not one (RFC 3629), or s is empty. */
size_t utf8_char(struct str s);
bool utf8_valid(struct str s); /* RFC 3629: no overlong forms, surrogates, > U+10FFFF */
bool ascii_only(struct str s);
/* U-label domain to A-labels and back; false when it is not a valid name. */
bool idna_to_ascii(struct arena *a, struct str domain, struct str *out);
bool idna_to_utf8(struct arena *a, struct str domain, struct str *out);

#endif
