#include "core/mail/json.h"

#include "io/base/codec.h"

void json_string(struct buf *out, struct str s)
{
    static const char letters[] = "btn?fr"; /* from \b on; \v has none */
    buf_add_char(out, '"');
    while (s.len > 0) {
        size_t n = utf8_char(s);
        unsigned char c = (unsigned char)s.ptr[0];
        if (n == 0)
            buf_add_char(out, '?');
        else if (c == '"' || c == '\\')
            buf_printf(out, "\\%c", c);
        else if (c == '\b' || c == '\t' || c == '\n' || c == '\f' || c == '\r')
            buf_printf(out, "\\%c", letters[c - '\b']);
        else if (c < 32 || c == 127)
            buf_printf(out, "\\u%04X", c);
        else
            buf_add(out, s.ptr, n);
        s = str_from(s, n ? n : 1);
    }
    buf_add_char(out, '"');
}
